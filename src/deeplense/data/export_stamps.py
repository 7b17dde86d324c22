"""Any dataset → the layout of the lens finding challenge: `classifications.csv`, and FITS stamps, one a band."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv
from jaxtyping import Float32

from deeplense.data.catalogue import MEASURED, guess_roles
from deeplense.data.dataset import Dataset
from deeplense.data.export import BATCH, new_folder
from deeplense.data.features import roles_of
from deeplense.data.tables import holds_numbers

CATALOGUE = "classifications.csv"
FIRST_ID = 100_000  # as in the challenge: all ids have as many digits
LENSES = ("nonlens", "lens")
BLOCK = 2880  # bytes; FITS knows no smaller unit


def export_stamps(dataset: Dataset, out: Path, progress: Callable[[int], None] | None = None) -> Path:
    """Return `out`, a new folder with `classifications.csv` and `Public/Band1/image<BAND>-<ID>.fits`, one a band.

    The table has `ID` (a number that says nothing), `is_lens` (of other classes `label`), `split`, the columns that
    were measured on the objects, and as `true_…` those that only a simulation knows. Lists, which have no place in such
    a table, are left out. Stamps are big-endian float32; their headers are the same for all objects.

    Parameters
    ----------
    dataset
        What to write. Splits are those of `dataset.splits()`.
    out
        A folder that does not exist yet, or is empty.
    progress
        Called with the number of images written so far, after every few.

    Raises
    ------
    InvalidOption
        When `out` exists and is not an empty folder.
    CorruptFile
        When an image cannot be read.
    CannotWrite
        When the disk is full or not writable.
    """
    names, headers = _bands(dataset)
    with new_folder(out) as part:
        for band in range(1, len(names) + 1):
            (part / "Public" / f"Band{band}").mkdir(parents=True)
        pcsv.write_csv(_table(dataset), part / CATALOGUE)
        for start in range(0, len(dataset), BATCH):
            rows = range(start, min(start + BATCH, len(dataset)))
            for row, image in zip(rows, dataset.images(rows), strict=True):
                for band, (name, plane) in enumerate(zip(names, image, strict=True), 1):
                    path = part / "Public" / f"Band{band}" / f"image{name}-{FIRST_ID + row}.fits"
                    path.write_bytes(headers[band - 1] + _padded(plane))
            if progress is not None:
                progress(rows.stop)
    return out


def _table(dataset: Dataset) -> pa.Table:
    """Return the catalogue as it is written."""
    labels, table = dataset.catalogue["label"], dataset.catalogue
    columns: dict[str, Any] = {"ID": np.arange(FIRST_ID, FIRST_ID + len(dataset))}
    if set(dataset.labels) <= set(LENSES):
        columns["is_lens"] = pc.index_in(labels, pa.array(LENSES))
    else:
        columns["label"] = labels
    columns["split"] = dataset.splits()
    roles = roles_of(dataset)
    for role, prefix in (("feature", MEASURED), ("truth", "true_")):
        for name in (one for one in roles.of(role) if one in table.column_names):  # type: ignore[arg-type]
            if holds_numbers(table.schema.field(name).type):
                columns[_named(name, role, prefix)] = table[name]
    return pa.table(columns)


def _named(name: str, role: str, prefix: str) -> str:
    """Return the name of a column from which its role is guessed again."""
    return name if role == "feature" and guess_roles([name]).columns[name].role == role else prefix + name


def _bands(dataset: Dataset) -> tuple[list[str], list[bytes]]:
    """Return the name of each band, for names of files, and the header of its stamps."""
    from astropy.io import fits  # here, because importing it takes longer than `deeplense --help` may

    manifest: Mapping[str, Any] = getattr(dataset, "manifest", {})
    recipe = manifest.get("recipe") or {}
    cameras = manifest.get("instruments") or []
    given = recipe.get("instrument")
    known = [given] if isinstance(given, str) else list(given or [])
    channels, height, width = dataset.image_shape
    names, headers = [], []
    for band in range(channels):
        camera = cameras[band] if len(cameras) == channels else {}
        name = Path(str(known[band])).stem if len(known) == channels else f"band{band + 1}"
        names.append(re.sub(r"[^A-Z0-9_]+", "_", name.upper()))
        header = fits.PrimaryHDU(np.zeros((height, width), ">f4")).header
        header["BAND"] = (names[-1], "camera and filter")
        if unit := manifest.get("unit"):
            header["BUNIT"] = (str(unit), "unit of the pixels")
        if scale := manifest.get("pixel_scale"):
            header["PIXSCALE"] = (float(scale), "[arcsec] side of a pixel")
        factor = (recipe.get("observation") or {}).get("scale", 1.0)
        if camera.get("zero_point") is not None:
            zero = camera["zero_point"] + 2.5 * math.log10(factor)
            header["MAGZERO"] = (zero, "[mag] AB magnitude of one unit")
        headers.append(header.tostring().encode("ascii"))
    return names, headers


def _padded(plane: Float32[np.ndarray, "H W"]) -> bytes:
    """Return pixels as FITS wants them: big-endian, whole blocks."""
    content = plane.astype(">f4").tobytes()
    return content + bytes(-len(content) % BLOCK)

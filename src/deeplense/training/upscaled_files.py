"""Files of coarse images to files of finer ones, pictures of both, and a row for each image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F

from deeplense.core.console import progress
from deeplense.core.errors import DeepLenseError
from deeplense.core.files import CannotWrite, atomic, sha256, shown
from deeplense.data.finer_header import finer_header
from deeplense.data.fits import FitsImage
from deeplense.data.writers import Convention, SuperResolved, write_array, write_super_resolved
from deeplense.metrics.figures import png
from deeplense.metrics.upscaled_figure import upscaled_figure
from deeplense.training.upscaled_sources import Job, Read, is_fits, read
from deeplense.training.upscaling import AT_ONCE, Upscaled, Upscaling
from deeplense.version import __version__

PIXELS = 16 * AT_ONCE  # in memory before they are worked on
DOTS = 150  # per inch of a picture
FIELDS: list[tuple[str, pa.DataType]] = [
    ("file", pa.string()),
    ("extension", pa.string()),
    ("factor", pa.int64()),
    ("chi2", pa.float64()),
    ("consistent", pa.bool_()),
    ("flux_ratio", pa.float64()),
    ("masked_pixels", pa.int64()),
    ("rescaled", pa.bool_()),
    ("unlike", pa.string()),
    ("error", pa.string()),
]
COLUMNS = pa.schema(FIELDS)


def upscale_files(
    upscaling: Upscaling, jobs: Sequence[Job], convention: Convention, figures: Path | None
) -> list[dict[str, Any]]:
    """Return a row of `COLUMNS` for every image, after all files are written, as many images at a time as allowed.

    Parameters
    ----------
    upscaling
        What makes images finer.
    jobs
        As by `plan`.
    convention
        Of the values written: see `deeplense.data.writers.write_super_resolved`.
    figures
        Folder for a picture of each image; None for none.

    Raises
    ------
    CannotWrite
        When the disk is full or not writable. What is wrong with an image is said in its row.
    """
    rows: list[dict[str, Any]] = []
    provenance = _provenance(upscaling)
    with progress("super-resolving", len(jobs), "files") as advance:
        for part in _parts(jobs, upscaling.batch_size):
            found = [images for _, images in part if not isinstance(images, str)]
            results = iter(upscaling([image for images in found for image in images]))
            for job, images in part:
                if isinstance(images, str):
                    rows.append(_row(job, upscaling, "", images))
                else:
                    answers = [next(results) for _ in images]
                    rows += _written(upscaling, job, images, answers, convention, provenance)
                    if figures is not None:
                        _draw(job, images, answers, figures)
                advance(1)
    return rows


def _parts(jobs: Sequence[Job], n_images: int) -> Iterator[list[tuple[Job, Read]]]:
    """Yield files with their images, as many as are worked on together."""
    part: list[tuple[Job, Read]] = []
    for job in jobs:
        part.append((job, read(job.source)))
        read_now = [found for _, found in part if not isinstance(found, str)]
        n_read, n_pixels = sum(map(len, read_now)), sum(image.pixels.size for found in read_now for image in found)
        if max(n_read, len(part)) >= n_images or n_pixels >= PIXELS:
            yield part
            part = []
    if part:
        yield part


def _provenance(upscaling: Upscaling) -> dict[str, str]:
    model, degradation = upscaling.model, upscaling.task.degradation
    return {
        "model": str(model.config["options"]["model_name"]),
        "run": model.run.id,
        "version": f"deeplense {__version__}",
        "sha256": sha256(model.run.weights),
        "estimator": upscaling.task.estimator,
        "degradation": f"{degradation.method}, factor {degradation.factor}, blur {degradation.blur:g}",
    }


def _row(job: Job, upscaling: Upscaling, extension: str, answer: Upscaled | str) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(COLUMNS.names)
    row |= {"file": shown(job.source), "extension": extension, "factor": upscaling.factor}
    if isinstance(answer, str):
        return row | {"error": answer}
    names = {"masked_pixels": "masked"}
    return row | {name: getattr(answer, names.get(name, name)) for name in COLUMNS.names[3:-1]}


def _written(
    upscaling: Upscaling,
    job: Job,
    images: list[FitsImage],
    answers: list[Upscaled | str],
    convention: Convention,
    provenance: dict[str, str],
) -> list[dict[str, Any]]:
    """Write the answers of one file; return its rows. An answer that cannot be written becomes the reason."""
    try:
        if is_fits(job.target):
            answers[:], ready = _with_headers(upscaling.factor, images, answers)
            if ready:
                write_super_resolved(job.target, ready, provenance, convention)
        else:
            _write_arrays(job, answers, upscaling.factor**2 if convention == "flux" else 1, images)
    except CannotWrite:
        raise
    except DeepLenseError as error:
        why = shown(f"not written: {error.found}; expected {error.expected}")
        answers[:] = [answer if isinstance(answer, str) else why for answer in answers]
    return [_row(job, upscaling, image.name, answer) for image, answer in zip(images, answers, strict=True)]


def _with_headers(
    factor: int, images: list[FitsImage], answers: list[Upscaled | str]
) -> tuple[list[Upscaled | str], list[SuperResolved]]:
    """Return the answers, a reason in place of one whose header cannot be made finer, and what is to be written."""
    kept, ready = list(answers), []
    for place, (image, answer) in enumerate(zip(images, answers, strict=True)):
        if isinstance(answer, str):
            continue
        try:
            header = finer_header(image.header, factor)
        except DeepLenseError as error:
            kept[place] = f"{error.found}; expected {error.expected}"
            continue
        if answer.chi2 is not None and np.isfinite(answer.chi2):
            header["SR_CHI2"] = (answer.chi2, "per pixel: made coarse again vs. observed")
        if answer.flux_ratio is not None:
            header["SR_FLUX"] = (answer.flux_ratio, "flux over that of the original")
        header["SR_SCALE"] = (answer.rescaled, "brought to the training scale and back")
        if answer.unlike is not None:
            header["HISTORY"] = f"deeplense: unlike the training images: {answer.unlike}"
        ready.append(SuperResolved(image.name, answer.pixels, header, factor, answer.sigma, answer.mask))
    return kept, ready


def _write_arrays(job: Job, answers: list[Upscaled | str], divisor: int, images: list[FitsImage]) -> None:
    """Write an array of as many axes as was read, NaN where an image has no answer; nothing where none has one."""
    good = next((answer for answer in answers if not isinstance(answer, str)), None)
    if good is None:
        return
    none = np.full(good.pixels.shape, np.nan, np.float32)
    blank = replace(good, pixels=none, sigma=none, mask=np.ones(none.shape, bool))
    whole = [blank if isinstance(answer, str) else answer for answer in answers]
    arrays: tuple[np.ndarray, ...] = (
        np.stack([answer.pixels for answer in whole]) / np.float32(divisor),
        np.stack([answer.sigma for answer in whole]) / np.float32(divisor),
        np.stack([answer.mask for answer in whole]).astype(np.uint8),
    )
    axes = images[0].header["NAXIS"]
    for path, array in zip(job.targets, arrays, strict=True):
        shown: np.ndarray = array if axes == 4 else array[0] if axes == 3 else array[0, 0]
        write_array(path, shown)


def _draw(job: Job, images: list[FitsImage], answers: list[Upscaled | str], folder: Path) -> None:
    called = Counter(image.name for image in images)
    for image, answer in zip(images, answers, strict=True):
        if isinstance(answer, str):
            continue
        coarse = np.where(image.mask, np.nan, image.pixels)
        sound = torch.from_numpy(np.where(image.mask, np.median(image.pixels[~image.mask]), image.pixels))
        factor = answer.pixels.shape[1] // coarse.shape[1]
        bicubic = F.interpolate(sound[None], scale_factor=factor, mode="bicubic", align_corners=False)[0].numpy()
        chi2 = "" if answer.chi2 is None else f"    χ² {answer.chi2:.3g} per pixel"
        title = f"{shown(job.source.name)} {image.name}{chi2}"
        figure = upscaled_figure(title, coarse, bicubic, answer.pixels, answer.sigma)
        which = "".join(letter if letter.isalnum() or letter in "-." else "_" for letter in image.name)
        if called[image.name] > 1:
            which += f"_{image.index}"
        path = folder / job.name.with_name(job.name.name + (f"_{which}" if len(images) > 1 else "") + ".png")
        with atomic(path) as temporary:
            temporary.write_bytes(png(figure, DOTS))

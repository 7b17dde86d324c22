"""Which files of coarse images are read, and where what is made of them is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io.fits import Header

from deeplense.core.errors import DeepLenseError, InvalidOption, MissingFile
from deeplense.core.files import shown
from deeplense.data.fits import FitsImage, read_fits_images
from deeplense.data.readers.files import channels_first
from deeplense.data.readers.npy import read_npy

FITS, ARRAYS = (".fits", ".fit", ".fits.gz"), (".npy",)
SUFFIXES = (*FITS, *ARRAYS)
TABLE = "predictions.csv"
MAX_BYTES = 1 << 31  # of an array of many images
Read = list[FitsImage] | str
"""The images of a file, or why there are none."""


@dataclass(frozen=True)
class Job:
    """A file to read and the one to write.

    Parameters
    ----------
    source, target
        The two files; both FITS, or both arrays.
    name
        Of the target below the output folder, without its suffix: what its pictures are called by.
    """

    source: Path
    target: Path
    name: Path

    @property
    def targets(self) -> tuple[Path, ...]:
        """Every file that is written: FITS has σ and mask inside."""
        if is_fits(self.target):
            return (self.target,)
        return (self.target, *(self.target.with_name(f"{self.target.stem}_{what}.npy") for what in ("sigma", "mask")))


def plan(paths: Sequence[Path], out: Path) -> tuple[list[Job], Path]:
    """Return what is to be done, files as given and folders searched in sorted order, and the path of the table.

    Parameters
    ----------
    paths
        Files, or folders that are searched for FITS files and arrays.
    out
        A file, for one file of that kind; or a folder, in which files keep their names, and their places below the
        folders that they are found in.

    Raises
    ------
    MissingFile
        When a path is not there, or a folder holds no image.
    InvalidOption
        When two files would be written to one place, or one onto itself; or `out` is neither.
    """
    found = list(_found(paths, out))
    one = suffix_of(out) if suffix_of(out) in SUFFIXES and not out.is_dir() else None
    if one is not None:
        if len(found) != 1 or is_fits(found[0][0]) != is_fits(out):
            raise InvalidOption(
                f"--out {shown(out)} for {', '.join(shown(path) for path, _ in found[:3])}"
                f"{' …' if len(found) > 3 else ''}",
                "one FITS file for a FITS file, an array for an array, or a folder for all",
                "change --out",
            )
        jobs = [Job(found[0][0], out, Path(stem_of(out)))]
    else:
        if out.suffix.lower() in (".csv", ".parquet", ".png", ".jpg", ".jpeg") or out.is_file():
            raise InvalidOption(
                f"--out {shown(out)}", f"a folder, or a name that ends in {', '.join(SUFFIXES)}", "change --out"
            )
        jobs = [Job(path, out / place, place.with_name(stem_of(place))) for path, place in found]
    _check_places(jobs)
    return jobs, (out if one is None else out.parent) / TABLE


def _found(paths: Sequence[Path], out: Path) -> Iterator[tuple[Path, Path]]:
    """Yield every file and its place in an output folder."""
    if not paths:
        raise InvalidOption("no image is named", "at least one file or folder", "add it after the run")
    for path in paths:
        if path.is_dir():
            inside = [entry for entry in sorted(path.rglob("*")) if suffix_of(entry) in SUFFIXES]
            if not path.resolve().is_relative_to(out.resolve()):  # what an earlier call wrote is no input
                inside = [entry for entry in inside if not entry.resolve().is_relative_to(out.resolve())]
            if not inside:
                raise MissingFile(
                    f"no image is below {shown(path)}", f"files ending in {', '.join(SUFFIXES)}", "check the folder"
                )
            yield from ((entry, entry.relative_to(path)) for entry in inside)
        elif path.exists():
            yield path, Path(path.name)
        else:
            raise MissingFile(f"there is no file {shown(path)}", "an image or a folder of images", "check the path")


def _check_places(jobs: Sequence[Job]) -> None:
    place, n = Counter(target for job in jobs for target in job.targets).most_common(1)[0]
    if n > 1:
        raise InvalidOption(
            f"{n} files would be written as {shown(place)}", "a name for each", "super-resolve them apart"
        )
    sources = {job.source.resolve() for job in jobs}
    own = [target for job in jobs for target in job.targets if target.resolve() in sources]
    if own:
        raise InvalidOption(
            f"--out would overwrite {shown(own[0])}, which is read", "another file or folder", "change --out"
        )


def is_fits(path: Path) -> bool:
    """Whether a name is that of a FITS file."""
    return suffix_of(path) in FITS


def suffix_of(path: Path) -> str:
    """Return the suffix in small letters; .fits.gz is one."""
    name = path.name.lower()
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), path.suffix.lower())


def stem_of(path: Path) -> str:
    """Return the name without its suffix."""
    return path.name[: -len(suffix_of(path)) or None]


def read(path: Path) -> Read:
    """Return the images of a FITS file or an array, what is not finite masked; or in words why there are none.

    The images of an array [N, C, H, W] are called by their numbers; NAXIS in the header of each is the array's.
    """
    try:
        if is_fits(path):
            return read_fits_images(path)
        if suffix_of(path) not in ARRAYS:
            raise InvalidOption(
                f"{path} is not for measuring: a picture's values are made for the eye",
                f"a file ending in {', '.join(SUFFIXES)}",
                "use the file that the picture was made of",
            )
        array = read_npy(path, MAX_BYTES).image
        several = array if array.ndim == 4 else array[None]
        with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold is masked
            stamps = [np.array(channels_first(path, one), np.float32, order="C") for one in several]
        names = [str(k) if array.ndim == 4 else "" for k in range(len(stamps))]
        header = Header([("NAXIS", array.ndim)])
        return [
            FitsImage(name, k, stamp, ~np.isfinite(stamp), header, None)
            for k, (name, stamp) in enumerate(zip(names, stamps, strict=True))
        ]
    except DeepLenseError as error:
        return shown(f"{error.found}; expected {error.expected}")

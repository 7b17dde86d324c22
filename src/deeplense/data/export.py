"""Any dataset → the DeepLense tree `{train,validation,test}/<class>/<id>.npy`, plain numeric arrays only."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from deeplense.core.errors import InvalidDataset, InvalidOption
from deeplense.core.files import CannotWrite
from deeplense.data.dataset import Dataset

BATCH = 256
MAX_NAME = 120
"""Longest file name made of an id, in characters; file systems end at 255 bytes."""


def export_npy_tree(dataset: Dataset, out: Path, progress: Callable[[int], None] | None = None) -> Path:
    """Return `out`, a new folder with one float32 `.npy` file per image: [H, W], or [C, H, W] for several channels.

    The tree is written beside `out` and moved there when it is whole.

    Parameters
    ----------
    dataset
        What to write; every image needs a label. Splits are those of `dataset.splits()`.
    out
        A folder that does not exist yet, or is empty.
    progress
        Called with the number of images written so far, after every few.

    Raises
    ------
    InvalidOption
        When `out` exists and is not an empty folder.
    InvalidDataset
        When an image has no label.
    CorruptFile
        When an image cannot be read.
    CannotWrite
        When the disk is full or not writable.
    """
    with new_folder(out) as part:
        names = _names(dataset)
        for folder in {name.parent for name in names}:
            (part / folder).mkdir(parents=True, exist_ok=True)
        for start in range(0, len(names), BATCH):
            rows = range(start, min(start + BATCH, len(names)))
            for row, image in zip(rows, dataset.images(rows), strict=True):
                np.save(part / names[row], image[0] if len(image) == 1 else image, allow_pickle=False)
            if progress is not None:
                progress(rows.stop)
    return out


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Yield a folder to write into, which becomes `out` when the block ends, and goes where it fails.

    Raises
    ------
    InvalidOption
        When `out` exists and is not an empty folder.
    CannotWrite
        When the disk is full or not writable.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InvalidOption(f"{out} exists already", "a new or empty folder", "choose another place, or remove it")
    part = out.with_name(f".{out.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)  # of an export that was killed
        part.mkdir(parents=True)
        yield part
        if out.exists():
            out.rmdir()
        part.rename(out)
    except OSError as error:
        raise CannotWrite(
            f"{out} could not be written: {error.strerror or error}",
            "a writable folder with enough free space",
            "free some space or choose another place",
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _names(dataset: Dataset) -> list[Path]:
    """Return the file of every image below the tree's root: unique, and inside it whatever ids and labels say."""
    names: list[Path] = []
    taken: set[str] = set()
    labels, ids = dataset.catalogue["label"].to_pylist(), dataset.catalogue["id"].to_pylist()
    for split, label, identifier in zip(dataset.splits(), labels, map(str, ids), strict=True):
        if label is None:
            raise InvalidDataset(
                f"the image '{identifier}' of {dataset.path} has no label",
                "a label for every image, which becomes its folder",
                "label the images, or leave this one out",
            )
        folder, name = Path(split, _safe(label)), _safe(identifier.rpartition("/")[2])
        if len(name) > MAX_NAME or f"{folder}/{name}".lower() in taken:
            name = f"{name[:MAX_NAME]}-{hashlib.sha256(identifier.encode()).hexdigest()[:16]}"
        taken.add(f"{folder}/{name}".lower())
        names.append(folder / f"{name}.npy")
    return names


def _safe(text: str) -> str:
    """Return `text` as one file name: ASCII letters, digits, dashes, dots inside; never `..`, never a path."""
    return re.sub(r"[^\w.+-]+", "_", text, flags=re.ASCII).strip(".") or "_"

"""Stacked arrays: one array of images with one of labels, as `.npy` files, in a `.npz` archive or in an HDF5 file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Int64

from deeplense.core.errors import InvalidDataset
from deeplense.data.dataset import READERS, Dataset
from deeplense.data.readers.class_labels import class_names, decode_labels, order_labels, to_texts
from deeplense.data.readers.files import channels_first, to_float32
from deeplense.data.readers.guard import MAX_IMAGE_BYTES
from deeplense.data.readers.hdf5 import hdf5_stacks
from deeplense.data.readers.names import SPLITS
from deeplense.data.readers.stacks import Stack, npy_stack, npz_stacks

HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf")
SUFFIXES = (".npy", ".npz", *HDF5_SUFFIXES)
IMAGE_WORDS = ("images", "image", "imgs", "x", "data", "arr_0")
LABEL_WORDS = ("labels", "label", "y", "targets", "target", "arr_1")
MAX_ROWS = 20_000_000
NAME_WORDS = ("label_names", "class_names", "classes")


@dataclass(frozen=True)
class _Part:
    """The images of one split (None where there is only one part), with their labels where there are any."""

    images: Stack
    labels: Stack | None
    split: str | None


@READERS.register("arrays")
class StackedArrays(Dataset):
    """One row per image: `images.npy` with `labels.npy`, `X_train`/`y_train`/`X_test`/…, or the same inside one file.

    Labels are integers, one-hot rows or texts. The names of integer labels come from `labels.json` beside the file (a
    list, or an object of name and number), from an array `label_names` or an attribute of that name; without any,
    the numbers are the names. -1 means unknown.

    Parameters
    ----------
    path
        A `.npy`, `.npz` or HDF5 file, or a folder with the `.npy` files of images and labels.

    Raises
    ------
    CorruptFile
        When a file is damaged.
    InvalidDataset
        When it is not clear which array holds the images, or images and labels do not go together.
    """

    layout = "stacked arrays: images and labels as .npy, .npz or .h5"

    def __init__(self, path: Path) -> None:
        self.path = path
        stacks, names = _open(path)
        self._parts = _pair(path, stacks)
        names = class_names(path, names)
        self.image_shape = _image_shape(path, self._parts)
        self._starts = np.cumsum([0] + [part.images.shape[0] for part in self._parts])
        labels = [_labels(part, names) for part in self._parts]
        self.labels = order_labels({label for part in labels for label in part if label is not None})
        self.catalogue = _catalogue(self._parts, labels)
        self.problems = [] if self.labels else ["No labels were found beside the images."]

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether `path` is an array file, or a folder with one whose name says that it holds the images."""
        if path.is_file():
            return path.suffix.lower() in SUFFIXES
        return path.is_dir() and bool(_named((file.stem for file in path.glob("*.npy")), IMAGE_WORDS))

    def images(self, indices: Sequence[int] | Int64[np.ndarray, " B"]) -> Float32[np.ndarray, "B C H W"]:
        """Return the images at `indices`, read in the calling process.

        Raises
        ------
        CorruptFile
            When an image cannot be read or is not finite.
        """
        rows = np.asarray(indices, dtype=np.int64)
        batch = np.empty((len(rows), *self.image_shape), dtype=np.float32)
        numbers = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(numbers):
            images, chosen = self._parts[number].images, np.flatnonzero(numbers == number)
            within = rows[chosen] - self._starts[number]
            for place, row, image in zip(chosen, within, images.rows(within), strict=True):
                batch[place] = to_float32(images.path, channels_first(images.path, image), f"row {row}: ")
        return batch


def _words(name: str) -> tuple[str, str | None]:
    """Return the name of an array without its split, and the split: "X_train" → "x", "train"."""
    words = [word for word in re.split(r"[\W_]+", name.lower()) if word]
    split = next((SPLITS[word] for word in words if word in SPLITS), None)
    return "_".join(word for word in words if word not in SPLITS), split


def _named(names: Iterable[str], wanted: Sequence[str]) -> dict[str | None, str]:
    """Return, for each split, the name that comes first in the order of `wanted`."""
    candidates = [
        (wanted.index(rest), name, split) for name in names for rest, split in [_words(name)] if rest in wanted
    ]
    return {split: name for _, name, split in sorted(candidates, key=lambda found: found[:2], reverse=True)}


def _open(path: Path) -> tuple[dict[str, Stack], list[str] | None]:
    """Return the arrays by name, and the class names if the file states them."""
    suffix, names = path.suffix.lower(), None
    if suffix in HDF5_SUFFIXES:
        stacks, names = hdf5_stacks(path)
    elif suffix == ".npz":
        stacks = npz_stacks(path)
    elif path.is_dir():
        files = [file.stem for file in path.glob("*.npy")]
        wanted = {*_named(files, IMAGE_WORDS).values(), *_named(files, LABEL_WORDS).values()}
        stacks = {stem: npy_stack(path / f"{stem}.npy") for stem in sorted(wanted)}
    else:
        labels = _labels_beside(path)
        stacks = {"images": npy_stack(path)} | ({"labels": npy_stack(labels)} if labels else {})
    for word in NAME_WORDS:
        stack = stacks.pop(word, None)
        if stack is not None and stack.dtype.kind in "US":
            names = to_texts(path, stack.rows(range(stack.shape[0])))
    return stacks, names


def _labels_beside(path: Path) -> Path | None:
    """Return the labels that belong to a file of images: `<stem>_labels.npy`, else `labels.npy`, `y.npy`, or None."""
    beside = [file.stem for file in path.parent.glob("*.npy") if file != path]
    own = [f"{path.stem}_{word}" for word in LABEL_WORDS if f"{path.stem}_{word}" in beside]
    same = _named(beside, LABEL_WORDS).get(_words(path.stem)[1])
    stem = own[0] if own else same
    return path.with_name(f"{stem}.npy") if stem else None


def _pair(path: Path, stacks: dict[str, Stack]) -> list[_Part]:
    """Return images with their labels, split by split."""
    images, labels = _named(stacks, IMAGE_WORDS), _named(stacks, LABEL_WORDS)
    if not images:
        others = [name for name, stack in stacks.items() if name not in labels.values() and len(stack.shape) in (3, 4)]
        images = {None: others[0]} if len(others) == 1 else {}
    if not images:
        raise InvalidDataset(
            f"{path} holds the arrays {', '.join(sorted(stacks)) or '(none)'}, none of which is clearly the images",
            f"images under one of the names {', '.join(IMAGE_WORDS)} and labels under {', '.join(LABEL_WORDS)}",
            "rename the arrays",
        )
    parts = []
    for split, name in images.items():
        label = labels.get(split) or (labels.get(None) if len(images) == 1 else None)
        part = _Part(stacks[name], stacks[label] if label else None, split)
        if part.labels is not None and part.labels.shape[0] != part.images.shape[0]:
            raise InvalidDataset(
                f"{path}: {part.images.shape[0]} images in '{name}', {part.labels.shape[0]} labels in '{label}'",
                "as many labels as images",
                "check which labels belong to these images",
            )
        parts.append(part)
    return sorted(parts, key=lambda part: part.split or "")


def _image_shape(path: Path, parts: list[_Part]) -> tuple[int, int, int]:
    """Return the (C, H, W) that all parts share, from their headers."""
    shapes = set()
    for part in parts:
        shape = part.images.shape
        if len(shape) not in (3, 4) or not 0 < shape[0] <= MAX_ROWS or part.images.dtype.kind not in "biuf":
            raise InvalidDataset(
                f"{part.images.path} holds an array of shape {shape} and type {part.images.dtype}",
                "numbers of shape (N, H, W), (N, C, H, W) or (N, H, W, C)",
                "choose the array of images",
            )
        shapes.add(channels_first(part.images.path, np.broadcast_to(np.float32(0), shape[1:])).shape)
    if len(shapes) > 1:
        raise InvalidDataset(
            f"{path} holds images of different shapes: {sorted(shapes)}", "one shape", "open them one by one"
        )
    channels, height, width = shapes.pop()
    if 4 * channels * height * width > MAX_IMAGE_BYTES:
        raise InvalidDataset(f"{path}: images of {height} × {width} pixels", "at most 256 MiB each", "cut them up")
    return channels, height, width


def _labels(part: _Part, names: list[str] | None) -> list[str | None]:
    if part.labels is None:
        return [None] * part.images.shape[0]
    return decode_labels(part.labels.path, part.labels.rows(range(part.labels.shape[0])), names)


def _catalogue(parts: list[_Part], labels: list[list[str | None]]) -> pa.Table:
    """Return one row per image; the id is the row number, behind the split where there are several parts."""
    columns: dict[str, list[Any]] = {"id": [], "label": [], "split": []}
    for part, names in zip(parts, labels, strict=True):
        width = len(str(len(names) - 1))
        prefix = f"{part.split}/" if len(parts) > 1 else ""
        columns["id"] += [f"{prefix}{row:0{width}d}" for row in range(len(names))]
        columns["label"] += names
        columns["split"] += [part.split or ("train" if len(parts) > 1 else None)] * len(names)

    return pa.Table.from_pydict(columns, schema=pa.schema([(name, pa.string()) for name in columns]))

"""Class folders: one image per file, the folder is the class, a folder above it may be the split."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Int64

from deeplense.core.errors import CorruptFile, DeepLenseError, InvalidDataset
from deeplense.data.dataset import READERS, Dataset, sort_labels
from deeplense.data.readers.files import SUFFIXES, read_image
from deeplense.data.readers.guard import unreadable
from deeplense.data.readers.names import LABELS, is_text, label_name, split_name, without_split

MAX_DEPTH = 4
MAX_FOLDERS = 10_000
LOOKED_AT = 16
"""Images whose shapes are compared when a dataset is opened."""
UNEQUAL = 1.5
"""Ratio of the largest to the smallest class from which on `problems` mentions it."""


@dataclass
class _Folder:
    """What lies directly in one folder.

    Parameters
    ----------
    parts
        Its path below the dataset, as names.
    images, others, hidden
        Names of image files; names of other files; how many hidden ones (`.DS_Store`, `Thumbs.db`).
    leaf
        Whether it has no folders inside.
    """

    parts: tuple[str, ...]
    images: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    hidden: int = 0
    leaf: bool = True

    @property
    def label(self) -> str | None:
        """The class that the folder's own name states; None for a folder that is a split only."""
        name = self.parts[-1]
        return label_name(name if split_name(name) is None else without_split(name)) or None

    @property
    def split(self) -> str | None:
        """The split that the nearest folder above states, if any."""
        return next(filter(None, map(split_name, reversed(self.parts))), None)


@READERS.register("folders")
class ClassFolders(Dataset):
    """A tree of class folders with one `.npy`, JPEG or PNG file per image.

    Understood are `root/<class>/*`, `root/<split>/<class>/*`, `root/<split>_<class>/*`, one more folder around any of
    these, and `Model_X/<class>/*` with `Model_X_test/<class>/*` beside or inside it.

    Parameters
    ----------
    path
        The folder above the classes or the splits.

    Raises
    ------
    InvalidDataset
        When there is no image, or a class folder is empty in every split.
    CorruptFile
        When none of some images, whose commonest shape is that of all, can be read.
    """

    layout = "class folders of .npy, .jpg or .png files ([<split>/]<class>/<image>)"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._base = path.resolve()
        folders = [folder for folder in _walk(self._base, ()) if folder.parts]
        test = self._base.parent / f"{self._base.name}_test"
        if test.is_dir() and not any(folder.images and folder.split == "test" for folder in folders):
            folders += [folder for folder in _walk(test, ("..", test.name)) if len(folder.parts) > 2]
        self.catalogue = _catalogue(folders)
        if not len(self):
            raise InvalidDataset(
                f"{path} has no image in any class folder", self.layout, "put each image into its class's folder"
            )
        counts = Counter(self.catalogue["label"].to_pylist())
        self.problems = [*_empty(path, folders, counts), *_oddities(folders, counts)]
        self.labels = sort_labels({label for label in counts if label is not None})
        files = [str(file) for file in self.catalogue["path"].to_pylist()]
        self.image_shape = usual_shape(self._base, files, read_image)

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether a folder below `path` holds image files; the files themselves are not opened."""
        if not path.is_dir() or (path / "manifest.json").exists():
            return False
        return any(folder.parts and folder.images for folder in islice(_walk(path, ()), MAX_FOLDERS))

    def images(self, indices: Sequence[int] | Int64[np.ndarray, " B"]) -> Float32[np.ndarray, "B C H W"]:
        """Return the images at `indices`, read from their files in the calling process.

        Raises
        ------
        CorruptFile
            When a file is not one finite image of `image_shape`.
        """
        batch = np.empty((len(indices), *self.image_shape), dtype=np.float32)
        paths = self.catalogue["path"]
        for row, index in enumerate(indices):
            path = self._base / paths[int(index)].as_py()
            image = read_image(path)
            if image.shape != self.image_shape:
                raise CorruptFile(path, f"shape {image.shape}", f"shape {self.image_shape}, as most images")
            batch[row] = image
        return batch


def _walk(folder: Path, parts: tuple[str, ...]) -> Iterator[_Folder]:
    """Yield `folder` and the folders below it, names in order, down to `MAX_DEPTH`."""
    found, below = _Folder(parts), []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith((".", "__MACOSX")) or entry.name == "Thumbs.db":
                    found.hidden += 1
                elif not is_text(entry.name):
                    found.others.append(entry.name.encode(errors="replace").decode())
                elif entry.is_dir():
                    below.append(entry.name)
                elif entry.name.lower().endswith(SUFFIXES):
                    found.images.append(entry.name)
                else:
                    found.others.append(entry.name)
    except OSError as error:
        raise unreadable(folder, error) from error
    found.leaf = not below
    yield found
    if sum(part != ".." for part in parts) < MAX_DEPTH:
        for name in sorted(below):
            yield from _walk(folder / name, (*parts, name))


def _catalogue(folders: list[_Folder]) -> pa.Table:
    """Return one row per image, ordered by path: id, label, split, path relative to the dataset."""
    rows = []
    for folder in folders:
        label, split, prefix = folder.label, folder.split, "/".join(folder.parts)
        rows += [(f"{prefix}/{name}", label, split) for name in folder.images]
    rows.sort()
    paths = [row[0] for row in rows]
    names = [path.removeprefix("../").rpartition(".")[0] for path in paths]
    taken = Counter(names)  # a.jpg beside a.npy: both keep their suffix
    ids = [name if taken[name] == 1 else path.removeprefix("../") for name, path in zip(names, paths, strict=True)]
    columns: dict[str, list[Any]] = {
        "id": ids,
        "label": [row[1] for row in rows],
        "split": _given([row[2] for row in rows]),
        "path": paths,
    }
    return pa.Table.from_pydict(columns, schema=pa.schema([(name, pa.string()) for name in columns]))


def _given(splits: list[str | None]) -> list[str | None]:
    """Return the splits with "train" for what lies outside every named split, if there are named ones."""
    return [split or "train" for split in splits] if any(splits) else splits


def _empty(path: Path, folders: list[_Folder], counts: Counter[str | None]) -> Iterator[str]:
    """Yield a sentence per class folder that is empty in one split; a class empty in all is an error."""
    for folder in folders:
        name = "/".join(folder.parts)
        is_class = folder.leaf and (not folder.others or folder.parts[-1].lower() in LABELS)
        if folder.images or not is_class:
            continue
        if folder.label is not None and not counts[folder.label]:
            raise InvalidDataset(
                f"{path}: the class folder '{name}' holds no image",
                f"files ending in {', '.join(SUFFIXES)}",
                "fill the folder, or remove it if it is no class",
            )
        yield f"The folder '{name}' holds no image."


def _oddities(folders: list[_Folder], counts: Counter[str | None]) -> Iterator[str]:
    """Yield a sentence per thing that a careful reader should know."""
    hidden = sum(folder.hidden for folder in folders)
    others = [name for folder in folders for name in folder.others]
    if hidden:
        yield f"{hidden} hidden files (.DS_Store and the like) were left out."
    if others:
        yield f"{len(others)} other files, or files with odd names, were left out, '{min(others)}' for example."
    if counts[None]:
        yield f"{counts[None]} images lie in no class folder and have no label."
    largest, smallest = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    if counts[largest] >= UNEQUAL * counts[smallest]:
        yield f"The classes are unequal: {counts[largest]} of {largest}, {counts[smallest]} of {smallest}."


def usual_shape(base: Path, files: Sequence[str], read: Callable[[Path], np.ndarray]) -> tuple[int, int, int]:
    """Return the commonest shape of some images from all over; those that cannot be read are passed over.

    Parameters
    ----------
    base
        The folder that the files lie in or below.
    files
        At least one.
    read
        Returns the image in a file, [C, H, W].

    Raises
    ------
    DeepLenseError
        When none of them can be read: the error of the first.
    """
    shapes: Counter[tuple[int, int, int]] = Counter()
    errors: list[DeepLenseError] = []
    for place in np.linspace(0, len(files) - 1, min(LOOKED_AT, len(files))).astype(np.int64):
        try:
            channels, height, width = read(base / files[place]).shape
        except DeepLenseError as error:
            errors.append(error)
        else:
            shapes[channels, height, width] += 1
    if not shapes:
        raise errors[0]
    return shapes.most_common(1)[0][0]

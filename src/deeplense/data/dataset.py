"""A dataset: images by index, one catalogue row each, class names, splits. Every layout is read into this form."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Int64

from deeplense.core.degradation import Degradation
from deeplense.core.errors import InvalidDataset, MissingFile
from deeplense.core.registry import Registry
from deeplense.data.splits import SPLITS, Fold, assign_splits, fold_splits

IMAGE, LOW, TRUTH = "image", "low", "truth"  # arrays: the image; of pairs the coarser one, and the image without noise
CANONICAL_LABELS = ("no_sub", "cdm", "axion", "sub", "nonlens", "lens")


class Dataset(ABC):
    """Images by index, with a catalogue.

    A reader is a subclass in `data/readers/` that fills the attributes below in its constructor and registers itself;
    label names, image size and units come from what it reads, never from constants.

    Attributes
    ----------
    path
        Where the dataset lies.
    labels
        Class names in the order of the integer targets; empty when nothing is labelled.
    catalogue
        One row per image: `id` (string, unique, independent of file order), `label` (string, null where unknown),
        `split` ("train", "validation", "test"; null where the layout does not say), and whatever else is known.
    image_shape
        (C, H, W) of every image.
    layout
        The layout in a few words, for people: "DeepLense .npy tree", "dataset folder", …
    problems
        What a careful reader should know: skipped files, odd values, unequal classes. One sentence each.
    degradation
        Of pairs, how the coarse image was made of the fine one; None where there are none, or it is not known.
    bands
        Names of the bands, in their order; none where they are not known.
    groups
        What each image belongs to (a field, an exposure): no group lies in two splits that are drawn. None where all
        are alone.
    """

    layout: ClassVar[str]
    degradation: Degradation | None = None
    bands: tuple[str, ...] = ()
    groups: list[str | None] | None = None
    path: Path
    labels: tuple[str, ...]
    catalogue: pa.Table
    image_shape: tuple[int, int, int]
    problems: list[str]

    @classmethod
    @abstractmethod
    def recognises(cls, path: Path) -> bool:
        """Whether `path` looks like this layout; cheap, reads no image."""

    @abstractmethod
    def images(self, indices: Sequence[int] | Int64[np.ndarray, " B"]) -> Float32[np.ndarray, "B C H W"]:
        """Return the images at `indices` (rows of the catalogue), in that order, as stored (no stretch, no crop).

        Raises
        ------
        CorruptFile
            When a file's content is not an image of `image_shape`, or not finite.
        """

    @property
    def array_shapes(self) -> dict[str, tuple[int, int, int]]:
        """The shape of each array that is stored of an image: `image`; of pairs also `low` and perhaps `truth`."""
        return {IMAGE: self.image_shape}

    def array(self, name: str, indices: Sequence[int] | Int64[np.ndarray, " B"]) -> Float32[np.ndarray, "B C H W"]:
        """Return one of the arrays at `indices`, as `images` does."""
        if name != IMAGE:
            raise KeyError(name)
        return self.images(indices)

    def files(self, row: int) -> tuple[Path, ...]:
        """Return the files that hold the image of a row and of no other; none where images share files."""
        return ()

    def __len__(self) -> int:
        return int(self.catalogue.num_rows)

    def targets(self, labels: Sequence[str] | None = None) -> Int64[np.ndarray, " N"]:
        """Return the class index of every row; -1 where the label is unknown.

        Parameters
        ----------
        labels
            Class names in the order of the index; by default the dataset's own.

        Raises
        ------
        InvalidDataset
            When the dataset has a class that is not among them.
        """
        names = self.labels if labels is None else tuple(labels)
        if strange := sorted(set(self.labels) - set(names)):
            raise InvalidDataset(
                f"{self.path} has the class '{strange[0]}'",
                f"classes that were trained: {', '.join(names)}",
                "evaluate on a dataset with the same classes",
            )
        number: dict[Any, int] = {label: index for index, label in enumerate(names)}
        return np.array([number.get(label, -1) for label in self.catalogue["label"].to_pylist()], dtype=np.int64)

    def splits(self) -> list[str]:
        """Return the split of every row; rows of a layout without (all) splits get theirs by a hash of their id."""
        ids: list[Any] = self.catalogue["id"].to_pylist()
        labels, given = (self.catalogue[name].to_pylist() for name in ("label", "split"))
        return assign_splits(ids, labels, given, self.groups)

    def splits_of(self, fold: Fold | None) -> list[str] | list[str | None]:
        """Return the split of every row in one fold of a cross-validation; without a fold, `splits`."""
        if fold is None:
            return self.splits()
        ids: list[Any] = self.catalogue["id"].to_pylist()
        return fold_splits(ids, self.catalogue["label"].to_pylist(), fold, self.groups)

    def indices(self, split: str, fold: Fold | None = None) -> Int64[np.ndarray, " M"]:
        """Return the rows of one split, in catalogue order.

        Parameters
        ----------
        split
            Its name.
        fold
            Of a cross-validation; None for the splits as they are stored.

        Raises
        ------
        InvalidDataset
            When the split is empty.
        """
        rows = np.flatnonzero(np.array(self.splits_of(fold)) == split).astype(np.int64)
        if rows.size == 0:
            raise InvalidDataset(
                f"{self.path} has no image in the split '{split}'",
                f"a split of {', '.join(SPLITS)} with images in it",
                "add images, or name another split",
            )
        return rows


READERS: Registry[type[Dataset]] = Registry("reader", "deeplense.data.readers")


def sort_labels(names: set[str]) -> tuple[str, ...]:
    """Return class names in the field's order (DeepLense names first, then alphabetically)."""
    rank = {name: index for index, name in enumerate(CANONICAL_LABELS)}
    return tuple(sorted(names, key=lambda name: (rank.get(name, len(rank)), name)))


def open_dataset(path: Path | str) -> Dataset:
    """Return the dataset at `path`, whatever its layout.

    Raises
    ------
    MissingFile
        When there is nothing at `path`, or nothing that we may read.
    InvalidDataset
        When no reader recognises what is there.
    """
    path = Path(path).expanduser()
    try:
        if not path.exists():
            raise MissingFile(
                f"there is nothing at {path}",
                "a dataset folder, a tree of class folders, or a .npy, .npz or .h5 file with labels",
                "check the path; `deeplense data list` names the recipes that need no path",
            )
        reader = next((READERS[name] for name in READERS if READERS[name].recognises(path)), None)
    except OSError as error:
        raise MissingFile(
            f"{path} cannot be read: {error.strerror or error}", "a readable path", "check its permissions"
        ) from error
    if reader is not None:
        return reader(path)  # type: ignore[call-arg]
    raise InvalidDataset(
        f"the layout of {path} is not recognised",
        "one of: " + "; ".join(READERS[name].layout for name in READERS),
        "arrange the files like one of these; the README shows each",
    )

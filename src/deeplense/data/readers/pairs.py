"""Folders of pairs, the fine image `HR/NAME.npy` and the coarse one `LR/NAME.npy`; a folder above may be the split."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Int64

from deeplense.core.errors import CorruptFile, InvalidDataset
from deeplense.data.dataset import IMAGE, LOW, READERS, Dataset
from deeplense.data.readers.files import SUFFIXES, read_image
from deeplense.data.readers.names import split_name

FINE, COARSE = ("HR", "hr", "high"), ("LR", "lr", "low")  # names of folders in the wild


@READERS.register("coarse_and_fine")  # readers are asked by name: before class folders, which would take HR for a class
class Pairs(Dataset):
    """Fine and coarse images of the same names in two folders, side by side or in each split's folder.

    Parameters
    ----------
    path
        The folder that holds them.

    Raises
    ------
    InvalidDataset
        When no name is in both folders.
    CorruptFile
        When the first image of either kind cannot be read.
    """

    layout: ClassVar[str] = "folders HR/ and LR/ with images of the same names"

    def __init__(self, path: Path) -> None:
        self.path, self.problems, self.labels = path, [], ()
        self._files: list[tuple[Path, Path]] = []
        ids, splits, lonely = [], [], 0
        for fine, coarse in _homes(path):
            fine_files, coarse_files = ({file.stem: file for file in _images(folder)} for folder in (fine, coarse))
            both = sorted(fine_files.keys() & coarse_files.keys())
            lonely += len(fine_files) + len(coarse_files) - 2 * len(both)
            home = fine.parent.relative_to(path)
            self._files += [(fine_files[name], coarse_files[name]) for name in both]
            ids += [(home / name).as_posix() for name in both]
            splits += [split_name(home.name)] * len(both)
        if not ids:
            raise InvalidDataset(
                f"no image in {path} has a partner of the same name",
                "HR/NAME.npy and LR/NAME.npy",
                "give both the same name",
            )
        if lonely:
            self.problems.append(f"Left out, since no image of the other folder has the same name: {lonely:,}.")
        shapes = [read_image(file).shape for file in self._files[0]]
        if shapes[0][0] != shapes[1][0]:
            raise InvalidDataset(
                f"{shapes[0][0]} bands in {self._files[0][0]} and {shapes[1][0]} in its partner",
                "the same bands in both",
                "leave out the others",
            )
        self._shapes = dict(zip((IMAGE, LOW), shapes, strict=True))
        self.image_shape = shapes[0]
        text = pa.string()
        self.catalogue = pa.table(
            {"id": ids, "label": pa.nulls(len(ids), text), "split": pa.array(splits, text)},
            schema=pa.schema({"id": text, "label": text, "split": text}),
        )

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether there is a folder HR beside a folder LR, here or one level below."""
        return path.is_dir() and bool(_homes(path))

    @property
    def array_shapes(self) -> dict[str, tuple[int, int, int]]:
        """The shape of a fine and of a coarse image."""
        return dict(self._shapes)

    def images(self, indices: Sequence[int] | Int64[np.ndarray, " B"]) -> Float32[np.ndarray, "B C H W"]:
        """Return the fine images."""
        return self.array(IMAGE, indices)

    def array(self, name: str, indices: Sequence[int] | Int64[np.ndarray, " B"]) -> Float32[np.ndarray, "B C H W"]:
        """Return the fine ("image") or the coarse images ("low").

        Raises
        ------
        CorruptFile
            When a file holds no image of the shape of the first.
        """
        shape = self._shapes[name]
        result = np.empty((len(indices), *shape), np.float32)
        for place, index in enumerate(indices):
            path = self._files[int(index)][name == LOW]
            image = read_image(path)
            if image.shape != shape:
                raise CorruptFile(
                    path, f"an image of shape {image.shape}", f"{shape}, as of the first", "remove the pair"
                )
            result[place] = image
        return result


def _homes(path: Path) -> list[tuple[Path, Path]]:
    """Return the folders of fine and of coarse images, here or one level below."""
    homes = [path, *sorted(entry for entry in path.iterdir() if entry.is_dir())]
    found = []
    for home in homes:
        kinds = [[home / name for name in names if (home / name).is_dir()] for names in (FINE, COARSE)]
        if all(kinds):
            found.append((kinds[0][0], kinds[1][0]))
    return found


def _images(folder: Path) -> list[Path]:
    return [file for file in sorted(folder.iterdir()) if file.suffix.lower() in SUFFIXES and file.is_file()]

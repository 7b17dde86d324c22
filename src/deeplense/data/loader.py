"""From a dataset to batches: in memory where it fits, from disk by worker processes where it does not."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from deeplense.core.console import progress
from deeplense.core.errors import DeepLenseError, InvalidDataset, InvalidOption
from deeplense.data.bands import band_places
from deeplense.data.dataset import IMAGE, LOW, TRUTH, Dataset
from deeplense.data.features import feature_values
from deeplense.data.transforms import part_taken

ROWS_PER_READ = 256
MEMORY_FRACTION = 0.4


@dataclass(frozen=True)
class Batch:
    """Images and what is known of them.

    Attributes
    ----------
    image
        What the network sees, [B, C, H, W].
    target
        Class index, [B]; -1 where unknown.
    index
        Position in the loader, [B].
    fine
        Of pairs, the observed image of more pixels, [B, C, fH, fW].
    truth
        Of pairs, the same without noise, where it is known.
    features
        What the catalogue says, [B, F], NaN where it says nothing; None where it is not read.
    weight
        How much each image counts in the loss, [B]; None where all count alike.
    """

    image: Float32[Tensor, "B C H W"]
    target: Int64[Tensor, " B"]
    index: Int64[Tensor, " B"]
    fine: Float32[Tensor, "B C fH fW"] | None = None
    truth: Float32[Tensor, "B C fH fW"] | None = None
    features: Float32[Tensor, "B F"] | None = None
    weight: Float32[Tensor, " B"] | None = None

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """What the network is called with: the image, and the features where they are read."""
        return (self.image,) if self.features is None else (self.image, self.features)

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        here = {name: value for name, value in vars(self).items() if value is not None}
        return replace(self, **{name: value.to(device, non_blocking=True) for name, value in here.items()})

    def cut(self, side: int, numbers: Float32[Tensor, "B 2"]) -> Batch:
        """Return a square of so many coarse pixels of each image, and the same square of the finer ones.

        Parameters
        ----------
        side
            Of the square.
        numbers
            Where it lies among all places, from 0 to 1: row, column.
        """
        height, width = self.image.shape[2:]
        places = numbers.cpu() * torch.tensor([height - side + 1, width - side + 1])

        def squares(images: Tensor) -> Tensor:
            factor = images.shape[2] // height
            corners = (factor * places.long()).tolist()
            sides = factor * side
            cut = [one[:, y : y + sides, x : x + sides] for one, (y, x) in zip(images, corners, strict=True)]
            return torch.stack(cut)

        return self.changed(squares)

    def changed(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """Return the batch with every image changed in the same way."""
        images = {name: value for name in ("image", "fine", "truth") if (value := getattr(self, name)) is not None}
        return replace(self, **{name: change(value) for name, value in images.items()})


class Loader:
    """Some rows of a dataset, as batches in any order.

    Parameters
    ----------
    dataset
        Where the images are.
    rows
        Which of them.
    labels
        Class names in the order of the targets; by default the dataset's own.
    crop
        Side of the central part to keep; None keeps all.
    workers
        Processes that read and decode.
    features
        Columns of the catalogue that are read, too.
    bands
        Which bands, by name or by number from 1, in this order; by default all as they lie.

    Attributes
    ----------
    arrays
        What is read of each image, by the dataset's names.
    feature_names
        Names of the columns that are read.
    balanced
        Whether an epoch has as many images of each class, drawn with replacement, not each image once.
    weights
        How much each image counts in the loss; None where all count alike.
    memory
        Bytes that the images may take to be kept in memory; by default 40 % of the machine's.
    """

    arrays: tuple[str, ...] = ("image",)
    balanced: bool = False
    weights: Float32[Tensor, " N"] | None = None
    memory: int | None = None

    def __init__(
        self,
        dataset: Dataset,
        rows: Sequence[int] | Int64[np.ndarray, " N"],
        labels: Sequence[str] | None = None,
        crop: int | None = None,
        workers: int = 0,
        features: Sequence[str] = (),
        bands: Sequence[str] = (),
    ) -> None:
        self.dataset, self.rows, self.workers = dataset, np.asarray(rows, dtype=np.int64), workers
        self.targets = torch.from_numpy(dataset.targets(labels)[self.rows])
        self.feature_names = tuple(features)
        self.features: Float32[Tensor, "N F"] | None = None
        if features:
            self.features = torch.from_numpy(feature_values(dataset.catalogue.take(self.rows), features))
        channels, height, width = dataset.image_shape
        if crop is not None and not 1 <= crop <= min(height, width):
            raise InvalidOption(
                f"a crop of {crop} pixels", f"a size from 1 to {min(height, width)}", "change --crop or leave it out"
            )
        self.crop, self.bands = crop, band_places(bands, dataset.bands, channels, dataset.path)
        self.image_shape = (channels if self.bands is None else len(self.bands), crop or height, crop or width)
        self._memory: dict[str, Float32[Tensor, "N C H W"]] = {}

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def fits(self) -> bool:
        """Whether all images are kept in memory."""
        available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        limit = int(MEMORY_FRACTION * available) if self.memory is None else self.memory
        return 4 * len(self) * sum(int(np.prod(shape)) for shape in self._shapes().values()) <= limit

    def begin_epoch(self, epoch: int) -> None:
        """Hear that an epoch begins: the images of a dataset stay the same."""

    def order(self, generator: torch.Generator) -> Int64[np.ndarray, " N"]:
        """Return the positions of an epoch's images in the order in which they are learnt from."""
        if not self.balanced:
            return torch.randperm(len(self), generator=generator).numpy()
        weights = 1 / self.targets.bincount().double()[self.targets]
        return torch.multinomial(weights, len(self), replacement=True, generator=generator).numpy()

    def batches(self, positions: Sequence[Int64[np.ndarray, " B"]]) -> Iterator[Batch]:
        """Yield one batch per array of positions (0 … len − 1), in that order."""
        if self.fits:
            self.in_memory()
            for where in positions:
                index = torch.from_numpy(where)
                yield self._batch({name: images[index] for name, images in self._memory.items()}, where)
        else:
            for where, arrays in zip(positions, self._read(positions), strict=True):
                yield self._batch(arrays, where)

    def in_order(self, batch_size: int, share: tuple[int, int] = (0, 1)) -> Iterator[Batch]:
        """Yield every image once, in order; of several processes, number share[0] of share[1] gets every so-manieth."""
        mine = np.arange(share[0], len(self), share[1])
        return self.batches([mine[i : i + batch_size] for i in range(0, mine.size, batch_size)])

    def in_memory(self) -> Float32[Tensor, "N C H W"]:
        """Return all images, read at the first call."""
        if not self._memory:
            positions = [np.arange(i, min(i + ROWS_PER_READ, len(self))) for i in range(0, len(self), ROWS_PER_READ)]
            memory = {name: torch.empty(len(self), *shape) for name, shape in self._shapes().items()}
            with progress(f"reading {self.dataset.path}", len(self)) as advance:
                for where, arrays in zip(positions, self._read(positions), strict=True):
                    for name, part in arrays.items():
                        memory[name][where[0] : where[-1] + 1] = part
                    advance(where.size)
            self._memory = memory
        return self._memory[self.arrays[0]]

    def sample(self, n: int) -> Float32[Tensor, "n C H W"]:
        """Return up to n images, evenly spaced over the rows."""
        return self.sample_batch(n).image

    def sample_batch(self, n: int) -> Batch:
        """Return up to n images, evenly spaced over the rows, and what is known of them."""
        where = np.unique(np.linspace(0, len(self) - 1, min(n, len(self))).astype(np.int64))
        return next(self.batches([where]))

    def _shapes(self) -> dict[str, tuple[int, int, int]]:
        """Return the shape of each array that is read of an image."""
        return {"image": self.image_shape}

    def _batch(self, arrays: Mapping[str, Tensor], where: Int64[np.ndarray, " B"]) -> Batch:
        index = torch.from_numpy(where)
        features = None if self.features is None else self.features[index]
        weight = None if self.weights is None else self.weights[index]
        return Batch(arrays["image"], self.targets[index], index, features=features, weight=weight)

    def _read(self, positions: Sequence[Int64[np.ndarray, " B"]]) -> Iterator[dict[str, Tensor]]:
        reader = _Reader(self.dataset, self.rows, (self.bands, self.crop), self.arrays)
        for arrays in torch.utils.data.DataLoader(
            reader, batch_size=None, sampler=list(positions), num_workers=self.workers, generator=torch.Generator()
        ):
            if isinstance(arrays, DeepLenseError):
                raise arrays
            yield arrays


class PairLoader(Loader):
    """Some rows of a dataset of pairs: the coarse image is what the network sees, the fine one is wanted.

    Parameters
    ----------
    dataset, rows, labels, workers
        As of `Loader`.

    Raises
    ------
    InvalidDataset
        When the dataset holds no pairs.
    """

    def __init__(
        self,
        dataset: Dataset,
        rows: Sequence[int] | Int64[np.ndarray, " N"],
        labels: Sequence[str] | None = None,
        workers: int = 0,
    ) -> None:
        shapes = dataset.array_shapes
        if LOW not in shapes:
            raise InvalidDataset(
                f"{dataset.path} holds no pairs of a coarse and a fine image",
                "a folder of HR/ and LR/ images, or a dataset of a recipe with a [pair] table",
                "simulate one: `deeplense simulate super_resolution`",
            )
        self.arrays = (LOW, IMAGE, TRUTH) if TRUTH in shapes else (LOW, IMAGE)
        super().__init__(dataset, rows, labels, None, workers)
        self.image_shape = shapes[LOW]

    def _shapes(self) -> dict[str, tuple[int, int, int]]:
        return {name: self.dataset.array_shapes[name] for name in self.arrays}

    def _batch(self, arrays: Mapping[str, Tensor], where: Int64[np.ndarray, " B"]) -> Batch:
        index = torch.from_numpy(where)
        return Batch(arrays[LOW], self.targets[index], index, arrays[IMAGE], arrays.get(TRUTH))


class _Reader(torch.utils.data.Dataset[dict[str, Tensor] | DeepLenseError]):
    """Reads one batch per item, so that a worker process decodes a whole batch at a time."""

    def __init__(
        self,
        dataset: Dataset,
        rows: Int64[np.ndarray, " N"],
        part: tuple[tuple[int, ...] | None, int | None],
        arrays: tuple[str, ...],
    ) -> None:
        self.dataset, self.rows, self.part, self.arrays = dataset, rows, part, arrays

    def __getitem__(self, positions: Int64[np.ndarray, " B"]) -> dict[str, Tensor] | DeepLenseError:
        try:
            read = {name: torch.from_numpy(self.dataset.array(name, self.rows[positions])) for name in self.arrays}
        except DeepLenseError as error:  # returned: of a raised one torch would make a RuntimeError
            return error
        return {name: part_taken(images, *self.part) for name, images in read.items()}

"""From a dataset to batches: in memory where it fits, from disk by worker processes where it does not."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from deeplense.core.console import progress
from deeplense.core.errors import DeepLenseError, InvalidOption
from deeplense.data.dataset import Dataset
from deeplense.data.transforms import centre_crop

ROWS_PER_READ = 256
MEMORY_FRACTION = 0.4


@dataclass(frozen=True)
class Batch:
    """Images and what is known of them.

    Attributes
    ----------
    image
        [B, C, H, W].
    target
        Class index, [B]; -1 where unknown.
    index
        Position in the loader, [B].
    """

    image: Float32[Tensor, "B C H W"]
    target: Int64[Tensor, " B"]
    index: Int64[Tensor, " B"]

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        moved = {name: value.to(device, non_blocking=True) for name, value in vars(self).items()}
        return replace(self, **moved)


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
    memory
        Bytes that the images may take to be kept in memory; by default 40 % of the machine's.
    """

    def __init__(
        self,
        dataset: Dataset,
        rows: Sequence[int] | Int64[np.ndarray, " N"],
        labels: Sequence[str] | None = None,
        crop: int | None = None,
        workers: int = 0,
        memory: int | None = None,
    ) -> None:
        self.dataset, self.rows, self.workers = dataset, np.asarray(rows, dtype=np.int64), workers
        self.targets = torch.from_numpy(dataset.targets(labels)[self.rows])
        channels, height, width = dataset.image_shape
        if crop is not None and not 1 <= crop <= min(height, width):
            raise InvalidOption(
                f"a crop of {crop} pixels", f"a size from 1 to {min(height, width)}", "change --crop or leave it out"
            )
        self.crop = crop
        self.image_shape = (channels, crop or height, crop or width)
        available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        limit = int(MEMORY_FRACTION * available) if memory is None else memory
        self.fits = 4 * len(self) * int(np.prod(self.image_shape)) <= limit
        self._images: Float32[Tensor, "N C H W"] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def begin_epoch(self, epoch: int) -> None:
        """Hear that an epoch begins: the images of a dataset stay the same."""

    def batches(self, positions: Sequence[Int64[np.ndarray, " B"]]) -> Iterator[Batch]:
        """Yield one batch per array of positions (0 … len − 1), in that order."""
        if self.fits:
            images = self.in_memory()
            for where in positions:
                yield self._batch(images[torch.from_numpy(where)], where)
        else:
            for where, images in zip(positions, self._read(positions), strict=True):
                yield self._batch(images, where)

    def in_order(self, batch_size: int, share: tuple[int, int] = (0, 1)) -> Iterator[Batch]:
        """Yield every image once, in order; of several processes, number share[0] of share[1] gets every so-manieth."""
        mine = np.arange(share[0], len(self), share[1])
        return self.batches([mine[i : i + batch_size] for i in range(0, mine.size, batch_size)])

    def in_memory(self) -> Float32[Tensor, "N C H W"]:
        """Return all images, read at the first call."""
        if self._images is None:
            positions = [np.arange(i, min(i + ROWS_PER_READ, len(self))) for i in range(0, len(self), ROWS_PER_READ)]
            images = torch.empty(len(self), *self.image_shape)
            with progress(f"reading {self.dataset.path}", len(self)) as advance:
                for where, part in zip(positions, self._read(positions), strict=True):
                    images[where[0] : where[-1] + 1] = part
                    advance(where.size)
            self._images = images
        return self._images

    def sample(self, n: int) -> Float32[Tensor, "n C H W"]:
        """Return up to n images, evenly spaced over the rows."""
        where = np.unique(np.linspace(0, len(self) - 1, min(n, len(self))).astype(np.int64))
        return next(self.batches([where])).image

    def _batch(self, images: Tensor, where: Int64[np.ndarray, " B"]) -> Batch:
        index = torch.from_numpy(where)
        return Batch(images, self.targets[index], index)

    def _read(self, positions: Sequence[Int64[np.ndarray, " B"]]) -> Iterator[Tensor]:
        reader = _Reader(self.dataset, self.rows, self.crop)
        for images in torch.utils.data.DataLoader(
            reader, batch_size=None, sampler=list(positions), num_workers=self.workers, generator=torch.Generator()
        ):
            if isinstance(images, DeepLenseError):
                raise images
            yield images


class _Reader(torch.utils.data.Dataset[Tensor | DeepLenseError]):
    """Reads one batch per item, so that a worker process decodes a whole batch at a time."""

    def __init__(self, dataset: Dataset, rows: Int64[np.ndarray, " N"], crop: int | None) -> None:
        self.dataset, self.rows, self.crop = dataset, rows, crop

    def __getitem__(self, positions: Int64[np.ndarray, " B"]) -> Tensor | DeepLenseError:
        try:
            images = torch.from_numpy(self.dataset.images(self.rows[positions]))
        except DeepLenseError as error:  # returned: of a raised one torch would make a RuntimeError
            return error
        return images if self.crop is None else centre_crop(images, self.crop).contiguous()

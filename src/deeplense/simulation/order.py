"""An order for a dataset: all that decides its bytes, and how one shard of it is made."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Shaped

from deeplense.core.compiled import EAGER, Runner
from deeplense.data import shards
from deeplense.data.shards import shard_name
from deeplense.recipes.draw import compile_formulas, draw_images
from deeplense.recipes.recipe import Recipe, Sample, Samples

Arrays = dict[str, Shaped[np.ndarray, "R C H W"]]


@dataclass(frozen=True)
class Order:
    """What is to be made.

    Parameters
    ----------
    recipe, seed
        What decides the images.
    compiled
        Whether the formulas are compiled: that changes the last bits of some pixels.
    folder
        Folder of the dataset.
    """

    recipe: Recipe
    seed: int
    compiled: bool
    folder: Path

    @cached_property
    def samples(self) -> Samples:
        """Every image, in catalogue order."""
        return self.recipe.samples()

    @property
    def n_shards(self) -> int:
        """Number of shards."""
        return -(-len(self.samples) // shards.ROWS_PER_SHARD)

    def rows(self, number: int) -> list[Sample]:
        """Return the images of a shard."""
        first = number * shards.ROWS_PER_SHARD
        return self.samples[first : first + shards.ROWS_PER_SHARD]

    def missing(self, part: tuple[int, int] = (1, 1)) -> list[int]:
        """Return the numbers of the shards that are not there yet; of part i of N, every N-th."""
        mine = range(part[0] - 1, self.n_shards, part[1])
        return [number for number in mine if not (self.folder / shard_name(number)).is_file()]

    @property
    def run(self) -> Runner:
        """How the formulas are run in this process."""
        return _compiled_runner(json.dumps(self.recipe.as_dict(), sort_keys=True)) if self.compiled else EAGER

    def simulate(self, number: int, into: Arrays | None = None) -> Arrays:
        """Return the arrays of a shard, in those of another shard if such are given."""
        memory = None if into is None else {name: torch.from_numpy(array) for name, array in into.items()}
        drawn = draw_images(self.recipe, self.seed, self.rows(number), self.run, memory)
        return {name: array.numpy() for name, array in drawn.items()}

    def write(self, number: int, arrays: Arrays) -> int:
        """Write a shard; return its number of images."""
        shards.write_shard(self.folder / shard_name(number), arrays, self.recipe.observation.dtype)
        return len(arrays["image"])


@lru_cache(maxsize=1)
def _compiled_runner(recipe: str) -> Runner:
    """Return the runner that all shards of a recipe share, so that each formula is compiled once in a process.

    Another recipe needs another: torch gives up when one function has been compiled for eight kinds of numbers.
    """
    return Runner(compiled=True)


def make_here(order: Order, numbers: list[int]) -> Iterator[int]:
    """Make shards in this process; yield the number of images of each: one is written while the next is simulated."""
    if order.compiled:
        compile_formulas(order.recipe, order.run)
    with ThreadPoolExecutor(max_workers=1) as writer:
        pending: Future[int] | None = None
        written: Arrays | None = None
        last: Arrays | None = None
        for number in numbers:
            arrays = order.simulate(number, written)
            if pending is not None:
                yield pending.result()
            written, last = last, arrays
            pending = writer.submit(order.write, number, arrays)
        if pending is not None:
            yield pending.result()

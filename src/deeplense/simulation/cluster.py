"""Shards made by the workers of a Ray cluster; one machine is a cluster of one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from itertools import islice
from typing import Any

from deeplense.core.console import note
from deeplense.core.errors import DeepLenseError, InvalidOption
from deeplense.simulation.order import Order

RETRIES = 3  # of a shard whose worker dies
AT_ONCE = 1000  # shards that the scheduler knows of: more only slow it down


class LostWorker(DeepLenseError):
    """Workers of the cluster die again and again."""


def require_ray() -> Any:
    """Return the package ray.

    Raises
    ------
    InvalidOption
        When it is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise InvalidOption(
            "--engine ray, but Ray is not installed", "the package ray", "pip install 'deeplense[ray]'"
        ) from error
    return ray


def make_on_ray(order: Order, numbers: list[int]) -> Iterator[int]:
    """Make shards on a Ray cluster; yield the number of images of each, as they are done.

    Every worker takes one processor and writes to the dataset's folder, which all machines must share. A shard whose
    worker is lost is made again by another, three times at most.

    Raises
    ------
    InvalidOption
        When Ray is not installed.
    LostWorker
        When a shard's workers die however often it is tried.
    """
    ray = require_ray()
    if not numbers:
        return
    note(f"making {len(numbers):,} shards with Ray")
    started = not ray.is_initialized()
    if started:
        ray.init(log_to_driver=False, include_dashboard=False)
    make = ray.remote(num_cpus=1, max_retries=RETRIES, retry_exceptions=False)(_make)
    rest, waiting = iter(numbers), list[Any]()
    try:
        # a worker has a current folder of its own
        shared = ray.put(dataclasses.replace(order, folder=order.folder.absolute()))
        while True:
            waiting += [make.remote(shared, number) for number in islice(rest, AT_ONCE - len(waiting))]
            if not waiting:
                return
            done, waiting = ray.wait(waiting)
            yield _result(ray, done[0])
    finally:
        for task in waiting:
            ray.cancel(task)
        if started:
            ray.shutdown()


def _result(ray: Any, task: Any) -> int:
    """Return what a task did; what went wrong in its worker is raised here."""
    try:
        n_images: int = ray.get(task)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, DeepLenseError):
            raise error.cause from None
        raise
    except ray.exceptions.RayError as error:
        raise LostWorker(
            f"a shard's workers were lost {RETRIES + 1} times ({type(error).__name__})",
            "workers with enough memory and time for one shard",
            "look into Ray's logs, then run the same command again: finished shards are kept",
        ) from error
    return n_images


def _make(order: Order, number: int) -> int:
    """Make one shard in a worker process."""
    import torch

    torch.set_num_threads(1)
    return order.write(number, order.simulate(number))

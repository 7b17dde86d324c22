"""Shards made by the workers of a Ray cluster; one machine is a cluster of one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from deeplense.core.console import note
from deeplense.core.errors import InvalidOption
from deeplense.simulation.order import Order

ATTEMPTS = 3  # of a shard whose worker dies


def make_on_ray(order: Order, numbers: list[int]) -> Iterator[int]:
    """Make shards on a Ray cluster; yield the number of images of each, as they are done.

    Every worker takes one processor and writes to the dataset's folder, which all machines must share. A shard whose
    worker is lost is made again by another, three times at most.

    Raises
    ------
    InvalidOption
        When Ray is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise InvalidOption(
            "--engine ray, but Ray is not installed", "the package ray", "pip install 'deeplense[ray]'"
        ) from error
    started = not ray.is_initialized()
    if started:
        ray.init(log_to_driver=False, include_dashboard=False)
    note(f"making {len(numbers)} shards with Ray")
    make = ray.remote(num_cpus=1, max_retries=ATTEMPTS, retry_exceptions=False)(_make)
    try:
        shared = ray.put(order)
        waiting: list[Any] = [make.remote(shared, number) for number in numbers]
        while waiting:
            done, waiting = ray.wait(waiting)
            for result in done:
                try:
                    yield ray.get(result)
                except ray.exceptions.RayTaskError as error:  # our own error, raised in a worker
                    raise error.cause from None
    finally:
        if started:
            ray.shutdown()


def _make(order: Order, number: int) -> int:
    """Make one shard in a worker process."""
    import torch

    torch.set_num_threads(1)
    return order.write(number, order.simulate(number))

"""Damaged files through each binary reader: nothing but a DeepLenseError may come out, and nothing may hang.

`python -m tests.fuzz.fuzz_readers --files 100000` runs every reader; `--reader npz --seed 3` one, with other damage.
"""

from __future__ import annotations

import argparse
import random
import resource
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

from tests.fuzz import seeds as sound
from tests.fuzz.mutate import mutate

from deeplense.core.errors import DeepLenseError
from deeplense.data.readers.arrays import StackedArrays
from deeplense.data.readers.files import read_image
from deeplense.data.readers.hdf5 import locate, to_stacks
from deeplense.data.readers.npy import read_npy

SLOW = 5.0
"""Processor seconds after which one file counts as a hang."""

HDF5_BATCH, HDF5_LIMIT = 200, 1.0
"""Files per libhdf5 process, and seconds for each; a sound one takes a thousandth of that."""

ROWS = 8


def _read_file(path: Path) -> None:
    read_image(path)


def _read_npy(path: Path) -> None:
    read_npy(path)
    read_image(path)


def _read_stack(path: Path) -> None:
    dataset = StackedArrays(path)
    dataset.images(range(min(len(dataset), ROWS)))


READERS: dict[str, tuple[str, Callable[[Path], None] | None]] = {
    "npy": (".npy", _read_npy),
    "object": (".npy", _read_npy),
    "pictures": (".png", _read_file),
    "npz": (".npz", _read_stack),
    "hdf5": (".h5", None),
}


def fuzz(reader: str, files: int, seed: int = 0) -> Counter[str]:
    """Return how many of `files` damaged files were "read" and how many "refused".

    Parameters
    ----------
    reader
        A key of `READERS`.
    files
        How many files to make.
    seed
        Chooses the damage: the same file comes out for the same reader, seed and number.

    Raises
    ------
    AssertionError
        When anything but a DeepLenseError came out of a reader, or one file took more than `SLOW` seconds.
    """
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(name)
        seeds = _seeds(reader, folder)
        suffix, read = READERS[reader]
        for number, path, attempt in _attempts(read, seeds, files, f"{reader}-{seed}", folder / f"damaged{suffix}"):
            started = time.process_time()  # not the wall clock: the machine may be busy
            try:
                attempt(path)
                outcome = "read"
            except DeepLenseError as error:
                outcome = "refused"
                outcomes["ended libhdf5"] += "libhdf5 crashed" in error.found
            except BaseException as error:
                raise AssertionError(f"{reader}, seed {seed}, file {number}: {error!r}") from error
            seconds = time.process_time() - started
            assert seconds < SLOW, f"{reader}, seed {seed}, file {number}: {seconds:.1f} s"
            outcomes[outcome] += 1
    return +outcomes


def _seeds(reader: str, folder: Path) -> list[bytes]:
    if reader == "hdf5":
        return sound.hdf5_seeds(folder)
    return {
        "npy": sound.npy_seeds,
        "object": sound.object_seeds,
        "pictures": sound.picture_seeds,
        "npz": sound.npz_seeds,
    }[reader]()


Attempt = tuple[int, Path, Callable[[Path], None]]


def _attempts(
    read: Callable[[Path], None] | None, seeds: list[bytes], files: int, key: str, path: Path
) -> Iterator[Attempt]:
    """Yield the damaged files one by one, each written to the disk, with what reads it."""
    if read is None:
        yield from _hdf5_attempts(seeds, files, key, path)
        return
    for number in range(files):
        rng = random.Random(f"{key}-{number}")
        if path.suffix == ".npz" and rng.random() < 0.5:  # checksums would catch nearly all damage before the arrays
            members = [rng.choice(stacks) for stacks in sound.stack_seeds()]
            hit = rng.randrange(len(members))
            members[hit] = mutate(sound.stack_seeds()[hit], rng)
            path.write_bytes(sound.npz_of(members))
        else:
            path.write_bytes(mutate(seeds, rng))
        yield number, path, read


def _hdf5_attempts(seeds: list[bytes], files: int, key: str, path: Path) -> Iterator[Attempt]:
    """Yield the same for HDF5, many files for each libhdf5 process: starting one takes longer than reading a file."""
    for start in range(0, files, HDF5_BATCH):
        numbers = list(range(start, min(start + HDF5_BATCH, files)))
        paths = [path.with_stem(f"damaged{number}") for number in numbers]
        for number, damaged in zip(numbers, paths, strict=True):
            damaged.write_bytes(mutate(seeds, random.Random(f"{key}-{number}")))
        lines: list[bytes] = []
        while len(lines) < len(paths):
            lines += locate(paths[len(lines) :], HDF5_LIMIT)
        for number, damaged, line in zip(numbers, paths, lines, strict=True):
            yield number, damaged, lambda damaged, line=line: _read_hdf5(damaged, line)
            damaged.unlink()


def _read_hdf5(path: Path, line: bytes) -> None:
    with mock.patch("deeplense.data.readers.arrays.hdf5_stacks", lambda path: to_stacks(path, line)):
        _read_stack(path)


def main() -> None:
    """Run the fuzzer on one reader or on all, and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000, help="damaged files per reader (default: 100000)")
    parser.add_argument("--seed", type=int, default=0, help="chooses the damage (default: 0)")
    parser.add_argument("--reader", choices=sorted(READERS), help="one reader (default: all)")
    arguments = parser.parse_args()
    for reader in [arguments.reader] if arguments.reader else READERS:
        started = time.monotonic()
        outcomes = fuzz(reader, arguments.files, arguments.seed)
        counts = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(outcomes.items()))
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{reader}: {counts}; {time.monotonic() - started:.0f} s, at most {memory:.0f} MiB", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()

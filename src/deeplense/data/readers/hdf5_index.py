"""A program of its own: asks libhdf5 where in an HDF5 file the values lie, and prints the answer.

libhdf5 crashes or runs for ever on some damaged files (about one in 250 of those with a few bytes changed), and no
exception can be caught then. So it never runs in the caller's process: `hdf5.py` starts this file as a script, with a
time limit, and reads the values itself. Nothing of deeplense is imported here, to start fast.

Usage: `python hdf5_index.py SECONDS FILE…`; one line of JSON per file, `{"datasets": …, "names": …}` or
`{"error": …}`. A file that takes longer than SECONDS ends the program, where the system can do that.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from collections.abc import Iterator
from typing import Any

MAX_TEXTS = 10_000_000
MAX_CHUNKS = 20_000_000
MEMORY = 1 << 34
NAME_ATTRIBUTES = ("label_names", "class_names", "classes", "labels")


def index(path: str) -> dict[str, Any]:
    """Return what `path` holds: `datasets` by name, and class `names` if an attribute lists them.

    A dataset is `texts` (a list), or `shape` and `dtype` with either an `offset` in the file, or `chunk`, `filters`
    and `table` (a row per chunk: its coordinates, then offset, size and filter mask); it is empty when the values are
    neither texts nor numbers that NumPy has.
    Only what lies in the file itself counts: soft and external links, external storage and virtual datasets, which
    could name any other file of the machine, are refused.
    """
    import h5py

    with h5py.File(path, "r") as file:
        if file.userblock_size:
            raise ValueError("a user block before the HDF5 content")
        names, datasets = _names(file), {}
        for name, dataset in _datasets(file):
            if dataset.shape:  # neither a single value nor empty
                names = names or _names(dataset)
                datasets[name] = _describe(dataset)
        return {"datasets": datasets, "names": names}


def _datasets(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the datasets of the file and of the groups directly in it."""
    import h5py

    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"'{name}' is a link to somewhere else")
        item = group[name]
        if isinstance(item, h5py.Dataset):
            yield prefix + name, item
        elif isinstance(item, h5py.Group) and not prefix:
            yield from _datasets(item, f"{name}/")


def _describe(dataset: Any) -> dict[str, Any]:
    import h5py

    properties = dataset.id.get_create_plist()
    if dataset.is_virtual or properties.get_external_count():
        raise ValueError(f"'{dataset.name}' keeps its values in other files")
    if h5py.check_string_dtype(dataset.dtype) is not None:
        if dataset.size > MAX_TEXTS:
            raise ValueError(f"'{dataset.name}' has {dataset.size} texts")
        return {"texts": [str(text) for text in dataset.asstr()[...].ravel()]}
    plain = dataset.dtype.kind in "biuf"
    if not plain or not dataset.id.get_type().equal(h5py.h5t.py_create(dataset.dtype, logical=True)):
        return {}
    described = {"shape": list(dataset.shape), "dtype": dataset.dtype.str}
    if dataset.chunks is None:
        return described | {"offset": dataset.id.get_offset()}
    filters = [properties.get_filter(position)[0] for position in range(properties.get_nfilters())]
    table: list[list[int]] = []

    def add(chunk: Any) -> bool | None:
        table.append([*chunk.chunk_offset, chunk.byte_offset, chunk.size, chunk.filter_mask])
        return len(table) > MAX_CHUNKS or None  # anything but None ends the walk

    dataset.id.chunk_iter(add)
    return described | {"chunk": list(dataset.chunks), "filters": filters, "table": table}


def _names(item: Any) -> list[str] | None:
    for key in NAME_ATTRIBUTES:
        value = item.attrs.get(key)
        if value is not None and getattr(value, "ndim", 0) == 1:
            return [text.decode() if isinstance(text, bytes) else str(text) for text in value.tolist()]
    return None


def main(seconds: float, paths: list[str]) -> None:
    """Print one line per path."""
    import h5py  # noqa: F401 — before the clock runs

    with contextlib.suppress(ImportError, ValueError, OSError):  # not every system has limits
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for path in paths:
        if hasattr(signal, "setitimer"):  # without a handler the alarm ends the process, wherever it is
            signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            answer = index(path)
        except Exception as error:  # the caller turns it into one CorruptFile
            answer = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2:])

"""Whole files or none: writing that a crash, a full disk or a second process cannot leave half done."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from deeplense.core.console import note
from deeplense.core.errors import CorruptFile, DeepLenseError, MissingFile


class CannotWrite(DeepLenseError):
    """The disk is full, read-only or not ours to write to."""


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it replaces `path`, on failure it is removed.

    Raises
    ------
    CannotWrite
        When the operating system refuses the write.
    """
    temporary, handle = None, -1
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        temporary = Path(name)
        _try_to_lock(handle)  # until it is closed, or its process dies: `remove_leftovers` lets it be
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise _refused(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
            os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all; NaN and infinity are refused by `json`."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises
    ------
    MissingFile
        When the file is not there or not readable.
    CorruptFile
        When its content is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MissingFile(
            f"{path} cannot be read: {error.strerror or error}",
            "a readable file",
            "restore it, or make its folder again",
        ) from error
    except ValueError as error:
        raise CorruptFile(path, f"not valid JSON ({error})", "a JSON document") from error


def shown(path: Path | str) -> str:
    """Return a path, or a sentence with one, as text that can be written, � for stray bytes in it."""
    return os.fsencode(path).decode(errors="replace")


def sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files that killed writers left in `folder`, not those of living ones."""
    for leftover in folder.glob(".*.part"):
        with suppress(OSError), leftover.open("rb") as file:
            if _try_to_lock(file.fileno()):
                leftover.unlink(missing_ok=True)


def is_leftover(entry: Path, name: str) -> bool:
    """Whether `entry` is what a killed writer of the file `name` left."""
    return entry.name.startswith(f".{name}.") and entry.name.endswith(".part")


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Make `folder` and hold it for this process; another one waits until the block ends or its holder dies.

    A file system that knows no locks is used without one.

    Raises
    ------
    CannotWrite
        When the folder cannot be made.
    """
    with _held(folder, wait=True):
        yield


@contextmanager
def claimed(folder: Path) -> Iterator[bool]:
    """Make `folder` and yield whether it is this process's until the block ends; False where another one holds it.

    A file system that knows no locks is taken as free.

    Raises
    ------
    CannotWrite
        When the folder cannot be made.
    """
    with _held(folder, wait=False) as mine:
        yield mine


@contextmanager
def _held(folder: Path, wait: bool) -> Iterator[bool]:
    handle = _opened(folder)
    try:
        mine = _try_to_lock(handle)
        if not mine and wait:
            note(f"waiting for another process that writes {folder}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield mine or wait
    finally:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_UN)  # also where a child process has a copy of the handle
        os.close(handle)


def _opened(folder: Path) -> int:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise _refused(folder, error) from error


def _try_to_lock(handle: int) -> bool:
    """Return False where another process holds the file; a file system that knows no locks is taken as free."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def _refused(path: Path, error: OSError) -> CannotWrite:
    return CannotWrite(
        f"{path} could not be written: {error.strerror or error}",
        "a writable folder with enough free space",
        "free some space or choose another place with --out",
    )

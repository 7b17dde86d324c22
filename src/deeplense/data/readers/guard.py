"""Reading what strangers wrote: a size cap on the way in, one `CorruptFile` on the way out."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deeplense.core.errors import CorruptFile, DeepLenseError, MissingFile

MAX_IMAGE_BYTES = 1 << 28
"""Largest file read as a single image: 256 MiB, a 4096 × 4096 image of four float32 bands."""


@contextmanager
def parsing(path: Path, expected: str) -> Iterator[None]:
    """Turn whatever goes wrong inside the block into one `CorruptFile` that names `path`.

    Parameters
    ----------
    path
        The file whose content the block takes apart.
    expected
        What a sound file would hold, for the message.

    Raises
    ------
    CorruptFile
        For every exception that is not one of ours already.
    """
    try:
        yield
    except DeepLenseError:
        raise
    # Broad on purpose: the bytes are hostile, and the libraries below answer them with anything from SyntaxError to
    # MemoryError. The cause stays chained, so that a mistake of ours can still be found.
    except Exception as error:
        what = " ".join(str(error).split())[:200] or type(error).__name__
        raise CorruptFile(path, what, expected) from error


def read_bytes(path: Path, max_bytes: int = MAX_IMAGE_BYTES) -> bytes:
    """Return the content of a file that has at most `max_bytes`.

    Raises
    ------
    MissingFile
        When the file is not there or cannot be read.
    CorruptFile
        When it is empty or too large.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe or a device would be read for ever
            raise MissingFile(f"{path} is not a file", "a regular file", "name a file that holds an image")
        if status.st_size > max_bytes:
            raise CorruptFile(path, f"{status.st_size:,} bytes", f"at most {max_bytes:,} bytes: one image")
        content = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error
    if not content:
        raise CorruptFile(path, "the file is empty", "an image")
    return content


def unreadable(path: Path, error: OSError) -> MissingFile:
    """Return the error for a file that the operating system does not let us read."""
    return MissingFile(
        f"{path} cannot be read: {error.strerror or error}", "a readable file", "check the path and its permissions"
    )

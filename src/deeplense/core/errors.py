"""Errors a user can act on: what was found, what was expected, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from pathlib import Path


class DeepLenseError(Exception):
    """Base of every error this package raises on purpose; the command line turns it into exit code 2.

    Parameters
    ----------
    found
        What is there: the offending value, file or state.
    expected
        What should have been there.
    remedy
        What the reader can do about it.
    """

    def __init__(self, found: str, expected: str, remedy: str) -> None:
        self.found, self.expected, self.remedy = found, expected, remedy
        super().__init__(found, expected, remedy)

    def __reduce__(self) -> tuple[Callable[..., DeepLenseError], tuple[type[DeepLenseError], dict[str, object]]]:
        return _restore, (type(self), vars(self))  # subclasses have other constructors; workers send errors home

    def __str__(self) -> str:
        return f"{self.found}\n  expected: {self.expected}\n  to do:    {self.remedy}"


def _restore(kind: type[DeepLenseError], state: dict[str, object]) -> DeepLenseError:
    error = kind.__new__(kind)
    error.__dict__.update(state)
    error.args = (error.found, error.expected, error.remedy)
    return error


class InvalidOption(DeepLenseError):
    """An option, configuration value or combination of them that cannot work."""


class UnknownName(InvalidOption):
    """A name that nothing is registered under; lists the nearest ones.

    Parameters
    ----------
    kind
        What the name stands for: "model", "recipe", …
    name
        The name as given.
    known
        Every name that would have worked.
    remedy
        What to do when none of the nearest names fits.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], remedy: str = "") -> None:
        names = sorted(known)
        near = nearest(name, names)
        super().__init__(
            f"no {kind} is called '{name}'",
            f"one of: {', '.join(near or names[:12]) or 'none is there yet'}" + (" (the nearest)" if near else ""),
            remedy or f"check the spelling, or list every {kind}",
        )


class MissingFile(DeepLenseError):
    """A file or folder that should be there and is not, or cannot be read."""


class CorruptFile(DeepLenseError):
    """A file whose content is not what its kind promises; names the file.

    Parameters
    ----------
    path
        The file.
    found
        What is wrong in it.
    expected
        What a sound file would hold.
    remedy
        What to do; by default: restore or remove the file.
    """

    def __init__(
        self,
        path: Path | str,
        found: str,
        expected: str,
        remedy: str = "restore the file from its source, or remove it from the dataset",
    ) -> None:
        self.path = Path(path)
        super().__init__(f"{path}: {found}", expected, remedy)


class InvalidDataset(DeepLenseError):
    """A dataset that is readable but cannot serve: an empty class, one image, no test split, non-finite pixels."""


class Diverged(DeepLenseError):
    """A loss that is no longer a number, or a network that has lost what it knew."""


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """Return up to five known names that resemble `name`, best first (case, dashes and underscores do not count)."""
    plain = {key.lower().replace("-", "_"): key for key in known}
    return [plain[key] for key in difflib.get_close_matches(name.lower().replace("-", "_"), plain, n=5, cutoff=0.5)]

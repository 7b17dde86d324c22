"""Names to things: each noun's folder registers what it holds, a new file is found by itself."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from deeplense.core.errors import UnknownName

T = TypeVar("T")


class Registry(Generic[T]):
    """The named entries of one package; every module in that package is imported at the first look-up.

    Parameters
    ----------
    kind
        What an entry is, in the words of an error message: "model", "task", …
    package
        Dotted name of the package whose modules register entries.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind, self.package = kind, package
        self._entries: dict[str, T] = {}
        self._complete = False

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that files what it decorates under `name`."""

        def file(entry: T) -> T:
            if self._entries.setdefault(name, entry) is not entry:
                raise ValueError(f"two entries of the {self.kind} registry are called '{name}'")
            return entry

        return file

    def __getitem__(self, name: str) -> T:
        """Return the entry called `name`.

        Raises
        ------
        UnknownName
            When nothing has that name.
        """
        self._import_all()
        if name not in self._entries:
            raise UnknownName(self.kind, name, self._entries)
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        self._import_all()
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        self._import_all()
        return iter(sorted(self._entries))

    def _import_all(self) -> None:
        if not self._complete:
            package = importlib.import_module(self.package)
            for module in pkgutil.iter_modules(package.__path__, f"{self.package}."):
                importlib.import_module(module.name)
            self._complete = True

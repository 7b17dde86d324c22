"""The contract of a tracking service: how it takes numbers, pictures and files."""

from __future__ import annotations

import textwrap
from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from PIL.Image import Image

from deeplense.core.errors import InvalidOption
from deeplense.core.registry import Registry
from deeplense.core.run_folder import RunFolder


class Service(ABC):
    """One service; whatever it raises is noted and forgotten by the tracker that uses it.

    Parameters
    ----------
    run
        The run to mirror.
    config
        Its record.
    first_epoch
        Where training begins: 1, or later in a resumed run. None when the run is not being trained.
    """

    title: ClassVar[str]
    package: ClassVar[str]  # what Python imports
    extra: ClassVar[str]  # what pip installs: deeplense[extra]
    resumes: bool = True  # adds to what earlier sessions of the run have sent; else a session may replace it

    @abstractmethod
    def __init__(self, run: RunFolder, config: Mapping[str, Any], first_epoch: int | None) -> None: ...

    @abstractmethod
    def numbers(self, values: Mapping[str, float], epoch: int) -> None:
        """Take named numbers; a slash in a name separates its group."""

    @abstractmethod
    def pictures(self, images: Mapping[str, Image], epoch: int) -> None:
        """Take named pictures."""

    @abstractmethod
    def file(self, path: Path) -> None:
        """Take a file of the run folder."""

    @abstractmethod
    def close(self, finished: bool) -> None:
        """End the session; `finished` is False where training stopped on an error."""

    @classmethod
    def load(cls) -> Any:
        """Return the service's package.

        Raises
        ------
        InvalidOption
            When it is not installed.
        """
        try:
            module = import_module(cls.package)
        except ImportError as error:
            reason = str(error)
        else:
            if module.__file__ is not None:
                return module
            reason = "only a folder of that name is in the way"  # such as ./wandb, which W&B itself makes
        raise InvalidOption(
            f"tracking with {cls.title} needs the package {cls.package}: {reason}",
            f"{cls.package} installed beside deeplense",
            f"run `pip install 'deeplense[{cls.extra}]'`, or leave --tracker out",
        )


TRACKERS: Registry[type[Service]] = Registry("tracker", __package__)


def reason(error: BaseException) -> str:
    """Return an error's text on one line, shortened, or its kind where it has no text."""
    return textwrap.shorten(str(error), 300, placeholder=" …") or type(error).__name__

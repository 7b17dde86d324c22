"""`deeplense report`: runs → one self-contained HTML page."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

from deeplense.core.config import Config


@dataclass(frozen=True)
class ReportOptions(Config):
    """What `deeplense report` can be told.

    Parameters
    ----------
    runs
        Ids or folders of one or more runs.
    out
        Page to write; by default report.html in the first run's folder.
    """

    runs: tuple[str, ...]
    _: KW_ONLY
    out: Path | None = None


def report(options: ReportOptions | None = None, /, **fields: Any) -> Path:
    """Return the path of the page."""
    raise NotImplementedError

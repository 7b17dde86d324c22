"""The table of a benchmark in the terminal."""

from __future__ import annotations

from collections.abc import Iterable

from deeplense.core.console import table
from deeplense.suites.rows import Row

SHORT = 40  # letters of a reason


def print_results(rows: Iterable[Row], everything: bool = False) -> None:
    """Print a table per dataset, at most 80 columns wide: what has marks or a reason, or every row."""
    shown: dict[str, list[Row]] = {}
    for row in rows:
        if everything or row.state in ("done", "not run"):
            shown.setdefault(row.name, []).append(row)
    for name, many in shown.items():
        kind = many[0].kind
        titles = ("method", *kind.terminal.values(), "fit" if kind.took == "fit" else "trained")
        table(name, titles, [(row.method.name, *_columns(row)) for row in many])


def _columns(row: Row) -> list[str]:
    if not row.marks:
        reason = row.reason if len(row.reason) <= SHORT else row.reason[: SHORT - 1] + "…"
        return [f"{row.state}: {reason}" if reason else row.state] + [""] * len(row.kind.terminal)
    first, *others = (row.marks.get(name) for name in row.kind.terminal)
    values = ["–" if mark is None else f"{mark.value:.{mark.decimals}f}" for mark in others]
    return ["–" if first is None else str(first), *values, f"{row.facts['train_seconds']:.0f} s"]

"""Words to the person at the terminal: results on standard output; notes and progress on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

SECONDS_BETWEEN_LINES = 10.0


def note(message: str) -> None:
    """Print one line to standard error."""
    print(message, file=sys.stderr, flush=True)  # noqa: T201 (the one place that prints)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], numbers: bool = True) -> None:
    """Print a table to standard output; its first column is text, the others are numbers unless said otherwise."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    grid = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, title_style="bold")
    for number, column in enumerate(columns):
        grid.add_column(column, justify="right" if numbers and number else "left")
    for row in rows:
        grid.add_row(*row)
    Console().print(grid)


@contextmanager
def progress(doing: str, total: int, unit: str = "images") -> Iterator[Callable[[int], None]]:
    """Yield a function that is told how many more units are done; shows rate and remaining time.

    In a terminal it is a live bar; elsewhere (a log, a cluster job) one line every ten seconds.
    """
    if sys.stderr.isatty():
        yield from _bar(doing, total, unit)
    else:
        yield from _lines(doing, total, unit)


def _bar(doing: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(doing, total=total)
        yield lambda n: bar.advance(task, n)


def _lines(doing: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    begin = last = time.monotonic()
    done = 0

    def advance(n: int) -> None:
        nonlocal done, last
        done += n
        now = time.monotonic()
        if now - last > SECONDS_BETWEEN_LINES and done:
            last = now
            remaining = (now - begin) / done * (total - done)
            note(f"{doing}: {done:,} of {total:,} {unit}, {remaining:.0f} s left")

    yield advance

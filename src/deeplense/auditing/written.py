"""An audit at the terminal, as a CSV file and as a page."""

from __future__ import annotations

import csv
from pathlib import Path

from deeplense.auditing.audited import Audit
from deeplense.core.console import note, table
from deeplense.core.files import atomic

COLUMNS = ("severity", "kind", "subject", "words", "numbers")


def summary(audit: Audit) -> str:
    """Return how many findings there are, in words; truth columns that would leak are named with the leaks."""
    refused = sum(one.kind == "truth_column" and "give the label away" in one.words for one in audit.findings)
    counts = [f"{audit.count(name):,} {name}{'s' * (audit.count(name) != 1)}" for name in ("leak", "warning", "note")]
    words = f"{counts[0]}, {counts[1]}, {counts[2]}"
    if not refused:
        return words
    return f"{words}; {refused} column{'s' * (refused > 1)} would be a leak, but known as truth and refused as input"


def show(audit: Audit) -> None:
    """Print the findings as a table, and how many leaks there are."""
    rows = [(one.severity, one.subject, one.words) for one in audit.findings]
    seen = f", {audit.images:,} images looked at" if audit.images else ""
    title = f"{audit.path}\n{audit.layout}: {audit.rows:,} rows{seen}"
    table(title, ("", "where", "what"), rows, numbers=False)
    note(summary(audit))


def write(audit: Audit, out: Path) -> None:
    """Write the page, and the findings as a CSV file beside it.

    Raises
    ------
    CannotWrite
        When the disk is full or not writable.
    """
    from deeplense.pages.audit import render

    with atomic(out.with_suffix(".csv")) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for one in audit.findings:
            numbers = "; ".join(f"{name}={value:.6g}" for name, value in one.numbers.items())
            writer.writerow([_inert(text) for text in (one.severity, one.kind, one.subject, one.words, numbers)])
    names = ("path", "layout", "rows", "images", "labels", "findings")
    content = {name: getattr(audit, name) for name in names}
    content |= {"roles": audit.roles.columns, "summary": summary(audit)}
    with atomic(out) as temporary:
        temporary.write_text(render(content), encoding="utf-8")
    note(f"the findings are in {out} and {out.with_suffix('.csv')}")


def _inert(text: str) -> str:
    """Return `text` so that no spreadsheet takes it for a formula: names of columns and files are a stranger's."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text

"""What an audit says: one finding per problem, with its numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from deeplense.metrics.intervals import Interval

Severity = Literal["leak", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("leak", "warning", "note")
LEAK, WARN = 0.95, 0.7
"""Areas under the ROC curve above which one number gives the label away, or says more of it than it should."""
ALPHA = 0.01
"""How often one family of tests (all columns, all classes) may find something where there is nothing."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a dataset, or worth knowing of it.

    Parameters
    ----------
    kind
        What it is, in one word: `exact_duplicates`, `predictive_column`, …
    severity
        "leak": results on this dataset would be too good; "warning": look at it; "note": as it should be, or harmless.
    subject
        The column, statistic or split that it is about.
    words
        One sentence.
    numbers
        What the sentence rests on, by name.
    """

    kind: str
    severity: Severity
    subject: str
    words: str
    numbers: Mapping[str, float] = field(default_factory=dict)


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings with leaks first, then warnings, then notes; otherwise as they came."""
    return sorted(findings, key=lambda one: SEVERITIES.index(one.severity))


def area_words(area: Interval) -> str:
    """Return an area under the ROC curve with its interval and number of images, for a sentence."""
    return f"AUROC {area.value:.3f} [{area.low:.3f}, {area.high:.3f}], n = {area.n:,}"


def some(names: Iterable[str], limit: int = 3) -> str:
    """Return a few names for a sentence, and how many more there are."""
    known = list(names)
    more = f" and {len(known) - limit:,} more" if len(known) > limit else ""
    return ", ".join(known[:limit]) + more

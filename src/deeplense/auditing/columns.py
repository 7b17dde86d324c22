"""Findings over columns: those that give the label away, those that differ between the splits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64
from numpy.typing import NDArray

from deeplense.auditing.chance import Numbers, Separation, kolmogorov_smirnov, separation, tendency
from deeplense.auditing.finding import ALPHA, LEAK, WARN, Finding, Severity, area_words, some

WAYS = 3  # a column is asked in: its values, where it is missing, where it has one class's only value
SHIFTED = 0.1
"""Distance of two cumulative distributions from which on a shift is more than a note."""
FEW = 8  # of one split: with fewer, nothing is said


@dataclass(frozen=True)
class Rows:
    """What is known of every row, beside its columns.

    Parameters
    ----------
    targets
        [N] index of the class, -1 where unknown.
    labels
        Names of the classes.
    splits
        [N] name of the split.
    """

    targets: Int64[np.ndarray, " N"]
    labels: tuple[str, ...]
    splits: NDArray[Any]

    def take(self, rows: Int64[np.ndarray, " M"]) -> Rows:
        """Return some of the rows."""
        return Rows(self.targets[rows], self.labels, self.splits[rows])

    @property
    def questions(self) -> list[int]:
        """The classes to tell from the rest; of two, one says it all."""
        present = [k for k in range(len(self.labels)) if (self.targets == k).any()]
        return present[1:] if len(present) <= 2 else present


@dataclass(frozen=True)
class Clue:
    """What says most of the label in one column.

    Parameters
    ----------
    how
        In words: larger, smaller, missing, …
    label
        The class that it tells.
    found
        How well.
    """

    how: str
    label: str
    found: Separation

    def severity(self, tests: int) -> Severity | None:
        """Return how bad it is, where so many things were asked; None where it is little, or may be chance."""
        if self.found.area.value <= WARN or self.found.p > ALPHA / tests:
            return None
        return "leak" if self.found.area.value > LEAK else "warning"

    @property
    def numbers(self) -> dict[str, float]:
        """What it rests on."""
        area = self.found.area
        return {"auroc": area.value, "low": area.low, "high": area.high, "n": area.n, "p": self.found.p}


def best_clue(values: NDArray[Any], rows: Rows) -> Clue | None:
    """Return what says most of the label in a column; None where there is nothing to tell.

    Asked are its numbers, where it is missing, and where it has the only value of one class; of words, how often each
    goes with the class.

    Parameters
    ----------
    values
        [N] numbers with NaN where unknown, or words.
    rows
        Their labels.
    """
    labelled = rows.targets >= 0
    values, targets = values[labelled], rows.targets[labelled]
    clues = (
        Clue(how, rows.labels[k], found)
        for k in rows.questions
        for how, numbers, fold in _ways(values, targets, k)
        if (found := separation(numbers, targets == k, fold)) is not None
    )
    return max(
        (_oriented(clue) for clue in clues if clue.found.larger or clue.how != "with words of its own"),
        key=lambda clue: clue.found.area.value,
        default=None,
    )


def _ways(values: NDArray[Any], targets: Int64[np.ndarray, " N"], label: int) -> Iterator[tuple[str, Numbers, bool]]:
    """Yield in words, as numbers and whether small ones count too, what could tell a class."""
    if values.dtype.kind not in "fiub":
        yield "with words of its own", tendency(values, targets == label), False
        return
    numbers = values.astype(np.float64)
    known = np.isfinite(numbers)
    yield "larger/smaller", numbers, True
    if not known.all():
        yield "missing/known", (~known).astype(np.float64), True
    for inside in (targets == label, targets != label):
        own = numbers[inside & known]
        other = numbers[~inside & known]
        if own.size and other.size and own.min() == own.max() and other.min() != other.max():
            yield f"{own[0]:g}/not {own[0]:g}", (numbers == own[0]).astype(np.float64), True


def _oriented(clue: Clue) -> Clue:
    high, _, low = clue.how.partition("/")
    return Clue(high if clue.found.larger or not low else low, clue.label, clue.found)


def predictive(
    columns: Mapping[str, NDArray[Any]], rows: Rows, truth: Sequence[str] = (), kind: str = "predictive_column"
) -> list[Finding]:
    """Return a finding for every column that tells the label, and what there is to say of those known as truth.

    Parameters
    ----------
    columns
        [N] each.
    rows
        Their labels.
    truth
        Columns that are refused as inputs, whatever they say: a note, with their numbers.
    kind
        Of the findings.
    """
    clues = {name: clue for name, values in columns.items() if (clue := best_clue(values, rows)) is not None}
    tests = max(1, WAYS * len(columns) * len(rows.questions))
    findings, harmless = [], {}
    for name, clue in clues.items():
        severity = clue.severity(tests)
        if name in truth and severity is None:
            harmless[name] = clue
        elif severity is not None:
            findings.append(_finding(name, clue, severity, name in truth, kind))
    if harmless:
        most = max(harmless.values(), key=lambda clue: clue.found.area.value)
        told = "says little of the label" if most.found.area.value <= WARN else "too few rows to say what it tells"
        words = f"known as truth, refused as input; {told}: {area_words(most.found.area)}"
        findings.append(Finding("truth_column", "note", some(harmless, 6), words + _at_most(harmless), most.numbers))
    return findings


def _at_most(harmless: Mapping[str, Clue]) -> str:
    return " at most" if len(harmless) > 1 else ""


def _finding(name: str, clue: Clue, severity: Severity, truth: bool, kind: str) -> Finding:
    told = f"of '{clue.label}' it is {clue.how}" if clue.how != "with words of its own" else f"tells '{clue.label}'"
    if truth:
        words = f"known as truth, refused as input; it would {'give the label away' if severity == 'leak' else 'help'}"
        return Finding("truth_column", "note", name, f"{words}: {told}, {area_words(clue.found.area)}", clue.numbers)
    begin = "gives the label away" if severity == "leak" else "says much of the label"
    return Finding(kind, severity, name, f"{begin}: {told}, {area_words(clue.found.area)}", clue.numbers)


def shifted(columns: Mapping[str, NDArray[Any]], rows: Rows, kind: str = "shift") -> list[Finding]:
    """Return a finding for every column of numbers that is distributed otherwise than in training.

    Tested by the distance of Kolmogorov and Smirnov, at 1 % over all columns and splits together (Bonferroni).

    Parameters
    ----------
    columns
        [N] each; words are passed over.
    rows
        Their splits.
    kind
        Of the findings.
    """
    numeric = {name: values.astype(np.float64) for name, values in columns.items() if values.dtype.kind in "fiub"}
    tests = max(1, 2 * len(numeric))
    findings = []
    for name, values in numeric.items():
        known = np.isfinite(values)
        train = values[known & (rows.splits == "train")]
        for split in ("validation", "test"):
            other = values[known & (rows.splits == split)]
            if min(len(train), len(other)) < FEW:
                continue
            distance, p = kolmogorov_smirnov(train, other)
            if p < ALPHA / tests:
                words = (
                    f"differs between train (median {np.median(train):.4g}, n = {len(train):,}) and {split} "
                    f"({np.median(other):.4g}, n = {len(other):,}): KS distance {distance:.3f}, p = {p:.1g}"
                )
                severity: Severity = "warning" if distance > SHIFTED else "note"
                numbers = {"distance": distance, "p": p, "n_train": len(train), f"n_{split}": len(other)}
                findings.append(Finding(kind, severity, name, words, numbers))
    return findings

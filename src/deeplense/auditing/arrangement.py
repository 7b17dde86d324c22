"""Findings over the arrangement of a dataset: order, names and sizes of files, classes and groups in the splits."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplense.auditing.chance import Numbers
from deeplense.auditing.columns import Rows, best_clue, predictive
from deeplense.auditing.finding import ALPHA, Finding, Severity, area_words, some
from deeplense.data.splits import SPLITS

UNEQUAL, VERY_UNEQUAL = 2, 10
"""How many times the smallest class the largest is, to be worth a note, and a warning."""
NUMBER = re.compile(r"\d+")


def row_order(rows: Rows) -> list[Finding]:
    """Return a finding where the order of rows tells the label.

    Rows in blocks of one class are no more than a note: splits are drawn by a hash of the id, never by place.
    """
    places = np.arange(len(rows.targets), dtype=np.float64)
    clue = best_clue(places, rows)
    severity = None if clue is None else clue.severity(len(rows.questions))
    known = rows.targets[rows.targets >= 0]
    blocks = 1 + int((known[1:] != known[:-1]).sum())
    if blocks <= len(rows.labels) * len(SPLITS) < len(known):
        words = f"rows lie in {blocks} blocks of one class each: never divide them by their place in the file"
        return [Finding("row_order", "note", "order of rows", words, {"blocks": blocks})] if blocks > 1 else []
    if clue is None or severity is None:
        return []
    words = f"rows of '{clue.label}' come {'later' if clue.how == 'larger' else 'earlier'}: "
    return [Finding("row_order", severity, "order of rows", words + area_words(clue.found.area), clue.numbers)]


def id_numbers(ids: Sequence[str], rows: Rows) -> list[Finding]:
    """Return a finding where the last number in the ids tells the label."""
    found = [NUMBER.findall(name.rpartition("/")[2]) for name in ids]
    numbers = np.array([float(parts[-1][:300]) if parts else math.nan for parts in found])
    return predictive({"number in the id": numbers}, rows, kind="id_number")


def repeated_ids(ids: Sequence[str]) -> list[Finding]:
    """Return a finding where an id stands in more than one row."""
    repeated = [name for name, count in Counter(ids).items() if count > 1]
    words = f"{len(repeated):,} ids stand in more than one row: {some(repeated)}"
    return [Finding("repeated_ids", "warning", "id", words, {"ids": len(repeated)})] if repeated else []


def shared_groups(name: str, groups: Sequence[Any], rows: Rows) -> list[Finding]:
    """Return a finding where rows of one group, which should stay together, are in several splits.

    Parameters
    ----------
    name
        Of the column.
    groups
        [N] the group of every row; None where unknown.
    rows
        Their splits.
    """
    splits: dict[Any, set[str]] = {}
    for group, split in zip(groups, rows.splits, strict=True):
        if group is not None:
            splits.setdefault(group, set()).add(str(split))
    shared = [str(group) for group, found in splits.items() if len(found) > 1]
    if not shared:
        return []
    words = f"{len(shared):,} of {len(splits):,} groups are in more than one split: {some(shared)}"
    return [Finding("shared_groups", "leak", name, words, {"shared": len(shared), "groups": len(splits)})]


def class_balance(rows: Rows) -> list[Finding]:
    """Return findings on unequal or missing classes, and on classes that are more or less frequent in another split."""
    counts = np.array([(rows.targets == k).sum() for k in range(len(rows.labels))])
    unknown = int((rows.targets < 0).sum())
    findings = []
    if unknown:
        words = f"{unknown:,} of {len(rows.targets):,} rows have no label"
        findings.append(Finding("unlabelled", "note", "label", words, {"unlabelled": unknown}))
    if len(counts) and counts.max() >= UNEQUAL * counts.min():
        told = ", ".join(f"{label} {count:,}" for label, count in zip(rows.labels, counts, strict=True))
        severity: Severity = "warning" if counts.max() >= VERY_UNEQUAL * counts.min() else "note"
        numbers = dict(zip(rows.labels, map(float, counts), strict=True))
        findings.append(Finding("class_balance", severity, "label", f"classes are unequal: {told}", numbers))
    return findings + _class_shift(rows)


def _class_shift(rows: Rows) -> list[Finding]:
    """Return a finding for every split in which a class is more or less frequent than in training."""
    known = rows.targets >= 0
    train = rows.targets[known & (rows.splits == "train")]
    findings = []
    for split in ("validation", "test"):
        other = rows.targets[known & (rows.splits == split)]
        if not len(train) or not len(other):
            continue
        for k in rows.questions:
            shares = [float((sample == k).mean()) for sample in (train, other)]
            pooled = (shares[0] * len(train) + shares[1] * len(other)) / (len(train) + len(other))
            spread = math.sqrt(pooled * (1 - pooled) * (1 / len(train) + 1 / len(other)))
            p = math.erfc(abs(shares[1] - shares[0]) / spread / math.sqrt(2)) if spread else 1.0
            if p < ALPHA / (2 * len(rows.questions)):
                words = f"'{rows.labels[k]}' is {shares[0]:.1%} of train and {shares[1]:.1%} of {split}"
                numbers = {"train": shares[0], split: shares[1], "p": p}
                findings.append(Finding("class_shift", "warning", split, words, numbers))
    return findings


def files(root: Path, paths: Sequence[str | None], rows: Rows) -> list[Finding]:
    """Return findings where the size of files, or how their names end, tells the label.

    Parameters
    ----------
    root
        Folder that the paths are relative to.
    paths
        [N] one file per row; None where there is none.
    rows
        Their labels.
    """
    columns: dict[str, NDArray[Any]] = {
        "size of the file": _sizes(root, paths),
        "suffix of the file": np.array([Path(path or "").suffix for path in paths], dtype=object),
    }
    return predictive(columns, rows, kind="file")


def _sizes(root: Path, paths: Sequence[str | None]) -> Numbers:
    """Return [N] bytes; NaN where a file cannot be asked."""
    sizes = np.full(len(paths), math.nan)
    for row, path in enumerate(paths):
        try:
            sizes[row] = (root / path).stat().st_size if path else math.nan
        except OSError:
            continue
    return sizes

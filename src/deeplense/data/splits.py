"""Which images train, which choose, which judge: stratified splits that no file order can change."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from deeplense.core.errors import InvalidOption

SPLITS = ("train", "validation", "test")
HELD_OUT_FRACTION = 0.15
VALIDATION_OF_FOLD = 0.1
LEAST_GROUPS = 10  # of fewer groups none is a fair sample of the others: images are drawn one by one


@dataclass(frozen=True)
class Fold:
    """One of the divisions of a cross-validation.

    Parameters
    ----------
    folds
        Parts that the labelled images are divided into.
    fold
        The part that judges, from 0.
    """

    folds: int
    fold: int

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self | None:
        """Return the fold that a run's options name; None where they name none, or are older than folds.

        Raises
        ------
        InvalidOption
            When there is no such fold.
        """
        folds, fold = options.get("folds"), options.get("fold", 0)
        if folds is None:
            if fold:
                raise InvalidOption(f"--fold {fold} without --folds", "the number of folds", "add --folds, e.g. 10")
            return None
        if not 0 <= fold < folds:
            raise InvalidOption(
                f"--fold {fold} of {folds} folds", f"a number from 0 to {folds - 1}", "change --fold or --folds"
            )
        return cls(folds, fold)


def assign_splits(
    ids: Sequence[str],
    labels: Sequence[str | None],
    given: Sequence[str | None],
    groups: Sequence[str | None] | None = None,
) -> list[str]:
    """Return a split for every image: the given one, or else one drawn by a hash of the image's id.

    A split that the layout names is kept as it is. One that it does not name ("test", "validation") is drawn from the
    images of "train" and of no split: 15 % of each class, by rank of the SHA-256 of the id; where images belong
    together, whole groups by rank of that of their names, until 15 % of all are drawn.

    Parameters
    ----------
    ids
        Unique names, independent of the order of files.
    labels
        Class of each image, or None.
    given
        Split of each image as the layout states it, or None.
    groups
        What each image belongs to; None for an image that is alone, or where all are.
    """
    missing = [split for split in ("test", "validation") if split not in given]
    splits = [split or "train" for split in given]
    drawn_from = [index for index, split in enumerate(splits) if split == "train"]
    for units in _units(drawn_from, ids, labels, groups):
        names = sorted(units, key=lambda name: hashlib.sha256(name.encode()).digest())
        size = round(HELD_OUT_FRACTION * sum(map(len, units.values())))
        for split in missing:
            taken = 0
            while taken < size and names:
                held_out = units[names.pop(0)]
                taken += len(held_out)
                for index in held_out:
                    splits[index] = split
    return splits


def fold_splits(
    ids: Sequence[str], labels: Sequence[str | None], fold: Fold, groups: Sequence[str | None] | None = None
) -> list[str | None]:
    """Return the split of every image in one fold; None for images without a label, which belong to no fold.

    Each class is dealt out to the folds by rank of a SHA-256 of the id, whatever split it may be stored in: every image
    is a test image in exactly one fold. Of the others a tenth of each class, at least one image, is for validation.
    Where images belong together, whole groups are dealt out in the same way, whatever their classes.

    Parameters
    ----------
    ids
        Unique names, independent of the order of files.
    labels
        Class of each image, or None.
    fold
        Which fold of how many.
    groups
        As of `assign_splits`.
    """
    splits: list[str | None] = [None if label is None else "train" for label in labels]
    labelled = [index for index, split in enumerate(splits) if split]
    for units in _units(labelled, ids, labels, groups):
        members = sorted(units, key=lambda name: _rank("fold", name))
        others = [name for rank, name in enumerate(members) if rank % fold.folds != fold.fold]
        others.sort(key=lambda name: _rank("validation", name))
        parts = {"test": members[fold.fold :: fold.folds]}
        parts["validation"] = others[: max(1, round(VALIDATION_OF_FOLD * len(others)))]
        for split, names in parts.items():
            for index in (index for name in names for index in units[name]):
                splits[index] = split
    return splits


def _units(
    rows: Sequence[int], ids: Sequence[str], labels: Sequence[str | None], groups: Sequence[str | None] | None
) -> list[dict[str, list[int]]]:
    """Return what must stay together, by name: of each class its images; or all groups at once, of any class."""
    together = [None] * len(ids) if groups is None else groups
    few = len({group for group in together if group is not None}) < LEAST_GROUPS
    pools: dict[str | None, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        alone = few or together[row] is None
        pools[labels[row] if few else None][ids[row] if alone else f"group {together[row]}"].append(row)
    return list(pools.values())


def few_of_each(rows: Sequence[int], ids: Sequence[str], labels: Sequence[str | None], limit: int) -> list[int]:
    """Return at most so many of the rows of each class, in their order: the first by rank of a SHA-256 of the id.

    The fewer are among the more, whatever the order of files.
    """
    classes: dict[str | None, list[int]] = defaultdict(list)
    for row in rows:
        classes[labels[row]].append(row)
    for members in classes.values():
        members.sort(key=lambda row: _rank("few", ids[row]))
    return sorted(row for members in classes.values() for row in members[:limit])


def _rank(purpose: str, name: str) -> bytes:
    """Return where an image stands among others: in another order for every purpose."""
    return hashlib.sha256(f"{purpose} {name}".encode()).digest()

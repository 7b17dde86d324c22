"""Which images train, which choose, which judge: stratified splits that no file order can change."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

SPLITS = ("train", "validation", "test")
HELD_OUT_FRACTION = 0.15


def assign_splits(ids: Sequence[str], labels: Sequence[str | None], given: Sequence[str | None]) -> list[str]:
    """Return a split for every image: the given one, or else one drawn by a hash of the image's id.

    A split that the layout names is kept as it is. One that it does not name ("test", "validation") is drawn from the
    images of "train" and of no split: 15 % of each class, by rank of the SHA-256 of the id.

    Parameters
    ----------
    ids
        Unique names, independent of the order of files.
    labels
        Class of each image, or None.
    given
        Split of each image as the layout states it, or None.
    """
    missing = [split for split in ("test", "validation") if split not in given]
    splits = [split or "train" for split in given]
    classes: dict[str | None, list[int]] = defaultdict(list)
    for index, split in enumerate(splits):
        if split == "train":
            classes[labels[index]].append(index)
    for members in classes.values():
        members.sort(key=lambda index: hashlib.sha256(ids[index].encode()).digest())
        size = round(HELD_OUT_FRACTION * len(members))
        for split in missing:
            held_out, members[:] = members[:size], members[size:]
            for index in held_out:
                splits[index] = split
    return splits

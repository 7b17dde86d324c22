"""Splits: stratified, given ones kept, and nothing but the ids decides."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplense.core.errors import InvalidOption
from deeplense.data.splits import HELD_OUT_FRACTION, SPLITS, Fold, assign_splits, few_of_each, fold_splits

LABELS = st.sampled_from(["no_sub", "cdm", None])
GIVEN = st.sampled_from([None, "train", "validation", "test"])
IMAGES = st.dictionaries(st.text(min_size=1), st.tuples(LABELS, GIVEN), min_size=1, max_size=80)


def assigned(images: dict[str, tuple[str | None, str | None]]) -> dict[str, str]:
    labels, named = zip(*images.values(), strict=True)
    return dict(zip(images, assign_splits(list(images), labels, named), strict=True))


@given(IMAGES, st.randoms())
def test_the_order_of_files_does_not_matter(
    images: dict[str, tuple[str | None, str | None]], order: random.Random
) -> None:
    shuffled = list(images.items())
    order.shuffle(shuffled)
    assert assigned(dict(shuffled)) == assigned(images)


@given(IMAGES)
def test_every_image_gets_one_split_and_given_ones_are_kept(images: dict[str, tuple[str | None, str | None]]) -> None:
    named = {split for _, split in images.values()}
    for name, split in assigned(images).items():
        assert split in SPLITS
        given_split = images[name][1]
        if given_split in ("validation", "test"):
            assert split == given_split
        elif {"validation", "test"} <= named:
            assert split == "train", "nothing may be taken from the training images when both others are given"


@given(IMAGES)
def test_what_is_not_given_takes_the_same_share_of_every_class(
    images: dict[str, tuple[str | None, str | None]],
) -> None:
    named = {split for _, split in images.values()}
    free = Counter(label for label, split in images.values() if split in (None, "train"))
    got = Counter((images[name][0], split) for name, split in assigned(images).items())
    for split in {"validation", "test"} - named:
        for label, n in free.items():
            assert got[label, split] == round(HELD_OUT_FRACTION * n)


def test_four_images_of_a_class_are_enough_for_every_split() -> None:
    ids = [str(i) for i in range(4)]
    assert sorted(assign_splits(ids, ["cdm"] * 4, [None] * 4)) == ["test", "train", "train", "validation"]


@pytest.mark.parametrize("n", [100, 1000])
def test_one_more_image_moves_few_others(n: int) -> None:
    ids = [f"image-{i}" for i in range(n + 1)]
    before = assign_splits(ids[:n], ["cdm"] * n, [None] * n)
    after = assign_splits(ids, ["cdm"] * (n + 1), [None] * (n + 1))
    assert sum(a != b for a, b in zip(before, after, strict=False)) <= 4, "the ranks shift by one, no more"


def test_a_hash_not_a_name_decides() -> None:
    """Files numbered class by class or by time must not end up in one split."""
    splits = assign_splits([f"{i:04d}" for i in range(1000)], ["cdm"] * 1000, [None] * 1000)
    for split in ("validation", "test"):
        first_half = sum(s == split for s in splits[:500])
        assert 50 < first_half < 100, f"{first_half} of 150 {split} images come from the first half of the names"


def test_the_assignment_is_the_same_for_ever() -> None:
    """A run's test split must be the one it was trained without, in every later version."""
    splits = assign_splits([f"{i}" for i in range(20)], ["cdm"] * 20, [None] * 20)
    assert [i for i, split in enumerate(splits) if split == "test"] == [8, 9, 13]
    assert [i for i, split in enumerate(splits) if split == "validation"] == [4, 10, 17]


# ---- folds of a cross-validation


def folds_of(images: dict[str, str | None], folds: int) -> list[dict[str, str | None]]:
    """Return the split of every image in each fold."""
    ids, labels = list(images), list(images.values())
    return [dict(zip(ids, fold_splits(ids, labels, Fold(folds, fold)), strict=True)) for fold in range(folds)]


LABELLED = st.dictionaries(st.text(min_size=1), LABELS, min_size=1, max_size=80)


@given(LABELLED, st.integers(2, 12))
def test_every_labelled_image_is_tested_in_one_fold_and_no_other_in_any(
    images: dict[str, str | None], folds: int
) -> None:
    found = folds_of(images, folds)
    for name, label in images.items():
        named = [splits[name] for splits in found]
        assert named.count("test") == (label is not None)
        assert set(named) <= ({None} if label is None else set(SPLITS))


@given(LABELLED, st.integers(2, 12), st.randoms())
def test_the_order_of_files_does_not_matter_to_folds(
    images: dict[str, str | None], folds: int, order: random.Random
) -> None:
    shuffled = list(images.items())
    order.shuffle(shuffled)
    assert folds_of(dict(shuffled), folds) == folds_of(images, folds)


@given(LABELLED, st.integers(2, 12))
def test_folds_and_their_validation_take_the_same_share_of_every_class(
    images: dict[str, str | None], folds: int
) -> None:
    for label in {label for label in images.values() if label is not None}:
        total = sum(own == label for own in images.values())
        for splits in folds_of(images, folds):
            counts = Counter(split for name, split in splits.items() if images[name] == label)
            assert counts["test"] in (total // folds, total // folds + 1)
            others = total - counts["test"]
            assert counts["validation"] == min(others, max(1, round(0.1 * others)))


def test_the_folds_are_the_same_for_ever() -> None:
    images: dict[str, str | None] = {f"{i}": "cdm" for i in range(20)}
    found = folds_of(images, 5)[1]
    assert [i for i in range(20) if found[f"{i}"] == "test"] == [2, 3, 7, 8]
    assert [i for i in range(20) if found[f"{i}"] == "validation"] == [10, 13]


def test_folds_are_told_by_a_runs_options() -> None:
    assert Fold.of({}) is None and Fold.of({"folds": None, "fold": 0}) is None
    assert Fold.of({"folds": 10, "fold": 9}) == Fold(10, 9)
    for options, word in (({"folds": 10, "fold": 10}, "0 to 9"), ({"folds": None, "fold": 2}, "number of folds")):
        with pytest.raises(InvalidOption) as caught:
            Fold.of(options)
        assert word in caught.value.expected


@given(LABELLED, st.integers(1, 12), st.randoms())
def test_few_of_each_class_whatever_the_order_and_the_fewer_among_the_more(
    images: dict[str, str | None], limit: int, order: random.Random
) -> None:
    def few(images: dict[str, str | None], limit: int) -> list[str]:
        ids = list(images)
        rows = few_of_each(range(len(ids)), ids, list(images.values()), limit)
        assert rows == sorted(rows)
        return [ids[row] for row in rows]

    shuffled = list(images.items())
    order.shuffle(shuffled)
    found = few(images, limit)
    assert set(few(dict(shuffled), limit)) == set(found) <= set(few(images, limit + 1))
    whole = Counter(images.values())
    assert Counter(images[name] for name in found) == {label: min(n, limit) for label, n in whole.items()}

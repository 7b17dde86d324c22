"""Findings over order, names, files, classes and groups: each on a set that has it, and on one without."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from deeplense.auditing import arrangement
from deeplense.auditing.columns import Rows

N = 400
GENERATOR = np.random.default_rng(2)
SPLITS = np.array(["train", "train", "validation", "test"] * (N // 4), dtype=object)
MIXED = Rows(GENERATOR.integers(0, 2, N), ("nonlens", "lens"), SPLITS)
SORTED = Rows(np.arange(N) * 2 // N, ("nonlens", "lens"), SPLITS)


def test_order_that_tells_the_label() -> None:
    assert arrangement.row_order(MIXED) == []
    (blocks,) = arrangement.row_order(SORTED)
    assert blocks.severity == "note" and blocks.numbers["blocks"] == 2
    drift = Rows((GENERATOR.random(N) < np.arange(N) / N).astype(np.int64), MIXED.labels, SPLITS)
    (found,) = arrangement.row_order(drift)
    assert found.severity == "warning" and "'lens' come later" in found.words


def test_numbers_in_ids_that_tell_the_label() -> None:
    ids = [f"lens7/image-{row}" for row in range(N)]
    assert arrangement.id_numbers(ids, MIXED) == []
    assert [one.severity for one in arrangement.id_numbers(ids, SORTED)] == ["leak"]
    assert arrangement.id_numbers(["no number"] * N, SORTED) == []


def test_ids_that_stand_twice() -> None:
    assert arrangement.repeated_ids(["a", "b"]) == []
    assert arrangement.repeated_ids(["a", "b", "a", "a"])[0].numbers == {"ids": 1}


def test_groups_that_are_torn_apart() -> None:
    together = [split[:2] for split in SPLITS]
    assert arrangement.shared_groups("tile", together, MIXED) == []
    (found,) = arrangement.shared_groups("tile", [None, None, *([7] * (N - 2))], MIXED)
    assert found.severity == "leak" and found.numbers == {"shared": 1, "groups": 1}


def test_classes_that_are_unequal_or_shifted_or_unknown() -> None:
    assert arrangement.class_balance(MIXED) == []
    rare = Rows((np.arange(N) % 20 == 0).astype(np.int64), MIXED.labels, SPLITS)
    assert [(one.kind, one.severity) for one in arrangement.class_balance(rare)][:1] == [("class_balance", "warning")]
    more = Rows((SPLITS == "test").astype(np.int64) * (np.arange(N) % 8 < 7) | MIXED.targets, MIXED.labels, SPLITS)
    shift = [one for one in arrangement.class_balance(more) if one.kind == "class_shift"]
    assert [one.subject for one in shift] == ["test"]
    unknown = Rows(np.where(np.arange(N) < 3, -1, MIXED.targets), MIXED.labels, SPLITS)
    assert [one.numbers for one in arrangement.class_balance(unknown)] == [{"unlabelled": 3}]


def test_files_whose_size_or_name_tells_the_label(tmp_path: Path) -> None:
    rows = Rows(np.arange(60) % 2, ("nonlens", "lens"), SPLITS[:60])
    for row in range(60):
        (tmp_path / f"{row}.npy").write_bytes(b"0" * (10 + 90 * (row % 2)))
    paths: list[str | None] = [f"{row}.npy" for row in range(60)]
    assert [(one.subject, one.severity) for one in arrangement.files(tmp_path, paths, rows)] == [
        ("size of the file", "leak")
    ]
    suffixes: list[str | None] = [f"absent{row}.{('png', 'jpg')[row % 2]}" for row in range(60)]
    assert [one.subject for one in arrangement.files(tmp_path, suffixes, rows)] == ["suffix of the file"]
    assert arrangement.files(tmp_path, [None] * 60, rows) == []

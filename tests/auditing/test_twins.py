"""Duplicates: to the bit, and turned, mirrored, rescaled or noisy; none among images that are only alike."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deeplense.auditing import twins
from deeplense.auditing.columns import Rows
from deeplense.auditing.pixels import measure

N = 120
Y, X = np.mgrid[-1:1:40j, -1:1:40j]


def lenses(n: int = N, noise: float = 0.02, seed: int = 0) -> np.ndarray:
    """Return n arcs about the same bright galaxy."""
    generator = np.random.default_rng(seed)
    images = [3 * np.exp(-8 * np.hypot(X, Y))]
    for _ in range(n):
        angle, radius = generator.uniform(0, 2 * np.pi), generator.uniform(0.3, 0.7)
        blob = np.hypot(X - radius * np.cos(angle), Y - radius * np.sin(angle))
        images.append(images[0] + np.exp(-((blob / 0.15) ** 2)) + noise * generator.normal(size=X.shape))
    return np.stack(images[1:])[:, None].astype(np.float32)


def found(images: np.ndarray, splits: str = "train", targets: np.ndarray | None = None) -> list[tuple[str, str, int]]:
    n = len(images)
    rows = Rows(np.zeros(n, np.int64) if targets is None else targets, ("a", "b"), np.array([splits] * n, object))
    rows.splits[: n // 2] = "train"
    told = twins.duplicates(measure(images), rows, [f"image {k}" for k in range(n)])
    return [(one.kind, one.severity, int(one.numbers["images"])) for one in told]


@pytest.mark.parametrize("noise", [0.02, 5.0])
def test_images_that_are_only_alike_are_no_duplicates(noise: float) -> None:
    assert found(lenses(noise=noise), "test") == []


def test_exact_duplicates_across_and_within_splits_and_under_two_labels() -> None:
    images = lenses()
    images[100] = images[3]
    assert found(images, "test") == [("exact_duplicates", "leak", 1)]
    assert found(images) == [("exact_duplicates", "warning", 1)]
    targets = np.arange(N) % 2
    assert found(images, "test", targets) == [("exact_duplicates", "leak", 1), ("exact_conflicts", "warning", 1)]


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("mirrored", [False, True])
def test_near_duplicates_in_every_symmetry(turns: int, mirrored: bool) -> None:
    images = lenses()
    turned = np.rot90(images[3, 0], turns)
    images[100, 0] = 2.5 * (turned.T if mirrored else turned) + 0.5 + 0.01 * lenses(1, 0, 7)[0, 0]
    assert found(images, "test") == [("near_duplicates", "warning", 1)]


def test_where_every_image_has_its_twins_all_are_found() -> None:
    images = lenses(40)
    assert found(np.concatenate([images, 2 * images[..., ::-1]]), "test") == [("near_duplicates", "warning", 40)]


def test_constant_images_are_no_duplicates_of_each_other() -> None:
    images = lenses()
    images[:5] = 1
    assert found(images) == []


@given(st.integers(0, 10**6))
def test_no_symmetry_changes_the_invariants_and_they_are_no_further_apart_than_thumbnails(seed: int) -> None:
    one, other = torch.randn(2, 256, generator=torch.Generator().manual_seed(seed))
    turned = twins._invariants(twins._turned(one[None])[:, 0])
    torch.testing.assert_close(turned, turned[:1].expand(8, -1), rtol=1e-4, atol=1e-5)
    apart = torch.linalg.vector_norm(turned[0] - twins._invariants(other[None])[0])
    assert apart <= twins._distance(one[None], other[None])[0] + 1e-4


def test_a_search_that_would_not_end_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twins, "MOST_PAIRS", 10)
    images = lenses(40)
    assert not twins.near_pairs(measure(np.concatenate([images, 2 * images])).thumbnail)[1]

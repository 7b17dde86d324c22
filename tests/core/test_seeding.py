"""Seeds: the streams of images are pinned, independent of each other and of who else is drawn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from deeplense.core.seeding import image_stream, stable_key, uniforms

PINNED_KEY = 18065294600382986089
PINNED_UNIFORMS = [0.08910064623458391, 0.33189185276481004, 0.16520897668188295, 0.37185566243647006]
PINNED_NORMAL = 2.0681467681371357


def test_keys_and_streams_are_pinned() -> None:
    # a change here changes every dataset: raise the version of every recipe with it
    assert stable_key("train", "cdm", 7) == PINNED_KEY
    np.testing.assert_array_equal(uniforms(3, [5], 4)[0], PINNED_UNIFORMS)
    assert image_stream(3, 5, 1).standard_normal() == PINNED_NORMAL


def test_keys_keep_words_apart() -> None:
    words = [("a", "bc"), ("ab", "c"), ("abc",), ("a", "b", "c"), ("a", "b", 1), ("a", "b1"), ("a", "b", 11)]
    assert len({stable_key(*word) for word in words}) == len(words)
    assert stable_key("train", 1) == stable_key("train", "1"), "a number and its digits are the same word"
    assert all(0 <= stable_key("x", k) < 2**64 for k in range(100))


def test_a_row_depends_on_its_own_key_alone() -> None:
    keys = [stable_key("train", "cdm", k) for k in range(20)]
    together = uniforms(1, keys, 6)
    np.testing.assert_array_equal(uniforms(1, keys[::-1], 6)[::-1], together)
    np.testing.assert_array_equal(uniforms(1, keys[7:9], 6), together[7:9])
    np.testing.assert_array_equal(uniforms(1, keys, 3), together[:, :3], err_msg="fewer numbers are not the first ones")
    assert uniforms(1, [], 6).shape == (0, 6)


@pytest.mark.parametrize("other", [{"seed": 2}, {"key": 12}, {"purpose": 1}])
def test_streams_of_another_seed_image_or_purpose_share_nothing(other: dict[str, int]) -> None:
    one = {"seed": 1, "key": 11, "purpose": 0}
    first, second = (image_stream(**which).integers(0, 2**63, 20_000) for which in (one, one | other))
    assert not set(first.tolist()) & set(second.tolist()), "two streams overlap"
    assert abs(np.corrcoef(first, second)[0, 1]) < 5 / np.sqrt(first.size)


def test_numbers_across_images_are_uniform_and_independent() -> None:
    numbers = uniforms(0, [stable_key("train", "axion", k) for k in range(4000)], 3)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    for column in numbers.T:
        assert stats.kstest(column, "uniform").pvalue > 1e-3
    correlation = np.corrcoef(numbers.T) - np.eye(3)
    assert np.abs(correlation).max() < 5 / np.sqrt(len(numbers)), "columns of neighbouring numbers are correlated"
    neighbours = np.corrcoef(numbers[:-1, 0], numbers[1:, 0])[0, 1]
    assert abs(neighbours) < 5 / np.sqrt(len(numbers)), "neighbouring images are correlated"


def test_any_integer_is_a_seed() -> None:
    seeds = (0, 1, -1, 2**63, 2**64 - 2)
    first = {seed: float(uniforms(seed, [0], 1)[0, 0]) for seed in seeds}
    assert len(set(first.values())) == len(seeds)

"""Random streams: Philox is the published generator, images do not know of each other, normal numbers are normal."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import special, stats

from deeplense.core.seeding import MASK, Streams, normal_quantile, philox, stable_key

PINNED_KEY = 18065294600382986089
PINNED_WORDS = [991010041, 3213191106, 2107930791, 3541431337, 1579049711]
PINNED_UNIFORMS = [0.6053079853993477, 0.9299150093758906, 0.5332459553239679]

KNOWN_ANSWERS = [  # of Random123 (Salmon et al. 2011), kat_vectors: counter, key, words
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((MASK,) * 4, (MASK,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN_ANSWERS)
def test_philox_gives_the_known_answers(counter: tuple[int, ...], key: tuple[int, ...], words: tuple[int, ...]) -> None:
    c0, c1, c2, c3 = (torch.tensor([value, value]) for value in counter)
    k0, k1 = (torch.tensor(value) for value in key)
    for word, expected in zip(philox((c0, c1, c2, c3), (k0, k1)), words, strict=True):
        assert word.tolist() == [expected, expected]


def test_keys_and_streams_are_pinned() -> None:
    # a change here changes every dataset: raise the version of every recipe with it
    assert stable_key("train", "cdm", 7) == PINNED_KEY
    streams = Streams.of([PINNED_KEY], [2**40 + 5])
    assert streams.words(5, 1)[0].tolist() == PINNED_WORDS
    assert streams.uniforms(3, 0)[0].tolist() == PINNED_UNIFORMS


def test_counter_and_key_are_laid_out_as_documented() -> None:
    # block, purpose, number (low, high); key (low, high): the k-th word of block b stands at k ⌈n/4⌉ + b
    key, number = PINNED_KEY, 7 + (3 << 32)
    words = Streams.of([key], [number]).words(6, 9)[0].tolist()
    for block in (0, 1):
        counter = tuple(torch.tensor([value]) for value in (block, 9, 7, 3))
        answer = [word.item() for word in philox(counter, (torch.tensor([key & MASK]), torch.tensor([key >> 32])))]
        assert answer[:3] == words[block::2]


def test_keys_keep_words_apart() -> None:
    words = [("a", "bc"), ("ab", "c"), ("abc",), ("a", "b", "c"), ("a", "b", 1), ("a", "b1"), ("a", "b", 11)]
    assert len({stable_key(*word) for word in words}) == len(words)
    assert stable_key("train", 1) == stable_key("train", "1"), "a number and its digits are the same word"
    assert all(0 <= stable_key("x", k) < 2**64 for k in range(100))


def test_a_row_depends_on_its_own_key_and_number_alone() -> None:
    keys, numbers = [stable_key("train", "cdm", k % 3) for k in range(20)], list(range(20))
    together = Streams.of(keys, numbers)
    for draw in (lambda streams: streams.uniforms(6, 0), lambda streams: streams.words(9, 1)):
        rows = draw(together)
        assert torch.equal(draw(Streams.of(keys[::-1], numbers[::-1])).flip(0), rows)
        assert torch.equal(draw(together[7:9]), rows[7:9])
        assert torch.equal(draw(Streams.of(keys[4:5], numbers[4:5]))[0], rows[4])


def test_fewer_uniform_numbers_are_the_first_of_more() -> None:
    streams = Streams.of([1, 2, 3], [0, 1, 2**35])
    most = streams.uniforms(50, 0)
    assert most.dtype == torch.float64
    for n in range(50):
        assert torch.equal(streams.uniforms(n, 0), most[:, :n])
    assert Streams.of([], []).uniforms(6, 0).shape == (0, 6)
    assert Streams.of([], []).words(5, 0).shape == (0, 5)


@pytest.mark.parametrize(
    "other",
    [
        {"key": stable_key(2, "train", "cdm")},
        {"key": stable_key(1, "test", "cdm")},
        {"key": stable_key(1, "train", "axion")},
        {"key": stable_key(1, "train", "cdm") ^ 1},
        {"key": stable_key(1, "train", "cdm") ^ 1 << 63},
        {"number": 12},
        {"number": 11 + (1 << 32)},
        {"purpose": 1},
    ],
)
def test_streams_of_another_seed_class_number_or_purpose_share_nothing(other: dict[str, int]) -> None:
    one = {"key": stable_key(1, "train", "cdm"), "number": 11, "purpose": 0}

    def uniforms(key: int, number: int, purpose: int) -> torch.Tensor:
        return Streams.of([key], [number]).uniforms(20_000, purpose)[0]

    first, second = (uniforms(**which) for which in (one, one | other))
    assert not set(first.tolist()) & set(second.tolist()), "two streams overlap"
    assert abs(np.corrcoef(first, second)[0, 1]) < 4.5 / np.sqrt(len(first))


def test_numbers_across_images_are_uniform_and_independent() -> None:
    n = 4000
    numbers = Streams.of([stable_key(0, "train", "axion")] * n, range(n)).uniforms(4, 0).numpy()
    assert numbers.min() >= 0
    assert numbers.max() < 1
    for column in numbers.T:
        assert stats.kstest(column, "uniform").pvalue > 1e-3
    correlation = np.corrcoef(numbers.T) - np.eye(4)
    assert np.abs(correlation).max() < 4.5 / np.sqrt(n), "columns of neighbouring numbers are correlated"
    neighbours = np.corrcoef(numbers[:-1, 0], numbers[1:, 0])[0, 1]
    assert abs(neighbours) < 4.5 / np.sqrt(n), "neighbouring images are correlated"


def test_words_are_uniform_bit_by_bit_and_independent() -> None:
    words = Streams.of([stable_key("bits")] * 64, range(64)).words(4096, 1).flatten().numpy()
    n = words.size
    assert words.min() >= 0
    assert words.max() <= MASK
    bits = (words[:, None] >> np.arange(32)) & 1
    assert np.abs(bits.mean(0) - 0.5).max() < 4.5 * 0.5 / np.sqrt(n)
    correlation = np.corrcoef(bits.T) - np.eye(32)
    assert np.abs(correlation).max() < 5 / np.sqrt(n)
    assert stats.chisquare(np.bincount(words >> 24, minlength=256)).pvalue > 1e-3
    assert stats.chisquare(np.bincount(words & 255, minlength=256)).pvalue > 1e-3
    pairs = np.bincount((words[:-1] >> 28) * 16 + (words[1:] >> 28), minlength=256)
    assert stats.chisquare(pairs).pvalue > 1e-3, "words in succession depend on each other"


def test_uniform_numbers_have_53_random_bits() -> None:
    numbers = Streams.of([3], [0]).uniforms(20_000, 0)[0].numpy()
    integers = numbers * 2**53
    assert (integers == np.floor(integers)).all()
    for bit in range(53):
        share = ((integers.astype(np.int64) >> bit) & 1).mean()
        assert abs(share - 0.5) < 4.5 * 0.5 / np.sqrt(len(numbers)), f"bit {bit}"


def test_any_integer_is_a_seed() -> None:
    seeds = (0, 1, -1, 2**63, 2**64 - 2)
    first = {seed: Streams.of([stable_key(seed)], [0]).uniforms(1, 0).item() for seed in seeds}
    assert len(set(first.values())) == len(seeds)


@pytest.fixture(scope="module")
def all_tails() -> torch.Tensor:
    """Return words over the whole range: an even grid, and every power of two from both ends."""
    ends = torch.cat([torch.arange(1 << 12), 2 ** torch.arange(32), 3 * 2 ** torch.arange(30)])
    grid = torch.arange(0, MASK + 1, 5003)
    return torch.cat([ends, grid, MASK - ends, MASK - grid]).unique()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normal_numbers_are_the_quantiles(all_tails: torch.Tensor, dtype: torch.dtype) -> None:
    value = normal_quantile(all_tails, dtype)
    assert value.dtype == dtype
    smaller = np.minimum(all_tails.numpy(), MASK - all_tails.numpy())
    exact = special.ndtri((smaller + 0.5) / 2**32) * np.where(all_tails.numpy() > smaller, -1, 1)
    error = np.abs(value.double().numpy() - exact)
    assert error.max() < 2e-6, f"{error.max():.1e} at word {all_tails[error.argmax()]}"
    assert value.abs().max() < 6.4
    assert torch.isfinite(value).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normal_numbers_are_symmetric_and_rise_with_the_word(all_tails: torch.Tensor, dtype: torch.dtype) -> None:
    value = normal_quantile(all_tails, dtype)
    assert torch.equal(normal_quantile(MASK - all_tails, dtype), -value)
    slack = 2e-6  # of rounding
    assert (value.diff() > -slack).all()
    assert (value[all_tails > MASK // 2] >= 0).all()


def test_normal_numbers_have_the_moments_of_the_normal_law() -> None:
    # midpoints of an even grid: deterministic, the grid's own error is below 1e-5
    words = torch.arange(1 << 11, 1 << 32, 1 << 12)
    value = normal_quantile(words, torch.float64)
    for power, moment in ((1, 0.0), (2, 1.0), (3, 0.0), (4, 3.0)):
        assert (value**power).mean().item() == pytest.approx(moment, abs=3e-4 if power == 4 else 2e-5)

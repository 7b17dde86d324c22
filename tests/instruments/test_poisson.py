"""Fast Poisson counts: their distribution is scipy's, over an even grid of random words, and numpy's in samples."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from deeplense.core.seeding import MASK, Streams, stable_key
from deeplense.instruments.poisson import LARGE, poisson_quantile

STEP = 1 << 12
GRID = torch.arange(STEP // 2, 1 << 32, STEP)  # 2²⁰ words, each in the middle of its share
EXTREMES = torch.cat([torch.arange(300), MASK - torch.arange(300), 2 ** torch.arange(32), MASK - 2 ** torch.arange(32)])
RATES = [0.0, 1e-3, 0.01, 0.1, 0.5, 1.0, 2.0, 5.0, 7.999, 8.0, 8.5, 10.0, 15.0, 30.0, 100.0, 300.0, 1000.0]
DTYPES = [torch.float32, torch.float64]


def counts(rate: float, words: torch.Tensor, dtype: torch.dtype) -> np.ndarray:
    """Return the counts of one rate for each word."""
    drawn = poisson_quantile(torch.full(words.shape, rate, dtype=dtype), words)
    assert drawn.dtype == dtype
    assert drawn.shape == words.shape
    return drawn.double().numpy()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rate", RATES)
def test_the_distribution_is_scipys_with_its_mean_and_variance(rate: float, dtype: torch.dtype) -> None:
    drawn = counts(rate, GRID, dtype)
    share = np.bincount(drawn.astype(int)) / len(drawn)
    law = stats.poisson(rate)
    exact = law.pmf(np.arange(len(share)))
    distance = (np.abs(share - exact).sum() + law.sf(len(share) - 1)) / 2
    of_the_grid = np.count_nonzero(share) / len(drawn)  # each count's share is known to one word
    bound = 3e-4 if rate >= LARGE else 1e-6
    assert distance < bound + of_the_grid, f"total variation {distance:.1e}"
    resolution = 2 * drawn.max() ** 2 / len(drawn)  # what one word of the grid may move
    assert drawn.mean() == pytest.approx(rate, rel=1e-5, abs=resolution)
    assert drawn.var() == pytest.approx(rate, rel=5e-4, abs=resolution)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rate", RATES)
def test_a_larger_word_gives_no_smaller_count(rate: float, dtype: torch.dtype) -> None:
    words = torch.cat([GRID[::64], EXTREMES]).unique()
    drawn = counts(rate, words, dtype)
    assert (np.diff(drawn) >= 0).all()
    assert (drawn == np.floor(drawn)).all()
    assert drawn.min() >= 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_larger_rate_gives_no_smaller_count(dtype: torch.dtype) -> None:
    # but where the two formulas meet, and for the last words in float32, which round to a uniform number of 1
    words = torch.cat([GRID[::4096], EXTREMES]) if dtype == torch.float64 else GRID[::1024]
    for low, high in ((0.0, LARGE * (1 - 1e-6)), (LARGE, 2000.0)):
        rates = torch.linspace(low, high, 400, dtype=dtype)[:, None]
        drawn = poisson_quantile(rates.expand(-1, len(words)), words.expand(len(rates), -1))
        assert (drawn.diff(dim=0) >= 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_word_and_no_rate_gives_what_no_count_is(dtype: torch.dtype) -> None:
    rates = torch.cat([torch.logspace(-45, 7, 500, dtype=torch.float64).to(dtype), torch.zeros(1, dtype=dtype)])
    drawn = poisson_quantile(rates[:, None].expand(-1, len(EXTREMES)), EXTREMES.expand(len(rates), -1))
    assert torch.isfinite(drawn).all()
    assert (drawn >= 0).all()
    assert torch.equal(drawn, drawn.floor())
    assert not drawn[rates == 0].any(), "counts without light"
    farthest = (drawn - rates[:, None]).abs() / (rates[:, None].sqrt() + 2)
    assert farthest.max() < 7.5, "further from the mean than any 32-bit word is"


def test_samples_follow_the_law_of_numpys_generator() -> None:
    n, rng = 100_000, np.random.default_rng(5)
    for k, rate in enumerate((0.02, 0.7, 4.0, 8.2, 13.0, 60.0, 700.0)):
        words = Streams.of([stable_key("poisson")], [k]).words(n, 1)[0]
        ours, exact = counts(rate, words, torch.float32), rng.poisson(rate, n)
        edges = np.unique(np.quantile(exact, np.linspace(0, 1, 40)))
        table = np.array([np.histogram(sample, [-1, *(edges + 0.5), np.inf])[0] for sample in (ours, exact)])
        table = table[:, table.sum(0) > 0]
        assert stats.chi2_contingency(table).pvalue > 1e-3, f"rate {rate}"
        assert stats.ks_2samp(ours, exact).pvalue > 1e-3, f"rate {rate}"
        assert abs(ours.mean() - rate) < 4.5 * math.sqrt(rate / n)


def test_counts_depend_on_their_own_rate_and_word_alone() -> None:
    rates = torch.logspace(-3, 3, 4096)
    words = Streams.of([1], [0]).words(4096, 1)[0]
    together = poisson_quantile(rates, words)
    order = torch.randperm(4096, generator=torch.Generator().manual_seed(0))
    assert torch.equal(poisson_quantile(rates[order], words[order]), together[order])
    for part in (slice(0, 1), slice(7, 8), slice(100, 117)):
        assert torch.equal(poisson_quantile(rates[part], words[part]), together[part])

"""Noise: each law against its definition, with tolerances that follow from the number of draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from deeplense.core.seeding import image_stream
from deeplense.instruments.noise import LAWS, background_and_shot, double_shot_counts

DRAWS = 4000
RATES = torch.tensor([0.0, 1e-4, 3e-3, 0.02, 0.3], dtype=torch.float64)
SIGMA, SECONDS = 0.01, 1500.0


def many(law: str, dtype: torch.dtype = torch.float64) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return draws [DRAWS, rate], expected values and variances [rate] of one law."""
    expected = RATES.to(dtype).repeat(DRAWS, 8, 1)  # eight rows, as the same rates stand in every row
    streams = [image_stream(7, draw, 1) for draw in range(DRAWS)]
    image, mean, variance = LAWS[law](expected, SIGMA, torch.full((DRAWS,), SECONDS, dtype=dtype), streams)
    assert image.dtype == mean.dtype == variance.dtype == dtype
    values = image.double().numpy().reshape(-1, len(RATES))
    return values, mean[0, 0].double().numpy(), variance[0, 0].double().numpy()


def clipped_normal(rate: float) -> tuple[float, float]:
    """Return mean and variance of t·max(0, m + N √(m/t + σ²)) by numerical integration."""
    law = stats.norm(rate, np.sqrt(rate / SECONDS + SIGMA**2))
    first, second = (
        integrate.quad(lambda x, power=power: x**power * law.pdf(x), 0, law.mean() + 12 * law.std(), epsabs=1e-14)[0]
        for power in (1, 2)
    )
    return SECONDS * first, SECONDS**2 * (second - first**2)


def assert_moments(values: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> None:
    """Check mean and variance within 4.5 standard errors."""
    n = len(values)
    error = (values.mean(0) - mean) / np.sqrt(variance / n)
    assert np.abs(error).max() < 4.5, f"means are off by {error} standard errors"
    centred = (values - values.mean(0)) ** 2
    error = (centred.mean(0) - variance) / (centred.std(0) / np.sqrt(n))
    assert np.abs(error).max() < 4.5, f"variances are off by {error} standard errors"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_background_and_shot_is_gaussian_with_the_variance_it_returns(dtype: torch.dtype) -> None:
    values, expected, variance = many("background_and_shot", dtype)
    np.testing.assert_allclose(expected, RATES, rtol=1e-6)
    np.testing.assert_allclose(variance, SIGMA**2 + RATES / SECONDS, rtol=1e-6)
    assert_moments(values, expected, variance)
    for column in ((values - expected) / np.sqrt(variance)).T:
        assert stats.kstest(column, "norm").pvalue > 1e-3


def test_double_shot_counts_have_the_moments_of_the_published_law() -> None:
    values, expected, variance = many("double_shot_counts")
    np.testing.assert_allclose(expected, SECONDS * RATES, rtol=1e-14)
    means, spreads = np.array([clipped_normal(rate) for rate in RATES.tolist()]).T
    np.testing.assert_allclose(variance, means + spreads, rtol=1e-6, err_msg="Poisson adds the mean to the variance")
    assert_moments(values, means, variance)
    assert (values == np.round(values)).all()
    assert values.min() == 0


def test_double_shot_counts_are_distributed_as_the_published_code_draws_them() -> None:
    # two Gaussians added to the rate one after the other, then Poisson: the law that ours merges
    values, _, _ = many("double_shot_counts")
    rng = np.random.default_rng(3)
    rates = RATES.numpy()
    for column, rate in zip(values.T, rates, strict=True):
        n = len(column)
        noisy = rate + rng.normal(0, np.sqrt(rate / SECONDS), n) + rng.normal(0, SIGMA, n)
        published = rng.poisson((SECONDS * noisy).clip(min=0))
        edges = np.unique(np.quantile(published, np.linspace(0, 1, 16)))
        table = [np.histogram(counts, [*edges[:-1], np.inf])[0] for counts in (column, published)]
        assert stats.chi2_contingency(np.array(table)).pvalue > 1e-3, f"rate {rate}"


def test_the_variance_of_counts_in_float32_is_that_in_float64() -> None:
    (_, _, single), (_, _, double) = (many("double_shot_counts", dtype) for dtype in (torch.float32, torch.float64))
    np.testing.assert_allclose(single, double, rtol=1e-5)


def test_no_background_and_no_light_is_no_noise() -> None:
    dark, seconds = torch.zeros(1, 4, 4), torch.tensor([100.0])
    for law in LAWS.values():
        image, expected, variance = law(dark, 0.0, seconds, [image_stream(0, 0, 1)])
        for values in (image, expected, variance):
            assert not values.any(), f"{law.__name__} makes light or noise of nothing"


def test_negative_rates_have_background_noise_alone() -> None:
    negative, seconds = torch.full((1, 2, 2), -0.5), torch.tensor([100.0])
    _, _, variance = background_and_shot(negative, 0.1, seconds, [image_stream(0, 0, 1)])
    torch.testing.assert_close(variance, torch.full((1, 2, 2), 0.01))
    counts, _, _ = double_shot_counts(negative, 0.0, seconds, [image_stream(0, 0, 1)])
    assert counts.min() >= 0


@pytest.mark.parametrize("name", list(LAWS))
def test_an_image_is_noisy_in_its_own_way_whoever_is_beside_it(name: str) -> None:
    expected = torch.rand(5, 9, 11, generator=torch.Generator().manual_seed(0))
    seconds = torch.linspace(500, 2000, 5)

    def observed(rows: list[int]) -> torch.Tensor:
        return LAWS[name](expected[rows], SIGMA, seconds[rows], [image_stream(1, row, 1) for row in rows])[0]

    together = observed([0, 1, 2, 3, 4])
    assert torch.equal(observed([3, 1]), together[[3, 1]])
    assert torch.equal(observed([4]), together[[4]])
    first, second = (
        values.flatten()
        for values in LAWS[name](
            expected[[0, 0]], SIGMA, seconds[[0, 0]], [image_stream(1, 0, 1), image_stream(1, 1, 1)]
        )[0]
    )
    assert not torch.equal(first, second), "two streams give the same noise"


def test_streams_and_images_must_be_as_many() -> None:
    with pytest.raises(ValueError, match="zip"):
        background_and_shot(torch.zeros(3, 2, 2), 0.1, torch.ones(3), [image_stream(0, 0, 1)])

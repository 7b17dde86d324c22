"""Noise: each law against its definition, with tolerances that follow from the number of draws."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from deeplense.core.seeding import MASK, Streams, normal_quantile, stable_key
from deeplense.instruments.noise import LAWS

DRAWS = 40_000
RATES = torch.tensor([0.0, 1e-4, 3e-3, 0.02, 0.3], dtype=torch.float64)
SIGMA, SECONDS = 0.01, 1500.0


def numbers(*values: float, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Return numbers of images or bands, broadcastable to images."""
    return torch.tensor(values, dtype=dtype)[:, None, None, None]


def words_of(n_images: int, law: str, shape: tuple[int, ...], key: int = 7) -> torch.Tensor:
    """Return the random words that images of that shape take."""
    n = LAWS[law].n_words
    words = Streams.of([key] * n_images, range(n_images)).words(n * int(np.prod(shape)), 1)
    return words.reshape(n_images, n, *shape).movedim(1, 0)


def many(law: str, dtype: torch.dtype = torch.float64) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return draws [DRAWS, rate], means and variances [rate] of one law."""
    expected = RATES.to(dtype).repeat(DRAWS // 8, 1, 8, 1)  # eight rows, as the same rates stand in every row
    sigma, time = numbers(SIGMA, dtype=dtype), numbers(SECONDS, dtype=dtype)
    image = LAWS[law].observe(expected, sigma, time, words_of(len(expected), law, expected.shape[1:]))
    mean, variance = LAWS[law].moments(expected, sigma, time)
    assert image.dtype == mean.dtype == variance.dtype == dtype
    assert image.shape == mean.shape == variance.shape == expected.shape
    return image.double().numpy().reshape(-1, len(RATES)), mean[0, 0, 0].numpy(), variance[0, 0, 0].numpy()


def exact_double_shot(rng: np.random.Generator, rate: float, n: int) -> np.ndarray:
    """Return counts as the published code draws them: two Gaussians onto the rate one after the other, then Poisson."""
    noisy = rate + rng.normal(0, np.sqrt(rate / SECONDS), n) + rng.normal(0, SIGMA, n)
    return rng.poisson((SECONDS * noisy).clip(min=0)).astype(float)


def exact_detector(rng: np.random.Generator, rate: float, n: int) -> np.ndarray:
    """Return rates of photons counted once, and Gaussian background."""
    return np.asarray(rng.poisson(SECONDS * rate, n) / SECONDS + rng.normal(0, SIGMA, n))


def exact_gaussian(rng: np.random.Generator, rate: float, n: int) -> np.ndarray:
    """Return rates with two Gaussian noises, background and shot."""
    return np.asarray(rate + rng.normal(0, SIGMA, n) + rng.normal(0, np.sqrt(rate / SECONDS), n))


EXACT: dict[str, Callable[[np.random.Generator, float, int], np.ndarray]] = {
    "double_shot_counts": exact_double_shot,
    "poisson_and_background": exact_detector,
    "background_and_shot": exact_gaussian,
}


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


def test_every_law_has_its_exact_reference_here() -> None:
    assert set(EXACT) == set(LAWS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("law", list(EXACT))
def test_a_law_is_that_of_an_exact_generator(law: str, dtype: torch.dtype) -> None:
    values, _, _ = many(law, dtype)
    rng = np.random.default_rng(3)
    n = len(values)
    for column, rate in zip(values.T, RATES.tolist(), strict=True):
        exact = EXACT[law](rng, rate, n)
        assert stats.ks_2samp(column, exact).pvalue > 1e-3, f"rate {rate}"
        assert abs(column.mean() - exact.mean()) < 4.5 * np.sqrt((column.var() + exact.var()) / n), f"rate {rate}"
        spread = np.sqrt(sum(((sample - sample.mean()) ** 2).var() for sample in (column, exact)) / n)
        assert abs(column.var() - exact.var()) < 4.5 * spread, f"rate {rate}"
        edges = np.unique(np.quantile(exact, np.linspace(0, 1, 16)))
        table = [np.histogram(sample, [-np.inf, *edges[1:-1], np.inf])[0] for sample in (column, exact)]
        if len(edges) > 3:
            assert stats.chi2_contingency(np.array(table)).pvalue > 1e-3, f"rate {rate}"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_background_and_shot_is_gaussian_with_the_variance_it_tells(dtype: torch.dtype) -> None:
    values, mean, variance = many("background_and_shot", dtype)
    np.testing.assert_allclose(mean, RATES, rtol=1e-6)
    np.testing.assert_allclose(variance, SIGMA**2 + RATES / SECONDS, rtol=1e-6)
    assert_moments(values, mean, variance)
    for column in ((values - mean) / np.sqrt(variance)).T:
        assert stats.kstest(column, "norm").pvalue > 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_poisson_and_background_has_the_moments_it_tells(dtype: torch.dtype) -> None:
    values, mean, variance = many("poisson_and_background", dtype)
    np.testing.assert_allclose(mean, RATES, rtol=1e-6)
    np.testing.assert_allclose(variance, SIGMA**2 + RATES / SECONDS, rtol=1e-6)
    assert_moments(values, mean, variance)


def test_poisson_and_background_counts_whole_photons() -> None:
    expected, time = torch.full((1, 1, 40, 40), 0.004, dtype=torch.float64), numbers(1000.0)
    words = words_of(1, "poisson_and_background", (1, 40, 40))
    photons = LAWS["poisson_and_background"].observe(expected, numbers(0.0), time, words) * 1000
    torch.testing.assert_close(photons, photons.round(), rtol=0, atol=1e-9)
    assert set(photons.round().int().flatten().tolist()) >= {1, 2, 3, 4, 5, 6, 7}


def test_double_shot_counts_have_the_moments_of_the_published_law() -> None:
    values, mean, variance = many("double_shot_counts")
    np.testing.assert_allclose(mean, SECONDS * RATES, rtol=1e-14)
    means, spreads = np.array([clipped_normal(rate) for rate in RATES.tolist()]).T
    np.testing.assert_allclose(variance, means + spreads, rtol=1e-6, err_msg="Poisson adds the mean to the variance")
    assert_moments(values, means, variance)
    assert (values == np.round(values)).all()
    assert values.min() == 0


def test_double_shot_counts_pixel_by_pixel_on_an_image_of_model_i() -> None:
    # every pixel of a bright blob, with its own mean and variance, over many noise realisations
    axis = torch.linspace(-1, 1, 12, dtype=torch.float32)
    rate = (0.25 * torch.exp(-4 * (axis[:, None] ** 2 + axis[None, :] ** 2))).expand(3000, 1, 12, 12)
    sigma, time = numbers(SIGMA, dtype=torch.float32), numbers(SECONDS, dtype=torch.float32)
    counts = LAWS["double_shot_counts"].observe(rate, sigma, time, words_of(3000, "double_shot_counts", (1, 12, 12)))
    rng = np.random.default_rng(0)
    exact = np.stack([exact_double_shot(rng, r, 3000) for r in rate[0].flatten().tolist()], 1)
    ours = counts.double().numpy().reshape(3000, -1)
    z = (ours.mean(0) - exact.mean(0)) / np.sqrt((ours.var(0) + exact.var(0)) / 3000)
    assert np.abs(z).max() < 4.5, "the mean of a pixel"
    assert abs((z**2).mean() - 1) < 4.5 * np.sqrt(2 / z.size), "pixels are off together"
    z = np.log(ours.var(0) / exact.var(0))
    spread = np.sqrt(sum(stats.kurtosis(sample, 0) + 2 for sample in (ours, exact)) / 3000)
    assert np.abs(z / spread).max() < 4.5, "the variance of a pixel"


def test_the_variance_of_counts_in_float32_is_that_in_float64() -> None:
    rate = torch.logspace(-6, 1, 200, dtype=torch.float64)[None, None, None]
    moments = LAWS["double_shot_counts"].moments
    single, double = (
        moments(rate.to(dtype), numbers(SIGMA, dtype=dtype), numbers(SECONDS, dtype=dtype))[1]
        for dtype in (torch.float32, torch.float64)
    )
    torch.testing.assert_close(single.double(), double, rtol=1e-5, atol=0)


@pytest.mark.parametrize("law", list(LAWS))
def test_no_background_and_no_light_is_no_noise(law: str) -> None:
    dark = torch.zeros(1, 1, 4, 4, dtype=torch.float64)
    image = LAWS[law].observe(dark, numbers(0.0), numbers(100.0), words_of(1, law, (1, 4, 4)))
    for values in (image, *LAWS[law].moments(dark, numbers(0.0), numbers(100.0))):
        assert not values.any(), f"{law} makes light or noise of nothing"


def test_negative_rates_have_background_noise_alone() -> None:
    negative, seconds = torch.full((1, 1, 2, 2), -0.5, dtype=torch.float64), numbers(100.0)
    for law in ("background_and_shot", "poisson_and_background"):
        _, variance = LAWS[law].moments(negative, numbers(0.1), seconds)
        torch.testing.assert_close(variance, torch.full_like(negative, 0.01))
    words = words_of(1, "double_shot_counts", (1, 2, 2))
    assert LAWS["double_shot_counts"].observe(negative, numbers(0.0), seconds, words).min() >= 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("law", list(LAWS))
def test_no_random_word_breaks_an_image(law: str, dtype: torch.dtype) -> None:
    ends = torch.tensor([0, 1, MASK // 2, MASK // 2 + 1, MASK - 1, MASK])
    words = torch.stack([first.flatten() for first in torch.meshgrid(ends, ends, indexing="ij")])[:, None, None, :]
    words = words[: LAWS[law].n_words, :, :, None, :].expand(-1, 5, 1, 1, -1)
    expected = torch.tensor([0.0, 1e-30, 1e-3, 1.0, 1e5], dtype=dtype)[:, None, None, None].expand(-1, 1, 1, 36)
    image = LAWS[law].observe(expected, numbers(SIGMA, dtype=dtype), numbers(SECONDS, dtype=dtype), words)
    assert torch.isfinite(image).all()
    if law == "double_shot_counts":
        assert (image >= 0).all()
        assert torch.equal(image, image.floor())


@pytest.mark.parametrize("name", list(LAWS))
def test_an_image_is_noisy_in_its_own_way_whoever_is_beside_it(name: str) -> None:
    expected = torch.rand(5, 2, 9, 11, generator=torch.Generator().manual_seed(0))
    seconds = torch.linspace(500, 2000, 5)[:, None, None, None]
    words = words_of(5, name, (2, 9, 11), stable_key("noise"))
    sigma = torch.tensor([0.01, 0.03])[None, :, None, None]

    def observed(rows: list[int]) -> torch.Tensor:
        return LAWS[name].observe(expected[rows], sigma, seconds[rows], words[:, rows])

    together = observed([0, 1, 2, 3, 4])
    assert torch.equal(observed([3, 1]), together[[3, 1]])
    assert torch.equal(observed([4]), together[[4]])
    same = LAWS[name].observe(expected[[0, 0]], sigma, seconds[[0, 0]], words[:, :2])
    assert not torch.equal(same[0], same[1]), "two streams give the same noise"


def test_bands_have_their_own_background() -> None:
    expected = torch.zeros(200, 3, 8, 8)
    sigma = torch.tensor([0.01, 0.1, 1.0])[None, :, None, None]
    time = torch.full((200, 3, 1, 1), 100.0)
    words = words_of(200, "background_and_shot", (3, 8, 8))
    image = LAWS["background_and_shot"].observe(expected, sigma, time, words)
    torch.testing.assert_close(image.std((0, 2, 3)), sigma.flatten(), rtol=0.03, atol=0)
    torch.testing.assert_close(image / sigma, normal_quantile(words[0], torch.float32), rtol=1e-5, atol=1e-6)

"""Priors: each law follows its distribution, and an image's number does not know of the others."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from deeplense.core.errors import InvalidOption
from deeplense.core.seeding import Streams
from deeplense.recipes.parts import Prior

LARGEST = 1 - 2.0**-53


def power_law_cdf(low: float, high: float, exponent: float) -> Callable[[np.ndarray], np.ndarray]:
    """Return the distribution function of a density ∝ x^exponent."""
    p = exponent + 1

    def cdf(x: np.ndarray) -> np.ndarray:
        if p == 0:
            return np.asarray(np.log(x / low) / np.log(high / low))
        return np.asarray(np.expm1(p * np.log(x / low)) / np.expm1(p * np.log(high / low)))

    return cdf


def cut_normal(mean: float, sigma: float, low: float, high: float) -> Callable[[np.ndarray], np.ndarray]:
    """Return the distribution function of a normal law cut at two bounds."""
    law = stats.truncnorm((low - mean) / sigma, (high - mean) / sigma, mean, sigma)
    return lambda x: np.asarray(law.cdf(x))


LAWS: dict[str, tuple[Prior, Callable[[np.ndarray], np.ndarray]]] = {
    "uniform": (Prior(uniform=(-1.0, 3.0)), stats.uniform(-1, 4).cdf),
    "log_uniform": (Prior(log_uniform=(1e-3, 20.0)), stats.loguniform(1e-3, 20).cdf),
    "normal": (Prior(normal=(2.0, 0.3)), cut_normal(2, 0.3, 0.5, 3.5)),
    "cut normal": (Prior(normal=(2.0, 0.3), within=(1.9, 2.5)), cut_normal(2, 0.3, 1.9, 2.5)),
    "half a normal": (Prior(normal=(0.0, 1.0), within=(0.0, 5.0)), cut_normal(0, 1, 0, 5)),
    "lower tail": (Prior(normal=(0.0, 1.0), within=(-6.0, -3.0)), cut_normal(0, 1, -6, -3)),
    "upper tail": (Prior(normal=(0.0, 1.0), within=(3.0, 6.0)), cut_normal(0, 1, 3, 6)),
    "falling": (Prior(power_law=(0.1, 5.0, -2.3)), power_law_cdf(0.1, 5, -2.3)),
    "falling fast": (Prior(power_law=(0.1, 5.0, -40.0)), power_law_cdf(0.1, 5, -40)),
    "flat in log": (Prior(power_law=(0.1, 5.0, -1.0)), power_law_cdf(0.1, 5, -1)),
    "almost flat in log": (Prior(power_law=(0.1, 5.0, -1.0 + 1e-9)), power_law_cdf(0.1, 5, -1)),
    "rising": (Prior(power_law=(0.1, 5.0, 1.5)), power_law_cdf(0.1, 5, 1.5)),
    "rising fast": (Prior(power_law=(0.1, 5.0, 60.0)), power_law_cdf(0.1, 5, 60)),
}


@pytest.mark.parametrize("name", list(LAWS))
def test_draws_follow_the_law(name: str) -> None:
    prior, cdf = LAWS[name]
    u = Streams.of([11], [0]).uniforms(20_000, 0)[0].numpy()
    values = prior.transform(u)
    assert values.dtype == np.float64
    assert stats.kstest(values, cdf).pvalue > 1e-3
    # and without chance: the law inverts its distribution function
    grid = np.linspace(0, LARGEST, 1001)
    np.testing.assert_allclose(cdf(prior.transform(grid)), grid, atol=1e-9 if "tail" not in name else 1e-6)


@pytest.mark.parametrize("name", list(LAWS))
def test_draws_stay_within_their_bounds_and_rise(name: str) -> None:
    prior, _ = LAWS[name]
    ends = np.array([0.0, 2.0**-53, 1e-300, 0.25, 0.5, LARGEST])
    with np.errstate(all="raise", divide="ignore", under="ignore"):
        values = prior.transform(np.sort(ends))
    assert np.isfinite(values).all()
    assert (np.diff(values) >= 0).all()
    assert prior.bounds[0] <= values.min()
    assert values.max() <= prior.bounds[1]


@pytest.mark.parametrize("name", list(LAWS))
def test_a_draw_has_the_same_bits_in_any_company(name: str) -> None:
    prior, _ = LAWS[name]
    uniforms = Streams.of([3] * 37, range(37)).uniforms(11, 0).numpy()
    together = prior.transform(uniforms[:, 4:7])
    assert together.shape == (37, 3)
    for row in range(37):
        np.testing.assert_array_equal(prior.transform(uniforms[row : row + 1, 4:7]), together[row : row + 1])
        np.testing.assert_array_equal(prior.transform(uniforms[row : row + 1, 5]), together[row : row + 1, 1])
    np.testing.assert_array_equal(prior.transform(np.ascontiguousarray(uniforms[:, 5])), together[:, 1])


@pytest.mark.parametrize("exponent", [-1e6, -1e3, 1e3, 1e6])
def test_no_exponent_overflows(exponent: float) -> None:
    values = Prior(power_law=(1e-9, 1e15, exponent)).transform(np.array([0.0, 0.5, LARGEST]))
    assert np.isfinite(values).all()
    assert values[1] == pytest.approx(1e-9 if exponent < 0 else 1e15, rel=0.01)


@pytest.mark.parametrize("law", ["uniform", "log_uniform"])
def test_equal_bounds_are_one_number(law: str) -> None:
    values = Prior(**{law: (0.7, 0.7)}).transform(np.array([0.0, 0.3, LARGEST]))  # type: ignore[arg-type]
    np.testing.assert_allclose(values, 0.7, rtol=1e-15)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"uniform": (0.0, 1.0), "normal": (0.0, 1.0)},
        {"uniform": (1.0, 0.0)},
        {"log_uniform": (2.0, 1.0)},
        {"log_uniform": (0.0, 1.0)},
        {"power_law": (-1.0, 1.0, 2.0)},
        {"power_law": (2.0, 1.0, 2.0)},
        {"normal": (0.0, -1.0)},
        {"normal": (0.0, 1.0), "within": (2.0, 1.0)},
        {"normal": (0.0, 1.0), "within": (7.0, 8.0)},
        {"normal": (0.0, 1.0), "within": (-60.0, -50.0)},
        {"uniform": (0.0, 1.0), "within": (0.2, 0.3)},
        {"uniform": (float("nan"), 1.0)},
        {"uniform": (0.0, float("inf"))},
    ],
)
def test_what_is_no_distribution_is_refused(fields: dict[str, tuple[float, ...]]) -> None:
    with pytest.raises(InvalidOption) as caught:
        Prior.from_mapping(fields, "prior")
    assert all(caught.value.args)

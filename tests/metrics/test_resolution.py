"""The noise floor against its exact formula and in simulations, and errors that are what they claim to be."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from scipy.stats import norm

from deeplense.core.degradation import Degradation
from deeplense.core.errors import InvalidOption
from deeplense.metrics import resolution
from deeplense.metrics.image import mse, psnr, psnr_of_mse

REFUSED = (InvalidOption, TypeCheckError)  # the second where annotated shapes are checked at every call
SIDE = 24
DEGRADATIONS = [
    Degradation(2, "bicubic"),
    Degradation(2, "area"),
    Degradation(2, "gaussian", 1.0),
    Degradation(3, "bicubic"),
    Degradation(4, "area"),
]
every_degradation = pytest.mark.parametrize("degradation", DEGRADATIONS, ids=str)


def matrix(degradation, side=SIDE):
    return degradation.along(side // degradation.factor)


def variances():
    """Return maps [3, 1, H, W]: one that grows, a ring, neighbours that know nothing of each other."""
    y, x = torch.meshgrid(*[torch.arange(SIDE, dtype=torch.float64)] * 2, indexing="ij")
    ring = 0.2 + torch.exp(-((torch.hypot(x - 11, y - 12) - 6) ** 2) / 8)
    rough = 0.1 + torch.rand(SIDE, SIDE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return torch.stack([torch.exp(0.1 * x + 0.1 * y), ring, rough])[:, None]


def least_error(variance, degradation):
    """Return tr(V − V Aᵀ (A V Aᵀ)⁻¹ A V) / N with A in full."""
    whole = torch.kron(matrix(degradation), matrix(degradation))
    reached = whole * variance.flatten()
    lost = reached.T @ torch.linalg.solve(reached @ whole.T, reached)
    return (variance.sum() - lost.trace()).item() / variance.numel()


@every_degradation
def test_of_one_variance_the_floor_is_what_the_coarse_pixels_cannot_hold(degradation):
    a = matrix(degradation)
    expected = 3 * (1 - 1 / degradation.factor**2)
    assert resolution.noise_floor(3.0, a, a).tolist() == pytest.approx([expected])
    flat = torch.full((2, 3, SIDE, SIDE), 3.0)
    assert resolution.noise_floor(flat, a, a).tolist() == pytest.approx([expected] * 2)
    assert least_error(flat[0, 0].double(), degradation) == pytest.approx(expected)


@every_degradation
def test_of_many_variances_it_is_close_to_the_exact_one_and_never_below(degradation):
    maps = variances()
    found = resolution.noise_floor(maps, matrix(degradation), matrix(degradation))
    excess = [one.item() / least_error(v, degradation) - 1 for one, v in zip(found, maps, strict=True)]
    assert all(-1e-12 < each < limit for each, limit in zip(excess, (0.005, 0.015, 0.08), strict=True)), excess


def test_a_linear_estimator_reaches_it_and_a_better_one_does_not_exist():
    degradation, a = Degradation(2, "bicubic"), matrix(Degradation(2, "bicubic"))
    generator = torch.Generator().manual_seed(1)
    truth = torch.rand(1, 1, SIDE, SIDE, generator=generator, dtype=torch.float64)
    variance = 0.01 * variances()[1:2]
    fine = truth + variance.sqrt() * torch.randn(2000, 1, SIDE, SIDE, generator=generator, dtype=torch.float64)
    inverse = torch.linalg.pinv(a)
    estimate = truth + inverse @ (degradation(fine) - degradation(truth)) @ inverse.T
    floor = resolution.noise_floor(variance, a, a).item()
    reached = mse(estimate, fine).mean().item()
    assert reached == pytest.approx(floor, rel=0.005)
    assert psnr(estimate, fine, 1.0).mean() == pytest.approx(psnr_of_mse(torch.tensor([floor]), 1.0).item(), abs=0.05)
    assert mse(truth.expand_as(fine), fine).mean() > 1.3 * floor, "the truth itself does not know the noise"
    for share in (0.9, 1.1):
        other = truth + share * (estimate - truth)
        assert mse(other, fine).mean() > reached


def test_the_community_pairs_have_their_floor_at_42_decibels():
    a = Degradation(2, "bicubic").along(75)
    floor = psnr_of_mse(resolution.noise_floor(7.7e-5, a, a), 1.0)
    assert floor.item() == pytest.approx(-10 * math.log10(0.75 * 7.7e-5), abs=1e-9)


def test_what_a_wide_blur_removes_is_unseen_too():
    wide, narrow = (matrix(Degradation(2, "gaussian", blur), 64) for blur in (12.0, 0.5))
    assert resolution.unseen(narrow, narrow).mean().item() == pytest.approx(0.75)
    assert resolution.unseen(wide, wide).mean().item() > 0.9
    long = resolution.unseen(matrix(Degradation(2, "area"), 8), matrix(Degradation(2, "area"), 12))
    assert long.shape == (8, 12) and long == pytest.approx(torch.full((8, 12), 0.75), abs=1e-12)


def test_redegradation_of_the_truth_is_one_and_of_the_observation_zero():
    generator = torch.Generator().manual_seed(2)
    truth, variance = torch.rand(2, 4, 2, 40, 40, generator=generator)
    low = truth + (variance + 0.1).sqrt() * torch.randn(truth.shape, generator=generator)
    found = resolution.redegradation_chi_square(low, truth, variance + 0.1)
    assert found.tolist() == pytest.approx([1.0] * 4, abs=5 * math.sqrt(2 / 3200))
    assert resolution.redegradation_chi_square(low, low, variance + 0.1).tolist() == [0.0] * 4
    assert resolution.redegradation_chi_square(low, truth, 4 * (variance + 0.1)).tolist() == pytest.approx(
        (found / 4).tolist()
    )


def test_masked_pixels_do_not_count():
    low = torch.tensor([[[[2.0, 100.0], [0.0, 0.0]]]]).repeat(2, 1, 1, 1)
    variance = torch.tensor([[[[2.0, 0.0], [1.0, 1.0]]]]).repeat(2, 1, 1, 1)
    mask = torch.tensor([[[[True, False], [True, False]]], [[[False, False], [False, False]]]])
    found = resolution.redegradation_chi_square(low, torch.zeros_like(low), variance, mask)
    assert found[0] == 1.0 and found[1].isnan()
    with pytest.raises(InvalidOption, match="2 variances"):
        resolution.redegradation_chi_square(low, low, variance)
    low[0, 0, 0, 1] = math.nan
    assert resolution.redegradation_chi_square(low, torch.zeros_like(low), variance, mask)[0] == 1.0


def test_honest_errors_are_covered_as_often_as_they_say():
    generator = torch.Generator().manual_seed(3)
    truth, sigma = torch.rand(2, 2, 1, 100, 100, generator=generator)
    estimate = truth + sigma * torch.randn(truth.shape, generator=generator)
    for k in (1.0, 2.0):
        expected = norm.cdf(k) - norm.cdf(-k)
        assert resolution.nominal_coverage(k) == pytest.approx(expected)
        assert resolution.coverage(estimate, truth, sigma, k).tolist() == pytest.approx([expected] * 2, abs=0.02)
    assert (resolution.coverage(estimate, truth, sigma / 2) < 0.4).all(), "errors that are claimed too small"
    assert resolution.nominal_coverage(1.0) == pytest.approx(0.6827, abs=1e-4)


@given(st.floats(0, 3), st.floats(0, 3))
def test_wider_intervals_cover_more(k, more):
    generator = torch.Generator().manual_seed(4)
    estimate, truth, sigma = torch.rand(3, 2, 1, 6, 6, generator=generator)
    assert (
        resolution.coverage(estimate, truth, sigma, k + more) >= resolution.coverage(estimate, truth, sigma, k)
    ).all()
    assert resolution.coverage(truth, truth, 0 * sigma, k).tolist() == [1.0, 1.0]


def test_a_lost_pixel_is_not_covered():
    truth = torch.zeros(1, 1, 2, 2)
    sigma = torch.tensor([[[[1.0, math.nan], [1.0, 1.0]]]])
    assert resolution.coverage(truth, truth, sigma).item() == 0.75


def test_other_shapes_are_refused():
    one, other = torch.ones(1, 1, 4, 4), torch.ones(1, 1, 1, 1)
    with pytest.raises(REFUSED):
        resolution.coverage(one, one, other)
    with pytest.raises(REFUSED):
        resolution.redegradation_chi_square(one, one, other)
    a = Degradation(2, "area").along(4)
    with pytest.raises(REFUSED, match=r"\[8, 8\] fine pixels|noise_floor"):
        resolution.noise_floor(one, a, a)

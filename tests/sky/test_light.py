"""The Sérsic profile."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import gammaincinv

from deeplense.sky.light import MIN_RADIUS, Sersic, b_n, sersic_flux


def at(profile: Sersic, x: float, y: float) -> float:
    """Return the brightness at one point."""
    return profile.surface_brightness(*(torch.tensor([[v]], dtype=torch.float64) for v in (x, y))).item()


@pytest.mark.parametrize("n_sersic", [0.5, 1.0, 4.0])
def test_brightness_at_the_half_light_radius_is_the_amplitude(n_sersic: float) -> None:
    round_source = Sersic(3.0, 0.4, n_sersic, center_x=0.1, center_y=-0.2)
    assert at(round_source, 0.1 + 0.4, -0.2) == pytest.approx(3.0, rel=1e-14)
    assert at(round_source, 0.1, -0.2 - 0.4) == pytest.approx(3.0, rel=1e-14)


def test_one_value_by_hand() -> None:
    # u = ((1 − e1) dx − e2 dy) / N, v = ((1 + e1) dy − e2 dx) / N, N² = 1 − e1² − e2²
    e1, e2, dx, dy = -0.1, 0.1, 0.3, -0.15
    norm = math.sqrt(1 - e1**2 - e2**2)
    radius = math.hypot((1 - e1) * dx - e2 * dy, (1 + e1) * dy - e2 * dx) / norm
    expected = 20 * math.exp(-(1.9992 - 0.3271) * (radius / 0.25 - 1))
    assert at(Sersic(20.0, 0.25, 1.0, e1, e2), dx, dy) == pytest.approx(expected, rel=1e-14)


def test_the_major_axis_lies_along_positive_e1() -> None:
    flat = Sersic(1.0, 0.5, 1.0, e1=0.3)
    assert at(flat, 0.5, 0.0) > at(flat, 0.0, 0.5)
    tilted = Sersic(1.0, 0.5, 1.0, e2=0.3)
    assert at(tilted, 0.4, 0.4) > at(tilted, 0.4, -0.4)


def test_the_centre_is_flat_and_has_finite_gradients() -> None:
    assert at(Sersic(1.0, 0.25, 4.0), 0.0, 0.0) == at(Sersic(1.0, 0.25, 4.0), 0.6 * MIN_RADIUS, 0.0)
    for dtype in (torch.float32, torch.float64):
        x = torch.zeros(1, 1, dtype=dtype, requires_grad=True)
        shape = [torch.tensor(value, dtype=dtype, requires_grad=True) for value in (1.0, 0.25, 4.0, 0.0, 0.0)]
        brightness = Sersic(*shape).surface_brightness(x, x)
        assert all(torch.isfinite(grad).all() for grad in torch.autograd.grad(brightness.sum(), [x, *shape]))


@pytest.mark.parametrize("n_sersic", [0.5, 1.0, 2.5, 4.0])
@pytest.mark.parametrize("e", [(0.0, 0.0), (0.3, -0.2)])
def test_total_flux_is_the_integral(n_sersic: float, e: tuple[float, float]) -> None:
    # polar grid: Gauss-Legendre in log R, trapezium in angle; the flat core costs a de Vaucouleurs profile 1.4e-4
    nodes, weights = np.polynomial.legendre.leggauss(400)
    low, high = math.log(1e-4), math.log(1e4)
    radius = np.exp(low + (high - low) * (nodes + 1) / 2)
    angle = np.linspace(0, 2 * np.pi, 128, endpoint=False)
    x, y = (torch.from_numpy(f(angle)[:, None] * radius) for f in (np.cos, np.sin))
    brightness = Sersic(1.0, 0.3, n_sersic, *e).surface_brightness(x, y).numpy()
    integral = 2 * np.pi * (brightness.mean(0) * radius**2 * weights).sum() * (high - low) / 2
    assert sersic_flux(0.3, n_sersic) == pytest.approx(integral, rel=2e-4 if n_sersic > 2 else 1e-6)


@pytest.mark.parametrize(("n_sersic", "error"), [(0.5, 0.021), (1.0, 0.007), (2.0, 1e-3), (4.0, 1e-3), (10.0, 3e-3)])
def test_b_n_is_as_good_as_it_says(n_sersic: float, error: float) -> None:
    assert b_n(n_sersic) == pytest.approx(gammaincinv(2 * n_sersic, 0.5), abs=error)

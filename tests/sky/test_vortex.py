"""The axion vortex: its closed form against the sum it stands for."""

from __future__ import annotations

import math

import pytest
import torch

from deeplense.sky.mass import PointMasses
from deeplense.sky.vortex import Vortex

AXIS = torch.linspace(-3.7, 3.7, 75, dtype=torch.float64)
GRID = (AXIS[None, :] + 0.00437, AXIS[:, None] - 0.00791)  # no point on a bead


def beads(vortex: Vortex) -> PointMasses:
    """Return the same vortex as single point masses."""
    half_length, along_x, along_y = (
        part.double().flatten()[:, None] for part in (vortex.half_length, vortex.direction_x, vortex.direction_y)
    )
    steps = torch.linspace(-1, 1, vortex.n_beads, dtype=torch.float64)
    line = half_length * steps
    theta_E = torch.full_like(line, float(vortex.theta_E) / math.sqrt(vortex.n_beads))
    return PointMasses(theta_E, float(vortex.center_x) + along_x * line, float(vortex.center_y) + along_y * line)


def vortex(half_length: float, angle: float, dtype: torch.dtype = torch.float64, **others: float) -> Vortex:
    """Return a vortex of one image."""
    length, direction = (torch.full((1, 1, 1, 1), value, dtype=dtype) for value in (half_length, angle))
    return Vortex(0.22, length, torch.cos(direction), torch.sin(direction), **others)  # type: ignore[arg-type]


def largest_difference(one: Vortex, x: torch.Tensor, y: torch.Tensor) -> float:
    """Return the largest difference to the sum of beads, relative to the largest deflection."""
    closed = torch.complex(*(part.double() for part in one.deflection(x, y)))
    explicit = torch.complex(*beads(one).deflection(x.double(), y.double()))
    return float((closed - explicit).abs().max() / explicit.abs().max())


@pytest.mark.parametrize("half_length", [0.03, 0.1, 0.5, 1.7, 3.0])
@pytest.mark.parametrize("angle", [0.0, 0.1, math.pi / 2, 2.0, -3.1])
def test_closed_form_is_the_sum_of_a_hundred_beads(half_length: float, angle: float) -> None:
    assert largest_difference(vortex(half_length, angle), *GRID) < 1e-12
    # in float32 the distance to the nearest bead is known to 1e-7 of the length of the line
    single = vortex(half_length, angle, torch.float32)
    assert largest_difference(single, *(axis.float() for axis in GRID)) < 1e-4


@pytest.mark.parametrize("n_beads", [2, 3, 10, 101])
def test_any_number_of_beads_and_any_centre(n_beads: int) -> None:
    one = vortex(0.8, 0.6, center_x=0.3, center_y=-0.2, n_beads=n_beads)
    assert largest_difference(one, *GRID) < 1e-12


def test_points_on_the_line_between_and_beyond_the_beads() -> None:
    one = vortex(1.0, 0.0)
    spacing = 2 / 99
    x = torch.tensor([[-3.0, -1.001, 0.0, spacing / 4, 7 * spacing, 0.999, 1.002, 2.5]], dtype=torch.float64)
    assert largest_difference(one, x, torch.zeros(1, 1, dtype=torch.float64)) < 1e-12


def test_far_away_it_is_one_point_mass() -> None:
    x, y = torch.tensor([[500.0]], dtype=torch.float64), torch.tensor([[-300.0]], dtype=torch.float64)
    alpha_x, alpha_y = vortex(0.5, 1.0).deflection(x, y)
    monopole = 0.22**2 / (500.0**2 + 300.0**2)
    assert alpha_x.item() == pytest.approx(500 * monopole, rel=1e-5)
    assert alpha_y.item() == pytest.approx(-300 * monopole, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_is_finite_on_a_bead_and_far_from_a_short_line(dtype: torch.dtype) -> None:
    x = torch.tensor([[1.0, 1.0 / 99, 0.0, 60.0, -60.0]], dtype=dtype)
    for half_length in (1.0, 0.003):
        alpha = vortex(half_length, 0.0, dtype).deflection(x, torch.zeros(1, 1, dtype=dtype))
        assert all(torch.isfinite(part).all() for part in alpha)


def test_gradients_on_the_line_are_those_of_the_beads() -> None:
    # where Im w = 0 a formula in |Im w| would lose its derivative
    one = vortex(1.0, 0.0)
    spacing = 2 / 99
    points = [torch.tensor([[0.3 * spacing, 0.9991, 1.4]], dtype=torch.float64), torch.zeros(1, 3, dtype=torch.float64)]
    for axis in (0, 1):
        gradients = []
        for profile in (one, beads(one)):
            leaves = [point.clone().requires_grad_() for point in points]
            (gradient,) = torch.autograd.grad(sum(part.sum() for part in profile.deflection(*leaves)), leaves[axis])
            gradients.append(gradient)
        torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-9)

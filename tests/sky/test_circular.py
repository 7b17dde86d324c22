"""Points, isothermal spheres and sheets."""

from __future__ import annotations

import pytest
import torch

from deeplense.sky.circular import SIS, ConvergenceSheet, PointMass
from deeplense.sky.mass import SIE

X, Y = 6 * torch.rand(2, 1, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 3


def test_a_point_mass_deflects_as_the_inverse_of_the_distance() -> None:
    z = torch.complex(X, Y) - (0.3 - 0.1j)
    alpha = torch.complex(*PointMass(0.7, 0.3, -0.1).deflection(X, Y))
    torch.testing.assert_close(alpha, 0.49 / z.conj(), rtol=1e-13, atol=0)
    assert not PointMass(0.7).convergence(X, Y).any()


def test_an_isothermal_sphere_is_a_round_ellipsoid() -> None:
    torch.testing.assert_close(SIS(1.2, 0.1, 0.2).deflection(X, Y), SIE(1.2, 0.0, 0.0, 0.1, 0.2).deflection(X, Y))
    torch.testing.assert_close(SIS(1.2, 0.1, 0.2).convergence(X, Y), SIE(1.2, 0.0, 0.0, 0.1, 0.2).convergence(X, Y))


def test_a_sheet_stretches_about_the_origin() -> None:
    axis = torch.linspace(-1, 1, 5)
    alpha_x, alpha_y = ConvergenceSheet(-0.1).deflection(axis[None, :], axis[:, None])
    assert alpha_x.shape == alpha_y.shape == (5, 5)
    torch.testing.assert_close(alpha_x, -0.1 * axis[None, :].expand(5, 5))
    torch.testing.assert_close(alpha_y, -0.1 * axis[:, None].expand(5, 5))
    assert ConvergenceSheet(torch.full((3, 1, 1, 1), 0.2)).convergence(axis[None, :], axis[:, None]).shape == (
        3,
        1,
        5,
        5,
    )


@pytest.mark.parametrize("profile", [PointMass, SIS])
def test_one_parameter_per_image_gives_one_image_each(profile: type[PointMass] | type[SIS]) -> None:
    theta_E = torch.tensor([0.0, 0.5, 1.0]).reshape(3, 1, 1, 1).requires_grad_()
    axis = torch.linspace(-1, 1, 5)
    alpha_x, alpha_y = profile(theta_E).deflection(axis[None, :], axis[:, None])
    assert alpha_x.shape == alpha_y.shape == (3, 1, 5, 5)
    assert not alpha_x[0].any(), "no mass, no deflection"
    (gradient,) = torch.autograd.grad((alpha_x**2 + alpha_y).sum(), theta_E)
    assert torch.isfinite(gradient).all()

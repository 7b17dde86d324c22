"""Sums of haloes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deeplense.sky.circular import SIS, PointMass
from deeplense.sky.mass import MassProfile
from deeplense.sky.nfw import NFW, TNFW
from deeplense.sky.subhaloes import Subhaloes

AXIS = torch.linspace(-2, 2, 9, dtype=torch.float64)
X, Y = AXIS[None, :], AXIS[:, None]
GENERATOR = torch.Generator().manual_seed(0)
NAMES: dict[type[MassProfile], tuple[str, ...]] = {
    PointMass: ("theta_E",),
    SIS: ("theta_E",),
    NFW: ("Rs", "alpha_Rs"),
    TNFW: ("Rs", "alpha_Rs", "r_trunc"),
}


def columns(profile: type[MassProfile], images: int = 3, n: int = 4) -> dict[str, Tensor]:
    """Return random parameters, [images, n] each."""
    names = (*NAMES[profile], "center_x", "center_y")
    return {name: 0.1 + torch.rand(images, n, generator=GENERATOR, dtype=torch.float64) for name in names}


@pytest.mark.parametrize("profile", NAMES)
def test_the_sum_is_the_sum(profile: type[MassProfile]) -> None:
    parameters = columns(profile)
    total = Subhaloes(profile, parameters)
    alpha_x, alpha_y = total.deflection(X, Y)
    kappa = total.convergence(X, Y)
    assert alpha_x.shape == alpha_y.shape == kappa.shape == (3, 1, 9, 9)
    for image in range(3):
        ones = [profile(**{name: float(v[image, k]) for name, v in parameters.items()}) for k in range(4)]
        torch.testing.assert_close(alpha_x[image, 0], sum(one.deflection(X, Y)[0] for one in ones))
        torch.testing.assert_close(alpha_y[image, 0], sum(one.deflection(X, Y)[1] for one in ones))
        torch.testing.assert_close(kappa[image, 0], sum(one.convergence(X, Y) for one in ones))


@pytest.mark.parametrize("profile", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_halo_without_strength_adds_nothing_and_no_nan(profile: type[MassProfile], dtype: torch.dtype) -> None:
    full = {name: value.to(dtype) for name, value in columns(profile, images=2, n=3).items()}
    strength = "theta_E" if "theta_E" in full else "alpha_Rs"
    empty = {name: torch.zeros_like(v) if name.startswith("center") else torch.ones_like(v) for name, v in full.items()}
    empty[strength] = torch.zeros_like(empty[strength])
    both = {name: torch.cat([value, empty[name]], 1).requires_grad_() for name, value in full.items()}
    x, y = X.to(dtype), Y.to(dtype)  # the empty ones sit on the pixel in the middle
    padded, plain = Subhaloes(profile, both), Subhaloes(profile, full)
    for value, expected in zip(padded.deflection(x, y), plain.deflection(x, y), strict=True):
        assert torch.equal(value, expected)
    assert torch.equal(padded.convergence(x, y), plain.convergence(x, y))
    loss = sum((value**2).sum() for value in (*padded.deflection(x, y), padded.convergence(x, y)))
    gradients = torch.autograd.grad(loss, list(both.values()))
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_no_halo_deflects_nothing() -> None:
    none = torch.zeros(2, 0)
    lens = Subhaloes(SIS, {"theta_E": none, "center_x": none, "center_y": none})
    alpha_x, alpha_y = lens.deflection(X, Y)
    assert alpha_x.shape == alpha_y.shape == lens.convergence(X, Y).shape == (2, 1, 9, 9)
    assert not alpha_x.any()

"""NFW haloes against their printed formulas in many digits, and against the integral of their density."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from deeplense.sky.nfw import NFW, TNFW

mpmath = pytest.importorskip("mpmath")
mpmath.mp.dps = 60
mpf = mpmath.mpf
SPECIAL = (0.7, 0.7072, 0.866, 0.99, 0.995, 0.999, 0.9999999, 1, 1.0000001, 1.001, 1.005, 1.118, 1.41, 1.4143)
RADII = np.unique(np.concatenate([np.logspace(-4, 3, 29), SPECIAL])).astype(np.float32)
Number = Callable[..., "mpf"]


def arc(x: mpf) -> mpf:
    """Return F(x): artanh or arctan, as it is printed."""
    if x == 1:
        return mpf(1)
    return mpmath.acosh(1 / x) / mpmath.sqrt(1 - x * x) if x < 1 else mpmath.acos(1 / x) / mpmath.sqrt(x * x - 1)


def nfw_deflection(x: mpf) -> mpf:
    """Return α / α_Rs (Wright & Brainerd 2000, eq. 13)."""
    return (mpmath.log(x / 2) + arc(x)) / x / (1 - mpmath.log(2))


def nfw_convergence(x: mpf) -> mpf:
    """Return κ Rs / α_Rs (Wright & Brainerd 2000, eq. 11)."""
    value = mpf(1) / 3 if x == 1 else (1 - arc(x)) / (x * x - 1)
    return value / (2 * (1 - mpmath.log(2)))


def tnfw_deflection(x: mpf, tau: mpf) -> mpf:
    """Return α / α_Rs (Baltz, Marshall & Oguri 2009, appendix A)."""
    t2, s = tau * tau, mpmath.sqrt(tau * tau + x * x)
    shape = (t2 + 1 + 2 * (x * x - 1)) * arc(x) + tau * mpmath.pi + (t2 - 1) * mpmath.log(tau)
    shape += s * (-mpmath.pi + (t2 - 1) / tau * mpmath.log(x / (s + tau)))
    return t2 / (t2 + 1) ** 2 * shape / x / (1 - mpmath.log(2))


def tnfw_convergence(x: mpf, tau: mpf) -> mpf:
    """Return κ Rs / α_Rs (Baltz, Marshall & Oguri 2009, appendix A)."""
    t2, s = tau * tau, mpmath.sqrt(tau * tau + x * x)
    shape = (t2 + 1) * (mpf(1) / 3 if x == 1 else (1 - arc(x)) / (x * x - 1)) + 2 * arc(x) - mpmath.pi / s
    shape += (t2 - 1) / (tau * s) * mpmath.log(x / (s + tau))
    return t2 / (t2 + 1) ** 2 * shape / (2 * (1 - mpmath.log(2)))


def largest_error(values: torch.Tensor, exact: Number, *parameters: mpf) -> float:
    """Return the largest relative error of values at RADII."""
    truth = [exact(mpf(float(x)), *parameters) for x in RADII]
    return max(float(abs(mpf(v) / t - 1)) for v, t in zip(values.flatten().tolist(), truth, strict=True))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-14), (torch.float32, 1e-6)])
def test_nfw(dtype: torch.dtype, tolerance: float) -> None:
    x = torch.from_numpy(RADII).to(dtype)[None]
    halo = NFW(1.0, 1.0)
    assert largest_error(halo.deflection(x, 0 * x)[0], nfw_deflection) < tolerance
    assert largest_error(halo.convergence(0 * x, x), nfw_convergence) < tolerance


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 2e-14), (torch.float32, 1e-5)])
@pytest.mark.parametrize("r_trunc", [0.01, 0.25, 1.0, 1.5, 10.0, 300.0, 1e6])
def test_tnfw(dtype: torch.dtype, tolerance: float, r_trunc: float) -> None:
    x = torch.from_numpy(RADII).to(dtype)[None]
    tau = torch.tensor(r_trunc, dtype=dtype)
    halo, exact = TNFW(1.0, 1.0, tau), mpf(tau.item())
    assert largest_error(halo.deflection(x, 0 * x)[0], tnfw_deflection, exact) < tolerance
    assert largest_error(halo.convergence(0 * x, x), tnfw_convergence, exact) < tolerance


@pytest.mark.parametrize("radius", [0.05, 0.4, 1.0, 3.0])
@pytest.mark.parametrize("r_trunc", [0.5, 2.0, math.inf])
def test_the_convergence_is_the_projected_density(radius: float, r_trunc: float) -> None:
    Rs, alpha_Rs = 0.4, 0.3
    rho = alpha_Rs / (4 * Rs**2 * (1 - math.log(2)))  # ρ_s / Σ_cr in angles

    def density(z: float) -> float:
        r = math.hypot(radius, z)
        return rho / (r / Rs * (1 + r / Rs) ** 2) / (1 + (r / r_trunc) ** 2)

    projected = 2 * (quad(density, 0, 1, epsabs=1e-13)[0] + quad(density, 1, math.inf, epsabs=1e-13)[0])
    halo = NFW(Rs, alpha_Rs) if math.isinf(r_trunc) else TNFW(Rs, alpha_Rs, r_trunc)
    x, y = (torch.tensor([[value]], dtype=torch.float64) for value in (0.6 * radius, -0.8 * radius))
    assert halo.convergence(x, y).item() == pytest.approx(projected, rel=1e-9)


def test_the_deflection_at_the_scale_radius_is_alpha_Rs() -> None:
    x, zero = torch.tensor([[0.4]], dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    assert NFW(0.4, 0.3).deflection(x, zero)[0].item() == pytest.approx(0.3, rel=1e-14)
    assert TNFW(0.4, 0.3, 0.5).deflection(x, zero)[0].item() < 0.25, "a truncated halo has lost mass"

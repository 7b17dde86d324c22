"""The elliptical power law against the hypergeometric function."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import hyp2f1

from deeplense.sky.power_law import EPL

RNG = np.random.default_rng(0)
X, Y, ANGLE = RNG.uniform(-3, 3, 500), RNG.uniform(-3, 3, 500), RNG.uniform(0, np.pi, 500)


@pytest.mark.parametrize("slope", [1.2, 1.7, 2.0, 2.4, 2.8])
@pytest.mark.parametrize(
    ("modulus", "double", "single"),
    [(0.0, 1e-14, 2e-6), (1e-6, 1e-14, 2e-6), (0.3, 1e-14, 2e-6), (0.6, 1e-14, 2e-6), (0.7, 1e-11, 1e-5),
     (0.8, 1e-7, 1e-3)],
)  # fmt: skip
def test_the_series_is_as_good_as_it_says(slope: float, modulus: float, double: float, single: float) -> None:
    for dtype, tolerance in ((torch.float64, double), (torch.float32, single)):
        numbers = (X, Y, modulus * np.cos(2 * ANGLE), modulus * np.sin(2 * ANGLE), np.array(slope))
        x, y, e1, e2, gamma = (torch.from_numpy(values).to(dtype) for values in numbers)
        result = torch.complex(*EPL(1.2, gamma, e1, e2).deflection(x, y)).numpy()
        z, e = (torch.complex(a.double(), b.double()).numpy() for a, b in ((x, y), (e1, e2)))
        t, w = gamma.item() - 1, z - e * z.conj()
        angular = hyp2f1(1, t / 2, 2 - t / 2, -e.conj() * w / w.conj())
        exact = w * (1.2 * np.sqrt(1 - np.abs(e) ** 2) / np.abs(w)) ** t * angular
        assert (np.abs(result - exact) / np.abs(exact)).max() < tolerance, dtype


def test_the_einstein_radius_bounds_the_same_area_at_any_ellipticity() -> None:
    # in the frame of the axes κ = (3 − γ)/2 (θ_E / √(q x² + y²/q))^(γ−1)
    q, theta_E, slope = 0.5, 1.3, 2.2
    e1 = (1 - q) / (1 + q)
    x, y = (torch.tensor(values, dtype=torch.float64) for values in (X, Y))
    kappa = (3 - slope) / 2 * (theta_E / torch.sqrt(q * x**2 + y**2 / q)) ** (slope - 1)
    torch.testing.assert_close(EPL(theta_E, slope, e1).convergence(x, y), kappa, rtol=1e-13, atol=0)
    turned = EPL(theta_E, slope, 0.0, e1).convergence((x - y) / 2**0.5, (x + y) / 2**0.5)
    torch.testing.assert_close(turned, kappa, rtol=1e-13, atol=0)

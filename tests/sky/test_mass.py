"""Mass profiles against their formulas, written once more in another way."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

from deeplense.sky.circular import SIS, PointMass
from deeplense.sky.ellipticity import ellipticity
from deeplense.sky.mass import SIE, PointMasses, Shear, Tabulated, split_columns
from deeplense.sky.subhaloes import Subhaloes
from deeplense.sky.vortex import Vortex

RNG = np.random.default_rng(0)
X, Y = (torch.from_numpy(values) for values in RNG.uniform(-3, 3, (2, 1, 500)))


def sie_by_rotation(theta_E: float, q: float, phi: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the deflection of an SIE as it is printed: in the frame of the axes, with arctan and artanh."""
    x = math.cos(phi) * X.numpy() + math.sin(phi) * Y.numpy()
    y = math.cos(phi) * Y.numpy() - math.sin(phi) * X.numpy()
    g, psi = math.sqrt(1 - q * q), np.sqrt(q * q * x**2 + y**2)
    along = theta_E * math.sqrt(q) / g * np.arctan(g * x / psi)
    across = theta_E * math.sqrt(q) / g * np.arctanh(g * y / psi)
    return math.cos(phi) * along - math.sin(phi) * across, math.sin(phi) * along + math.cos(phi) * across


@pytest.mark.parametrize("q", [0.999, 0.99, 0.9, 0.7, 0.4, 0.1, 0.02])
@pytest.mark.parametrize("phi", [0.0, 0.5, math.pi / 2, 2.5])
def test_sie_is_the_printed_formula(q: float, phi: float) -> None:
    reference = sie_by_rotation(1.3, q, phi)
    e1, e2 = (float(e) for e in ellipticity(q, phi))
    for dtype, tolerance in ((torch.float64, 1e-13 / q), (torch.float32, 1e-6 / math.sqrt(q))):
        result = SIE(1.3, e1, e2).deflection(X.to(dtype), Y.to(dtype))
        error = max(np.abs(a.numpy() - b).max() for a, b in zip(result, reference, strict=True))
        assert result[0].dtype == dtype
        assert error < tolerance, f"{dtype}: {error:.2e} arcsec"


@pytest.mark.parametrize("modulus", [0.0, 1e-12, 1e-6, 1e-4, 2e-3, 3e-3, 5e-3])
def test_sie_goes_smoothly_to_the_sphere(modulus: float) -> None:
    # the change over e is the same at half the ellipticity: no jump where the series takes over
    sphere = torch.complex(X, Y) / torch.hypot(X, Y)
    alpha = torch.complex(*SIE(1.0, modulus, 0.0).deflection(X, Y))
    assert (alpha - sphere).abs().max() <= 1.01 * modulus + 1e-15, "further from the sphere than its ellipticity allows"
    half = torch.complex(*SIE(1.0, modulus / 2, 0.0).deflection(X, Y))
    assert ((alpha - sphere) - 2 * (half - sphere)).abs().max() < 2 * modulus**2 + 3e-15


def test_einstein_radius_bounds_the_same_area_at_any_ellipticity() -> None:
    # the mean of κ over an ellipse ψ ≤ const of area π θ_E² is 1 in this normalisation: ∮ α·n / (2 area)
    theta_E, q, phi = 1.2, 0.6, 0.7
    angle = torch.linspace(0, 2 * math.pi, 4001, dtype=torch.float64)[:-1]
    major, minor = theta_E / math.sqrt(q) * torch.cos(angle), theta_E * math.sqrt(q) * torch.sin(angle)
    x, y = math.cos(phi) * major - math.sin(phi) * minor, math.sin(phi) * major + math.cos(phi) * minor
    e1, e2 = (float(e) for e in ellipticity(q, phi))
    alpha_x, alpha_y = SIE(theta_E, e1, e2).deflection(x[None], y[None])
    dx, dy = (torch.roll(values, -1) - torch.roll(values, 1) for values in (x, y))
    flux = float((alpha_x[0] * dy - alpha_y[0] * dx).sum() / 2)
    assert flux / (2 * math.pi * theta_E**2) == pytest.approx(1, abs=1e-5)


def test_sie_moves_with_its_centre() -> None:
    here = SIE(1.1, 0.2, -0.1, 0.3, -0.4).deflection(X, Y)
    there = SIE(1.1, 0.2, -0.1).deflection(X - 0.3, Y + 0.4)
    torch.testing.assert_close(here, there, rtol=0, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("modulus", [0.0, 0.1, 0.99, 2.0])
def test_sie_is_finite_at_its_centre_with_its_gradients(dtype: torch.dtype, modulus: float) -> None:
    zero = torch.zeros(1, 1, dtype=dtype)
    parameters = [torch.tensor(v, dtype=dtype, requires_grad=True) for v in (1.2, 0.6 * modulus, 0.8 * modulus)]
    alpha_x, alpha_y = SIE(*parameters).deflection(zero, zero)
    assert alpha_x.item() == alpha_y.item() == 0
    gradients = torch.autograd.grad((alpha_x + alpha_y).sum(), parameters)
    assert all(torch.isfinite(gradient).all() for gradient in gradients), gradients


def test_shear_is_linear() -> None:
    alpha_x, alpha_y = Shear(0.03, -0.07).deflection(X, Y)
    torch.testing.assert_close(alpha_x, 0.03 * X - 0.07 * Y)
    torch.testing.assert_close(alpha_y, -0.07 * X - 0.03 * Y)


def test_point_masses_add_up_image_by_image() -> None:
    theta_E, cx, cy = (torch.from_numpy(RNG.uniform(0.1, 1, (3, 4))) for _ in range(3))
    alpha_x, alpha_y = PointMasses(theta_E, cx, cy).deflection(X, Y)
    assert alpha_x.shape == (3, 1, 1, 500)
    for image in range(3):
        z = torch.complex(X, Y)
        masses = zip(theta_E[image], torch.complex(cx, cy)[image], strict=True)
        total = sum(mass**2 / (z - centre).conj() for mass, centre in masses)
        torch.testing.assert_close(torch.complex(alpha_x[image, 0], alpha_y[image, 0]), total, rtol=1e-12, atol=1e-12)


def test_no_point_mass_deflects_nothing() -> None:
    none = torch.zeros(2, 0, dtype=torch.float64)
    alpha_x, alpha_y = PointMasses(none, none, none).deflection(X, Y)
    assert alpha_x.shape == alpha_y.shape == (2, 1, 1, 500)
    assert not alpha_x.any()


def test_a_point_mass_on_a_pixel_is_finite() -> None:
    one = torch.ones(1, 1)
    alpha_x, alpha_y = PointMasses(one, 0 * one, 0 * one).deflection(torch.zeros(1, 1), torch.zeros(1, 1))
    assert alpha_x.item() == alpha_y.item() == 0


@pytest.mark.parametrize("n_masses", [26, 50, 60])
def test_blocks_of_point_masses_add_up_to_all_of_them(n_masses: int) -> None:
    points = PointMasses(*(torch.from_numpy(RNG.uniform(0.1, 1, (2, n_masses))) for _ in range(3)))
    blocks = points.blocks()
    assert blocks is not None
    assert {block.theta_E.shape for block in blocks if isinstance(block, PointMasses)} == {(2, 25)}
    parts = [block.deflection(X, Y) for block in blocks]
    for axis, whole in enumerate(points.deflection(X, Y)):
        torch.testing.assert_close(sum(part[axis] for part in parts), whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("n_masses", [0, 1, 25])
def test_few_point_masses_are_one_formula(n_masses: int) -> None:
    assert PointMasses(*(torch.ones(2, n_masses) for _ in range(3))).blocks() is None
    assert SIE(1.0).blocks() is None


@pytest.mark.parametrize(("n", "size", "blocks"), [(0, 5, 0), (1, 5, 1), (5, 5, 1), (6, 5, 2), (11, 5, 3)])
def test_columns_are_split_into_blocks_of_one_size(n: int, size: int, blocks: int) -> None:
    column = torch.arange(2.0 * n).reshape(2, n)
    parts = split_columns(column, size, -1.0)
    assert [part.shape for part in parts] == [(2, size)] * blocks
    if blocks:
        together = torch.cat(parts, 1)
        assert torch.equal(together[:, :n], column)
        assert (together[:, n:] == -1).all()


def test_a_table_gives_back_the_deflection_it_was_made_of() -> None:
    alpha = SIE(1.1, 0.2, -0.1).deflection(X, Y)
    table = Tabulated(*alpha)
    assert all(torch.equal(one, other) for one, other in zip(table.deflection(X, Y), alpha, strict=True))
    with pytest.raises(NotImplementedError, match="convergence"):
        table.convergence(X, Y)


def test_annotated_shapes_are_checked_while_tests_run() -> None:
    with pytest.raises(TypeCheckError):
        PointMasses(torch.zeros(2, 3), torch.zeros(2, 4), torch.zeros(2, 3))


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None, None, None]


POINT_LENSES = {
    "PointMass": PointMass(column(0.3, 0.4), column(0.1, -0.5), 0.2),
    "PointMasses": PointMasses(*torch.rand(3, 2, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))),
    "Vortex": Vortex(column(0.3, 0.3), column(0.7, 1.5), column(0.6, 1.0), column(0.8, 0.0), 0.1, -0.3, n_beads=11),
    "Subhaloes": Subhaloes(
        PointMass, {name: torch.full((2, 3), 0.2, dtype=torch.float64) for name in ("theta_E", "center_x", "center_y")}
    ),
}


@pytest.mark.parametrize("name", POINT_LENSES)
def test_the_points_of_a_lens_are_all_of_it(name: str) -> None:
    lens = POINT_LENSES[name]
    points = lens.points()
    assert points is not None
    same = PointMasses(torch.sqrt(points[0]), *points[1:])
    for wanted, found in zip(lens.deflection(X, Y), same.deflection(X, Y), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)


def test_extended_lenses_have_no_points() -> None:
    haloes = Subhaloes(SIS, {name: torch.ones(2, 3) for name in ("theta_E", "center_x", "center_y")})
    empty = Subhaloes(PointMass, {name: torch.ones(2, 0) for name in ("theta_E", "center_x", "center_y")})
    for lens in (SIE(1.0), Shear(0.1), SIS(1.0), haloes, empty):
        assert lens.points() is None

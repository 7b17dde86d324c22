"""The Sérsic profile."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import gammaincinv

from deeplense.sky.light import MIN_RADIUS, PixelSource, Ring, Sersic, Spiral, b_n, ring_flux, sersic_flux


def at(profile: Sersic | PixelSource | Spiral | Ring, x: float, y: float) -> float:
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


def pixel_sum(source: PixelSource | Spiral | Ring, half: float = 6.0, n: int = 1200) -> float:
    """Return the flux on a fine grid."""
    axis = (torch.arange(n, dtype=torch.float64) - (n - 1) / 2) * (2 * half / n)
    return source.surface_brightness(axis[None, :], axis[:, None]).sum().item() * (2 * half / n) ** 2


PICTURE = torch.rand(5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_a_picture_keeps_its_pixels_and_rows_are_y() -> None:
    source = PixelSource(PICTURE, 0.1, flux=2.0, center_x=0.3, center_y=-0.2)
    columns = 0.3 + (torch.arange(7) - 3.0).double() * 0.1
    rows = -0.2 + (torch.arange(5) - 2.0).double() * 0.1
    brightness = source.surface_brightness(columns[None, :], rows[:, None])
    torch.testing.assert_close(brightness, 2 * PICTURE / PICTURE.sum() / 0.01, rtol=1e-12, atol=1e-12)
    between = source.surface_brightness(columns[None, :1] + 0.05, rows[:1, None] + 0.05)
    assert between.item() == pytest.approx(brightness[:2, :2].mean().item(), rel=1e-12)


def test_a_picture_is_zero_outside() -> None:
    x = torch.tensor([[-4 * 0.1 - 1e-9, 4 * 0.1 + 1e-9, 50.0, -1e6]], dtype=torch.float64).requires_grad_()
    brightness = PixelSource(PICTURE, 0.1).surface_brightness(x, torch.zeros(1, 1, dtype=torch.float64))
    assert not brightness.any()
    (gradient,) = torch.autograd.grad(brightness.sum(), x)
    assert not gradient.any()


@pytest.mark.parametrize("angle", [0.0, 0.7])
def test_a_picture_conserves_flux(angle: float) -> None:
    # 0.02 arcsec samples of 0.5 arcsec pixels: a piecewise linear function, summed well
    assert pixel_sum(PixelSource(PICTURE, 0.5, 3.0, angle, 0.11, -0.07)) == pytest.approx(3.0, rel=2e-4)


def test_a_picture_turns_counter_clockwise() -> None:
    picture = torch.zeros(3, 3, dtype=torch.float64)
    picture[1, 2] = 1  # on the right
    assert at(PixelSource(picture, 1.0), 1.0, 0.0) == pytest.approx(1)
    turned = PixelSource(picture, 1.0, angle=math.pi / 2)
    assert at(turned, 0.0, 1.0) == pytest.approx(1)


def test_every_image_may_have_its_own_picture_and_bands() -> None:
    pictures = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(1))
    flux = torch.arange(1.0, 7.0).reshape(3, 2, 1, 1)  # three images, two bands
    center = torch.tensor([0.0, 0.1, -0.2]).reshape(3, 1, 1, 1)
    axis = torch.linspace(-0.5, 0.5, 11)
    together = PixelSource(pictures, 0.2, flux, 0.3, center, 0.0).surface_brightness(axis[None, :], axis[:, None])
    assert together.shape == (3, 2, 11, 11)
    assert together.dtype == torch.float32
    for image in range(3):
        one = PixelSource(pictures[image], 0.2, flux[image, 1].item(), 0.3, center[image].item(), 0.0)
        alone = one.surface_brightness(axis[None, :], axis[:, None])
        torch.testing.assert_close(together[image, 1], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("e", [(0.0, 0.0), (0.3, -0.2)])
def test_arms_carry_no_flux(e: tuple[float, float]) -> None:
    for contrast in (0.0, 0.9):
        spiral = Spiral(2.0, 0.4, *e, 0.05, -0.03, contrast, 0.35, 0.4)
        assert pixel_sum(spiral) == pytest.approx(2 * math.pi * 2.0 * 0.4**2, rel=2e-4)


def test_arms_are_logarithmic_spirals() -> None:
    # along ϑ = tan(pitch)⁻¹ ln R the arm stays at its crest; half a turn further it is there again, m = 2
    spiral, smooth = Spiral(1.0, 0.5, pitch=0.3, contrast=1.0), Spiral(1.0, 0.5, contrast=0.0)
    for radius in (0.4, 0.9, 1.7):
        azimuth = math.log(radius / 0.5) / math.tan(0.3)
        crest = 2 - math.exp(-((radius / 0.5) ** 2))
        for turn, expected in ((0.0, crest), (math.pi, crest), (math.pi / 2, 2 - crest)):
            x, y = radius * math.cos(azimuth + turn), radius * math.sin(azimuth + turn)
            assert at(spiral, x, y) / at(smooth, x, y) == pytest.approx(expected, rel=1e-4, abs=1e-4)
    assert at(spiral, 0.3, 0.1) >= 0


@pytest.mark.parametrize("e", [(0.0, 0.0), (0.3, -0.2)])
@pytest.mark.parametrize("width", [0.1, 0.5, 1.5])
def test_the_flux_of_a_ring(e: tuple[float, float], width: float) -> None:
    assert pixel_sum(Ring(3.0, 0.8, width, *e, 0.1, 0.2), half=12.0) == pytest.approx(
        3 * ring_flux(0.8, width), rel=1e-5
    )


def test_a_ring_is_brightest_on_its_ellipse() -> None:
    ring = Ring(3.0, 0.8, 0.1, e1=0.2)
    major, minor = 0.8 * math.sqrt(1.2 / 0.8), 0.8 * math.sqrt(0.8 / 1.2)
    assert at(ring, major, 0.0) == pytest.approx(3.0, rel=1e-12)
    assert at(ring, 0.0, -minor) == pytest.approx(3.0, rel=1e-12)


@pytest.mark.parametrize("kind", ["pixels", "spiral", "ring"])
def test_gradients_of_galaxies_are_true_and_finite_at_their_centre(kind: str) -> None:
    def brightness(x: torch.Tensor, y: torch.Tensor, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        if kind == "pixels":
            return PixelSource(PICTURE, 0.2 * a, b, c, 0.0, 0.0).surface_brightness(x, y)
        if kind == "spiral":
            return Spiral(b, 0.4 * a, 0.1 * c, 0.1 * a, pitch=0.3 * b).surface_brightness(x, y)
        return Ring(b, 0.4 * a, 0.2 * b, 0.1 * c, 0.1 * a).surface_brightness(x, y)

    generator = torch.Generator().manual_seed(2)
    x, y = (torch.rand(1, 6, generator=generator, dtype=torch.float64) - 0.5 for _ in range(2))
    shape = [torch.tensor(value, dtype=torch.float64) for value in (1.1, 0.9, 0.7)]
    inputs = [value.requires_grad_() for value in (x, y, *shape)]
    assert torch.autograd.gradcheck(brightness, inputs)
    for dtype in (torch.float32, torch.float64):
        zero = torch.zeros(1, 1, dtype=dtype, requires_grad=True)
        here = [zero, zero, *(value.detach().to(dtype).requires_grad_() for value in shape)]
        if kind != "pixels" or dtype == torch.float64:
            gradients = torch.autograd.grad(brightness(*here).sum(), here)
            assert all(torch.isfinite(gradient).all() for gradient in gradients)

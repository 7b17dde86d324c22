"""Photometry: known galaxies get their known magnitudes, sizes and shapes; no image feels its neighbours in a batch."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from deeplense.recipes.recipe import load_recipe
from deeplense.simulation.photometry import LANES, TOGETHER, Photometer

ONE = Photometer(("r",), 0.1, (25.0,), (0.01,), 101)
TWO = Photometer(("g", "r"), 0.2, (24.0, 25.0), (0.01, 0.02), 61)


def gaussian(
    camera: Photometer, flux: float, sigma: float, ratio: float = 1.0, angle: float = 0.0, shift: float = 0.0
) -> Tensor:
    """Return a Gaussian galaxy of a total flux; σ along its major axis, angle [deg], shift along x [arcsec]."""
    axis = (torch.arange(camera.side, dtype=torch.float64) - (camera.side - 1) / 2) * camera.pixel_scale
    y, x = torch.meshgrid(axis, axis - shift, indexing="ij")
    turn = math.radians(angle)
    along, across = x * math.cos(turn) + y * math.sin(turn), y * math.cos(turn) - x * math.sin(turn)
    light = torch.exp(-(along**2 + (across / ratio) ** 2) / (2 * sigma**2))
    return (flux * light / light.sum()).float()[None, None]


def test_a_known_galaxy_gets_its_known_numbers() -> None:
    sigma = 0.6
    found = {name: float(column) for name, column in ONE.measure(gaussian(ONE, 100.0, sigma)).items()}
    assert found["measured_mag_r"] == pytest.approx(20.0, abs=1e-3)
    inside = 1 - math.exp(-1 / (2 * sigma**2))
    assert found["measured_mag_central_r"] == pytest.approx(20 - 2.5 * math.log10(inside), abs=0.01)
    core = 100 * (1 - math.exp(-(0.5**2) / (2 * sigma**2))) / (math.pi * 0.25)
    assert found["measured_surface_brightness_r"] == pytest.approx(25 - 2.5 * math.log10(core), abs=0.02)
    assert found["measured_radius"] == pytest.approx(1.17741 * sigma, abs=0.01)
    assert found["measured_concentration"] == pytest.approx(2.5 * math.log10(math.log(0.2) / math.log(0.8)), abs=0.03)
    assert found["measured_axis_ratio"] == pytest.approx(1.0, abs=1e-3) and found["measured_offset"] < 1e-6
    n = sum(1 for a in range(-40, 41) for b in range(-40, 41) if a * a + b * b <= 1600)
    assert found["measured_mag_err_r"] == pytest.approx(2.5 / math.log(10) * 0.01 * math.sqrt(n) / 100, rel=1e-3)


@pytest.mark.parametrize("angle", [-60.0, 0.0, 25.0, 80.0])
def test_shape_follows_the_galaxy(angle: float) -> None:
    found = ONE.measure(gaussian(ONE, 10.0, 0.5, 0.5, angle, shift=0.3))
    assert float(found["measured_position_angle"]) == pytest.approx(angle, abs=0.5)
    assert 0.5 < float(found["measured_axis_ratio"]) < 0.65  # the round window makes it rounder
    assert 0.15 < float(found["measured_offset"]) < 0.31


def test_colours_are_differences_of_magnitudes() -> None:
    image = torch.cat([gaussian(TWO, 1.0, 0.7), gaussian(TWO, 10.0, 0.7)], dim=1)
    found = TWO.measure(image)
    assert tuple(found) == TWO.columns
    for kind in ("color", "color_central"):
        assert float(found[f"measured_{kind}_g_r"]) == pytest.approx(24 - 25 + 2.5, abs=1e-3)


def test_what_cannot_be_measured_is_nan() -> None:
    found = TWO.measure(torch.cat([-gaussian(TWO, 1.0, 0.7), gaussian(TWO, 10.0, 0.7)], dim=1))
    assert found["measured_mag_g"].isnan() and found["measured_color_g_r"].isnan()
    assert not found["measured_mag_r"].isnan()
    nothing = TWO.measure(torch.zeros(1, 2, 61, 61))
    assert all(column.isnan() for column in nothing.values())


@given(seed=st.integers(0, 99), n=st.integers(1, TOGETHER + LANES + 3))
def test_an_image_is_measured_alone(seed: int, n: int) -> None:
    images = torch.randn(n, 2, 61, 61, generator=torch.Generator().manual_seed(seed)) + 0.1
    together, last = TWO.measure(images), TWO.measure(images[-1:])
    for name, column in together.items():
        assert column.shape == (n,)
        assert torch.equal(column[-1:].nan_to_num(), last[name].nan_to_num()), name


def test_the_camera_is_that_of_the_recipe() -> None:
    recipe = load_recipe("lens_finding_4band")
    camera = Photometer.of(recipe)
    assert camera.bands == ("u", "g", "r", "i") and camera.side == 101 and camera.pixel_scale == 0.2
    assert camera.zero_points == pytest.approx([one.zero_point for one in recipe.instruments()])

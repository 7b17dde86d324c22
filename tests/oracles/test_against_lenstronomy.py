"""The physics against lenstronomy and astropy, from the file that `make_lenstronomy_oracle.py` wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deeplense.instruments.instrument import load_instrument
from deeplense.recipes.draw import expected_images
from deeplense.recipes.recipe import load_recipe
from deeplense.sky.cosmology import comoving_distance, theta_E2_per_solar_mass
from deeplense.sky.ellipticity import axis_ratio_and_angle
from deeplense.sky.light import Sersic, sersic_flux
from deeplense.sky.mass import SIE, MassProfile, PointMasses, Shear

ORACLE: dict[str, Any] = json.loads(Path(__file__).with_name("lenstronomy_oracle.json").read_text(encoding="utf-8"))
PROFILES = ORACLE["profiles"]
X, Y = (torch.tensor([PROFILES[axis]], dtype=torch.float64) for axis in "xy")


def profile(kind: str, kwargs: dict[str, float]) -> MassProfile:
    """Return our profile of lenstronomy's name."""
    if kind == "POINT_MASS":
        return PointMasses(*(torch.tensor([[value]], dtype=torch.float64) for value in kwargs.values()))
    if kind == "SHEAR":
        return Shear(**kwargs)
    return SIE(**kwargs)


def test_the_file_says_what_made_it() -> None:
    assert ORACLE["versions"]["lenstronomy"] == "1.13.6"
    assert Path(__file__).with_name(Path(ORACLE["made_by"]).name).is_file()


@pytest.mark.parametrize("case", PROFILES["lenses"], ids=lambda case: case["kind"])
def test_deflection_and_convergence(case: dict[str, Any]) -> None:
    # lenstronomy's SIE has a small core, and it takes the convergence of it from finite differences
    ours = profile(case["kind"], case["kwargs"])
    for component, name in zip(ours.deflection(X, Y), ("alpha_x", "alpha_y"), strict=True):
        np.testing.assert_allclose(component.numpy().ravel(), case[name], rtol=0, atol=1e-8, err_msg=name)
    if case["kind"] != "POINT_MASS":
        np.testing.assert_allclose(ours.convergence(X, Y).numpy().ravel(), case["kappa"], rtol=2e-4)


@pytest.mark.parametrize("case", PROFILES["sersic"], ids=lambda case: f"n={case['kwargs']['n_sersic']}")
def test_sersic_brightness(case: dict[str, Any]) -> None:
    kwargs = {"amplitude" if name == "amp" else name: value for name, value in case["kwargs"].items()}
    brightness = Sersic(**kwargs).surface_brightness(X, Y)
    np.testing.assert_allclose(brightness.numpy().ravel(), case["brightness"], rtol=1e-12)


@pytest.mark.parametrize("case", PROFILES["ellipticity"], ids=lambda case: f"{case['e1']},{case['e2']}")
def test_ellipticity(case: dict[str, float]) -> None:
    q, phi = axis_ratio_and_angle(case["e1"], case["e2"])
    assert phi.item() == pytest.approx(case["phi"], abs=1e-14)
    assert q.item() == pytest.approx(case["q"], abs=1e-14)


@pytest.mark.parametrize("z", ORACLE["comoving_distance"])
def test_comoving_distance_is_astropys(z: str) -> None:
    assert comoving_distance(float(z)) == pytest.approx(ORACLE["comoving_distance"][z], rel=1e-12)


@pytest.mark.parametrize("convention", ["angular_diameter", "deeplense_sim"])
def test_einstein_radii_are_those_of_astropys_distances(convention: str) -> None:
    value = theta_E2_per_solar_mass(0.5, 1.0, convention)  # type: ignore[arg-type]
    assert value == pytest.approx(ORACLE["theta_E2_per_solar_mass"][convention], rel=1e-12)


@pytest.mark.parametrize("recipe", ORACLE["photometry"])
def test_photometry(recipe: str) -> None:
    instrument, band = load_instrument(load_recipe(recipe).instrument), ORACLE["photometry"][recipe]
    assert instrument.background_sigma() == pytest.approx(band["background_noise"], rel=1e-12)
    assert instrument.total_exposure_time == band["total_exposure_time"]
    amplitude = instrument.electron_rate(20.0) / sersic_flux(0.25, 1.0)
    assert amplitude == pytest.approx(band["amplitude_of_20_mag"], rel=1e-12)


@pytest.mark.parametrize("case", ORACLE["images"], ids=lambda case: f"{case['recipe']}-{case['label']}")
def test_expected_images(case: dict[str, Any]) -> None:
    # the largest difference is 1.1e-9 of peak in float64: lenstronomy's core of the SIE
    parameters = {name: np.array([value]) for name, value in case["parameters"].items()}
    for dtype, tolerance in ((torch.float64, 1e-8), (torch.float32, 1e-4)):
        image = expected_images(load_recipe(case["recipe"]), case["label"], parameters, dtype)[0].double().numpy()
        error = np.abs(image.ravel()[case["pixels"]] - case["values"]).max() / case["peak"]
        assert error < tolerance, f"{dtype}: {error:.1e} of peak"
        assert image.sum() == pytest.approx(case["sum"], rel=10 * tolerance)

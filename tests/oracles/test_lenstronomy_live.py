"""The physics against lenstronomy as it is installed, over random parameters; skipped where it is not.

`test_against_lenstronomy.py` needs no lenstronomy, but knows only the numbers in its file. Here every run of the tests
compares formula with formula. A tolerance is what is left between two right answers in float64: rounding, or a core
that lenstronomy gives a singular profile.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from deeplense.instruments.instrument import Instrument, load_instrument
from deeplense.instruments.optics import convolve_separable, gaussian_taps
from deeplense.sky.circular import SIS, ConvergenceSheet, PointMass
from deeplense.sky.ellipticity import axis_ratio_and_angle, ellipticity
from deeplense.sky.light import Sersic, sersic_flux
from deeplense.sky.mass import SIE, MassProfile, Shear
from deeplense.sky.nfw import NFW, TNFW
from deeplense.sky.power_law import EPL

lenstronomy = pytest.importorskip("lenstronomy")

from lenstronomy.ImSim.Numerics.convolution import MultiGaussianConvolution  # noqa: E402
from lenstronomy.LensModel.lens_model import LensModel  # noqa: E402
from lenstronomy.LightModel.light_model import LightModel  # noqa: E402
from lenstronomy.SimulationAPI.sim_api import SimAPI  # noqa: E402
from lenstronomy.Util import param_util  # noqa: E402

REPEATS, N_POINTS = 20, 200
PUBLISHED = ["published_i", "published_ii", "published_iii"]


def random_numbers(seed: int) -> dict[str, float]:
    """Return parameters of every profile, by name."""
    rng = np.random.default_rng(seed)
    modulus, angle = 0.6 * np.sqrt(rng.random()), rng.uniform(0, 2 * np.pi)
    return {
        "theta_E": rng.uniform(0.1, 2),
        "gamma": rng.uniform(1.3, 2.7),
        "e1": modulus * np.cos(angle),
        "e2": modulus * np.sin(angle),
        "gamma1": rng.uniform(-0.3, 0.3),
        "gamma2": rng.uniform(-0.3, 0.3),
        "Rs": 10 ** rng.uniform(-1, 1.5),
        "alpha_Rs": 10 ** rng.uniform(-2, 0.5),
        "r_trunc": 10 ** rng.uniform(-1, 2),
        "kappa": rng.uniform(-0.3, 0.3),
        "center_x": rng.uniform(-0.5, 0.5),
        "center_y": rng.uniform(-0.5, 0.5),
    }


def positions(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return points within 3 arcsec, none within 0.05 arcsec of a centre: there lenstronomy has cores."""
    rng, numbers = np.random.default_rng([seed, 1]), random_numbers(seed)
    x, y = rng.uniform(-3, 3, (2, N_POINTS))
    away = np.hypot(x - numbers["center_x"], y - numbers["center_y"]) > 0.05
    return x[away], y[away]


def pair(kind: str, seed: int) -> tuple[MassProfile, dict[str, float]]:
    """Return our profile of lenstronomy's name, and lenstronomy's parameters of it."""
    number, center = random_numbers(seed), ("center_x", "center_y")
    names: dict[str, tuple[type[MassProfile], tuple[str, ...]]] = {
        "SIE": (SIE, ("theta_E", "e1", "e2", *center)),
        "EPL": (EPL, ("theta_E", "gamma", "e1", "e2", *center)),
        "SHEAR": (Shear, ("gamma1", "gamma2")),
        "POINT_MASS": (PointMass, ("theta_E", *center)),
        "SIS": (SIS, ("theta_E", *center)),
        "NFW": (NFW, ("Rs", "alpha_Rs", *center)),
        "TNFW": (TNFW, ("Rs", "alpha_Rs", "r_trunc", *center)),
        "CONVERGENCE": (ConvergenceSheet, ("kappa",)),
    }
    profile, fields = names[kind]
    return profile(*(number[name] for name in fields)), {name: number[name] for name in fields}


# (deflection relative to the largest, convergence relative to itself); 0 where there is no convergence to compare.
# SIE: lenstronomy gives it a core, and takes its convergence from finite differences; its EPL of slope 2 has neither.
# NFW, TNFW: its formulas lose digits near R = Rs and where R ≪ r_trunc; ours do not (tests/sky/test_nfw.py).
TOLERANCES = {
    "SIE": (1e-8, 0),
    "SIE as EPL": (2e-14, 1e-14),
    "EPL": (2e-14, 1e-14),
    "SHEAR": (1e-14, 0),
    "POINT_MASS": (1e-14, 0),
    "SIS": (1e-14, 1e-14),
    "NFW": (5e-12, 1e-9),
    "TNFW": (5e-9, 2e-11),
    "CONVERGENCE": (1e-14, 1e-14),
}


@pytest.mark.parametrize("kind", TOLERANCES)
def test_deflection_and_convergence(kind: str) -> None:
    deflection_error, convergence_error = [], []
    for seed in range(REPEATS):
        x, y = positions(seed)
        name, _, other = kind.partition(" as ")
        profile, kwargs = pair(name, seed)
        model, points = LensModel([other or name]), (torch.from_numpy(x), torch.from_numpy(y))
        kwargs |= {"gamma": 2.0} if other else {}
        theirs, ours = model.alpha(x, y, [kwargs]), profile.deflection(*points)
        difference = np.hypot(*(a.numpy() - b for a, b in zip(ours, theirs, strict=True)))
        deflection_error.append(difference.max() / np.hypot(*theirs).max())
        if TOLERANCES[kind][1]:
            kappa = model.kappa(x, y, [kwargs])
            convergence_error.append(np.abs(profile.convergence(*points).numpy() / kappa - 1).max())
    worst = max(deflection_error), max(convergence_error, default=0)
    assert worst[0] <= TOLERANCES[kind][0], f"deflection: {worst[0]:.1e} of the largest"
    assert worst[1] <= TOLERANCES[kind][1], f"convergence: {worst[1]:.1e} of itself"


def sersic_numbers(seed: int) -> dict[str, float]:
    """Return the parameters of a Sérsic profile, without its amplitude."""
    rng, numbers = np.random.default_rng([seed, 2]), random_numbers(seed)
    shape = {name: numbers[name] for name in ("e1", "e2", "center_x", "center_y")}
    return {"R_sersic": rng.uniform(0.05, 1.5), "n_sersic": rng.uniform(0.5, 6), **shape}


def test_sersic_light() -> None:
    model = LightModel(["SERSIC_ELLIPSE"])
    for seed in range(REPEATS):
        (x, y), shape = positions(seed), sersic_numbers(seed)
        theirs = model.surface_brightness(x, y, [{"amp": 3.0} | shape])
        ours = Sersic(3.0, **shape).surface_brightness(torch.from_numpy(x), torch.from_numpy(y)).numpy()
        np.testing.assert_allclose(ours, theirs, rtol=3e-13, atol=0)


def test_ellipticities() -> None:
    for seed in range(REPEATS):
        numbers = random_numbers(seed)
        phi, q = param_util.ellipticity2phi_q(numbers["e1"], numbers["e2"])
        ours = [value.item() for value in axis_ratio_and_angle(numbers["e1"], numbers["e2"])]
        assert ours == pytest.approx([q, phi], abs=1e-15)
        again = [value.item() for value in ellipticity(float(q), float(phi))]
        assert again == pytest.approx(list(param_util.phi_q2_ellipticity(phi, q)), abs=1e-15)


def band(instrument: Instrument) -> dict[str, Any]:
    """Return lenstronomy's description of a band of ours."""
    return {
        "pixel_scale": instrument.pixel_scale,
        "exposure_time": instrument.exposure_time,
        "num_exposures": instrument.num_exposures,
        "magnitude_zero_point": instrument.zero_point,
        "sky_brightness": instrument.sky_brightness,
        "read_noise": instrument.read_noise,
        "ccd_gain": 1.0,
        "seeing": instrument.psf_fwhm,
        "psf_type": "GAUSSIAN",
        "truncation": instrument.psf_truncation,
        "data_count_unit": "e-",
    }


@pytest.mark.parametrize("name", ["published_ii", "published_iii"])
def test_magnitudes_and_background(name: str) -> None:
    instrument = load_instrument(name)
    models = {"source_light_model_list": ["SERSIC_ELLIPSE"]}
    simulation = SimAPI(numpix=9, kwargs_single_band=band(instrument), kwargs_model=models)
    assert instrument.background_sigma() == pytest.approx(float(simulation.background_noise), rel=1e-14)
    for seed in range(REPEATS):
        magnitude, shape = np.random.default_rng([seed, 3]).uniform(18, 27), sersic_numbers(seed)
        theirs = simulation.magnitude2amplitude(None, [{"magnitude": magnitude} | shape])[1][0]["amp"]
        ours = instrument.electron_rate(magnitude) / sersic_flux(shape["R_sersic"], shape["n_sersic"])
        assert ours == pytest.approx(theirs, rel=1e-13)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_gaussian_psf(name: str) -> None:
    instrument = load_instrument(name)
    image = np.random.default_rng(0).random((40, 40))
    sigma = instrument.psf_fwhm / (2 * np.sqrt(2 * np.log(2)))
    theirs = MultiGaussianConvolution([sigma], [1.0], instrument.pixel_scale, truncation=instrument.psf_truncation)
    ours = convolve_separable(torch.from_numpy(image)[None], gaussian_taps(instrument))[0].numpy()
    np.testing.assert_allclose(ours, theirs.convolution2d(image), rtol=1e-14)

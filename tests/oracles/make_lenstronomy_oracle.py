"""Write `lenstronomy_oracle.json`: what lenstronomy says of the physics that this package computes itself.

Run by hand, where lenstronomy and astropy are installed (they are no dependency of the package or of its tests):

    python tests/oracles/make_lenstronomy_oracle.py

Every number the tests need lies in the file, so they prove the physics on a machine without lenstronomy. This script
imports nothing of the package. It drives lenstronomy as the published generator does: single plane for Model I; for
Models II and III the simulation interface, with redshift lists and a source convention of z = 2.5.
"""

from __future__ import annotations

import json
import math
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from astropy import constants, units
from astropy.cosmology import FlatLambdaCDM
from lenstronomy.Data.imaging_data import ImageData
from lenstronomy.Data.psf import PSF
from lenstronomy.ImSim.image_model import ImageModel
from lenstronomy.LensModel.lens_model import LensModel
from lenstronomy.LightModel.light_model import LightModel
from lenstronomy.SimulationAPI.sim_api import SimAPI
from lenstronomy.Util import param_util, util

OUT = Path(__file__).with_name("lenstronomy_oracle.json")
COSMOLOGY = FlatLambdaCDM(H0=70, Om0=0.3)
PYHALO_COSMOLOGY = FlatLambdaCDM(H0=69.7, Om0=0.2814, Tcmb0=0)  # the generator's for ray shooting: pyHalo's default
Z_LENS, Z_SOURCE, Z_CONVENTION = 0.5, 1.0, 2.5
N_POINTS, N_PIXELS, IMAGES_PER_CLASS = 24, 120, 2
PSF_TRUNCATION = 4  # sigma; the version the generator pins ignores the setting and cuts here

LENSES: list[tuple[str, dict[str, float]]] = [
    ("SIE", {"theta_E": 1.2814905676172945, "e1": 0.1, "e2": 0.0, "center_x": 0.0, "center_y": 0.0}),
    ("SIE", {"theta_E": 0.8, "e1": -0.07, "e2": 0.15, "center_x": 0.2, "center_y": -0.1}),
    ("SIE", {"theta_E": 1.5, "e1": 0.4, "e2": -0.5, "center_x": 0.0, "center_y": 0.3}),
    ("SIS", {"theta_E": 1.1, "center_x": -0.1, "center_y": 0.05}),
    ("SHEAR", {"gamma1": 0.05, "gamma2": 0.0}),
    ("SHEAR", {"gamma1": -0.03, "gamma2": 0.11}),
    ("POINT_MASS", {"theta_E": 0.13, "center_x": 0.4, "center_y": -0.7}),
]
SERSICS: list[dict[str, float]] = [
    {"amp": 20.0, "R_sersic": 0.25, "n_sersic": 1.0, "e1": -0.1, "e2": 0.1, "center_x": 0.1, "center_y": -0.2},
    {"amp": 3.0, "R_sersic": 0.8, "n_sersic": 4.0, "e1": 0.3, "e2": -0.2, "center_x": 0.0, "center_y": 0.0},
    {"amp": 1.0, "R_sersic": 0.5, "n_sersic": 0.7, "e1": 0.0, "e2": 0.0, "center_x": -0.3, "center_y": 0.4},
]
BANDS: dict[str, dict[str, float]] = {
    "model_ii": {
        "pixel_scale": 0.101,
        "exposure_time": 565.0,
        "num_exposures": 4,
        "magnitude_zero_point": 24.0,
        "sky_brightness": 22.35,
        "read_noise": 4.2,
        "ccd_gain": 3.1,
        "seeing": 0.16,
    },
    "model_iii": {
        "pixel_scale": 0.08,
        "exposure_time": 5400.0,
        "num_exposures": 1,
        "magnitude_zero_point": 25.96,
        "sky_brightness": 22.3,
        "read_noise": 4.0,
        "ccd_gain": 2.5,
        "seeing": 0.08,
    },
}
MACRO: list[tuple[str, dict[str, float]]] = [LENSES[0], LENSES[4]]
SOURCE_SHAPE = {"R_sersic": 0.25, "n_sersic": 1.0, "e1": -0.1, "e2": 0.1}


def profiles(rng: np.random.Generator) -> dict[str, Any]:
    """Return deflections, convergences and surface brightnesses at random points."""
    x, y = rng.uniform(-3, 3, (2, N_POINTS))
    lenses = []
    for name, kwargs in LENSES:
        model = LensModel([name])
        alpha_x, alpha_y = model.alpha(x, y, [kwargs])
        kappa = model.kappa(x, y, [kwargs])
        lenses.append({"kind": name, "kwargs": kwargs, "alpha_x": alpha_x, "alpha_y": alpha_y, "kappa": kappa})
    light = [
        {"kwargs": kwargs, "brightness": LightModel(["SERSIC_ELLIPSE"]).surface_brightness(x, y, [kwargs])}
        for kwargs in SERSICS
    ]
    ellipticities = [
        {"e1": e1, "e2": e2, "phi": float(phi), "q": float(q)}
        for e1, e2 in ((0.1, 0.0), (-0.2, 0.3), (0.0, -0.5), (0.9, 0.9))
        for phi, q in [param_util.ellipticity2phi_q(e1, e2)]
    ]
    return {"x": x, "y": y, "lenses": lenses, "sersic": light, "ellipticity": ellipticities}


def draw(label: str, rng: np.random.Generator) -> tuple[dict[str, Any], list[tuple[str, dict[str, float]]]]:
    """Return the parameters of one image and its substructure as lenstronomy point masses."""
    center_x, center_y = rng.uniform(-0.35, 0.35, 2)
    parameters: dict[str, Any] = {"source_center_x": center_x, "source_center_y": center_y}
    per_mass = theta_E2_per_solar_mass("deeplense_sim")
    if label == "cdm":
        mass = rng.uniform(1e6**0.1, 1e10**0.1, 25) ** 10
        radius, angle = rng.uniform(0.25, 2, 25), rng.uniform(0, 2 * np.pi, 25)
        x, y = radius * np.sin(angle), radius * np.cos(angle)
        parameters |= {"halo_mass": mass, "halo_x": x, "halo_y": y}
    elif label == "axion":
        half_length, angle = 10 ** rng.uniform(-1.5, 0.47), rng.uniform(-np.pi, np.pi)
        line = np.linspace(-half_length, half_length, 100)
        mass, x, y = np.full(100, 3e10 / 100), line * np.cos(angle), line * np.sin(angle)
        parameters |= {"vortex_half_length": half_length, "vortex_angle": angle}
    else:
        return parameters, []
    points = [
        ("POINT_MASS", {"theta_E": math.sqrt(per_mass * m), "center_x": a, "center_y": b})
        for m, a, b in zip(mass, x, y, strict=True)
    ]
    return parameters, points


def theta_E2_per_solar_mass(convention: str) -> float:
    """Return theta_E^2 of a solar mass with astropy's distances and constants."""
    if convention == "angular_diameter":
        lens, source = (COSMOLOGY.angular_diameter_distance(z) for z in (Z_LENS, Z_SOURCE))
        between, arcsec = COSMOLOGY.angular_diameter_distance(Z_LENS, Z_SOURCE), units.arcsec.to(units.rad)
    else:
        lens, source = (COSMOLOGY.luminosity_distance(z) for z in (Z_LENS, Z_SOURCE))
        between, arcsec = source - lens, 1 / 206265
    angle2 = 4 * constants.G * constants.M_sun / constants.c**2 * between / (lens * source)
    return float(angle2.to(units.dimensionless_unscaled)) / arcsec**2


def model_i_image(mass: list[tuple[str, dict[str, float]]], source: dict[str, float]) -> np.ndarray:
    """Return the expected image of Model I: 150 pixels of 0.05 arcsec, amplitude 20, one lens plane."""
    n, scale = 150, 0.05
    _, _, ra_0, dec_0, _, _, to_angle, _ = util.make_grid_with_coordtransform(n, scale, subgrid_res=1, inverse=False)
    pixels = ImageData(np.zeros((n, n)), ra_at_xy_0=ra_0, dec_at_xy_0=dec_0, transform_pix2angle=to_angle)
    psf = PSF("GAUSSIAN", fwhm=0.087, pixel_size=scale, truncation=PSF_TRUNCATION)
    model = ImageModel(pixels, psf, LensModel([name for name, _ in mass]), LightModel(["SERSIC_ELLIPSE"]))
    image: np.ndarray = model.image([kwargs for _, kwargs in mass], [{"amp": 20.0} | source])
    return image


def simulated(band: dict[str, float], mass: list[tuple[str, dict[str, float]]]) -> SimAPI:
    """Return lenstronomy's simulation of Models II and III: 64 pixels, every mass at the lens redshift."""
    camera = dict(band, psf_type="GAUSSIAN", truncation=PSF_TRUNCATION)
    models = {
        "lens_model_list": [name for name, _ in mass],
        "lens_redshift_list": [Z_LENS] * len(mass),
        "source_light_model_list": ["SERSIC_ELLIPSE"],
        "source_redshift_list": [Z_SOURCE],
        "z_source": Z_SOURCE,
        "z_source_convention": Z_CONVENTION,
        "cosmo": PYHALO_COSMOLOGY,
    }
    return SimAPI(numpix=64, kwargs_single_band=camera, kwargs_model=models)


def image(model: str, mass: list[tuple[str, dict[str, float]]], source: dict[str, float]) -> np.ndarray:
    """Return the expected image of one model."""
    if model == "model_i":
        return model_i_image(mass, source)
    simulation = simulated(BANDS[model], mass)
    amplitudes = simulation.magnitude2amplitude(None, [{"magnitude": 20.0} | source])[1]
    numerics = {"point_source_supersampling_factor": 1}
    expected: np.ndarray = simulation.image_model_class(numerics).image([kwargs for _, kwargs in mass], amplitudes)
    return expected


def images(rng: np.random.Generator) -> list[dict[str, Any]]:
    """Return images of every model and class: their parameters, and the values of some pixels, the brightest too."""
    rows = []
    for model in ("model_i", *BANDS):
        for label in ("no_sub", "cdm", "axion"):
            for _ in range(IMAGES_PER_CLASS):
                parameters, points = draw(label, rng)
                position = {axis: parameters[f"source_{axis}"] for axis in ("center_x", "center_y")}
                expected = image(model, MACRO + points, SOURCE_SHAPE | position)
                order = np.argsort(expected, axis=None)
                pixels = np.concatenate([order[-N_PIXELS // 4 :], rng.choice(order, 3 * N_PIXELS // 4, replace=False)])
                rows.append(
                    {
                        "recipe": model,
                        "label": label,
                        "parameters": parameters,
                        "pixels": pixels,
                        "values": expected.ravel()[pixels],
                        "peak": expected.max(),
                        "sum": expected.sum(),
                    }
                )
    return rows


def photometry() -> dict[str, dict[str, float]]:
    """Return each band's background noise and the amplitude of a source of 20 mag."""
    table = {}
    for name, band in BANDS.items():
        simulation = simulated(band, MACRO)
        source = [{"magnitude": 20.0, "center_x": 0.0, "center_y": 0.0} | SOURCE_SHAPE]
        table[name] = {
            "background_noise": float(simulation.background_noise),
            "amplitude_of_20_mag": float(simulation.magnitude2amplitude(None, source)[1][0]["amp"]),
            "total_exposure_time": float(band["exposure_time"] * band["num_exposures"]),
        }
    return table


def plain(value: Any) -> Any:
    """Return numpy values as JSON's."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)


def main() -> None:
    """Write the file."""
    rng = np.random.default_rng(20200101)
    conventions = ("angular_diameter", "deeplense_sim")
    document = {
        "made_by": "tests/oracles/make_lenstronomy_oracle.py",
        "versions": {name: version(name) for name in ("lenstronomy", "astropy", "numpy", "scipy")},
        "profiles": profiles(rng),
        "comoving_distance": {str(z): float(COSMOLOGY.comoving_distance(z).value) for z in (0.5, 1.0, 2.5)},
        "theta_E2_per_solar_mass": {convention: theta_E2_per_solar_mass(convention) for convention in conventions},
        "photometry": photometry(),
        "images": images(rng),
    }
    OUT.write_text(json.dumps(document, default=plain, indent=None, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

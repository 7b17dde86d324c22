"""Instruments: zero points, backgrounds, files of one's own, what is said when a number is missing, depths."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from astropy.io import fits
from scipy import integrate, special

from deeplense.core.errors import CorruptFile, InvalidOption, MissingFile, UnknownName
from deeplense.instruments.instrument import Instrument, load_instrument, shipped_instruments
from deeplense.instruments.psf import kernel

CAMERA = Instrument(
    "a camera",
    "a paper",
    pixel_scale=0.1,
    psf_fwhm=0.2,
    zero_point=25.0,
    sky_brightness=22.5,
    read_noise=3.0,
    exposure_time=100.0,
    num_exposures=4,
)


def test_background_is_sky_and_read_noise_of_all_exposures() -> None:
    sky_electrons = 10 ** (0.4 * 2.5) * 0.1**2 * 400  # in all exposures
    assert CAMERA.background_sigma() == pytest.approx(math.sqrt(sky_electrons + 4 * 9) / 400, rel=1e-14)
    assert CAMERA.total_exposure_time == 400


def test_a_given_background_is_taken_as_it_is() -> None:
    assert dataclasses.replace(CAMERA, background_rms=0.5).background_sigma() == 0.5
    assert Instrument("a", "b", pixel_scale=0.1, psf_fwhm=0.1, background_rms=0.0).background_sigma() == 0


@pytest.mark.parametrize(
    ("name", "sigma", "seconds", "amplitude"),
    [
        ("published_i", 0.01, None, None),
        ("published_ii", 0.005869103335680559, 2260.0, 53.24524195256707),
        ("published_iii", 0.005919973387690837, 5400.0, 323.8029528291004),
    ],
)
def test_the_published_cameras_have_their_published_numbers(
    name: str, sigma: float, seconds: float | None, amplitude: float | None
) -> None:
    from deeplense.sky.light import sersic_flux

    instrument = load_instrument(name)
    assert instrument.background_sigma() == pytest.approx(sigma, rel=1e-14)
    assert instrument.total_exposure_time == seconds
    if amplitude is not None:
        assert instrument.electron_rate(20.0) / sersic_flux(0.25, 1.0) == pytest.approx(amplitude, rel=1e-14)


@pytest.mark.parametrize("missing", ["sky_brightness", "exposure_time", "zero_point"])
def test_a_background_that_cannot_be_computed_says_what_to_add(missing: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        dataclasses.replace(CAMERA, **{missing: None}).background_sigma()
    assert "a camera" in caught.value.found
    assert "add" in caught.value.remedy


def test_magnitudes_need_a_zero_point() -> None:
    with pytest.raises(InvalidOption, match="no zero_point"):
        dataclasses.replace(CAMERA, zero_point=None).electron_rate(20.0)


def test_an_unknown_instrument_lists_the_nearest() -> None:
    with pytest.raises(UnknownName) as caught:
        load_instrument("published_iv")
    assert "published_ii" in caught.value.expected


# impossible numbers


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("pixel_scale", 0.0),
        ("pixel_scale", -0.1),
        ("pixel_scale", 1e3),
        ("psf_fwhm", -0.1),
        ("psf_fwhm", math.nan),
        ("psf_truncation", 0.0),
        ("zero_point", 2.5e10),
        ("sky_brightness", -22.0),
        ("read_noise", -1.0),
        ("exposure_time", 0.0),
        ("num_exposures", 0),
        ("num_exposures", 1.5),
        ("background_rms", -0.1),
        ("psf", "airy"),
        ("psf_supersampling", 0),
    ],
)
def test_an_impossible_number_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(InvalidOption) as caught:
        dataclasses.replace(CAMERA, **{field: value})
    assert field in caught.value.found
    assert caught.value.expected
    assert caught.value.remedy


MOFFAT: dict[str, Any] = {"psf": "moffat", "psf_fwhm": 0.7, "moffat_beta": 3.0}


@pytest.mark.parametrize(
    ("settings", "found", "remedy"),
    [
        ({}, "lacks 'psf_fwhm'", "add a line `psf_fwhm"),
        ({"psf": "moffat", "psf_fwhm": 0.7}, "lacks 'moffat_beta'", "add a line `moffat_beta"),
        ({"psf": "moffat", "moffat_beta": 3.0}, "lacks 'psf_fwhm'", "add a line `psf_fwhm"),
        ({"psf": "kernel"}, "lacks 'psf_file'", "add a line `psf_file"),
        ({"psf_fwhm": 0.7, "moffat_beta": 3.0}, "moffat_beta with a PSF of kind 'gaussian'", "change psf"),
        ({"psf_fwhm": 0.7, "psf_file": "a.fits"}, "psf_file with a PSF of kind 'gaussian'", "remove psf_file"),
        ({"psf_fwhm": 0.7, "psf_supersampling": 2}, "psf_supersampling with", "remove psf_supersampling"),
        ({"psf": "kernel", "psf_file": "a.fits", "psf_fwhm": 0.7}, "psf_fwhm with a PSF of kind 'kernel'", "remove"),
        ({"psf": "kernel", "psf_file": "a.fits", "psf_truncation": 3.0}, "psf_truncation with", "remove"),
        (MOFFAT | {"moffat_beta": 1.0}, "moffat_beta is 1.0", "change the value"),
        (MOFFAT | {"psf_fwhm": 0.0}, "psf_fwhm is 0", "gaussian"),
        (MOFFAT | {"pixel_scale": 1e-3, "psf_truncation": 30.0}, "pixels wide", "arcsec"),
    ],
)
def test_a_psf_that_lacks_something_or_has_too_much_says_so(settings: dict[str, Any], found: str, remedy: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        Instrument("a camera", "none", **{"pixel_scale": 0.1, **settings})
    assert found in caught.value.found
    assert remedy in caught.value.remedy


# files of one's own

MINE = """
description = "my camera"
reference = "my notebook, page 7"
pixel_scale = 0.1
background_rms = 0.02
"""


def test_a_toml_file_is_an_instrument(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(MINE + "psf_fwhm = 0.3\n")
    for name in (path, str(path)):
        instrument = load_instrument(name)
        assert instrument.description == "my camera"
        assert instrument.psf_fwhm == 0.3
        assert Instrument.from_mapping(instrument.as_dict()) == instrument


def test_a_psf_file_is_looked_for_beside_its_toml_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cameras" / "psf").mkdir(parents=True)
    toml, psf = tmp_path / "cameras" / "mine.toml", tmp_path / "cameras" / "psf" / "star.fits"
    toml.write_text(MINE + 'psf = "kernel"\npsf_file = "psf/star.fits"\npsf_supersampling = 2\n')
    fits.writeto(psf, np.eye(5))
    monkeypatch.chdir(tmp_path)
    instrument = load_instrument("cameras/mine.toml")
    assert instrument.psf_file == psf
    np.testing.assert_allclose(kernel(instrument, 2), np.eye(5) / 5)
    stored = instrument.as_dict()  # what a dataset keeps
    assert Instrument.from_mapping(stored) == instrument
    fits.writeto(psf, np.ones((5, 5)), overwrite=True)
    assert load_instrument("cameras/mine.toml").as_dict() != stored, "another PSF goes unnoticed"


def test_a_psf_file_with_another_checksum_is_refused(tmp_path: Path) -> None:
    toml = tmp_path / "mine.toml"
    toml.write_text(MINE + f'psf = "kernel"\npsf_file = "star.fits"\npsf_sha256 = "{"0" * 64}"\n')
    fits.writeto(tmp_path / "star.fits", np.ones((5, 5)))
    with pytest.raises(CorruptFile, match="its SHA-256 is") as caught:
        load_instrument(toml)
    assert "0" * 64 in caught.value.expected


@pytest.mark.parametrize(
    ("text", "kind", "found"),
    [
        (MINE + "psf_fwhm = ", CorruptFile, "not valid TOML"),
        (MINE + "psf_fwhm = 0.3\nseeing = 0.3\n", UnknownName, "seeing"),
        (MINE, InvalidOption, "lacks 'psf_fwhm'"),
        (MINE.replace("pixel_scale = 0.1", "") + "psf_fwhm = 0.3", InvalidOption, "lacks 'pixel_scale'"),
        (MINE + 'psf_fwhm = "wide"', InvalidOption, "psf_fwhm is 'wide'"),
        (MINE + 'psf = "kernel"\npsf_file = "nowhere.fits"', MissingFile, "nowhere.fits"),
        (MINE + 'psf = "kernel"\npsf_file = "mine.toml"', CorruptFile, "mine.toml"),
        (MINE + 'psf = "kernel"\npsf_file = 5', InvalidOption, "psf_file is 5"),
    ],
)
def test_a_file_that_is_no_instrument_says_why(tmp_path: Path, text: str, kind: type[Exception], found: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(kind) as caught:
        load_instrument(path)
    assert found in str(caught.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_that_cannot_be_read_is_missing(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "mine.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(MissingFile, match=re.escape(str(path))):
        load_instrument(path)


def test_a_name_may_be_spelt_as_in_print() -> None:
    assert load_instrument("Euclid-VIS") == load_instrument("euclid_vis")


# the instruments of surveys

PUBLISHED = {"published_i", "published_ii", "published_iii"}
SURVEYS = [name for name in shipped_instruments() if name not in PUBLISHED]


@pytest.mark.parametrize("name", SURVEYS)
def test_every_number_has_its_source_on_its_line(name: str) -> None:
    for line in shipped_instruments()[name].splitlines():
        if re.match(r"\w+ = -?[\d.]", line):
            assert re.search(r"# .*\w{3}", line), f"no source: {line}"


class Airy(NamedTuple):
    """Light that an aperture holds of the image of a star by a telescope with a central obstruction.

    The instruments of space telescopes have Gaussian PSFs, which lack the diffraction wings: for the depth of a real
    star their light has to be left out.
    """

    wavelength: float  # micrometre
    diameter: float  # metre
    obstruction: float  # fraction of the diameter

    def within(self, radius: float) -> float:
        """Return the fraction of the light within `radius` [arcsec]."""
        scale, hole = math.pi * self.diameter / (self.wavelength * 1e-6), self.obstruction

        def brightness(x: float) -> float:
            amplitude = 2 * (special.j1(x) - hole * special.j1(hole * x)) / x
            return float(amplitude**2 / (1 - hole**2) * x / 2)

        return float(integrate.quad(brightness, 1e-9, scale * math.radians(radius / 3600), limit=400)[0])


class Depth(NamedTuple):
    """A published depth and how it was defined.

    Without a diameter the source is weighted by the instrument's own PSF. With one, the noise is that of an aperture;
    where `star` is given, the light of a star outside the aperture is lost.
    """

    magnitude: float  # AB
    n_sigma: float
    source: str
    tolerance: float = 0.5
    diameter: float | None = None  # arcsec
    star: Airy | None = None


IVEZIC, DR4 = (
    "Ivezic et al. 2019, ApJ 873, 111, Table 1, stacked",
    "Kuijken et al. 2019, A&A 625, A2",
)
HST, WEBB = Airy(0.81, 2.4, 0.33), Airy(1.50, 6.5, 0.12)
DEPTHS = {
    "euclid_vis": Depth(25.6, 10, "McCracken et al. 2025, arXiv:2503.15303, abstract", 0.2, diameter=1.3),
    "hst_acs_f814w": Depth(27.2, 5, "Koekemoer et al. 2007, ApJS 172, 196, abstract", diameter=0.3, star=HST),
    "hst_wfc3_f160w": Depth(
        27.0, 5, "Grogin et al. 2011, ApJS 197, 35, abstract", diameter=0.4, star=HST._replace(wavelength=1.54)
    ),
    "jwst_f150w": Depth(27.6, 5, "Casey et al. 2023, ApJ 954, 31; Cycle 1 proposal 1727", diameter=0.3, star=WEBB),
    "roman_f129": Depth(
        26.4, 5, "ROTAC 2025, arXiv:2505.10574, Table 1, medium tier", diameter=0.4, star=Airy(1.29, 2.36, 0.32)
    ),
    "rubin_g": Depth(27.4, 5, IVEZIC, 0.25),
    "rubin_r": Depth(27.5, 5, IVEZIC, 0.25),
    "rubin_i": Depth(26.8, 5, IVEZIC, 0.25),
    "rubin_z": Depth(26.1, 5, IVEZIC, 0.25),
    "kids_u": Depth(24.23, 5, DR4, 0.2, diameter=2.0),
    "kids_g": Depth(25.12, 5, DR4, 0.2, diameter=2.0),
    "kids_r": Depth(25.02, 5, DR4, 0.2, diameter=2.0),
    "kids_i": Depth(23.68, 5, DR4, 0.2, diameter=2.0),
}


def limiting_magnitude(instrument: Instrument, depth: Depth) -> float:
    """Return the AB magnitude at which a star has `n_sigma` with an instrument, shot noise of the star included."""
    assert instrument.zero_point is not None
    assert instrument.total_exposure_time is not None
    light = 1.0
    if depth.diameter is None:
        n_pixels = 1 / np.sum(kernel(instrument) ** 2)
    else:
        n_pixels = math.pi * (depth.diameter / 2 / instrument.pixel_scale) ** 2
        light = depth.star.within(depth.diameter / 2) if depth.star else 1.0
    # n² = F² T / (F + b), b the variance of the background [electron²/s]
    background = n_pixels * instrument.background_sigma() ** 2 * instrument.total_exposure_time
    n2 = depth.n_sigma**2 / instrument.total_exposure_time
    rate = (n2 + math.sqrt(n2**2 + 4 * n2 * background)) / 2
    return instrument.zero_point - 2.5 * math.log10(rate / light)


def test_every_survey_has_a_published_depth_here() -> None:
    assert set(DEPTHS) == set(SURVEYS)


@pytest.mark.parametrize("name", DEPTHS)
def test_the_depth_is_the_published_one(name: str) -> None:
    depth = DEPTHS[name]
    ours = limiting_magnitude(load_instrument(name), depth)
    assert ours == pytest.approx(depth.magnitude, abs=depth.tolerance), f"{depth.magnitude} in {depth.source}"


@pytest.mark.parametrize(("band", "m5"), [("g", 24.97), ("r", 24.52), ("i", 24.13), ("z", 23.56)])
def test_one_visit_of_rubin_reaches_what_its_table_says(band: str, m5: float) -> None:
    visit = dataclasses.replace(load_instrument(f"rubin_{band}"), exposure_time=30.0, num_exposures=1)
    depth = Depth(m5, 5, "SMTN-002 (v1.9), section Calculating m5")
    assert limiting_magnitude(visit, depth) == pytest.approx(m5, abs=0.06)


def test_the_obstructed_airy_pattern_holds_all_light_and_the_known_part_of_it() -> None:
    whole = Airy(1.0, 2.4, 0.0)
    ring = 1.2197 * 1e-6 / 2.4 * 206264.8
    assert whole.within(ring) == pytest.approx(0.838, abs=1e-3)  # Born & Wolf, section 8.5.2
    assert Airy(1.0, 2.4, 0.33).within(ring) == pytest.approx(0.65, abs=0.02)
    assert 0.97 < Airy(1.0, 2.4, 0.33).within(3.0) < 1

"""FITS files: which HDUs are images, what is masked, what is said of bad files; where finer pixels lie on the sky."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given
from hypothesis import strategies as st

from deeplense.core.errors import CorruptFile, InvalidDataset, InvalidOption, MissingFile
from deeplense.data import fits as module
from deeplense.data.finer_header import finer_header
from deeplense.data.fits import read_fits_images

SKY = np.random.default_rng(0).normal(size=(7, 9)).astype(np.float32)


def saved(path: Path, *units: object) -> Path:
    fits.HDUList(list(units)).writeto(path)
    return path


def tan(**cards: object) -> fits.Header:
    """Return a header of a rotated image without distortion, 0.2 arcsec per pixel."""
    header = fits.Header()
    header["CTYPE1"], header["CTYPE2"], header["CUNIT1"], header["CUNIT2"] = "RA---TAN", "DEC--TAN", "deg", "deg"
    header["CRVAL1"], header["CRVAL2"], header["CRPIX1"], header["CRPIX2"] = 150.1, 2.2, 11.3, -4.0
    header.update(cards)
    return header


ROTATED = {"CD1_1": -4.8e-5, "CD1_2": 2.8e-5, "CD2_1": 2.7e-5, "CD2_2": 4.9e-5}


def farthest(coarse: fits.Header, fine: fits.Header, factor: int, size: int = 60) -> float:
    """Return how far [arcsec] centres of coarse pixels lie from the middles of their fine ones, at most."""
    y, x = np.mgrid[0 : size : size // 4, 0 : size : size // 4]
    sky = WCS(coarse).celestial.pixel_to_world(x, y)
    again = WCS(fine).celestial.pixel_to_world(factor * x + (factor - 1) / 2, factor * y + (factor - 1) / 2)
    return float(sky.separation(again).arcsec.max())


def test_every_image_comes_with_its_noise_and_nothing_else_does(tmp_path: Path) -> None:
    noise = [np.full((7, 9), value, np.float64) for value in (2, 3, 4)]
    path = saved(
        tmp_path / "a.fits",
        fits.PrimaryHDU(),
        fits.ImageHDU(SKY, name="G_BGSUB"),
        fits.ImageHDU(SKY[:5, :5], name="G_PSF"),
        fits.BinTableHDU.from_columns([fits.Column("a", "E", array=np.ones(3))], name="CATALOGUE"),
        fits.ImageHDU(noise[1], name="R_RMS"),
        fits.ImageHDU(noise[0], name="G_RMS"),
        fits.ImageHDU(np.ones((7, 9), np.int16), name="G_DQ"),
        fits.ImageHDU(np.stack([SKY, SKY + 1]), name="R"),
        fits.ImageHDU(SKY[0], name="SPECTRUM"),
    )
    g, r = read_fits_images(path)
    assert (g.name, g.index, r.name, r.index) == ("G_BGSUB", 1, "R", 7)
    np.testing.assert_array_equal(g.pixels, SKY[None])
    np.testing.assert_array_equal(r.pixels, [SKY, SKY + 1])
    assert g.pixels.dtype.isnative
    assert g.sigma is not None
    assert (g.sigma == 2).all()
    assert g.sigma.dtype == np.float32
    assert r.sigma is None, "another shape"
    assert g.wcs is None


def test_chips_of_one_name_are_told_apart_by_extver(tmp_path: Path) -> None:
    units = [fits.PrimaryHDU()]
    for chip in (1, 2):
        units += [fits.ImageHDU(SKY + chip, name="SCI", ver=chip), fits.ImageHDU(SKY * 0 + chip, name="ERR", ver=chip)]
    for chip, image in enumerate(read_fits_images(saved(tmp_path / "a.fits", *units)), 1):
        assert image.sigma is not None
        np.testing.assert_array_equal(image.sigma, SKY[None] * 0 + chip)


@pytest.mark.parametrize("kind", ["plain.fit", "packed.fits.gz", "tiles.fits"])
def test_a_file_may_be_packed(tmp_path: Path, kind: str) -> None:
    header = tan(**ROTATED)
    if kind == "tiles.fits":
        path = saved(
            tmp_path / kind,
            fits.PrimaryHDU(),
            fits.CompImageHDU(SKY, header, "SCI", compression_type="GZIP_1", quantize_level=0),
        )
    else:
        path = saved(tmp_path / kind, fits.PrimaryHDU(SKY, header))
    (image,) = read_fits_images(path)
    assert image.name == ("SCI" if kind == "tiles.fits" else "PRIMARY")
    np.testing.assert_array_equal(image.pixels[0], SKY)
    assert image.wcs is not None
    assert image.wcs.pixel_to_world(10.3, -5.0).ra.deg == pytest.approx(150.1)


@pytest.mark.parametrize("zero", [0, 32768, 10])
def test_integers_are_scaled_and_blank_ones_masked(tmp_path: Path, zero: int) -> None:
    path = tmp_path / "a.fits"
    unit = fits.PrimaryHDU(np.arange(12, dtype=np.int16).reshape(3, 4))
    unit.header["BLANK"] = 5
    unit.writeto(path)
    with fits.open(path, mode="update", do_not_scale_image_data=True) as units:
        units[0].header["BZERO"] = zero
    (image,) = read_fits_images(path)
    np.testing.assert_array_equal(image.mask.ravel(), np.arange(12) == 5)
    np.testing.assert_array_equal(image.pixels[~image.mask], np.delete(np.arange(12), 5) + zero)


def test_what_is_not_finite_or_beyond_float32_is_masked(tmp_path: Path) -> None:
    pixels = np.array([[1.0, np.nan, np.inf], [-np.inf, 1e300, 2.0]])
    (image,) = read_fits_images(saved(tmp_path / "a.fits", fits.PrimaryHDU(pixels)))
    np.testing.assert_array_equal(image.mask[0], [[False, True, True], [True, True, False]])


@pytest.mark.parametrize("packed", [False, True])
def test_a_file_that_was_cut_anywhere_is_refused(tmp_path: Path, packed: bool) -> None:
    units = fits.PrimaryHDU(), fits.ImageHDU(np.tile(SKY, (16, 16)), name="SCI"), fits.ImageHDU(SKY, name="PSF")
    whole = saved(tmp_path / "a.fits", *units).read_bytes()
    data, blocks = 2 * 2880, 23
    assert len(whole) == data + (blocks + 2) * 2880
    cut = tmp_path / "cut.fits"
    for size in (100, 3000, data + 100, data + 2880, data + blocks * 2880 + 500, len(whole) - 2880):
        cut.write_bytes(gzip.compress(whole[:size]) if packed else whole[:size])
        with pytest.raises(CorruptFile, match=r"cut\.fits"):
            read_fits_images(cut)
    squeezed = gzip.compress(whole)
    for size in (200, len(squeezed) // 2, len(squeezed) - 20):
        cut.write_bytes(squeezed[:size])
        with pytest.raises(CorruptFile, match=r"cut\.fits"):
            read_fits_images(cut)
    cut.write_bytes(whole[:-1000])  # the last block's filling alone
    assert len(read_fits_images(cut)) == 1


def test_what_cannot_serve_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "psf.fits", fits.PrimaryHDU(), fits.ImageHDU(SKY, name="VIS_PSF"))
    with pytest.raises(InvalidDataset, match=r"only PRIMARY, VIS_PSF"):
        read_fits_images(path)
    with pytest.raises(InvalidDataset, match="2 x 3 x 4 x 5"):
        read_fits_images(saved(tmp_path / "4d.fits", fits.PrimaryHDU(np.zeros((2, 3, 4, 5), np.float32))))
    large = saved(tmp_path / "large.fits", fits.PrimaryHDU(SKY))
    monkeypatch.setattr(module, "MAX_PIXELS", 62)
    with pytest.raises(InvalidDataset, match="7 x 9 pixels"):
        read_fits_images(large)
    monkeypatch.setattr(module, "MAX_UNPACKED", 5000)
    (tmp_path / "bomb.fits.gz").write_bytes(gzip.compress(bytes(5001)))
    with pytest.raises(CorruptFile, match="more than 5,000 bytes"):
        read_fits_images(tmp_path / "bomb.fits.gz")
    (tmp_path / "junk.fits").write_bytes(b"\x80\x04junk" * 1000)
    with pytest.raises(CorruptFile, match="SIMPLE"):
        read_fits_images(tmp_path / "junk.fits")
    unit = fits.PrimaryHDU(SKY)
    unit.header["SIMPLE"] = False
    unit.writeto(tmp_path / "own.fits", output_verify="ignore")
    with pytest.raises(CorruptFile, match="HDU 0 does not follow the FITS standard"):
        read_fits_images(tmp_path / "own.fits")
    for absent in (tmp_path / "no.fits", tmp_path):
        with pytest.raises(MissingFile):
            read_fits_images(absent)


def test_a_euclid_cutout_of_eight_bands(test_data: Path) -> None:
    path = test_data / "real_lenses" / "euclid_q1_102018665.fits"
    if not path.exists():
        pytest.skip(f"no {path}")
    images = read_fits_images(path)
    bands = ["DES_G", "DES_R", "VIS", "DES_I", "DES_Z", "NIR_Y", "NIR_J", "NIR_H"]
    assert [image.name for image in images] == [f"{band}_BGSUB" for band in bands]
    with fits.open(path) as units:
        for image in images:
            assert image.sigma is not None
            assert not image.mask.any()
            np.testing.assert_array_equal(image.pixels[0], units[image.name].data)
            np.testing.assert_array_equal(image.sigma[0], units[image.name.replace("BGSUB", "RMS")].data)
    # CD, and PC with CDELT, are both in this header
    assert farthest(images[0].header, finer_header(images[0].header, 2), 2) < 1e-6


@given(
    factor=st.integers(1, 8),
    angle=st.floats(0, 6.3),
    scale=st.floats(1e-6, 1e-3),
    skew=st.floats(0.8, 1.25),
    crpix=st.tuples(st.floats(-9e3, 9e3), st.floats(-9e3, 9e3)),
    crval=st.tuples(st.floats(0, 360), st.floats(-85, 85)),
    form=st.sampled_from(["CD", "PC", "PC alone", "CROTA2"]),
    sip=st.dictionaries(st.sampled_from(["A_2_0", "A_1_1", "A_0_3", "B_0_2", "B_2_1"]), st.floats(-1e-7, 1e-7)),
)
def test_the_sky_stays_where_it_is(
    factor: int,
    angle: float,
    scale: float,
    skew: float,
    crpix: tuple[float, float],
    crval: tuple[float, float],
    form: str,
    sip: dict[str, float],
) -> None:
    # a distorted, far reference pixel leaves the plane that TAN can hold
    scale = min(scale, 1e-4) if sip else scale
    c, s = np.cos(angle), np.sin(angle)
    matrix = {"1_1": -c, "1_2": s * skew, "2_1": s, "2_2": c * skew}
    header = tan(CRPIX1=crpix[0], CRPIX2=crpix[1], CRVAL1=crval[0], CRVAL2=crval[1])
    if form == "CROTA2":
        header.update({"CDELT1": -scale, "CDELT2": scale * skew, "CROTA2": np.degrees(angle)})
    elif form == "PC":
        header.update({"CDELT1": scale, "CDELT2": scale} | {f"PC{key}": value for key, value in matrix.items()})
    else:
        header.update({f"{form[:2]}{key}": scale * value for key, value in matrix.items()})
    if sip and form != "CROTA2":
        header["CTYPE1"], header["CTYPE2"] = "RA---TAN-SIP", "DEC--TAN-SIP"
        header.update({"A_ORDER": 3, "B_ORDER": 3} | sip)
    assert farthest(header, finer_header(header, factor), factor) < 1e-6


def test_the_inverse_polynomial_of_sip_is_rescaled_too() -> None:
    header = tan(**ROTATED, A_ORDER=2, B_ORDER=2, AP_ORDER=2, BP_ORDER=2, A_DMAX=1.5)
    header["CTYPE1"], header["CTYPE2"] = "RA---TAN-SIP", "DEC--TAN-SIP"
    header.update({"A_2_0": 3e-5, "B_1_1": -2e-5, "AP_0_0": 0.25, "AP_1_0": 2e-3, "AP_2_0": -3e-5, "BP_1_1": 2e-5})
    fine = finer_header(header, 4)
    assert (fine["AP_0_0"], fine["AP_1_0"], fine["AP_2_0"], fine["A_DMAX"]) == (1.0, 2e-3, -3e-5 / 4, 6.0)

    def pixel(header: fits.Header, u: float, v: float) -> float:
        terms = [header["AP_0_0"], header["AP_1_0"] * u, header["AP_2_0"] * u**2]
        return float(header["CRPIX1"] + u + sum(terms) + header["BP_1_1"] * u * v)

    assert pixel(fine, 4 * 31.0, 4 * -12.0) - 0.5 == pytest.approx(4 * (pixel(header, 31.0, -12.0) - 0.5), rel=1e-13)


def test_axes_beyond_the_second_and_other_coordinates_keep_their_scale() -> None:
    cube = tan(WCSAXES=3, CTYPE3="WAVE", CUNIT3="m", CRVAL3=5e-7, CRPIX3=1.0, CDELT3=1e-9, CDELT1=-1e-4, CDELT2=1e-4)
    other = {
        "CTYPE1P": "X",
        "CTYPE2P": "Y",
        "CRPIX1P": 1.0,
        "CRPIX2P": 1.0,
        "CRVAL1P": 100.0,
        "CD1_1P": 2.0,
        "CD2_2P": 2.0,
    }
    cube.update(other)
    fine = finer_header(cube, 3)
    assert farthest(cube, fine, 3) < 1e-6
    assert (fine["CDELT3"], fine["CRPIX3"]) == (1e-9, 1.0)
    assert WCS(fine, key="P").wcs_pix2world([[4.0, 4.0]], 0)[0][0] == pytest.approx(102.0)
    mixed = cube.copy()
    mixed.update({"PC1_1": 1.0, "PC2_2": 1.0, "PC3_3": 1.0, "PC3_1": 0.5})
    fine = finer_header(mixed, 3)
    np.testing.assert_allclose(
        WCS(fine).wcs_pix2world([[3 * 7 + 1, 3 * 5 + 1, 2]], 0), WCS(mixed).wcs_pix2world([[7, 5, 2]], 0), rtol=1e-13
    )


def test_what_is_true_of_the_original_pixels_only_goes_and_history_says_so() -> None:
    header = tan(
        **ROTATED, PIXSCALE=0.2, PIXAR_SR=4e-13, LTV1=3.0, LTM1_1=1.0, ZNAXIS1=9, DATASEC="[1:9,1:7]", MAGZERO=30
    )
    header.update({"BLANK": -1, "BZERO": 5.0, "NAXIS": 2, "BUNIT": "electron/s", "EXTNAME": "SCI"})
    before = header.copy()
    fine = finer_header(header, 2)
    assert header == before, "the coarse header is not touched"
    for key in ("LTV1", "LTM1_1", "ZNAXIS1", "DATASEC", "BLANK", "BZERO", "NAXIS"):
        assert key not in fine
    assert (fine["PIXSCALE"], fine["PIXAR_SR"]) == (0.1, 1e-13)
    assert (fine["MAGZERO"], fine["BUNIT"], fine["EXTNAME"]) == (30, "electron/s", "SCI")
    history = " ".join(fine["HISTORY"])
    assert "LTV1" in history
    assert "PIXSCALE" in history
    assert "2 x finer" in history
    assert not any(key.startswith(("C", "W")) for key in finer_header(fits.Header(), 2)), "no WCS is made up"


@pytest.mark.parametrize(
    ("cards", "what"),
    [
        ({"CPDIS1": "LOOKUP"}, "CPDIS1"),
        ({"CTYPE1": "RA---TAB"}, "CTYPE1"),
        ({"CRPIX1": "middle"}, "CRPIX1 is 'middle'"),
    ],
)
def test_a_wcs_that_cannot_follow_is_refused(cards: dict[str, object], what: str) -> None:
    with pytest.raises(InvalidDataset, match=what):
        finer_header(tan(**(ROTATED | cards)), 2)


def test_a_factor_below_one_is_refused() -> None:
    with pytest.raises(InvalidOption, match="factor is 0"):
        finer_header(tan(**ROTATED), 0)

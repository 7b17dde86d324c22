"""FITS files of results: what is read back is what was written, and the header says what the values are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from deeplense.core.errors import InvalidDataset, InvalidOption
from deeplense.data.finer_header import finer_header
from deeplense.data.fits import read_fits_images
from deeplense.data.writers import SuperResolved, write_array, write_fits_image, write_super_resolved

RANDOM = np.random.default_rng(0)
PROVENANCE = {"model": "unrolled", "version": "0.1", "checksum": "ab" * 32, "run": "naïve\nname"}


def image(name: str = "SCI", channels: int = 1, unit: str | None = "electron/s") -> SuperResolved:
    header = fits.Header()
    header["CTYPE1"], header["CTYPE2"], header["CRPIX1"], header["CRPIX2"] = "RA---TAN", "DEC--TAN", 4.0, 5.0
    header["CDELT1"], header["CDELT2"], header["CRVAL1"], header["CRVAL2"] = -5e-5, 5e-5, 10.0, 20.0
    if unit is not None:
        header["BUNIT"] = unit
    pixels = RANDOM.normal(size=(channels, 8, 6)).astype(np.float32)
    return SuperResolved(name, pixels, finer_header(header, 2), 2, np.abs(pixels), pixels > 1)


@pytest.mark.parametrize("name", ["one.fits", "one.fits.gz"])
def test_what_is_read_back_is_what_was_written(tmp_path: Path, name: str) -> None:
    images = [image("PRIMARY"), image("VIS_BGSUB"), image("CUBE", channels=3)]
    write_super_resolved(tmp_path / name, images, PROVENANCE)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert ((tmp_path / name).read_bytes()[:2] == b"\x1f\x8b") == name.endswith(".gz")
    back = read_fits_images(tmp_path / name)
    assert [one.name for one in back] == ["PRIMARY", "VIS_BGSUB", "CUBE"]
    for one, written in zip(back, images, strict=True):
        np.testing.assert_array_equal(one.pixels, written.pixels)
        np.testing.assert_array_equal(one.sigma, written.sigma)
        assert one.wcs is not None


def test_the_file_is_of_the_standard_and_says_what_it_holds(tmp_path: Path) -> None:
    images = [image("G"), image("R")]
    write_super_resolved(tmp_path / "a.fits", images, PROVENANCE)
    with fits.open(tmp_path / "a.fits", checksum=True) as units:
        units.verify("exception")
        names = ["PRIMARY", "G", "G_SIGMA", "G_MASK", "R", "R_SIGMA", "R_MASK"]
        assert [unit.name for unit in units] == names
        assert units[0].data is None
        np.testing.assert_array_equal(units["G_MASK"].data, images[0].mask[0])  # type: ignore[index]
        assert units["G"].data.dtype == np.dtype(">f4")
        for unit in units:
            assert "CHECKSUM" in unit.header
            assert (unit.header["SR_MODEL"], unit.header["SR_CHECK"]) == ("unrolled", "ab" * 32)
            assert unit.header["SR_RUN"] == "na?ve?name"
            assert "model: unrolled" in str(unit.header["HISTORY"])
        for name in ("G", "G_SIGMA"):
            assert (units[name].header["BUNIT"], units[name].header["FLUXCONV"]) == ("electron/s", "surface_brightness")
            assert "sum to 4 x the flux" in str(units[name].header["HISTORY"])
        assert "BUNIT" not in units["G_MASK"].header
        assert "CDELT1" in units["G_MASK"].header


def test_the_flux_convention_shares_the_flux_among_fine_pixels(tmp_path: Path) -> None:
    one = image()
    write_super_resolved(tmp_path / "a.fits", [one], {}, convention="flux")
    with fits.open(tmp_path / "a.fits") as units:
        np.testing.assert_array_equal(units["SCI"].data, one.pixels[0] / 4)
        np.testing.assert_array_equal(units["SCI_SIGMA"].data, one.sigma[0] / 4)  # type: ignore[index]
        assert units["SCI"].header["FLUXCONV"] == "flux"
        assert "sum to the flux" in str(units["SCI"].header["HISTORY"])


@pytest.mark.parametrize("unit", ["MJy/sr", "MJy sr-1", "erg/s/cm2/arcsec2", "mJy arcsec**-2", "Jy/(arcsec^2)"])
def test_values_per_solid_angle_are_not_divided(tmp_path: Path, unit: str) -> None:
    with pytest.raises(InvalidOption, match="per solid angle"):
        write_super_resolved(tmp_path / "a.fits", [image(unit=unit)], {}, convention="flux")
    write_super_resolved(tmp_path / "a.fits", [image(unit=unit)], {})


@pytest.mark.parametrize("unit", [None, "adu", "electron s-1", "nanomaggy", "erg s-1 cm-2", "uJy", "counts/sec"])
def test_other_values_are(tmp_path: Path, unit: str | None) -> None:
    write_super_resolved(tmp_path / "a.fits", [image(unit=unit)], {}, convention="flux")


def test_sigma_and_mask_go_with_the_chip_of_their_image(tmp_path: Path) -> None:
    images = [image(), image()]
    for chip, one in enumerate(images, 1):
        one.header["EXTVER"] = chip
    write_super_resolved(tmp_path / "a.fits", images, {})
    for one, written in zip(read_fits_images(tmp_path / "a.fits"), images, strict=True):
        np.testing.assert_array_equal(one.sigma, written.sigma)


@pytest.mark.parametrize("card", ["FO$O    = 1", "FOO     = 'a\tb'"])
def test_what_cannot_be_written_leaves_no_file(tmp_path: Path, card: str) -> None:
    path, good = tmp_path / "a.fits", image()
    with pytest.raises(InvalidOption, match="no images"):
        write_super_resolved(path, [], {})
    with pytest.raises(InvalidOption, match="the mask of SCI"):
        write_super_resolved(path, [SuperResolved("SCI", good.pixels, good.header, 2, None, good.mask[:, 1:])], {})  # type: ignore[index]
    with pytest.raises(InvalidOption, match="SR_MODEL"):
        write_super_resolved(path, [good], {"model": "a", "model_version": "b"})
    good.header.append(fits.Card.fromstring(card), bottom=True)
    with pytest.raises(InvalidDataset, match="breaks the FITS standard"):
        write_super_resolved(path, [good], {})
    assert list(tmp_path.iterdir()) == []
    repaired = SuperResolved("SCI", good.pixels, finer_header(good.header, 1), 2)
    write_super_resolved(path, [repaired], {})
    with fits.open(path) as units:
        units.verify("exception")


def test_one_image_or_array_is_written_whole(tmp_path: Path) -> None:
    pixels = RANDOM.random((5, 4), dtype=np.float32)
    write_fits_image(pixels, tmp_path / "a.fits", "deeplense predict naïve")
    with fits.open(tmp_path / "a.fits") as units:
        np.testing.assert_array_equal(units[0].data, pixels)
        assert "predict na?ve" in str(units[0].header["HISTORY"])
    write_array(tmp_path / "a.npy", pixels)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), pixels)
    with pytest.raises(ValueError, match="pickle"):
        write_array(tmp_path / "b.npy", np.array([None]))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.fits", "a.npy"]

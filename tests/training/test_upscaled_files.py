"""Files of coarse images become files of finer ones: where they go, what is in them, and what is said of each."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from PIL import Image
from tests.training.test_upscaling import lens, resolver_run, use

from deeplense.core.errors import InvalidOption, MissingFile
from deeplense.core.files import CannotWrite
from deeplense.training import upscaled_files as module
from deeplense.training.upscaled_files import upscale_files
from deeplense.training.upscaled_sources import plan, read


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run that interpolates."""
    return resolver_run(tmp_path_factory.mktemp("runs") / "plain12")


def header(unit: str = "mJy") -> fits.Header:
    made = fits.Header()
    made.update({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 40.0, "CRVAL2": -20.0, "BUNIT": unit})
    made.update({"CRPIX1": 5.0, "CRPIX2": 9.0, "CD1_1": -3e-5, "CD1_2": 1e-6, "CD2_1": 1e-6, "CD2_2": 3e-5})
    return made


def write_fits(path: Path, *images: np.ndarray, unit: str = "mJy") -> Path:
    names = ["VIS", "NIR", "NIR"]
    hdus = [fits.ImageHDU(image, header(unit), name=name) for image, name in zip(images, names, strict=False)]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path)
    return path


def array(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, pixels)
    return path


def do(run: Path, *paths: Path, out: Path, figures: Path | None = None, convention: Any = "surface_brightness") -> Any:
    jobs, _ = plan(paths, out)
    return upscale_files(use(run), jobs, convention, figures)


# ---- where they go


def test_files_keep_their_names_and_places(workplace: Path) -> None:
    for name in ("in/b.npy", "in/deep/a.npy", "c.npy"):
        array(workplace / name, lens())
    (workplace / "in/deep/a.txt").touch()
    jobs, table = plan([Path("c.npy"), Path("in")], Path("out"))
    assert [str(job.target) for job in jobs] == ["out/c.npy", "out/b.npy", "out/deep/a.npy"]
    assert [str(job.source) for job in jobs] == ["c.npy", "in/b.npy", "in/deep/a.npy"]
    assert [str(job.name) for job in jobs] == ["c", "b", "deep/a"]
    assert table == Path("out/predictions.csv")
    assert plan([Path("c.npy")], Path("there/d.npy")) == (
        [type(jobs[0])(Path("c.npy"), Path("there/d.npy"), Path("d"))],
        Path("there/predictions.csv"),
    )


def test_what_was_written_is_no_input(workplace: Path) -> None:
    array(Path("in/a.npy"), lens())
    array(Path("in/out/a.npy"), lens())
    assert [job.source for job in plan([Path("in")], Path("in/out"))[0]] == [Path("in/a.npy")]
    with pytest.raises(InvalidOption, match="overwrite"):
        plan([Path("in/a.npy")], Path("in"))
    with pytest.raises(InvalidOption, match="overwrite"):
        plan([Path("in/a.npy")], Path("in/../in/a.npy"))


def test_a_folder_of_the_output_folder_may_be_read(workplace: Path) -> None:
    array(Path("sr/cut/deep/a.npy"), lens())
    jobs, _ = plan([Path("sr/cut")], Path("sr"))
    assert [(str(job.source), str(job.target)) for job in jobs] == [("sr/cut/deep/a.npy", "sr/deep/a.npy")]
    with pytest.raises(InvalidOption, match="overwrite"):
        plan([Path("sr")], Path("sr"))


@pytest.mark.parametrize(
    ("inputs", "out", "why"),
    [
        (["a.npy", "b.npy"], "c.npy", "--out c.npy"),
        (["a.npy"], "c.fits", "--out c.fits"),
        (["a.npy"], "c.csv", "--out c.csv"),
        (["a.npy"], "file", "--out file"),
        (["a.npy", "in/a.npy"], "out", "2 files"),
        (["a.npy", "a_sigma.npy"], "out", "2 files"),
        ([], "out", "no image"),
    ],
)
def test_places_that_cannot_be_are_refused(workplace: Path, inputs: list[str], out: str, why: str) -> None:
    for name in inputs:
        array(Path(name), lens())
    Path("file").touch()
    with pytest.raises(InvalidOption, match=why):
        plan([Path(name) for name in inputs], Path(out))


def test_names_with_stray_bytes_are_written_and_shown(run: Path, workplace: Path) -> None:
    stem, said = os.fsdecode(b"caf\xe9"), "in/caf\ufffd"
    write_fits(array(Path("in") / f"{stem}.npy", lens()).with_suffix(".fits"), lens()[0], unit="MJy/sr")
    (Path("in") / f"{stem}.fit").write_text("no image")
    rows = do(run, Path("in"), out=Path("out"), figures=Path("figures"), convention="flux")
    assert [row["file"] for row in rows] == [f"{said}.fit", f"{said}.fits", f"{said}.npy"]
    assert [row["error"] is None for row in rows] == [False, False, True] and f"{said}.fit" in rows[0]["error"]
    pyarrow.csv.write_csv(pa.Table.from_pylist(rows, module.COLUMNS), "table.csv")
    assert (Path("out") / f"{stem}.npy").is_file() and (Path("figures") / f"{stem}.png").is_file()
    with pytest.raises(InvalidOption, match="overwrite in/caf\ufffd"):
        plan([Path("in") / f"{stem}.npy"], Path("in"))


def test_what_is_named_must_be_there(workplace: Path) -> None:
    Path("empty").mkdir()
    for name in ("empty", "nowhere.fits"):
        with pytest.raises(MissingFile, match=name):
            plan([Path(name)], Path("out"))


# ---- what is read


@pytest.mark.parametrize(
    ("shape", "names"), [((9, 8), [""]), ((2, 9, 8), [""]), ((9, 8, 2), [""]), ((3, 2, 9, 8), ["0", "1", "2"])]
)
def test_arrays_are_read_as_one_image_or_many(tmp_path: Path, shape: tuple[int, ...], names: list[str]) -> None:
    pixels = np.random.default_rng(0).normal(size=shape).astype(">f8")
    pixels.flat[5] = np.nan
    found = read(array(tmp_path / "a.npy", pixels))
    assert not isinstance(found, str) and [image.name for image in found] == names
    assert all(image.pixels.shape[1:] == (9, 8) and image.pixels.dtype == np.float32 for image in found)
    assert sum(int(image.mask.sum()) for image in found) == 1


@pytest.mark.parametrize("name", ["a.png", "a.npy", "a.fits", "a.fits.gz", "folder.npy"])
def test_what_is_no_image_is_told_of(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "a.png":
        Image.fromarray(np.zeros((16, 16), np.uint8)).save(path)
    elif name == "folder.npy":
        path.mkdir()
    else:
        path.write_text("this is no image" * 400)
    found = read(path)
    assert isinstance(found, str) and "expected" in found


# ---- what is written


def test_a_fits_file_keeps_its_sky_and_says_where_it_is_from(run: Path, tmp_path: Path) -> None:
    image = 40 * lens()[0]
    image[2, 3] = np.nan
    path, out = write_fits(tmp_path / "a.fits", image, 9 * lens(1)[0]), tmp_path / "new" / "b.fits"
    rows = do(run, path, out=out)
    assert [row["extension"] for row in rows] == ["VIS", "NIR"] and rows[0]["masked_pixels"] == 1
    assert rows[0]["rescaled"] and rows[0]["flux_ratio"] == pytest.approx(1, abs=0.01) and rows[0]["error"] is None
    with fits.open(out) as units:
        assert [unit.name for unit in units][1:] == [
            f"{name}{what}" for name in ("VIS", "NIR") for what in ("", "_SIGMA", "_MASK")
        ]
        fine, sigma, mask = (units[f"VIS{what}"].data for what in ("", "_SIGMA", "_MASK"))
        found = units["VIS"].header
    assert fine.shape == sigma.shape == mask.shape == (32, 32) and mask.sum() == 36 and mask[4, 6]
    assert np.nansum(fine) == pytest.approx(4 * np.nansum(image), rel=0.02)
    there = WCS(header()).pixel_to_world_values([3.0], [7.0])
    np.testing.assert_allclose(WCS(found).pixel_to_world_values([6.5], [14.5]), there, atol=1e-9)
    sha = hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()
    assert found["SR_MODEL"] == "bicubic" and found["SR_RUN"] == "plain12" and found["SR_SHA25"] == sha
    assert found["SR_CHI2"] == pytest.approx(rows[0]["chi2"]) and found["SR_SCALE"] is True
    assert "deeplense" in found["SR_VERSI"] and found["FLUXCONV"] == "surface_brightness"


@pytest.mark.parametrize("suffix", [".fits", ".npy"])
def test_flux_is_shared_by_finer_pixels(run: Path, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    write_fits(path, lens()[0]) if suffix == ".fits" else array(path, lens()[0])
    do(run, path, out=tmp_path / "one")
    do(run, path, out=tmp_path / "other", convention="flux")

    def values(folder: str) -> Any:
        found = tmp_path / folder / f"a{suffix}"
        return fits.getdata(found, 1) if suffix == ".fits" else np.load(found)

    np.testing.assert_allclose(values("other"), values("one") / 4, rtol=1e-6)
    assert values("other").sum() == pytest.approx(lens().sum(), rel=0.02)


def test_values_per_solid_angle_are_no_flux(run: Path, tmp_path: Path) -> None:
    path = write_fits(tmp_path / "a.fits", lens()[0], unit="MJy/sr")
    (row,) = do(run, path, out=tmp_path / "out", convention="flux")
    assert "MJy/sr" in row["error"] and row["chi2"] is None and not (tmp_path / "out" / "a.fits").exists()


def test_a_header_that_has_no_finer_one_stops_no_other_extension(run: Path, tmp_path: Path) -> None:
    path = write_fits(tmp_path / "a.fits", lens()[0], lens(1)[0])
    with fits.open(path, mode="update") as units:
        units["VIS"].header["CPDIS1"] = "LOOKUP"
    bad, good = do(run, path, out=tmp_path / "out")
    assert "CPDIS1" in bad["error"] and good["error"] is None
    with fits.open(tmp_path / "out" / "a.fits") as units:
        assert [unit.name for unit in units][1:] == ["NIR", "NIR_SIGMA", "NIR_MASK"]


@pytest.mark.parametrize("shape", [(16, 16), (1, 16, 16), (2, 1, 16, 16)])
def test_arrays_keep_their_axes(run: Path, tmp_path: Path, shape: tuple[int, ...]) -> None:
    rows = do(run, array(tmp_path / "a.npy", np.broadcast_to(lens()[0], shape)), out=tmp_path / "out")
    for what in ("", "_sigma", "_mask"):
        assert np.load(tmp_path / "out" / f"a{what}.npy").shape == (*shape[:-2], 32, 32)
    assert len(rows) == (shape[0] if len(shape) == 4 else 1)


def test_an_image_without_an_answer_is_nan_in_its_array(run: Path, tmp_path: Path) -> None:
    many = np.stack([lens(), np.full((1, 16, 16), np.nan), lens(1)])
    rows = do(run, array(tmp_path / "a.npy", many), out=tmp_path / "out")
    assert [row["error"] is None for row in rows] == [True, False, True]
    fine, mask = (np.load(tmp_path / "out" / f"a{what}.npy") for what in ("", "_mask"))
    assert np.isnan(fine[1]).all() and mask[1].all() and np.isfinite(fine[[0, 2]]).all() and not mask[0].any()


def test_nothing_is_written_of_files_without_an_answer(run: Path, tmp_path: Path) -> None:
    rows = do(
        run,
        array(tmp_path / "a.npy", np.zeros((16, 16))),
        write_fits(tmp_path / "b.fits", np.zeros((16, 16))),
        out=tmp_path / "out",
        figures=tmp_path / "figures",
    )
    assert all("every pixel is 0" in row["error"] for row in rows)
    assert not (tmp_path / "out").exists() and not (tmp_path / "figures").exists()


def test_a_disk_that_cannot_be_written_is_an_error(run: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "deep").touch()  # where a folder should be
    for suffix in (".npy", ".fits"):
        folder = tmp_path / suffix[1:]
        array(folder / "deep" / "a.npy", lens())
        if suffix == ".fits":
            (folder / "deep" / "a.npy").unlink()
            write_fits(folder / "deep" / "a.fits", lens()[0])
        with pytest.raises(CannotWrite):
            do(run, folder, out=tmp_path / "out")


def test_pictures_are_called_by_file_and_extension(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "png", lambda figure, _: figure.get_suptitle().encode())  # drawing takes its time
    write_fits(tmp_path / "a.fits", lens()[0], lens(1)[0], lens(2)[0])
    holes = lens()
    holes[0, :3] = np.nan
    array(tmp_path / "in" / "deep" / "b.npy", holes)
    do(run, tmp_path / "a.fits", tmp_path / "in", out=tmp_path / "out", figures=tmp_path / "figures")
    found = sorted(path.relative_to(tmp_path / "figures") for path in (tmp_path / "figures").rglob("*.png"))
    assert list(map(str, found)) == ["a_NIR_2.png", "a_NIR_3.png", "a_VIS.png", "deep/b.png"]
    assert (tmp_path / "figures" / "a_VIS.png").read_text().startswith("a.fits VIS    χ² ")


@pytest.mark.parametrize(
    ("n_images", "n_pixels", "wanted"), [(2, 10**9, [2, 2, 1]), (9, 257, [2, 2, 1]), (9, 10**9, [5])]
)
def test_files_are_worked_on_a_few_at_a_time(
    tmp_path: Path, n_images: int, n_pixels: int, wanted: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PIXELS", n_pixels)
    for k in range(5):
        array(tmp_path / f"{k}.npy", lens())
    jobs, _ = plan([tmp_path], tmp_path / "out")
    assert [len(part) for part in module._parts(jobs, n_images)] == wanted

"""Prediction: one row per image, in order, and a reason where there is no answer."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import torch
from astropy.io import fits
from PIL import Image
from tests.training.test_upscaling import lens, resolver_run

from deeplense.cli import main
from deeplense.core.errors import InvalidOption, MissingFile
from deeplense.evaluate import evaluate
from deeplense.predict import PredictOptions, UnreadableImages, predict
from deeplense.train import train
from deeplense.training.trained import TrainedModel

COLUMNS = ["file", "prediction", "p_no_sub", "p_cdm", "p_axion", "unlike", "error"]
ANSWERS = COLUMNS[1:5]


@pytest.fixture
def ask(small_run: Path, workplace: Path) -> Any:
    """Return a function that predicts with a small run and returns the table's rows."""

    def run(*files: Path, **options: Any) -> list[dict[str, Any]]:
        defaults = {"run_id": str(small_run), "files": files, "device": "cpu", "out": Path("out.parquet")}
        out = predict(**defaults | options)
        return pq.read_table(out).to_pylist()

    return run


def image(path: Path, value: float = 0.0, shape: tuple[int, ...] = (64, 64)) -> Path:
    np.save(path, np.random.default_rng(1).normal(value, 1, shape).astype(np.float32))
    return path


def test_the_answers_are_those_of_the_evaluation(ask: Any, small_run: Path, small_tree: Path, workplace: Path) -> None:
    run = Path(shutil.copytree(small_run, workplace / "copy"))
    evaluate(run_id=str(run), device="cpu")
    stored = {row["id"]: row for row in pq.read_table(run / "predictions.parquet").to_pylist()}
    rows = ask(small_tree / "test", batch_size=7)
    assert len(rows) == 24
    for row in rows:
        path = Path(row["file"])
        twin = stored[f"test/{path.parent.name}/{path.stem}"]
        assert row["prediction"] == twin["prediction"]
        assert [row[name] for name in ANSWERS[1:]] == pytest.approx([twin[name] for name in ANSWERS[1:]], abs=1e-5)
        assert row["error"] is None


def test_rows_come_in_the_order_of_the_files_and_folders_are_sorted(ask: Any, workplace: Path) -> None:
    (workplace / "deep" / "er").mkdir(parents=True)
    names = ["deep/b.npy", "deep/a.npy", "deep/er/c.npy", "z.npy"]
    for name in names:
        image(workplace / name)
    rows = ask(workplace / "z.npy", workplace / "deep", workplace / "z.npy")
    found = [str(Path(row["file"]).relative_to(workplace)) for row in rows]
    assert found == ["z.npy", "deep/a.npy", "deep/b.npy", "deep/er/c.npy", "z.npy"]
    assert list(rows[0]) == COLUMNS


def test_pictures_are_read_as_in_training(ask: Any, workplace: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
    Image.fromarray(pixels).save(workplace / "a.png")
    np.save(workplace / "b.npy", pixels)
    picture, array = ask(workplace / "a.png", workplace / "b.npy")
    assert [picture[name] for name in ANSWERS] == [array[name] for name in ANSWERS]


def spoil(path: Path, how: str) -> Path:
    if how == "text":
        path.write_text("this is no image")
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "nan":
        np.save(path, np.full((64, 64), np.nan))
    elif how == "small":
        np.save(path, np.zeros((10, 10)))
    elif how == "bands":
        np.save(path, np.zeros((3, 64, 64)))
    return path


@pytest.mark.parametrize("how", ["text", "empty", "nan", "small", "bands"])
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_an_image_that_cannot_be_read_gets_a_row_that_says_why(
    small_run: Path, workplace: Path, how: str, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [image(workplace / "a.npy"), spoil(workplace / "b.npy", how), image(workplace / "c.npy")]
    out = workplace / f"out{suffix}"
    assert main(["predict", str(small_run), *map(str, files), "--out", str(out), "--device", "cpu"]) == 2
    said = capsys.readouterr().err
    assert "1 of 3 images" in said and "expected:" in said and "to do:" in said and "Traceback" not in said
    table = pyarrow.csv.read_csv(out) if suffix == ".csv" else pq.read_table(out)
    rows = table.to_pylist()
    assert [Path(row["file"]).name for row in rows] == ["a.npy", "b.npy", "c.npy"]
    assert rows[1]["error"] and rows[1]["prediction"] in (None, "") and rows[1]["p_cdm"] is None
    for row in (rows[0], rows[2]):
        assert not row["error"]
        assert row["prediction"] in ("no_sub", "cdm", "axion")
        assert sum(row[name] for name in ANSWERS[1:]) == pytest.approx(1, abs=1e-5)


def test_an_image_unlike_those_of_training_is_told_of(
    ask: Any, small_tree: Path, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    like = next((small_tree / "test").rglob("*.npy"))
    np.save(workplace / "other_unit.npy", np.load(like) * 100)
    rows = ask(like, workplace / "other_unit.npy")
    assert rows[0]["unlike"] is None
    assert "pixel" in rows[1]["unlike"] and "in training" in rows[1]["unlike"]
    assert rows[1]["prediction"] is not None and rows[1]["error"] is None
    assert "1 of 2 unlike the training images" in capsys.readouterr().err


def test_names_with_stray_bytes_are_shown(ask: Any, workplace: Path) -> None:
    good, bad = (workplace / os.fsdecode(name) for name in (b"caf\xe9.npy", b"th\xe9.npy"))
    image(good)
    assert [row["file"] for row in ask(good)] == [f"{workplace}/caf\ufffd.npy"]
    bad.write_bytes(b"no image")
    with pytest.raises(UnreadableImages):
        ask(good, bad, out=Path("both.csv"))
    _, row = pyarrow.csv.read_csv("both.csv").to_pylist()
    assert "th\ufffd.npy" in row["file"] and "th\ufffd.npy" in row["error"]


def test_when_no_image_can_be_read_the_table_says_so_for_each(ask: Any, workplace: Path) -> None:
    files = [spoil(workplace / f"{how}.npy", how) for how in ("text", "nan")]
    with pytest.raises(UnreadableImages, match="2 of 2"):
        ask(*files)
    assert all(row["error"] for row in pq.read_table("out.parquet").to_pylist())


def test_an_answer_that_is_no_number_is_an_error_of_its_row(ask: Any, small_set: Path, workplace: Path) -> None:
    run = train(dataset=str(small_set), epochs=1, normalise="standard", device="cpu", out=workplace / "run")
    huge = workplace / "b.npy"
    pixels = np.load(image(workplace / "a.npy"))
    np.save(huge, pixels * np.float32(3e38 / np.abs(pixels).max()))  # finite, but the network overflows
    with pytest.raises(UnreadableImages, match="1 of 2"):
        ask(workplace / "a.npy", huge, run_id=str(run))
    good, bad = pq.read_table("out.parquet").to_pylist()
    assert good["prediction"] and good["error"] is None
    assert bad["prediction"] is None and bad["p_cdm"] is None and "not a number" in bad["error"]


# ---- no dead knobs


def test_every_option_has_a_test_here() -> None:
    fields = {field.name for field in dataclasses.fields(PredictOptions)}
    elsewhere = {"maps"}  # tests/tasks/test_detect_anomalies.py
    elsewhere |= {"flux_convention", "rescale", "figures"}  # below
    elsewhere |= {"images", "committee", "prevalence", "own_stretch"}  # tests/training/test_candidates.py
    elsewhere |= {"known_lenses", "match_radius", "mosaic", "top", "shard"}
    elsewhere |= {"bands"}  # tests/test_bands.py
    assert fields == {"run_id", "files", "out", "batch_size", "device"} | elsewhere


def test_run_id_and_files(ask: Any, small_run: Path, small_set: Path, workplace: Path) -> None:
    one, other = ask(image(workplace / "a.npy"), image(workplace / "b.npy", 5.0))
    assert one["p_cdm"] != other["p_cdm"], "the images differ and the answers do not"
    second = train(dataset=str(small_set), epochs=1, seed=1, device="cpu", out=workplace / "second")
    assert ask(workplace / "a.npy", run_id=str(second))[0]["p_cdm"] != one["p_cdm"], "another run answers the same"


@pytest.mark.parametrize("out", [Path("new/answers.csv"), Path("answers.parquet")])
def test_out(small_run: Path, workplace: Path, out: Path) -> None:
    assert predict(run_id=str(small_run), files=[str(image(workplace / "a.npy"))], out=out, device="cpu") == out
    table = pyarrow.csv.read_csv(out) if out.suffix == ".csv" else pq.read_table(out)
    assert table.column_names == COLUMNS and table.num_rows == 1


def test_the_default_table_is_csv(small_run: Path, workplace: Path) -> None:
    assert predict(run_id=str(small_run), files=[image(workplace / "a.npy")]) == Path("predictions.csv")
    assert pyarrow.csv.read_csv("predictions.csv").num_rows == 1


@pytest.mark.parametrize("out", ["answers.txt", "answers", "answers.csv.gz"])
def test_a_table_of_another_kind_is_refused_before_any_work(small_run: Path, workplace: Path, out: str) -> None:
    with pytest.raises(InvalidOption, match=out):
        predict(run_id=str(small_run), files=[image(workplace / "a.npy")], out=out)
    assert not (workplace / out).exists()


@pytest.mark.parametrize("size", [1, 2, 5])
def test_batch_size(ask: Any, workplace: Path, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    real = TrainedModel.answer
    monkeypatch.setattr(TrainedModel, "answer", lambda self, batch: (sizes.append(len(batch)), real(self, batch))[1])
    files = [image(workplace / f"{i}.npy", i) for i in range(5)]
    rows = ask(*files, batch_size=size)
    assert sizes == {1: [1] * 5, 2: [2, 2, 1], 5: [5]}[size]
    alone = [ask(file)[0]["p_cdm"] for file in files]
    assert [row["p_cdm"] for row in rows] == pytest.approx(alone, abs=1e-5), "an answer went to the wrong image"
    assert len(set(alone)) == 5


def test_device(ask: Any, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InvalidOption, match="no cuda"):
        ask(image(workplace / "a.npy"), device="cuda")


# ---- what is named must be there


def test_a_file_that_is_not_there_is_an_error_before_any_work(ask: Any, workplace: Path) -> None:
    with pytest.raises(MissingFile, match=r"nowhere\.npy"):
        ask(image(workplace / "a.npy"), workplace / "nowhere.npy")
    assert not Path("out.parquet").exists()


def test_a_folder_without_images_is_an_error(ask: Any, workplace: Path) -> None:
    (workplace / "empty").mkdir()
    (workplace / "empty" / "notes.txt").write_text("")
    with pytest.raises(MissingFile, match="empty") as caught:
        ask(workplace / "empty")
    assert ".npy" in caught.value.expected


def test_no_file_at_all_is_an_error(ask: Any) -> None:
    with pytest.raises(InvalidOption, match="no image is named"):
        ask()


@pytest.mark.filterwarnings("error")
def test_a_cropped_run_crops_and_takes_images_that_are_cropped_already(small_set: Path, workplace: Path) -> None:
    run = train(dataset=str(small_set), crop=32, epochs=1, batch_size=24, device="cpu", out=workplace / "run")
    large = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    np.save("large.npy", large)
    np.save("small.npy", large[16:48, 16:48])
    out = predict(run_id=str(run), files=["large.npy", "small.npy"], out="out.parquet", device="cpu")
    first, second = pq.read_table(out).to_pylist()
    assert [first[name] for name in ANSWERS] == [second[name] for name in ANSWERS]


# ---- super-resolution


@pytest.fixture
def resolver(workplace: Path) -> Path:
    """Return a run that makes images finer by interpolation."""
    return resolver_run(workplace / "resolver", noise={"background": 2e-5, "per_value": 0.0})


def upscale(*words: object) -> tuple[int, list[dict[str, Any]]]:
    """Return the exit code of a command line, and the rows of its table."""
    code = main(["predict", *map(str, words), "--device", "cpu"])
    table = next(Path().rglob("predictions.csv"), None)
    return code, [] if table is None else pyarrow.csv.read_csv(table).to_pylist()


def test_fits_in_fits_out(resolver: Path, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fits.PrimaryHDU(lens(side=64)[0]).writeto("in.fits")
    code, rows = upscale(resolver, "in.fits", "--out", "out.fits")
    assert code == 0 and Path("predictions.csv").is_file() and fits.getdata("out.fits").shape == (128, 128)
    (row,) = rows
    names = ["file", "extension", "factor", "chi2", "consistent", "flux_ratio", "masked_pixels"]
    assert list(row) == [*names, "rescaled", "unlike", "error"]
    assert row["file"] == "in.fits" and row["factor"] == 2 and row["consistent"] is True and 0.1 < row["chi2"] < 1.5
    assert "noise of what was observed" not in capsys.readouterr().err
    first = Path("out.fits").read_bytes()
    Path("out.fits").write_text("something else")
    assert upscale(resolver, "in.fits", "--out", "out.fits")[0] == 0 and Path("out.fits").read_bytes() == first


def test_the_default_place_is_a_folder(resolver: Path, workplace: Path) -> None:
    np.save("a.npy", lens(side=64))
    assert predict(run_id=str(resolver), files=["a.npy"]) == Path("super_resolved/predictions.csv")
    assert {path.name for path in Path("super_resolved").iterdir()} == {
        *("a.npy", "a_sigma.npy", "a_mask.npy", "predictions.csv")
    }


def test_flux_convention_rescale_and_figures(resolver: Path, workplace: Path) -> None:
    np.save("a.npy", lens(side=64) * 30)
    totals = {}
    for words in ([], ["--flux_convention", "flux"], ["--rescale", "none"]):
        _, (row,) = upscale(resolver, "a.npy", "--out", "out", *words)
        totals[" ".join(words)] = np.load("out/a.npy").sum()
        assert row["rescaled"] is (not words or words[0] != "--rescale") and bool(row["unlike"]) is not row["rescaled"]
    assert totals["--flux_convention flux"] * 4 == pytest.approx(totals[""])
    upscale(resolver, "a.npy", "--out", "out", "--figures", "seen")
    assert [path.name for path in Path("seen").iterdir()] == ["a.png"] and Image.open("seen/a.png").size[0] > 1000


def test_what_contradicts_its_image_is_written_and_said(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = resolver_run(workplace / "sure", noise={"background": 1e-9, "per_value": 0.0})
    np.save("a.npy", lens())
    np.save("b.npy", np.zeros((1, 16, 16)))
    code, rows = upscale(run, "a.npy", "--out", "out")
    said = capsys.readouterr().err
    assert code == 2 and "1 of 1 super-resolved images contradict" in said and "expected: at most 1.5" in said
    assert rows[0]["consistent"] is False and np.load("out/a.npy").shape == (1, 32, 32)
    code, _ = upscale(run, "a.npy", "b.npy", "--out", "out")
    said = capsys.readouterr().err
    assert code == 2 and "1 of 2 super-resolved images contradict" in said and "1 of 2 images could not be read" in said


def test_an_estimate_that_keeps_the_noise_is_told_of(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save("a.npy", lens())
    code, (row,) = upscale(resolver_run(workplace / "exact", model="pseudo_inverse"), "a.npy", "--out", "out")
    assert code == 0 and row["consistent"] is True and row["chi2"] < 0.1
    assert "1 of 1 still have the noise" in capsys.readouterr().err


@pytest.mark.filterwarnings("error")
def test_what_cannot_be_made_finer_gets_a_row_and_no_traceback(
    resolver: Path, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for how in ("text", "empty", "nan", "bands"):
        spoil(workplace / f"{how}.npy", how)
    np.save("tiny.npy", np.eye(4))
    Image.fromarray(np.zeros((64, 64), np.uint8)).save("picture.png")
    np.save("good.npy", lens(side=64))
    names = ["text.npy", "empty.npy", "nan.npy", "bands.npy", "tiny.npy", "picture.png", "good.npy"]
    code, rows = upscale(resolver, *names, "--out", "out")
    said = capsys.readouterr().err
    assert code == 2 and "6 of 7 images" in said and "Traceback" not in said
    assert [row["file"] for row in rows] == names and [bool(row["error"]) for row in rows] == [True] * 6 + [False]


@pytest.mark.parametrize("name", ["maps", "flux_convention", "rescale", "figures"])
def test_options_that_mean_nothing_to_a_run_are_refused(
    resolver: Path, small_run: Path, workplace: Path, name: str
) -> None:
    values = {"maps": "m", "flux_convention": "flux", "rescale": "none", "figures": "f"}
    np.save("a.npy", lens(side=64))
    with pytest.raises(InvalidOption, match=f"--{name.replace('_', '-')} "):
        predict(run_id=str(resolver if name == "maps" else small_run), files=["a.npy"], **{name: values[name]})

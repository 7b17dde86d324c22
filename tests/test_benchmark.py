"""The benchmark as a user types it: a tiny suite that is run, stopped, shared, damaged and shown."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import torch

from deeplense import benchmark as run_suite
from deeplense.benchmark import BenchmarkOptions, _one_process_each
from deeplense.cli import main
from deeplense.core.errors import DeepLenseError, InvalidOption, UnknownName
from deeplense.core.files import claimed, sha256
from deeplense.data.dataset import open_dataset
from deeplense.recipes.draw import draw
from deeplense.recipes.recipe import Sample, load_recipe, shipped_recipes
from deeplense.suites.results import Results
from deeplense.suites.suite import load_suite

SUITE = """
name = "tiny"
description = "A suite of a few seconds."
[options]
batch_size = 8
[sizes.small]
about = "Small."
train = 8
validation = 4
test = 4
epochs = 2
datasets = ["plain", "noisy"]
methods = ["ours", "ours-complex", "broken"]
[sizes.long]
about = "Long enough to be stopped."
train = 24
validation = 4
test = 4
epochs = 12
datasets = ["plain"]
methods = ["ours"]
[sizes.weights]
about = "Weights from a folder."
train = 8
validation = 4
test = 4
epochs = 1
datasets = ["plain"]
methods = ["from_weights"]
[datasets.plain]
recipe = "recipe.toml"
[datasets.noisy]
recipe = "recipe.toml"
noise = 2.0
[variants.complex]
complex = true
[methods.ours]
model_name = "residual_cnn"
reference = "We <ourselves> & others"
variants = ["complex"]
[methods.broken]
model_name = "residul_cnn"
reference = "Nobody"
datasets = ["plain"]
[methods.from_weights]
model_source = "timm"
model_name = "lcnet_050"
pretrained = "1"
reference = "C. Cui et al., arXiv:2109.15099"
"""
# a process that a shell has put into the background ignores the interrupt, and so would its children
PROGRAM = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from deeplense.cli import main
sys.exit(main())
"""
DONE = {("plain", "ours"), ("plain", "ours-complex"), ("noisy", "ours"), ("noisy", "ours-complex")}


def write_suite(folder: Path, text: str = SUITE) -> Path:
    """Write the suite and its recipe of 16 × 16 pixels."""
    recipe = re.sub(r"(?m)^n_pixels = .*$", "n_pixels = 16", shipped_recipes()["model_ii"])
    (folder / "recipe.toml").write_text(recipe)
    (folder / "suite.toml").write_text(text)
    return folder / "suite.toml"


def rows(folder: Path) -> dict[tuple[str, str], dict[str, str]]:
    """Return the CSV's rows by dataset and method."""
    with (folder / "results.csv").open(newline="") as file:
        return {(row["dataset"], row["method"]): row for row in csv.DictReader(file)}


def states(folder: Path) -> dict[tuple[str, str], str]:
    return {cell: row["state"] for cell, row in rows(folder).items()}


def start(suite: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    """Start the command in a process of its own."""
    line = [sys.executable, "-c", PROGRAM, "benchmark", str(suite), "--out", str(out), *more]
    return subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=os.environ.copy())


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a suite and the folder in which it was run; to be read only."""
    folder = tmp_path_factory.mktemp("suite")
    suite = write_suite(folder)
    return suite, run_suite(suite=str(suite), size="small", out=folder / "out", device="cpu")


@pytest.fixture
def copy(finished: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """Return a copy of the suite and its results, at a place of its own."""
    suite, folder = finished
    shutil.copytree(suite.parent, tmp_path / "copy")
    return tmp_path / "copy" / "suite.toml", tmp_path / "copy" / "out" / folder.name


def again(suite: Path, folder: Path, **options: Any) -> Path:
    return run_suite(suite=str(suite), size=folder.name, out=folder.parent, **{"device": "cpu"} | options)


# ---- the table


def test_every_cell_has_a_row_with_its_marks_and_what_it_cost(finished: tuple[Path, Path]) -> None:
    _, folder = finished
    found = rows(folder)
    assert {cell for cell, row in found.items() if row["state"] == "done"} == DONE
    for dataset, method in DONE:
        row, run = found[dataset, method], folder / dataset / method
        marks = json.loads((run / "metrics.json").read_text())
        for name in ("auroc_macro", "auroc_no_sub", "auroc_cdm", "auroc_axion", "accuracy"):
            shown = {"value": row[name], "low": row[f"{name}_low"], "high": row[f"{name}_high"]}
            assert {key: float(value) for key, value in shown.items()} == pytest.approx(
                {key: marks[name][key] for key in shown}
            )
        config, history = (json.loads((run / f"{name}.json").read_text()) for name in ("config", "history"))
        assert int(row["parameters"]) == config["model"]["parameters"]
        assert (int(row["n_train"]), int(row["n_validation"]), int(row["n_test"])) == (24, 12, 12)
        assert int(row["epochs"]) == len(history) == 2
        assert float(row["train_seconds"]) == pytest.approx(sum(e["seconds"] for e in history), abs=0.06)
        assert float(row["images_per_second"]) > 0
        assert row["devices"] and row["git_commit"] == (config["git_commit"] or "")
        assert row["reference"] == "We <ourselves> & others"
        assert (run / "report.html").is_file()


def test_a_cell_that_cannot_be_run_says_why_and_the_others_go_on(finished: tuple[Path, Path]) -> None:
    _, folder = finished
    row = rows(folder)["plain", "broken"]
    assert row["state"] == "not run" and "residul_cnn" in row["reason"]
    assert not row["auroc_macro"]


def test_what_a_size_leaves_out_is_said(finished: tuple[Path, Path]) -> None:
    _, folder = finished
    row = rows(folder)["plain", "from_weights"]
    assert row["state"] == "left out" and "small" in row["reason"]
    assert "from_weights" in (folder / "index.html").read_text()


def test_the_command_of_a_row_is_understood(finished: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    folder = finished[1]
    command = rows(folder)["noisy", "ours-complex"]["command"].split()
    assert command[0] == "deeplense"
    assert main([*command[1:], "--out", str(folder.parent), "--list"]) == 0
    said = capsys.readouterr().out
    assert "ours-complex" in said and "noisy" in said and "plain" not in said


def test_the_page_stands_by_itself_and_leads_to_every_report(finished: tuple[Path, Path]) -> None:
    _, folder = finished
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert "<script" not in page and "http" not in re.sub(r"http-equiv", "", page.partition("</head>")[0])
    for link in re.findall(r'href="([^"#]+)"', page):
        assert (folder / unquote(link)).is_file(), link
    assert len(re.findall(r'href="[^"#]+report.html"', page)) == len(DONE)
    assert "We &lt;ourselves&gt; &amp; others" in page, "whom to cite"
    assert "8 to train on, 4 to choose the epoch, 4 to judge on" in page
    assert "not run: no deeplense model is called &#39;residul_cnn&#39;" in page
    assert page.count("data:image/svg+xml") == 2, "ROC curves of each dataset"
    assert "noise × 2" in page


def test_the_best_method_comes_first(finished: tuple[Path, Path]) -> None:
    _, folder = finished
    for dataset in ("plain", "noisy"):
        values = [
            float(row["auroc_macro"]) for (name, _), row in rows(folder).items() if name == dataset and row["n_test"]
        ]
        assert values == sorted(values, reverse=True)


def test_the_terminal_table_fits_80_columns(
    finished: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    suite, folder = finished
    again(suite, folder, list=True)
    said = capsys.readouterr().out
    assert "not run: no deeplense model" in said
    assert max(map(len, said.splitlines())) <= 80


def test_noise_is_that_of_the_declared_factor(finished: tuple[Path, Path]) -> None:
    suite, folder = finished
    plain, noisy = (open_dataset(folder / "data" / name) for name in ("plain", "noisy"))
    assert plain.catalogue["source_center_x"] == noisy.catalogue["source_center_x"], "the same scenes"
    rows = plain.indices("train")
    samples = [Sample("train", label, k) for k in range(8) for label in plain.labels]
    drawn = draw(load_recipe(suite.with_name("recipe.toml")), 0, samples)
    spread = [
        float(((torch.from_numpy(dataset.images(rows)) - drawn.expected) / drawn.variance.sqrt()).std())
        for dataset in (plain, noisy)
    ]
    assert spread == pytest.approx([1, 2], rel=0.05)
    assert spread[1] / spread[0] == pytest.approx(2, rel=1e-3), "the same random numbers"


# ---- anomalies

STRANGE = """
name = "strange"
description = "Detectors in a few seconds."
[options]
batch_size = 8
[sizes.small]
about = "Small."
train = 16
validation = 8
test = 12
epochs = 2
seeds = 2
[datasets.lenses]
recipe = "recipe.toml"
normal = "no_sub"
[datasets.elsewhere]
path = "somewhere/images"
normal = "no_sub"
methods = ["brightness", "discriminant"]
[methods.brightness]
detector = "brightness"
seeds = 1
[methods.discriminant]
model_name = "global_statistics"
reference = "Fisher"
lr = 1e-2
"""
MARKS = (
    *("auroc", "auroc_cdm", "auroc_axion", "auprc_at_1pct", "auprc_at_5pct"),
    *("tpr_at_1pct_fpr", "tpr_at_0.1pct_fpr"),
)


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a suite of detectors and the folder in which it was run; to be read only."""
    folder = tmp_path_factory.mktemp("strange")
    suite = write_suite(folder, STRANGE)
    return suite, run_suite(suite=str(suite), size="small", out=folder / "out", device="cpu")


def test_detectors_and_classifiers_have_the_same_marks(strange: tuple[Path, Path]) -> None:
    _, folder = strange
    found = {method: row for (dataset, method), row in rows(folder).items() if dataset == "lenses"}
    shown = {"brightness": "normal images only", "discriminant": "labels"}
    for method, row in found.items():
        assert row["state"] == "done" and row["shown"] == shown[method] and row["reference"]
        assert all(row[name + end] for name in MARKS for end in ("", "_low", "_high")), row
        assert (int(row["n_train"]), int(row["n_test"])) == ((48 if method == "discriminant" else 16), 36)
        assert int(row["parameters"]) > 0 and float(row["images_per_second"]) > 0 and float(row["train_seconds"]) >= 0
    assert [found[method]["epochs"] for method in shown] == ["1", "2"]
    assert int(found["brightness"]["parameters"]) == 2, "mean and deviation, without the scores that calibrate it"
    assert not (folder / "lenses" / "discriminant" / "config.json").is_file()


def test_the_marks_of_several_seeds_are_their_mean(strange: tuple[Path, Path]) -> None:
    _, folder = strange
    found = rows(folder)["lenses", "discriminant"]
    runs = [folder / "lenses" / "discriminant" / f"seed-{seed}" for seed in (0, 1)]
    values = [json.loads((run / "benchmark.json").read_text())["marks"]["auroc"]["value"] for run in runs]
    assert sha256(runs[0] / "model.safetensors") != sha256(runs[1] / "model.safetensors")
    assert float(found["auroc"]) == pytest.approx(sum(values) / 2) and found["seeds"] == "2"
    assert float(found["auroc_sd"]) == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    assert rows(folder)["lenses", "brightness"]["seeds"] == "1"


def test_images_that_are_not_there_are_the_reason_and_are_found_elsewhere(
    strange: tuple[Path, Path], small_tree: Path, tmp_path: Path
) -> None:
    suite, folder = strange
    row = rows(folder)["elsewhere", "brightness"]
    assert row["state"] == "not run" and "there is nothing at" in row["reason"] and "somewhere/images" in row["reason"]
    assert rows(folder)["elsewhere", "discriminant"]["reason"].startswith("seed 0: there is nothing at")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "images").symlink_to(small_tree)
    options = {"only": ["elsewhere", "brightness"], "data": tmp_path / "mine", "out": tmp_path / "out"}
    found = rows(run_suite(suite=str(suite), size="small", device="cpu", **options))["elsewhere", "brightness"]
    assert found["state"] == "done"
    assert (found["n_train"], found["n_test"]) == ("16", "24"), "of those that are there, as many as the size says"


def test_the_page_of_anomalies_tells_the_protocol(strange: tuple[Path, Path]) -> None:
    _, folder = strange
    page = (folder / "index.html").read_text(encoding="utf-8")
    for link in re.findall(r'href="([^"#]+)"', page):
        assert (folder / unquote(link)).is_file(), link
    for words in (
        "The protocol",
        "each class against no_sub",
        "Student",
        "labels, 2 seeds",
        "TPR at 1 % FPR",
    ):
        assert words in page, words
    assert "accuracy" not in page
    assert page.count("data:image/svg+xml") == 1, "ROC curves where something is done"


def test_the_terminal_table_of_anomalies_fits_80_columns(
    strange: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    suite, folder = strange
    again(suite, folder, list=True)
    said = capsys.readouterr().out
    assert "TPR at 1 % FPR" in said and "not run: there is nothing" in said
    assert max(map(len, said.splitlines())) <= 80


# ---- super-resolution

PAIRED = """
name = "paired"
description = "Upscalers in a few seconds."
[options]
task = "super_resolve"
estimator = "fidelity"
batch_size = 4
[sizes.small]
about = "Small."
train = 4
validation = 2
test = 3
epochs = 1
[datasets.pairs]
recipe = "recipe.toml"
change = { pair = { factor = 2, method = "area" } }
published = { psnr = 51.25, source = "the record of <others>" }
[variants.truth]
estimator = "truth"
[methods.bicubic]
model_name = "bicubic"
variants = ["truth"]
published = { psnr = 50.75, source = "others" }
[methods.linear]
model_name = "linear"
"""


@pytest.fixture(scope="module")
def paired(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a suite of upscalers and the folder in which it was run; to be read only."""
    folder = tmp_path_factory.mktemp("paired")
    suite = write_suite(folder, PAIRED)
    return suite, run_suite(suite=str(suite), size="small", out=folder / "out", device="cpu")


def test_upscalers_have_their_marks_and_what_they_cost(paired: tuple[Path, Path]) -> None:
    found = rows(paired[1])
    for name in ("bicubic", "bicubic-truth", "linear"):
        row = found["pairs", name]
        assert row["state"] == "done" and row["estimator"] == ("truth" if "truth" in name else "fidelity")
        marks = json.loads((paired[1] / "pairs" / name / "metrics.json").read_text())
        for mark in ("psnr", "floor", "gap", "psnr_truth", "ssim", "flux_error", "centroid_offset", "coverage_68"):
            assert (
                float(row[mark]) == pytest.approx(marks[mark]["value"]) and row[f"{mark}_low"] and row[f"{mark}_high"]
            )
        assert float(row["psnr"]) + float(row["gap"]) == pytest.approx(float(row["floor"]), abs=1e-3)
        assert (int(row["n_train"]), int(row["n_test"]), row["epochs"]) == (12, 9, "1")
        assert float(row["images_per_second"]) > 0 and row["reference"]
    parameters = {name: int(found["pairs", name]["parameters"]) for name in ("bicubic", "linear")}
    assert parameters["linear"] > parameters["bicubic"], "what is fitted is learnt, too"


def test_published_figures_are_said_to_be_from_elsewhere(paired: tuple[Path, Path]) -> None:
    found, page = rows(paired[1]), (paired[1] / "index.html").read_text(encoding="utf-8")
    figures = {method: row["published_psnr"] for (_, method), row in found.items()}
    assert figures == {"bicubic": "50.75", "bicubic-truth": "", "linear": "", "": "51.25"}
    assert found["pairs", ""]["state"] == "published elsewhere" and found["pairs", ""]["published_source"]
    for words in ("published elsewhere</th>", ">50.75<", "51.25 (PSNR, observed", "the record of &lt;others&gt;"):
        assert words in page, words


def test_the_page_of_pairs_compares_those_that_are_asked_for_the_same(paired: tuple[Path, Path]) -> None:
    page = (paired[1] / "index.html").read_text(encoding="utf-8")
    for link in re.findall(r'href="([^"#]+)"', page):
        assert (paired[1] / unquote(link)).is_file(), link
    assert page.count("data:image/svg+xml") == 2, "PSNR against the observed images and against the truth"
    assert "dotted: the noise floor" in page and "The protocol" in page and "AUROC" not in page
    places = [
        page.index(f">{words}<") for words in ("asked for the observed image", "asked for the image without noise")
    ]
    first, second = page[places[0] : places[1]], page[places[1] : page.index("</table>")]
    assert "linear/report.html" in first and "bicubic/report.html" in first and 'class="best"' in first
    assert "bicubic-truth/report.html" in second and 'class="best"' not in second, "a single one is not the best"
    values = [float(row["psnr"]) for (_, method), row in rows(paired[1]).items() if method in ("linear", "bicubic")]
    assert values == sorted(values, reverse=True)


def test_the_terminal_table_of_pairs_fits_80_columns(
    paired: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    suite, folder = paired
    again(suite, folder, list=True)
    said = capsys.readouterr().out
    assert "PSNR [95 %], dB" in said and re.search(r"linear +\d+\.\d+ \[\d+\.\d+, \d+\.\d+\] +\d", said)
    assert max(map(len, said.splitlines())) <= 80


@pytest.mark.parametrize("name", ["metrics.json", "predictions.parquet", "benchmark.json"])
def test_a_damaged_seed_is_judged_anew(name: str, strange: tuple[Path, Path], tmp_path: Path) -> None:
    suite, folder = strange
    shutil.copytree(suite.parent, tmp_path / "copy")
    suite, folder = tmp_path / "copy" / "suite.toml", tmp_path / "copy" / "out" / folder.name
    sound = rows(folder)["lenses", "discriminant"]
    run = folder / "lenses" / "discriminant" / "seed-1"
    weights = sha256(run / "model.safetensors")
    (run / name).write_bytes(b"{")
    found = Results(load_suite(str(suite))[0], str(suite), "small", folder).rows()
    half = next(row for row in found if (row.name, row.method.name) == ("lenses", "discriminant"))
    assert (half.state, half.reason, half.marks) == ("begun", "1 of 2 seeds", {})
    again(suite, folder, only=["lenses"])
    row = rows(folder)["lenses", "discriminant"]
    assert {key: row[key] for key in row if key.startswith("au")} == {
        key: sound[key] for key in sound if key.startswith("au")
    }
    assert sha256(run / "model.safetensors") == weights


# ---- stopped, resumed, shared


def test_what_is_finished_is_not_run_again(copy: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    suite, folder = copy
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*/ours*/*")}
    again(suite, folder)
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*/ours*/*")} == before
    assert "epoch" not in capsys.readouterr().err


def test_a_stopped_suite_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    suite = write_suite(tmp_path)
    whole = run_suite(suite=str(suite), size="long", out=tmp_path / "whole", device="cpu")
    process = start(suite, tmp_path / "stopped", "--size", "long", "--device", "cpu")
    run = tmp_path / "stopped" / "long" / "plain" / "ours"
    deadline = time.monotonic() + 120
    while not (run / "history.json").is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and "stopped" in said and "Traceback" not in said, said
    assert (run / "resume.pt").is_file() and 1 <= len(json.loads((run / "history.json").read_text())) < 12
    run_suite(suite=str(suite), size="long", out=tmp_path / "stopped", device="cpu")
    assert states(tmp_path / "stopped" / "long")["plain", "ours"] == "done"
    assert sha256(run / "model.safetensors") == sha256(whole / "plain" / "ours" / "model.safetensors")


def test_two_processes_share_the_cells(tmp_path: Path) -> None:
    suite = write_suite(tmp_path)
    options = ("--size", "small", "--device", "cpu", "--only", "plain")
    processes = [start(suite, tmp_path / "out", *options) for _ in range(2)]
    said = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    begun = re.findall(r"cell \d of \d: (\w+) × ([\w-]+)", "".join(said))
    assert sorted(cell for cell in begun if cell[1] != "broken") == [("plain", "ours"), ("plain", "ours-complex")]
    done = {cell for cell, state in states(tmp_path / "out" / "small").items() if state == "done"}
    assert done == {("plain", "ours"), ("plain", "ours-complex")}, "the last to end shows all"


def test_a_cell_that_another_process_holds_is_left_to_it(
    copy: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    suite, folder = copy
    shutil.rmtree(folder / "plain" / "ours")
    with claimed(folder / "plain" / "ours") as mine:
        assert mine
        again(suite, folder)
    assert states(folder)["plain", "ours"] == "waiting"
    assert "plain × ours: another process is at it" in capsys.readouterr().err


def test_one_process_per_device(tmp_path: Path) -> None:
    suite = write_suite(tmp_path)
    options = BenchmarkOptions(str(suite), size="small", out=tmp_path / "out", only=("ours", "noisy"), device="cpu")
    _one_process_each(options, ["0", "1"])
    done = {cell for cell, state in states(tmp_path / "out" / "small").items() if state == "done"}
    assert done == {("noisy", "ours")}


# ---- damaged, changed


@pytest.mark.parametrize("name", ["metrics.json", "predictions.parquet"])
def test_a_damaged_cell_is_said_and_judged_anew(
    name: str, copy: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    suite, folder = copy
    run = folder / "plain" / "ours"
    weights, sound = sha256(run / "model.safetensors"), (run / "metrics.json").read_text()
    (run / name).write_bytes(b"{")
    again(suite, folder, list=True)
    assert "begun" in capsys.readouterr().out
    again(suite, folder)
    said = capsys.readouterr().err
    assert name in said and "judged anew" in said
    assert (run / "metrics.json").read_text() == sound and sha256(run / "model.safetensors") == weights
    assert states(folder)["plain", "ours"] == "done"


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [("epochs = 2", "epochs = 3", "epochs"), ("train = 8", "train = 9", "train (of the dataset)")],
)
def test_a_cell_of_another_budget_is_not_shown_as_one_of_this(
    old: str, new: str, word: str, copy: tuple[Path, Path]
) -> None:
    suite, folder = copy
    before = sha256(folder / "plain" / "ours" / "model.safetensors")
    suite.write_text(SUITE.replace(old, new, 1))
    again(suite, folder)
    row = rows(folder)["plain", "ours"]
    assert row["state"] == "not run" and word in row["reason"] and not row["auroc_macro"]
    assert sha256(folder / "plain" / "ours" / "model.safetensors") == before


def test_a_cell_that_failed_is_tried_again(copy: tuple[Path, Path]) -> None:
    suite, folder = copy
    suite.write_text(SUITE.replace("residul_cnn", "residual_cnn"))
    again(suite, folder)
    assert states(folder)["plain", "broken"] == "done"


# ---- options


def test_weights_are_taken_from_a_folder(tmp_path: Path) -> None:
    import timm
    from safetensors.torch import save_file

    suite = write_suite(tmp_path)
    model = timm.create_model("lcnet_050")
    save_file(
        {name: value.contiguous() for name, value in model.state_dict().items()}, tmp_path / "lcnet_050.safetensors"
    )
    folder = run_suite(suite=str(suite), size="weights", out=tmp_path / "out", device="cpu", pretrained=tmp_path)
    assert states(folder)["plain", "from_weights"] == "done"
    asked = json.loads((folder / "plain" / "from_weights" / "config.json").read_text())["asked"]
    assert asked["pretrained"] == str(tmp_path / "lcnet_050.safetensors")


def test_list_shows_and_leaves_nothing_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = write_suite(tmp_path)
    before = set(tmp_path.rglob("*"))
    assert main(["benchmark", str(suite), "--size", "small", "--out", str(tmp_path / "out"), "--list"]) == 0
    assert capsys.readouterr().out.count("waiting") == 5
    assert set(tmp_path.rglob("*")) == before


def test_a_device_that_is_absent_is_the_reason(tmp_path: Path) -> None:
    if torch.backends.mps.is_available():
        pytest.skip("this machine has it")
    suite = write_suite(tmp_path)
    folder = run_suite(suite=str(suite), size="long", out=tmp_path / "out", device="mps")
    assert "no mps" in rows(folder)["plain", "ours"]["reason"]


def test_no_dead_knobs() -> None:
    tested = {"suite", "size", "out", "only", "pretrained", "data", "device", "list"}
    assert {field.name for field in dataclasses.fields(BenchmarkOptions)} == tested


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"suite": "substrcture"}, "substructure"),
        ({"suite": "substructure", "size": "smok"}, "smoke"),
        ({"suite": "substructure", "size": "smoke", "only": ["model_i"]}, "model_ii"),
        ({"suite": "substructure", "size": "smoke", "only": ["resnet18"]}, "--size"),
    ],
)
def test_unknown_names_list_the_nearest(options: dict[str, Any], words: str, workplace: Path) -> None:
    with pytest.raises(UnknownName) as caught:
        run_suite(**options)
    assert words in str(caught.value)
    assert not list(workplace.iterdir())


def test_torchrun_is_refused(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InvalidOption, match="torchrun"):
        run_suite(suite=str(write_suite(workplace)), size="small")


def test_a_missing_file_is_an_error_of_ours(workplace: Path) -> None:
    with pytest.raises(DeepLenseError, match=r"nowhere\.toml"):
        run_suite(suite="nowhere.toml")

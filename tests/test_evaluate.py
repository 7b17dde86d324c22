"""Evaluation: the marks of the right images, in the right place, on any dataset with the same classes."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss, roc_auc_score, roc_curve

from deeplense.core.errors import CorruptFile, DeepLenseError, InvalidDataset, InvalidOption, MissingFile
from deeplense.core.files import sha256
from deeplense.core.run_folder import RunFolder
from deeplense.data.dataset import open_dataset
from deeplense.data.loader import Loader
from deeplense.evaluate import EvaluateOptions, evaluate
from deeplense.metrics.calibration import ece
from deeplense.metrics.temperature import fit_temperature, logits_of, tempered
from deeplense.recipes.recipe import shipped_recipes
from deeplense.tasks.classify import N_MISTAKES
from deeplense.train import train

LABELS = ("no_sub", "cdm", "axion")
ELSEWHERE = {"metrics.json", "predictions.parquet", "roc.csv", "mistakes.json", "mistakes.safetensors"}
SIMULATED = ELSEWHERE | {"truth.parquet", "sensitivity.csv"}
PRODUCTS = SIMULATED | {"calibration.json"}


@pytest.fixture
def run(small_run: Path, tmp_path: Path) -> RunFolder:
    """Return a copy of a finished run that may be evaluated."""
    return RunFolder(Path(shutil.copytree(small_run, tmp_path / "copy1234")))


@pytest.fixture(scope="module")
def evaluated(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Return a run that was evaluated on its own test split."""
    folder = RunFolder(Path(shutil.copytree(small_run, tmp_path_factory.mktemp("evaluated") / "copy1234")))
    evaluate(run_id=str(folder.path), device="cpu")
    return folder


def answers(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the stored probabilities and the true classes."""
    table = pq.read_table(folder / "predictions.parquet")
    probabilities = np.stack([table[f"p_{label}"].to_numpy() for label in LABELS], 1)
    return probabilities, np.array([LABELS.index(label) for label in table["label"].to_pylist()])


# ---- its own test split


def test_every_image_of_the_test_split_and_no_other_has_a_row(evaluated: RunFolder, small_set: Path) -> None:
    table = pq.read_table(evaluated.predictions)
    assert table.column_names == ["id", "label", "split", "prediction", *(f"p_{label}" for label in LABELS)]
    catalogue = open_dataset(small_set).catalogue.to_pylist()
    wanted = [(row["id"], row["label"]) for row in catalogue if row["split"] == "test"]
    assert [(row["id"], row["label"]) for row in table.to_pylist()] == wanted
    assert set(table["split"].to_pylist()) == {"test"}
    probabilities, _ = answers(evaluated.path)
    assert np.allclose(probabilities.sum(1), 1) and len(np.unique(probabilities)) > 24
    assert [LABELS[i] for i in probabilities.argmax(1)] == table["prediction"].to_pylist()


def test_the_marks_are_those_of_the_predictions(evaluated: RunFolder) -> None:
    metrics = evaluated.metrics()
    probabilities, targets = answers(evaluated.path)
    areas = {"auroc_macro", "auroc_micro", *(f"auroc_{label}" for label in LABELS)}
    assert set(metrics) == areas | {"accuracy", "ece", "nll", "ece_scaled", "nll_scaled"}
    value = {name: mark["value"] for name, mark in metrics.items()}
    assert value["accuracy"] == pytest.approx(accuracy_score(targets, probabilities.argmax(1)))
    assert value["auroc_macro"] == pytest.approx(roc_auc_score(targets, probabilities, multi_class="ovr"))
    one_hot = np.eye(3)[targets]
    assert value["auroc_micro"] == pytest.approx(roc_auc_score(one_hot, probabilities, average="micro"))
    for k, label in enumerate(LABELS):
        assert value[f"auroc_{label}"] == pytest.approx(roc_auc_score(targets == k, probabilities[:, k]))
    for name, mark in metrics.items():
        assert set(mark) == {"value", "low", "high", "n"} and mark["n"] == 24
        assert 0 <= mark["low"] <= mark["value"] <= mark["high"] <= (1 if "nll" not in name else 10), name
        assert mark["low"] < mark["high"], f"{name}: 24 images cannot tell so much"


def test_the_curves_are_those_of_the_predictions(evaluated: RunFolder) -> None:
    rows = pyarrow.csv.read_csv(evaluated.path / "roc.csv").to_pylist()
    probabilities, targets = answers(evaluated.path)
    for k, label in enumerate(LABELS):
        curve = [(row["false_positive_rate"], row["true_positive_rate"]) for row in rows if row["class"] == label]
        x, y, _ = roc_curve(targets == k, probabilities[:, k], drop_intermediate=False)
        area = np.trapezoid([point[1] for point in curve], [point[0] for point in curve])
        assert area == pytest.approx(np.trapezoid(y, x)), label
        assert curve[0] == (0, 0) and curve[-1] == (1, 1)


def test_the_mistakes_are_the_surest_wrong_answers(evaluated: RunFolder, small_set: Path) -> None:
    rows = json.loads((evaluated.path / "mistakes.json").read_text())
    probabilities, targets = answers(evaluated.path)
    wrong = probabilities.argmax(1) != targets
    surest = np.sort(probabilities.max(1)[wrong])[::-1][:N_MISTAKES]
    assert [row["probability"] for row in rows] == pytest.approx(surest.tolist())
    assert len(rows) == min(N_MISTAKES, confusion_matrix(targets, probabilities.argmax(1)).sum() - (~wrong).sum())
    images = load_file(evaluated.path / "mistakes.safetensors")["images"]
    dataset = open_dataset(small_set)
    places = {name: i for i, name in enumerate(dataset.catalogue["id"].to_pylist())}
    assert np.array_equal(images.numpy(), dataset.images([places[row["id"]] for row in rows]))
    assert all(row["label"] in row["id"] and row["label"] != row["prediction"] for row in rows)


def test_the_temperature_is_that_of_the_validation_split_and_no_other(evaluated: RunFolder, run: RunFolder) -> None:
    evaluate(run_id=str(run.path), split="validation", device="cpu")
    probabilities, targets = answers(next(run.path.glob("*-validation")))
    wanted = fit_temperature(logits_of(probabilities), targets)
    found = json.loads(evaluated.calibration.read_text())
    assert found == {"temperature": pytest.approx(wanted, rel=1e-4), "split": "validation", "n": 24}
    assert wanted != 1
    marks, (own, truth) = evaluated.metrics(), answers(evaluated.path)
    assert marks["nll"]["value"] == pytest.approx(log_loss(truth, tempered(own, 1.0)), rel=1e-5)
    scaled = tempered(own, found["temperature"])
    assert marks["nll_scaled"]["value"] == pytest.approx(log_loss(truth, scaled), rel=1e-5)
    assert marks["ece_scaled"]["value"] == pytest.approx(ece(scaled, truth))


def test_the_temperature_of_a_run_is_used_elsewhere_too(run: RunFolder, small_tree: Path) -> None:
    before = evaluate(run_id=str(run.path), dataset=str(small_tree), device="cpu")
    assert "nll" in before and "nll_scaled" not in before
    own = evaluate(run_id=str(run.path), device="cpu")
    after = evaluate(run_id=str(run.path), dataset=str(small_tree), device="cpu")
    assert after["nll_scaled"].value == pytest.approx(own["nll_scaled"].value)
    assert not (run.path / "tree-test" / "calibration.json").exists()
    run.calibration.write_text('{"temperature": -1}')
    with pytest.raises(CorruptFile, match=r"calibration\.json"):
        evaluate(run_id=str(run.path), dataset=str(small_tree), device="cpu")


def test_the_truth_is_that_of_the_test_images(evaluated: RunFolder, small_set: Path) -> None:
    rows = pq.read_table(evaluated.truth).to_pylist()
    catalogue = {row["id"]: row for row in open_dataset(small_set).catalogue.to_pylist()}
    assert sorted(row["id"] for row in rows) == sorted(
        name for name, row in catalogue.items() if row["split"] == "test" and row["label"] != "no_sub"
    )
    for row in rows:
        drawn = catalogue[row["id"]]
        assert row["substructure_snr"] > 0 and row["label"] == drawn["label"]
        assert row["axion_mass"] == drawn["axion_mass"]
        assert (row["subhalo_mass"] is None) == (row["label"] == "axion")


def test_the_sensitivity_is_that_of_the_predictions(evaluated: RunFolder) -> None:
    rows = pyarrow.csv.read_csv(evaluated.sensitivity).to_pylist()
    probabilities, targets = answers(evaluated.path)
    found = {(row["class"], row["against"], row["quantity"]): row for row in rows}
    pairs = {("cdm", "no_sub"), ("cdm", "axion"), ("axion", "no_sub"), ("axion", "cdm")}
    own = {"cdm": ("substructure_snr", "subhalo_mass"), "axion": ("substructure_snr", "axion_mass")}
    assert set(found) == {(label, against, name) for label, against in pairs for name in own[label]}
    assert len(rows) == len(found), "eight images are one bin"
    for (label, against, _), row in found.items():
        k, j = LABELS.index(label), LABELS.index(against)
        pair = np.isin(targets, (k, j))
        scores = np.log(probabilities[pair, k]) - np.log(probabilities[pair, j])
        assert row["auroc"] == pytest.approx(roc_auc_score(targets[pair] == k, scores))
        assert 0 <= row["auroc_low"] <= row["auroc"] <= row["auroc_high"] <= 1
        assert row["low"] <= row["middle"] <= row["high"] and (row["positives"], row["n"]) == (8, 16)


def test_again_gives_the_same_bytes(evaluated: RunFolder, run: RunFolder) -> None:
    evaluate(run_id=str(run.path), device="cpu")
    for name in PRODUCTS:
        assert sha256(run.path / name) == sha256(evaluated.path / name), name


def test_what_is_returned_is_what_is_written(run: RunFolder) -> None:
    marks = evaluate(EvaluateOptions(str(run.path), device="cpu"))
    assert {name: mark.as_dict() for name, mark in marks.items()} == run.metrics()


# ---- no dead knobs


def test_every_option_has_a_test_here() -> None:
    fields = {field.name for field in dataclasses.fields(EvaluateOptions)}
    elsewhere = {"committee", "bands"}  # tests/training/test_candidates.py, tests/test_bands.py
    assert fields == {"run_id", "dataset", "split", "batch_size", "device", "workers"} | elsewhere


@pytest.mark.parametrize("split", ["train", "validation"])
def test_another_split_goes_into_a_folder_of_its_own(
    run: RunFolder, split: str, small_set: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    marks = evaluate(run_id=str(run.path), split=split, device="cpu")
    assert "deeplense report" not in capsys.readouterr().err, "there is no page of a run without its own marks"
    assert marks["accuracy"].n == {"train": 72, "validation": 24}[split]
    folder = run.path / f"{small_set.name}-{split}"
    assert {path.name for path in folder.iterdir()} == SIMULATED
    assert not (run.path / "metrics.json").exists(), "marks of another split stand where those of the test split belong"
    assert set(pq.read_table(folder / "predictions.parquet")["split"].to_pylist()) == {split}


def test_the_validation_marks_are_those_of_the_best_epoch(run: RunFolder) -> None:
    marks = evaluate(run_id=str(run.path), split="validation", device="cpu")
    best = max(run.history(), key=lambda record: record["validation_auroc_macro"])
    for name in ("auroc_macro", "accuracy", "auroc_cdm"):
        assert marks[name].value == pytest.approx(best[f"validation_{name}"]), name


def test_run_id_and_dataset(run: RunFolder, small_run: Path, small_tree: Path) -> None:
    own = evaluate(run_id=str(run.path), device="cpu")
    other = evaluate(run_id=str(run.path), dataset=str(small_tree), device="cpu")
    assert {name: mark.value for name, mark in other.items()} == pytest.approx(
        {name: mark.value for name, mark in own.items()}
    ), "the same images in another order have other marks"
    assert {path.name for path in (run.path / "tree-test").iterdir()} == ELSEWHERE


def test_batch_size(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    real = Loader.in_order
    monkeypatch.setattr(Loader, "in_order", lambda self, size, share: (sizes.append(size), real(self, size, share))[1])
    one, other = (evaluate(run_id=str(run.path), batch_size=size, device="cpu") for size in (5, 24))
    assert sizes == [5, 5, 24, 24], "test and validation split"
    assert one["auroc_macro"].value == pytest.approx(other["auroc_macro"].value, abs=0.01)


def test_device(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InvalidOption, match="no cuda"):
        evaluate(run_id=str(run.path), device="cuda")


def test_workers(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers: list[int] = []

    class Counting(torch.utils.data.DataLoader[Any]):
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            numbers.append(settings["num_workers"])
            super().__init__(*arguments, **settings)

    monkeypatch.setattr(torch.utils.data, "DataLoader", Counting)
    evaluate(run_id=str(run.path), workers=1, device="cpu")
    assert numbers == [1, 1], "test and validation split"


# ---- other datasets


def test_classes_in_another_order_are_matched_by_name(run: RunFolder, small_set: Path, tmp_path: Path) -> None:
    own = evaluate(run_id=str(run.path), device="cpu")
    permuted = Path(shutil.copytree(small_set, tmp_path / "permuted"))
    manifest = json.loads((permuted / "manifest.json").read_text())
    manifest["labels"] = ["axion", "no_sub", "cdm"]
    (permuted / "manifest.json").write_text(json.dumps(manifest))
    other = evaluate(run_id=str(run.path), dataset=str(permuted), device="cpu")
    assert {name: mark.as_dict() for name, mark in other.items()} == {n: mark.as_dict() for n, mark in own.items()}


def damaged_tree(tree: Path, where: Path, edit: str) -> Path:
    copy = Path(shutil.copytree(tree, where / "other"))
    for split in copy.iterdir():
        if edit == "a class is missing":
            shutil.rmtree(split / "cdm")
        elif edit == "a class is new":
            (split / "cdm").rename(split / "galaxy")
    if edit == "a class is missing in the split":
        shutil.rmtree(copy / "test" / "cdm")
    return copy


@pytest.mark.parametrize("edit", ["a class is missing", "a class is new", "a class is missing in the split"])
def test_other_classes_are_named_and_nothing_is_written(
    run: RunFolder, small_tree: Path, tmp_path: Path, edit: str
) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*")}
    with pytest.raises(InvalidDataset, match="galaxy" if edit == "a class is new" else "cdm"):
        evaluate(run_id=str(run.path), dataset=str(damaged_tree(small_tree, tmp_path, edit)), device="cpu")
    assert {path: path.stat().st_mtime_ns for path in run.path.rglob("*")} == before


def test_images_without_labels_ask_for_predict(run: RunFolder, tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.zeros((20, 64, 64), np.float32))
    with pytest.raises(DeepLenseError) as caught:
        evaluate(run_id=str(run.path), dataset=str(tmp_path / "images.npy"), device="cpu")
    assert "predict" in str(caught.value) or "label" in str(caught.value)


def test_images_of_another_size_are_refused(run: RunFolder, tmp_path: Path) -> None:
    for label in LABELS:
        (tmp_path / "set" / label).mkdir(parents=True)
        for i in range(8):
            np.save(tmp_path / "set" / label / f"{i}.npy", np.full((32, 32), i, np.float32))
    with pytest.raises(InvalidDataset, match=r"\(1, 32, 32\)") as caught:
        evaluate(run_id=str(run.path), dataset=str(tmp_path / "set"), device="cpu")
    assert "(1, 64, 64)" in caught.value.expected


def test_a_cropped_run_crops_what_it_is_evaluated_on(small_set: Path, tmp_path: Path) -> None:
    path = train(dataset=str(small_set), crop=32, epochs=1, batch_size=24, device="cpu", out=tmp_path / "run")
    assert evaluate(run_id=str(path), device="cpu")["accuracy"].n == 24


def test_a_dataset_that_is_gone_is_made_again_from_its_recipe(workplace: Path) -> None:
    recipe = workplace / "small.toml"
    text = shipped_recipes()["model_ii"].partition("[counts]")[0]
    recipe.write_text(text + "[counts]\ntrain = 8\nvalidation = 4\ntest = 4\n")
    path = train(dataset=str(recipe), epochs=1, batch_size=24, device="cpu", out=workplace / "run")
    first = evaluate(run_id=str(path), device="cpu")
    shutil.rmtree(workplace / "cache")
    (path / "metrics.json").unlink()
    assert evaluate(run_id=str(path), device="cpu") == first
    assert RunFolder(path).metrics(), "on its own dataset the marks go into the run folder itself"


def test_a_dataset_that_is_gone_for_good_is_named(run: RunFolder) -> None:
    config = run.config()
    config["dataset"] |= {"path": "/nowhere/set", "name": "/nowhere/set"}
    (run.path / "config.json").write_text(json.dumps(config))
    with pytest.raises(DeepLenseError, match="/nowhere/set") as caught:
        evaluate(run_id=str(run.path), device="cpu")
    assert "--dataset" in caught.value.remedy or "path" in caught.value.remedy


def test_a_run_that_was_moved_to_another_machine_is_evaluated_on_a_named_dataset(
    run: RunFolder, small_set: Path, tmp_path: Path
) -> None:
    config = run.config()
    config["dataset"]["path"] = "/home/somebody/set"
    (run.path / "config.json").write_text(json.dumps(config))
    marks = evaluate(run_id=str(run.path), dataset=str(small_set), device="cpu")
    assert marks["accuracy"].n == 24


def test_a_run_that_was_never_finished_says_what_is_missing(run: RunFolder) -> None:
    run.weights.unlink()
    with pytest.raises(MissingFile, match="no weights"):
        evaluate(run_id=str(run.path), device="cpu")

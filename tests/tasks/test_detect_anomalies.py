"""The task `detect_anomalies`: from dataset to scores, p-values and maps, through the verbs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.io import fits

from deeplense.core.errors import InvalidDataset, InvalidOption, UnknownName
from deeplense.core.run_folder import RunFolder
from deeplense.evaluate import evaluate
from deeplense.predict import UnreadableImages, predict
from deeplense.tasks.detect_anomalies import DetectAnomalies
from deeplense.train import train

LABELS = ("no_sub", "cdm", "axion")
MARKS = {
    *("auroc", "auroc_cdm", "auroc_axion", "auprc_at_1pct", "auprc_at_5pct"),
    *("tpr_at_1pct_fpr", "tpr_at_0.1pct_fpr", "false_alarms_at_1pct"),
}


def detector_run(dataset: Path, out: Path, **options: Any) -> RunFolder:
    given: dict[str, Any] = {"detector": "pca", "epochs": 1, "device": "cpu"} | options
    return RunFolder(train(dataset=str(dataset), task="detect_anomalies", out=out, **given))


@pytest.fixture(scope="module")
def run(small_set: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return detector_run(small_set, tmp_path_factory.mktemp("detectors") / "pca")


def test_a_detector_sees_normal_images_alone(run: RunFolder) -> None:
    config = run.config()
    assert config["task"] == "detect_anomalies"
    assert config["model"] == {"source": "detector", "name": "pca"}
    assert (config["dataset"]["n_train"], config["dataset"]["n_validation"]) == (24, 8)
    assert config["options"]["normal"] == "no_sub"


def test_evaluation(run: RunFolder) -> None:
    marks = evaluate(run_id=str(run.path), device="cpu")
    assert set(marks) == MARKS
    assert run.metrics().keys() == MARKS
    table = pq.read_table(run.predictions)
    assert table.column_names == ["id", "label", "split", "score", "p_value", "q_value"]
    p_values = table["p_value"].to_numpy()
    assert p_values.min() >= 1 / 9 - 1e-6, "eight images were kept back"
    assert (table["q_value"].to_numpy() >= p_values - 1e-6).all()
    assert (run.path / "strangest.json").is_file()
    assert (run.path / "roc.csv").is_file()
    again = evaluate(run_id=str(run.path), device="cpu", batch_size=5)
    assert again["auroc"] == marks["auroc"], "the batch has no part in it"


def test_prediction_with_maps(run: RunFolder, small_tree: Path, workplace: Path) -> None:
    files = sorted((small_tree / "test" / "no_sub").glob("*.npy"))[:3]
    (workplace / "bad.npy").write_bytes(b"no image")
    blank = workplace / "blank.npy"
    np.save(blank, np.zeros((64, 64), np.float32))
    options = {"run_id": str(run.path), "out": workplace / "out.parquet", "maps": workplace / "maps", "device": "cpu"}
    with pytest.raises(UnreadableImages):
        predict(files=(*files, workplace / "bad.npy", blank), **options)
    rows = pq.read_table(workplace / "out.parquet").to_pylist()
    assert [name for name in rows[0] if name not in ("file", "unlike", "error")] == ["score", "p_value", "q_value"]
    assert rows[3]["score"] is None
    assert rows[3]["error"] is not None
    assert rows[4]["unlike"] is not None, "a blank image is flagged"
    assert sorted(path.name for path in (workplace / "maps").iterdir()) == sorted(
        f"{path.stem}{suffix}" for path in (*files, blank) for suffix in (".fits", ".png")
    )
    assert fits.getdata(workplace / "maps" / f"{files[0].stem}.fits").shape == (64, 64)


def test_maps_need_names_and_a_detector_that_can_say(small_set: Path, small_tree: Path, workplace: Path) -> None:
    blind = detector_run(small_set, workplace / "blind", detector="brightness")
    file = next((small_tree / "test" / "no_sub").glob("*.npy"))
    with pytest.raises(InvalidOption, match="cannot say where"):
        predict(run_id=str(blind.path), files=(file,), maps=workplace / "maps", device="cpu")
    with pytest.raises(InvalidOption, match="2 files called"):
        predict(run_id=str(blind.path), files=(file, file), maps=workplace / "maps", device="cpu")


def test_the_inverse_test(small_set: Path, tmp_path: Path) -> None:
    inverse = detector_run(small_set, tmp_path / "inverse", normal="axion")
    marks = evaluate(run_id=str(inverse.path), device="cpu")
    assert {"auroc_no_sub", "auroc_cdm"} <= set(marks)


def test_the_same_seed_gives_the_same_detector(small_set: Path, tmp_path: Path) -> None:
    options = {"detector": "autoencoder", "batch_size": 12}
    first, second, other = (
        detector_run(small_set, tmp_path / str(k), seed=seed, **options).weights.read_bytes()
        for k, seed in enumerate((0, 0, 1))
    )
    assert first == second != other


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"task": "classify", "detector": "pca"}, "--detector with the task classify"),
        ({"task": "classify", "normal": "cdm"}, "--normal with the task classify"),
        ({"model_name": "residual_cnn"}, "--model-name with the task detect_anomalies"),
        ({"tracker": "wandb"}, "--tracker with the task detect_anomalies"),
        ({"detector": "pca", "lens_recipe": "model_ii"}, "--lens-recipe with detector pca"),
    ],
)
def test_options_of_another_task_are_refused(
    small_set: Path, tmp_path: Path, options: dict[str, Any], found: str
) -> None:
    with pytest.raises(InvalidOption, match=found):
        train(**{"dataset": str(small_set), "task": "detect_anomalies", "out": tmp_path / "run"} | options)
    assert not (tmp_path / "run").exists()


def test_unknown_names_are_named(small_set: Path, small_tree: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="pcb"):
        detector_run(small_set, tmp_path / "a", detector="pcb")
    with pytest.raises(UnknownName, match="sub"):
        detector_run(small_set, tmp_path / "b", normal="sub")
    with pytest.raises(InvalidOption, match="does not say what it was simulated from"):
        detector_run(small_tree, tmp_path / "c", detector="physical")


@pytest.mark.parametrize("detector", ["pca", "physical"])
def test_a_detector_with_a_model_has_a_p_value_more(detector: str) -> None:
    task = DetectAnomalies.of(LABELS, {"normal": "no_sub", "detector": detector})
    more = ["p_chi2"] * (detector == "physical")
    assert task.n_answers == 2 + len(more)
    answers = np.array([[0.1, 0.9, 0.8], [5.0, 0.1, 1e-9]], np.float32)[:, : task.n_answers]
    columns = task.columns(answers)
    assert list(columns) == ["score", "p_value", "q_value", *more]
    for name in more:
        assert columns[name].tolist() == answers[:, 2].tolist()
    assert set(task.columns(answers[:0])) == set(columns), "also of no image"


def test_examples() -> None:
    answers = np.array([[0.1, 0.9], [5.0, 0.1], [0.3, 0.5], [9.0, 0.1]], np.float32)
    found = DetectAnomalies(LABELS, "no_sub").examples(answers, np.array([0, 1, 0, 2]))
    kinds = [(one.position, one.facts["kind"]) for one in found]
    assert kinds[:2] == [(3, "strangest"), (1, "strangest")]
    assert (2, "strangest normal") in kinds
    assert (1, "least strange anomaly") in kinds


def test_only_normal_images_cannot_be_judged(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    folder = tmp_path / "data" / "no_sub"
    folder.mkdir(parents=True)
    for k in range(40):
        np.save(folder / f"{k}.npy", rng.normal(size=(32, 32)).astype(np.float32))
    alone = detector_run(tmp_path / "data", tmp_path / "run", detector="mean_image")
    with pytest.raises(InvalidDataset, match="class"):
        evaluate(run_id=str(alone.path), device="cpu")

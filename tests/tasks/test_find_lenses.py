"""The task `find_lenses`: images, catalogues and both, from a folder of stamps to marks."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from deeplense.core.errors import InvalidDataset, InvalidOption, UnknownName
from deeplense.core.run_folder import RunFolder
from deeplense.data.dataset import open_dataset
from deeplense.data.features import choose_features
from deeplense.data.loader import Batch, Loader
from deeplense.evaluate import evaluate
from deeplense.tasks.find_lenses import FindLenses
from deeplense.train import train
from deeplense.training.trained import TrainedModel

SIDE = 16
BALANCED = ("weights", "sampling", "catalogue")
PER_SPLIT = {"train": 60, "validation": 20, "test": 20}


@pytest.fixture(scope="module")
def stamps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalogue and stamps of noise: only the column `mag_r` tells a lens, `theta_E` would give it away."""
    folder = tmp_path_factory.mktemp("stamps") / "survey"
    folder.mkdir()
    drawn = np.random.default_rng(0)
    lines = ["ID,is_lens,split,ra,dec,mag_r,radius,theta_E,weight"]
    for number, split in enumerate(name for name, n in PER_SPLIT.items() for _ in range(n)):
        is_lens = int(number % 4 == 0)
        np.save(folder / f"{number + 1000}.npy", drawn.normal(size=(SIDE, SIDE)).astype(np.float32))
        mag = "" if number % 10 == 9 else f"{20 + 2 * is_lens + drawn.normal():.4f}"
        measured = f"{mag},{drawn.random():.3f}"
        lines.append(f"{number + 1000},{is_lens},{split},{number},-{number % 90},{measured},{is_lens},{1 + is_lens}")
    (folder / "catalogue.csv").write_text("\n".join(lines))
    return folder


def found(stamps: Path, out: Path, **options: Any) -> RunFolder:
    given: dict[str, Any] = {"epochs": 1, "batch_size": 20, "device": "cpu"} | options
    return RunFolder(train(dataset=str(stamps), task="find_lenses", out=out, **given))


@pytest.fixture(scope="module")
def runs(stamps: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolder]:
    folder = tmp_path_factory.mktemp("runs")
    choices: dict[str, dict[str, Any]] = {
        "image": {},
        "late": {"fusion": "late"},
        "film": {"fusion": "film"},
        "trees": {"model_name": "catalogue_trees"},
        "mlp": {"model_name": "catalogue_mlp", "epochs": 20, "lr": 1e-2},
        "one": {"fusion": "late", "features": ("radius",)},
        "focal": {"loss": "focal"},
        "weights": {"balance": "weights"},
        "sampling": {"balance": "sampling"},
        "catalogue": {"balance": "catalogue"},
        **{f"trees_{kind}": {"model_name": "catalogue_trees", "balance": kind} for kind in BALANCED},
    }
    return {name: found(stamps, folder / name, **options) for name, options in choices.items()}


def test_what_is_read_is_recorded(runs: dict[str, RunFolder]) -> None:
    features = {name: run.config()["options"]["features"] for name, run in runs.items()}
    assert features["image"] == features["focal"] == []
    assert features["late"] == features["film"] == features["trees"] == ["mag_r", "radius"], "no truth, no position"
    assert features["one"] == ["radius"]


@pytest.mark.parametrize(
    "one, other", [("image", "focal"), ("image", "weights"), ("image", "sampling"), ("image", "catalogue")]
)
def test_loss_and_balance_change_what_is_learnt(runs: dict[str, RunFolder], one: str, other: str) -> None:
    assert runs[one].weights.read_bytes() != runs[other].weights.read_bytes()


def test_shares_and_weights_of_the_classes(runs: dict[str, RunFolder]) -> None:
    options = {name: run.config()["options"] for name, run in runs.items()}
    assert options["image"]["shares"] == [0.75, 0.25] and options["image"]["class_weights"] == [1, 1]
    assert options["sampling"]["shares"] == options["weights"]["shares"] == [0.5, 0.5]
    assert np.allclose(options["weights"]["class_weights"], [2 / 3, 2])
    assert options["catalogue"]["class_weights"] == [1, 1]
    assert np.allclose(options["catalogue"]["shares"], [0.6, 0.4]), "a lens counts twice"


def test_trees_count_as_they_are_told(runs: dict[str, RunFolder], stamps: Path) -> None:
    dataset = open_dataset(stamps)
    rows = dataset.indices("train")
    is_lens = dataset.targets()[rows] == 1
    worth = {"none": 1, "catalogue": 2, "weights": 3, "sampling": 3}  # of a lens, for each other image
    found_by = {}
    for kind, lens in worth.items():
        model = TrainedModel.load(runs["trees" if kind == "none" else f"trees_{kind}"], "cpu")
        p = found_by[kind] = model.answers(model.loader(dataset, rows), 20)[:, 1]
        weights = np.where(is_lens, lens, 1)
        share = np.average(is_lens, weights=weights)
        assert np.average(p, weights=weights) == pytest.approx(share, abs=0.06), "the loss wants it so"
    assert found_by["none"].mean() < found_by["catalogue"].mean() < found_by["weights"].mean()
    assert np.allclose(found_by["weights"], found_by["sampling"], atol=1e-2), "but for their scale, which is learnt"


@pytest.mark.parametrize("name", ["trees", "mlp"])
def test_the_catalogue_is_worth_something_where_images_are_noise(runs: dict[str, RunFolder], name: str) -> None:
    marks = evaluate(run_id=str(runs[name].path), device="cpu")
    assert marks["auroc_lens"].value > 0.8
    assert evaluate(run_id=str(runs[name].path), device="cpu", batch_size=3)["auroc_lens"] == marks["auroc_lens"]


def test_answers_depend_on_image_and_catalogue(runs: dict[str, RunFolder], stamps: Path) -> None:
    dataset = open_dataset(stamps)
    model = TrainedModel.load(runs["late"], "cpu")
    rows = np.arange(4)
    images, features = dataset.images(rows), model.features(dataset, rows)
    assert model.needs_features and features is not None and features.shape == (4, 2)
    answers = model.answer(images, features)
    assert np.allclose(answers, model.answers(model.loader(dataset, rows), 2), atol=1e-6)
    assert np.abs(answers - model.answer(images, features + 1)).max() > 1e-4
    assert np.abs(answers - model.answer(images[::-1].copy(), features)).max() > 1e-5


def test_an_interrupted_run_goes_on_to_the_same_weights(
    stamps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deeplense.training.loop import Trainer

    whole = found(stamps, tmp_path / "whole", fusion="late", balance="sampling", epochs=2)
    kept = Trainer._report

    def stop(self: Trainer, *arguments: Any) -> None:
        kept(self, *arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "_report", stop)
    with pytest.raises(KeyboardInterrupt):
        found(stamps, tmp_path / "part", fusion="late", balance="sampling", epochs=2)
    monkeypatch.undo()
    train(resume=str(tmp_path / "part"))
    assert RunFolder(tmp_path / "part").weights.read_bytes() == whole.weights.read_bytes()


def test_truth_is_refused_unless_allowed(stamps: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match=r"theta_E., which is truth") as caught:
        found(stamps, tmp_path / "run", fusion="late", features=("theta_E",))
    assert "--allow-truth-features" in caught.value.remedy
    assert not (tmp_path / "run").exists()
    run = found(stamps, tmp_path / "run", fusion="late", allow_truth_features=True)
    assert run.config()["options"]["features"] == ["mag_r", "radius", "theta_E"]
    evaluate(run_id=str(run.path), device="cpu")
    assert all(pq.read_table(run.predictions)["truth_features_used"].to_pylist())


@pytest.mark.parametrize(
    "options, words",
    [
        ({"features": ("mag_r",)}, "sees images alone"),
        ({"allow_truth_features": True}, "sees images alone"),
        ({"fusion": "late", "features": ("is_lens",)}, "column of the catalogue"),
        ({"fusion": "late", "features": ("split",)}, "which is the split"),
        ({"loss": "mse"}, "--loss mse"),
        ({"single_logit": True}, "--single-logit"),
    ],
)
def test_what_makes_no_sense_is_refused(stamps: Path, tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises((InvalidOption, UnknownName), match=words):
        found(stamps, tmp_path / "run", **options)


def test_a_catalogue_without_measurements_is_refused(stamps: Path) -> None:
    dataset = open_dataset(stamps)
    dataset.catalogue = dataset.catalogue.drop_columns(["mag_r", "radius"])
    with pytest.raises(InvalidDataset, match="no column that was measured"):
        choose_features(dataset, (), allow_truth=False)


def test_other_classes_are_refused() -> None:
    with pytest.raises(InvalidDataset, match="no_sub, cdm"):
        FindLenses(("no_sub", "cdm"))


def test_the_focal_loss_forgets_what_is_easy() -> None:
    logits = torch.tensor([[-4.0, 4.0], [0.5, -0.5]])
    batch = Batch(torch.zeros(2, 1, 4, 4), torch.tensor([1, 1]), torch.arange(2))
    plain = FindLenses(("nonlens", "lens")).loss(logits, batch)
    focal = FindLenses(("nonlens", "lens"), "focal").loss(logits, batch)
    p = torch.sigmoid(torch.tensor([8.0, -1.0]))
    assert torch.allclose(focal, -((1 - p) ** 2) * p.log(), atol=1e-6)
    assert focal[0] / plain[0] < 1e-6 < focal[1] / plain[1]
    weighted = FindLenses(("nonlens", "lens"), class_weights=(1.0, 3.0)).loss(logits, batch)
    assert torch.allclose(weighted, 3 * plain)
    counted = replace(batch, weight=torch.tensor([0.5, 2.0]))
    assert torch.allclose(FindLenses(("nonlens", "lens")).loss(logits, counted), torch.tensor([0.5, 2.0]) * plain)


@pytest.mark.parametrize("weight", ["none", "-1", "", "0"])
def test_what_is_no_weight_is_refused(stamps: Path, tmp_path: Path, weight: str) -> None:
    folder = tmp_path / "survey"
    shutil.copytree(stamps, folder)
    head, *rows = (stamps / "catalogue.csv").read_text().splitlines()
    values = [weight if weight == "0" or k % 5 == 0 else "1" for k in range(len(rows))]
    lines = [f"{row.rpartition(',')[0]},{value}" for row, value in zip(rows, values, strict=True)]
    head = head.replace("weight", "quality") if weight == "none" else head
    (folder / "catalogue.csv").write_text("\n".join([head, *lines]))
    with pytest.raises(InvalidDataset, match="weight"):
        found(folder, tmp_path / "run", balance="catalogue")


def test_a_balanced_epoch_has_as_many_of_each_class(stamps: Path) -> None:
    dataset = open_dataset(stamps)
    loader = Loader(dataset, np.arange(len(dataset)))
    generator = torch.Generator().manual_seed(0)
    assert sorted(loader.order(generator)) == list(range(len(dataset))), "each once"
    loader.balanced = True
    orders = np.concatenate([loader.order(generator) for _ in range(40)])
    share = float(loader.targets[torch.from_numpy(orders)].float().mean())
    assert math.isclose(share, 0.5, abs_tol=4 * 0.5 / math.sqrt(len(orders)))


def test_what_gives_the_label_away_is_said_before_training(
    stamps: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = found(stamps, tmp_path / "run", fusion="late", allow_truth_features=True)
    leaks = [one for one in run.config()["audit"] if one["severity"] == "leak"]
    assert [one["subject"] for one in leaks] == ["theta_E"]
    assert leaks[0]["words"] in " ".join(capsys.readouterr().err.split())
    plain = found(stamps, tmp_path / "plain")
    assert not [one for one in plain.config()["audit"] if one["severity"] == "leak"], "it does not see the column"


def test_a_benchmark_reads_its_runs(runs: dict[str, RunFolder]) -> None:
    from deeplense.suites.judged import curves_of
    from deeplense.suites.kinds import kind_of
    from deeplense.suites.runs import read_run

    evaluate(run_id=str(runs["mlp"].path), device="cpu")
    run = read_run(runs["mlp"], "find_lenses")
    kind = kind_of("find_lenses", None)
    assert kind is not None and set(kind.always) <= set(run.marks)
    assert curves_of([run], None)["lens"].true_positive_rate[-1] == 1

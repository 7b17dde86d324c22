"""Training from the outside: every option does something, every dataset that cannot serve says why."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_type_hints

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from deeplense.cli import main
from deeplense.core.errors import InvalidDataset, InvalidOption, MissingFile, UnknownName
from deeplense.core.files import sha256
from deeplense.core.run_folder import RunFolder
from deeplense.data.dataset import open_dataset
from deeplense.data.loader import Loader
from deeplense.data.splits import Fold, fold_splits
from deeplense.data.transforms import fit_normalisation
from deeplense.evaluate import evaluate
from deeplense.recipes.recipe import shipped_recipes
from deeplense.train import TrainOptions, train

BASE: dict[str, Any] = {"epochs": 1, "batch_size": 24, "device": "cpu"}


@pytest.fixture(scope="module")
def trained(small_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., RunFolder]:
    """Return a function that trains on `small_set` with some options, once for the same ones."""

    @cache
    def run(**options: Any) -> RunFolder:
        folder = tmp_path_factory.mktemp("run") / "run"
        return RunFolder(train(**{"dataset": str(small_set), "out": folder} | BASE | options))

    def hashable(**options: Any) -> RunFolder:
        return run(**{name: tuple(value) if isinstance(value, list) else value for name, value in options.items()})

    return hashable


def learnt(run: RunFolder) -> str:
    return sha256(run.weights)


# ---- no dead knobs


def weights(run: RunFolder) -> Any:
    return learnt(run)


def architecture(run: RunFolder) -> Any:
    return {name: tuple(value.shape) for name, value in load_file(run.weights).items()}


def backbone(run: RunFolder) -> Any:
    return {n: v.flatten()[:3].tolist() for n, v in load_file(run.weights).items() if n.startswith("backbone.")}


def n_epochs(run: RunFolder) -> Any:
    return len(run.history())


def image_shape(run: RunFolder) -> Any:
    return run.config()["image_shape"]


def validation_marks(run: RunFolder) -> Any:
    return {name: value for name, value in run.history()[0].items() if name.startswith("validation")}


class Knob(NamedTuple):
    """A change of one option, and what of the run folder must change with it."""

    value: Any
    product: Callable[[RunFolder], Any] = weights
    beside: tuple[tuple[str, Any], ...] = ()


KNOBS = {
    "model_source": Knob("baseline", architecture),
    "model_name": Knob("resnetv2_18", architecture, (("model_source", "timm"), ("model_name", "convnext_atto"))),
    "extractor": Knob(
        "resnet10t", architecture, (("model_name", "mobilevit_se"), ("extractor", "mobilenetv3_small_050"))
    ),
    "limit": Knob(3, lambda run: run.config()["dataset"]["n_train"]),
    "complex": Knob(True, architecture),
    "tune": Knob(False, backbone),
    "epochs": Knob(2, n_epochs),
    "batch_size": Knob(36),
    "optimizer": Knob("sgd"),
    "lr": Knob(1e-4),
    "weight_decay": Knob(0.5),
    "dropout": Knob(0.5),
    "decay_lr": Knob(False),
    "schedule": Knob("cosine"),
    "patience": Knob(1, n_epochs, (("epochs", 3), ("tune", False), ("lr", 1e-30))),
    "normalise": Knob("max"),
    "crop": Knob(32, image_shape),
    "symmetry": Knob("d4"),
    "average_symmetry": Knob(True, validation_marks),
    "average_weights": Knob(True),
    "random_rotation": Knob(20.0),
    "random_zoom": Knob(1.2),
    "random_blur": Knob(2.0),
    "random_noise": Knob(0.2),
    "folds": Knob(4),
    "fold": Knob(1, beside=(("folds", 4),)),
    "precision": Knob("bf16"),
    "seed": Knob(1),
}
WITH_A_TEST_OF_THEIR_OWN = {
    "dataset",
    "single_logit",
    "pretrained",
    "log_interval",
    "device",
    "workers",
    "tracker",
    "out",
    "resume",
}
WITH_TESTS_ELSEWHERE = {  # tests: test_bands.py, simulation/test_fresh.py, models/test_lens_inverse.py, tasks/
    *("fresh", "lens_recipe", "bands"),
    *("task", "detector", "normal", "estimator", "loss", "adversary", "perceptual", "patch"),
    *("fusion", "features", "allow_truth_features", "balance"),
}


def test_no_option_is_forgotten() -> None:
    fields = {field.name for field in dataclasses.fields(TrainOptions)}
    tested = {*KNOBS, *WITH_A_TEST_OF_THEIR_OWN, *WITH_TESTS_ELSEWHERE}
    assert fields == tested, "give every new option a line above, or a test below"


@pytest.mark.parametrize("name", KNOBS)
def test_every_option_changes_the_product(trained: Callable[..., RunFolder], name: str) -> None:
    knob = KNOBS[name]
    beside = dict(knob.beside)
    plain, changed = trained(**beside), trained(**beside | {name: knob.value})
    assert changed.config()["options"][name] == knob.value, "the record does not say it"
    assert knob.product(plain) != knob.product(changed), f"{name} changes nothing"


CHOICES = {
    name: get_args(hint)
    for name, hint in get_type_hints(TrainOptions).items()
    if name in ("optimizer", "schedule", "normalise", "symmetry")
}


@pytest.mark.parametrize("name", CHOICES)
def test_every_choice_gives_another_product(trained: Callable[..., RunFolder], name: str) -> None:
    runs = {value: learnt(trained(**{"batch_size": 12, name: value})) for value in CHOICES[name]}
    if name == "symmetry":
        assert runs.pop("auto") == runs["half_turn"], "Models I-III are as they were after a half turn"
    assert len(set(runs.values())) == len(runs), runs


def test_what_is_not_asked_for_has_no_effect(trained: Callable[..., RunFolder], small_set: Path) -> None:
    """The defaults, named or not, give the same bytes."""
    defaults = TrainOptions(dataset=str(small_set), **BASE).as_dict()
    named = {name: value for name, value in defaults.items() if name not in ("dataset", "out", "resume")}
    assert learnt(trained(**named)) == learnt(trained())


def test_dataset(trained: Callable[..., RunFolder], workplace: Path) -> None:
    recipe = workplace / "other.toml"
    text = shipped_recipes()["model_iii"].partition("[counts]")[0]
    recipe.write_text(text + "[counts]\ntrain = 24\nvalidation = 8\ntest = 0\n")
    run = trained(dataset=str(recipe))
    assert learnt(run) != learnt(trained())
    assert run.config()["dataset"]["name"] == str(recipe)
    assert Path(run.config()["dataset"]["path"]).parent == workplace / "cache", "a recipe is simulated into the cache"


def test_a_dataset_must_be_named(workplace: Path) -> None:
    with pytest.raises(InvalidOption, match="no dataset") as caught:
        train()
    assert "--dataset" in caught.value.expected
    with pytest.raises(UnknownName, match="model_2"):
        train(dataset="model_2")
    assert not (workplace / "runs").exists(), "a run was begun"


def test_pretrained(trained: Callable[..., RunFolder], small_run: Path) -> None:
    file = str(RunFolder(small_run).weights)
    started = trained(pretrained=file, tune=False)
    assert backbone(started) == backbone(RunFolder(small_run)), "a frozen backbone is the one in the file"
    assert learnt(trained(pretrained=file)) != learnt(trained())


def test_single_logit(trained: Callable[..., RunFolder], tmp_path: Path) -> None:
    data = tree(tmp_path / "data", {"no_sub": 20, "sub": 20})
    plain, single = (trained(dataset=str(data), single_logit=value) for value in (False, True))
    heads = [[s for n, s in architecture(run).items() if n.startswith("head.")] for run in (plain, single)]
    assert [shapes[0][0] for shapes in heads] == [2, 1]
    marks = evaluate(run_id=str(single.path), device="cpu")
    assert marks["auroc_no_sub"].value == pytest.approx(marks["auroc_sub"].value), "the answers are 1 - p and p"
    assert (single.path / "calibration.json").is_file()


def test_one_logit_for_three_classes_is_refused(small_set: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match="--single-logit with 3 classes"):
        train(dataset=str(small_set), out=tmp_path / "run", single_logit=True, **BASE)
    assert not (tmp_path / "run").exists(), "a run was begun"


def test_each_fold_is_judged_on_its_own_images(trained: Callable[..., RunFolder], small_set: Path) -> None:
    dataset = open_dataset(small_set)
    labels, ids = dataset.catalogue["label"].to_pylist(), dataset.catalogue["id"].to_pylist()
    tested: list[str] = []
    for fold in (0, 1):
        run = trained(folds=4, fold=fold)
        evaluate(run_id=str(run.path), device="cpu")
        found = pq.read_table(run.predictions)
        splits = fold_splits(ids, labels, Fold(4, fold))
        assert found["id"].to_pylist() == [name for name, split in zip(ids, splits, strict=True) if split == "test"]
        assert (run.config()["options"]["folds"], run.config()["options"]["fold"]) == (4, fold)
        sizes = [splits.count(split) for split in ("train", "validation")]
        assert [run.config()["dataset"][f"n_{split}"] for split in ("train", "validation")] == sizes
        assert json.loads(run.calibration.read_text())["n"] == sizes[1], "the temperature is of the fold's validation"
        tested += found["id"].to_pylist()
    assert len(set(tested)) == len(tested) == 60, "two quarters of 120 images"


def test_a_fold_is_judged_on_its_own_images_wherever_they_lie(
    trained: Callable[..., RunFolder], small_set: Path, tmp_path: Path
) -> None:
    run = trained(folds=4, fold=0)
    marks = evaluate(run_id=str(run.path), device="cpu")
    (tmp_path / "link").symlink_to(small_set)
    assert evaluate(run_id=str(run.path), dataset=str(tmp_path / "link"), device="cpu") == marks
    shutil.copytree(small_set, tmp_path / "copy")
    copied = evaluate(run_id=str(run.path), dataset=str(tmp_path / "copy"), device="cpu")
    assert copied["accuracy"] == marks["accuracy"], "and not images that it has learnt from"


def test_a_fold_that_is_not_there_is_refused(small_set: Path, tmp_path: Path) -> None:
    for options, word in (({"folds": 3, "fold": 3}, "3 of 3"), ({"fold": 1}, "without --folds")):
        with pytest.raises(InvalidOption, match=word):
            train(dataset=str(small_set), out=tmp_path / "run", **options, **BASE)
    with pytest.raises(InvalidOption, match="--fresh with --folds"):
        train(dataset="model_ii", fresh=True, folds=3, out=tmp_path / "run", **BASE)
    assert not (tmp_path / "run").exists(), "a run was begun"


def test_a_run_from_before_there_were_folds_is_judged_as_ever(small_run: Path, tmp_path: Path) -> None:
    old, new = (RunFolder(Path(shutil.copytree(small_run, tmp_path / name))) for name in ("old", "new"))
    config = old.config()
    for name in ("extractor", "single_logit", "random_blur", "random_noise", "folds", "fold"):
        del config["options"][name], config["asked"][name]
    old.write_config(config)
    assert evaluate(run_id=str(old.path), device="cpu") == evaluate(run_id=str(new.path), device="cpu")
    assert train(resume=str(old.path)) == old.path


def test_log_interval(trained: Callable[..., RunFolder], capsys: pytest.CaptureFixture[str]) -> None:
    lines = {}
    for interval in (0, 1, 2):
        trained(log_interval=interval, seed=100)
        lines[interval] = capsys.readouterr().err.count(", step ")
    assert lines == {0: 0, 1: 3, 2: 1}, "lines of progress in an epoch of three steps"


def test_device(trained: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InvalidOption, match="no cuda"):
        trained(device="cuda")


def test_workers_read_in_processes_of_their_own(
    trained: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers: list[int] = []

    class Counting(torch.utils.data.DataLoader[Any]):
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            numbers.append(settings["num_workers"])
            super().__init__(*arguments, **settings)

    monkeypatch.setattr(torch.utils.data, "DataLoader", Counting)
    with_workers = trained(workers=2)
    assert set(numbers) == {2}
    assert learnt(with_workers) == learnt(trained()), "who reads the images must not matter"


def test_tracker(trained: Callable[..., RunFolder]) -> None:
    pytest.importorskip("tensorboard")
    run = trained(tracker="tensorboard")
    assert [path for path in run.path.rglob("*") if "tfevents" in path.name]
    assert learnt(run) == learnt(trained()), "who watches must not matter"


def test_out_and_its_default(small_set: Path, workplace: Path) -> None:
    named = train(dataset=str(small_set), out="mine", **BASE)
    unnamed = [train(dataset=str(small_set), **BASE) for _ in range(2)]
    assert named == Path("mine")
    assert {path.parent for path in unnamed} == {Path("runs")} and unnamed[0] != unnamed[1]
    assert all(len(path.name) == 8 for path in unnamed)


def test_resume_with_other_options_is_refused(small_run: Path) -> None:
    with pytest.raises(InvalidOption, match="another epochs"):
        train(resume=str(small_run), epochs=50)
    assert train(resume=str(small_run), batch_size=24) == small_run, "as the run was begun"


def test_resume_of_nothing_lists_what_there_is(small_run: Path, workplace: Path) -> None:
    shutil.copytree(small_run, workplace / "runs" / "small123")
    with pytest.raises(MissingFile, match="small124") as caught:
        train(resume="small124")
    assert "small123" in caught.value.expected


# ---- a run that is there already


def test_a_finished_run_is_not_trained_again(
    trained: Callable[..., RunFolder], small_set: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained(seed=7)
    before = {path: path.stat().st_mtime_ns for path in run.path.iterdir()}
    assert train(dataset=str(small_set), out=run.path, seed=7, **BASE) == run.path
    assert train(resume=str(run.path)) == run.path
    assert {path: path.stat().st_mtime_ns for path in run.path.iterdir()} == before
    assert capsys.readouterr().err.count("is finished") == 2


@pytest.mark.parametrize(("name", "value"), [("lr", 0.5), ("epochs", 2), ("dataset", "elsewhere")])
def test_another_run_in_the_same_folder_is_refused(
    trained: Callable[..., RunFolder], small_set: Path, name: str, value: Any
) -> None:
    run = trained(seed=7)
    before = learnt(run)
    with pytest.raises(InvalidOption, match=name):
        train(**{"dataset": str(small_set), "out": run.path, "seed": 7} | BASE | {name: value})
    assert learnt(run) == before


# ---- the record


def test_the_record_is_enough_to_repeat_the_run(trained: Callable[..., RunFolder], small_set: Path) -> None:
    config = trained(seed=7).config()
    assert config["labels"] == ["no_sub", "cdm", "axion"] and config["image_shape"] == [1, 64, 64]
    assert config["dataset"]["path"] == str(small_set) and config["task"] == "classify"
    assert (config["dataset"]["n_train"], config["dataset"]["n_validation"]) == (72, 24)
    assert config["model"]["name"] == "residual_cnn" and config["model"]["parameters"] > 300_000
    found = {"recipe", "shares", "class_weights"}  # of the images, and what follows from them
    assert set(config["options"]) == {field.name for field in dataclasses.fields(TrainOptions)} | found
    assert config["options"]["shares"] == pytest.approx([1 / 3] * 3)
    assert len(config["run_id"]) > 0 and config["created"].endswith("+00:00")
    again = trained(**{k: v for k, v in config["asked"].items() if k not in ("out", "resume", "dataset")})
    assert learnt(again) == learnt(trained(seed=7))


def test_the_normalisation_knows_the_training_images_only(trained: Callable[..., RunFolder], small_set: Path) -> None:
    dataset = open_dataset(small_set)
    images = Loader(dataset, dataset.indices("train")).in_memory()
    assert trained().config()["normalisation"] == fit_normalisation("asinh", images).as_dict()


def test_symmetry_auto_is_what_the_recipe_says(workplace: Path, small_tree: Path) -> None:
    for symmetry in ("none", "half_turn", "d4"):
        text = shipped_recipes()["model_ii"].replace('symmetry = "half_turn"', f'symmetry = "{symmetry}"')
        file = workplace / f"{symmetry}.toml"
        file.write_text(text.partition("[counts]")[0] + "[counts]\ntrain = 4\nvalidation = 2\ntest = 0\n")
        run = RunFolder(train(dataset=str(file), out=workplace / symmetry, **BASE))
        assert run.config()["options"]["symmetry"] == symmetry
        assert run.config()["asked"]["symmetry"] == "auto"
    run = RunFolder(train(dataset=str(small_tree), out=workplace / "tree", **BASE))
    assert run.config()["options"]["symmetry"] == "half_turn", "without a recipe"


# ---- foreign layouts, and datasets that cannot serve


def test_a_foreign_layout_trains(small_tree: Path, tmp_path: Path) -> None:
    run = RunFolder(train(dataset=str(small_tree), out=tmp_path / "run", **BASE))
    assert run.is_finished() and run.config()["labels"] == ["no_sub", "cdm", "axion"]


def tree(root: Path, counts: dict[str, int], shape: tuple[int, int] = (16, 16)) -> Path:
    """Write a tree of class folders without splits."""
    random = np.random.default_rng(0)
    for label, n in counts.items():
        (root / label).mkdir(parents=True)
        for i in range(n):
            np.save(root / label / f"{i}.npy", random.random(shape, dtype=np.float32))
    return root


@pytest.mark.parametrize("n", [1, 3])
def test_a_class_with_too_few_images_is_named(tmp_path: Path, n: int) -> None:
    data = tree(tmp_path / "data", {"no_sub": 20, "sub": n})
    with pytest.raises(InvalidDataset, match="sub") as caught:
        train(dataset=str(data), out=tmp_path / "run", **BASE)
    assert "at least 4" in caught.value.remedy
    assert not (tmp_path / "run").exists(), "a run was begun"


def test_four_images_of_a_class_are_enough(tmp_path: Path) -> None:
    data = tree(tmp_path / "data", {"no_sub": 20, "sub": 4})
    assert RunFolder(train(dataset=str(data), out=tmp_path / "run", **BASE)).is_finished()


def test_a_class_without_any_image_does_not_pass_unnoticed(tmp_path: Path) -> None:
    data = tree(tmp_path / "data", {"no_sub": 20, "sub": 0})
    with pytest.raises(InvalidDataset):
        train(dataset=str(data), out=tmp_path / "run", **BASE)


def test_one_class_is_no_task(tmp_path: Path) -> None:
    data = tree(tmp_path / "data", {"no_sub": 20})
    with pytest.raises(InvalidDataset, match="1 labelled class") as caught:
        train(dataset=str(data), out=tmp_path / "run", **BASE)
    assert "two classes" in caught.value.expected


def test_a_class_that_is_missing_in_one_split_is_named(small_tree: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(small_tree, tmp_path / "data"))
    shutil.rmtree(data / "validation" / "cdm")
    with pytest.raises(InvalidDataset, match=r"'cdm' in its validation split"):
        train(dataset=str(data), out=tmp_path / "run", **BASE)


def test_fewer_images_than_a_batch_train(tmp_path: Path) -> None:
    data = tree(tmp_path / "data", {"no_sub": 6, "sub": 6})
    run = RunFolder(train(dataset=str(data), out=tmp_path / "run", **BASE | {"batch_size": 1000}))
    assert run.is_finished()


@pytest.mark.parametrize(
    "options", [{"symmetry": "half_turn"}, {"random_rotation": 10}, {"symmetry": "d4", "crop": 16}]
)
def test_images_that_are_not_square_train(tmp_path: Path, options: dict[str, Any]) -> None:
    data = tree(tmp_path / "data", {"no_sub": 6, "sub": 6}, (16, 24))
    assert RunFolder(train(dataset=str(data), out=tmp_path / "run", **BASE | options)).is_finished()


def test_quarter_turns_of_images_that_are_not_square_are_refused(tmp_path: Path) -> None:
    data = tree(tmp_path / "data", {"no_sub": 6, "sub": 6}, (16, 24))
    with pytest.raises(InvalidOption, match="d4") as caught:
        train(dataset=str(data), out=tmp_path / "run", symmetry="d4", **BASE)
    assert "--crop" in caught.value.remedy
    assert not (tmp_path / "run").exists(), "a run was begun"


DAMAGED = {
    "NaN": np.full((64, 64), np.nan, np.float32),
    "infinite": np.full((64, 64), np.inf, np.float32),
    "another shape": np.zeros((32, 32), np.float32),
    "no image": np.zeros(7, np.float32),
}


@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize("damage", DAMAGED)
def test_one_bad_image_is_named(
    small_tree: Path, tmp_path: Path, damage: str, split: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = Path(shutil.copytree(small_tree, tmp_path / "data"))
    path = sorted((data / split / "cdm").iterdir())[3]
    np.save(path, DAMAGED[damage])
    assert main(["train", str(data), "--out", str(tmp_path / "run"), "--epochs=1", "--device=cpu"]) == 2
    message = capsys.readouterr().err
    assert str(path) in message and "expected:" in message and "to do:" in message
    assert not (tmp_path / "run" / "model.safetensors").exists()


# ---- from Python


def test_the_public_verbs_are_functions_however_their_modules_are_imported() -> None:
    program = """
import deeplense.train, deeplense.evaluate, deeplense.report, deeplense.predict, deeplense.simulate
import deeplense
from deeplense.train import TrainOptions
import deeplense.train as again
for name in deeplense.__all__:
    assert hasattr(deeplense, name), name
for name in ("train", "evaluate", "report", "predict", "simulate", "info", "montage"):
    assert callable(getattr(deeplense, name)), name
assert again is deeplense.train
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


def test_keywords_and_options_are_the_same(small_set: Path, tmp_path: Path) -> None:
    one = train(TrainOptions(dataset=str(small_set), out=tmp_path / "one", **BASE))
    other = train(dataset=str(small_set), out=tmp_path / "other", **BASE)
    assert learnt(RunFolder(one)) == learnt(RunFolder(other))


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"epoch": 3}, "epoch"),
        ({"epochs": 0}, "epochs"),
        ({"lr": "fast"}, "lr"),
        ({"lr": float("nan")}, "lr"),
        ({"optimizer": "adamm"}, "adamm"),
        ({"dropout": 1.5}, "dropout"),
        ({"crop": 1000}, "1000"),
    ],
)
def test_a_wrong_option_is_named(small_set: Path, workplace: Path, fields: dict[str, Any], word: str) -> None:
    with pytest.raises(InvalidOption, match=word):
        train(dataset=str(small_set), **{"device": "cpu"} | fields)
    assert not (workplace / "runs").exists(), "a run was begun"


def test_history_is_plain_json(trained: Callable[..., RunFolder]) -> None:
    text = (trained().path / "history.json").read_text()
    assert json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))

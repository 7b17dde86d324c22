"""A finished run, opened again: whole, or with a word about which file is wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from deeplense.cli import main
from deeplense.core.errors import CorruptFile, InvalidDataset, MissingFile
from deeplense.core.run_folder import RunFolder
from deeplense.data.dataset import open_dataset
from deeplense.train import train
from deeplense.training.trained import TrainedModel, locate_run


@pytest.fixture
def run(small_run: Path, tmp_path: Path) -> RunFolder:
    """Return a copy of a finished run that may be damaged."""
    return RunFolder(Path(shutil.copytree(small_run, tmp_path / "copy1234")))


def test_it_answers_like_the_network_that_was_trained(small_run: Path) -> None:
    model = TrainedModel.load(RunFolder(small_run), "cpu")
    assert model.labels == ("no_sub", "cdm", "axion") and model.crop is None
    assert not model.network.training
    images = np.random.default_rng(0).normal(size=(5, 1, 64, 64)).astype(np.float32)
    answers = model.answer(images)
    assert answers.shape == (5, 3) and np.allclose(answers.sum(1), 1)
    assert np.allclose(model.answer(images[2:3]), answers[2:3], atol=1e-5), "an answer depends on its neighbours"


def test_a_run_that_was_moved_needs_nothing_else(run: RunFolder, small_run: Path) -> None:
    images = np.random.default_rng(0).normal(size=(2, 1, 64, 64)).astype(np.float32)
    moved, original = (TrainedModel.load(folder, "cpu") for folder in (run, RunFolder(small_run)))
    assert np.array_equal(moved.answer(images), original.answer(images))


def test_pretrained_weights_of_the_training_are_not_needed_again(run: RunFolder) -> None:
    change(run, lambda config: config["options"].update(pretrained="gone.safetensors"))
    assert TrainedModel.load(run, "cpu").labels


def test_an_image_of_another_shape_says_which_is_wanted(small_run: Path, tmp_path: Path) -> None:
    model = TrainedModel.load(RunFolder(small_run), "cpu")
    np.save(tmp_path / "small.npy", np.zeros((32, 32), np.float32))
    with pytest.raises(InvalidDataset, match=r"\(1, 32, 32\)") as caught:
        model.prepare(tmp_path / "small.npy")
    assert "(1, 64, 64)" in caught.value.expected


def test_images_are_seen_by_the_network_and_not_judged(small_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = TrainedModel.load(RunFolder(small_run), "cpu")
    dataset = open_dataset(Path(model.config["dataset"]["path"]))
    seen: list[int] = []
    model.network.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    monkeypatch.setattr(model.task, "answers", None)
    model.see(model.loader(dataset, dataset.indices("test")[:7]), 3)
    assert seen == [3, 3, 1]


# ---- what can be wrong with the folder


def change(run: RunFolder, edit: Callable[[dict[str, Any]], Any]) -> None:
    config = run.config()
    edit(config)
    (run.path / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("verb", ["evaluate", "predict", "resume"])
def test_a_missing_file_is_named(
    run: RunFolder, name: str, verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run.path / name).unlink()
    np.save(tmp_path / "image.npy", np.zeros((64, 64), np.float32))
    line = {
        "evaluate": ["evaluate", str(run.path)],
        "predict": ["predict", str(run.path), str(tmp_path / "image.npy"), "--out", str(tmp_path / "out.csv")],
        "resume": ["train", "--resume", str(run.path)],
    }[verb]
    before = {path.name for path in run.path.iterdir()}
    if (verb, name) == ("resume", "model.safetensors"):
        assert main(line) == 0, "training begins again and makes the weights"
        return
    assert main(line) == 2
    said = capsys.readouterr().err
    assert name in said and "expected:" in said and "to do:" in said and "Traceback" not in said
    assert {path.name for path in run.path.iterdir()} == before and not (tmp_path / "out.csv").exists()


CONFIGS: dict[str, str] = {
    "empty": "",
    "half": '{"run_id": "x", "labels": [',
    "a list": "[]",
    "null": "null",
    "a number": "3",
    "an empty object": "{}",
    "no text": "\x00\x01",
}


@pytest.mark.parametrize("content", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("verb", ["evaluate", "resume", "out"])
def test_a_record_that_is_none_is_named(
    run: RunFolder, content: str, verb: str, small_set: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run.path / "config.json").write_text(content)
    line = {
        "evaluate": ["evaluate", str(run.path)],
        "resume": ["train", "--resume", str(run.path)],
        "out": ["train", str(small_set), "--out", str(run.path)],
    }[verb]
    assert main(line) == 2
    said = capsys.readouterr().err
    assert "config.json" in said and "expected:" in said and "to do:" in said


FIELDS = ["task", "labels", "options", "image_shape", "normalisation"]
DAMAGES: dict[str, Any] = {"gone": ..., "null": None, "a text": "odd", "a number": -1, "an empty list": [], "deep": {}}


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_record_with_an_odd_field_is_a_clear_error(run: RunFolder, field: str, damage: str) -> None:
    value = DAMAGES[damage]
    change(run, lambda config: config.pop(field) if value is ... else config.update({field: value}))
    with pytest.raises(CorruptFile, match=r"config\.json"):
        TrainedModel.load(run, "cpu")


@pytest.mark.parametrize("option", ["model_source", "model_name", "complex", "dropout", "crop"])
def test_a_record_without_an_option_is_a_clear_error(run: RunFolder, option: str) -> None:
    change(run, lambda config: config["options"].pop(option))
    with pytest.raises(CorruptFile, match=r"config\.json"):
        TrainedModel.load(run, "cpu")


def test_a_record_of_a_model_that_is_gone_names_it(run: RunFolder) -> None:
    change(run, lambda config: config["options"].update(model_name="residual_cnn_2"))
    with pytest.raises(CorruptFile, match="residual_cnn_2"):
        TrainedModel.load(run, "cpu")


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "of other classes", "of another model"])
def test_damaged_weights_are_named(run: RunFolder, damage: str) -> None:
    state = load_file(run.weights)
    if damage == "truncated":
        run.weights.write_bytes(run.weights.read_bytes()[:5000])
    elif damage == "of other classes":
        save_file({name: value[:2] if name.startswith("head") else value for name, value in state.items()}, run.weights)
    elif damage == "of another model":
        save_file({"weight": torch.zeros(3)}, run.weights)
    else:
        run.weights.write_bytes(b"" if damage == "empty" else b"these are no weights at all")
    with pytest.raises(CorruptFile, match=r"model\.safetensors"):
        TrainedModel.load(run, "cpu")


# ---- where runs are


def test_a_run_is_found_by_id_by_folder_and_as_part_of_the_package(small_run: Path, workplace: Path) -> None:
    shutil.copytree(small_run, workplace / "runs" / "small123")
    assert locate_run("small123").path == Path("runs/small123")
    assert locate_run(str(small_run)).path == small_run
    with pytest.raises(MissingFile, match="small132") as caught:
        locate_run("small132")
    assert "small123" in caught.value.expected


def test_answers_averaged_over_a_symmetry_do_not_change_under_it(small_set: Path, tmp_path: Path) -> None:
    options = {"dataset": str(small_set), "epochs": 1, "batch_size": 24, "symmetry": "d4", "device": "cpu"}
    run = train(**options, average_symmetry=True, out=tmp_path / "mean")
    model, plain = TrainedModel.load(RunFolder(run), "cpu"), TrainedModel.load(RunFolder(run), "cpu")
    plain.config["options"]["average_symmetry"] = False
    image = open_dataset(small_set).images([0])
    turned = np.ascontiguousarray(np.rot90(image, axes=(2, 3)))
    np.testing.assert_allclose(model.answer(image), model.answer(turned), atol=1e-6)
    assert not np.allclose(plain.answer(image), plain.answer(turned), atol=1e-6)


@pytest.mark.parametrize("damage", ["text", ["a"], {"mean pixel": 3}, {"mean pixel": [1]}, {"mean pixel": ["a", "b"]}])
def test_ranges_that_are_none_are_named(run: RunFolder, damage: object) -> None:
    run.write_config(run.config() | {"familiar": damage})
    with pytest.raises(CorruptFile, match=r"config\.json"):
        TrainedModel.load(run, "cpu").unfamiliar(np.zeros((1, 1, 64, 64), np.float32))

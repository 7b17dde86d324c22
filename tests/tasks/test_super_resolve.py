"""The task `super_resolve`: pairs, estimators, losses, σ, and what an astronomer asks, through the verbs."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import load_file

from deeplense.core.degradation import Degradation
from deeplense.core.errors import CorruptFile, Diverged, InvalidDataset, InvalidOption
from deeplense.core.files import sha256
from deeplense.core.run_folder import RunFolder
from deeplense.data.dataset import open_dataset
from deeplense.data.loader import Batch, PairLoader
from deeplense.evaluate import evaluate
from deeplense.metrics.noise_law import NoiseLaw
from deeplense.simulate import simulate
from deeplense.tasks.super_resolve import COLUMNS, SuperResolve
from deeplense.train import train
from deeplense.training.resolving import pair_settings

BASE: dict[str, Any] = {"task": "super_resolve", "model_name": "srcnn", "epochs": 1, "batch_size": 8, "device": "cpu"}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("pairs")
    recipe = home / "small.toml"
    text = simulate_text().replace("n_pixels = 150", "n_pixels = 48")
    recipe.write_text(text)
    return simulate(recipe=str(recipe), train=16, validation=8, test=8, out=home / "set")


def simulate_text() -> str:
    from deeplense.recipes.recipe import shipped_recipes

    return shipped_recipes()["super_resolution"]


@pytest.fixture(scope="module")
def trained(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., RunFolder]:
    @cache
    def run(**options: Any) -> RunFolder:
        out = tmp_path_factory.mktemp("run") / "run"
        return RunFolder(train(**{"dataset": str(pairs), "out": out} | BASE | options))

    return run


def task(estimator: Any = "truth", loss: Any = "mse", **changes: Any) -> SuperResolve:
    known: dict[str, Any] = {"degradation": Degradation(2, "area"), "is_known": True, "data_range": 1.0}
    return SuperResolve(estimator, loss, **known | {"noise": NoiseLaw(1e-4)} | changes)


def batch_of(truth: torch.Tensor, sigma: float = 0.01) -> Batch:
    noise = sigma * torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    fine = truth + noise
    n = len(truth)
    return Batch(Degradation(2, "area")(fine), torch.zeros(n, dtype=torch.long), torch.arange(n), fine, truth)


def smooth(n: int = 4, side: int = 32) -> torch.Tensor:
    axis = torch.linspace(-2, 2, side)
    blob = torch.exp(-(axis[:, None] ** 2 + axis**2))
    return blob.expand(n, 1, side, side).clone()


def answer(estimate: torch.Tensor, sigma: float = 0.01) -> torch.Tensor:
    return torch.cat([estimate, torch.full_like(estimate, sigma).log()], dim=1)


def marks(of: SuperResolve, output: torch.Tensor, batch: Batch) -> dict[str, float]:
    return of.marks(of.answers(output, batch).numpy(), batch.target.numpy())


# ---- marks


def test_the_truth_is_flawless_but_for_the_noise() -> None:
    truth = smooth(side=64)
    batch = batch_of(truth)
    found = marks(task(), answer(truth), batch)
    assert found["psnr"] == pytest.approx(40, abs=0.1), "σ = 0.01 is 40 dB"
    assert found["floor"] == pytest.approx(found["psnr"] + 10 * np.log10(4 / 3), abs=0.02), "a quarter can be known"
    assert found["gap"] == pytest.approx(found["floor"] - found["psnr"], abs=1e-4)
    assert found["ssim_truth"] == pytest.approx(1) and found["flux_error"] == 0 and found["centroid_offset"] == 0
    assert found["coverage_68"] == found["coverage_95"] == 1
    assert found["chi2"] == pytest.approx(0.25, rel=0.05), "the mean of four pixels has a quarter of the law's variance"


def test_an_estimate_that_leaves_the_coarse_image_is_caught() -> None:
    truth = smooth(side=64)
    found = marks(task(noise=NoiseLaw(0.25e-4)), answer(0.9 * truth), batch_of(truth))
    assert found["flux_error"] == pytest.approx(-0.1, abs=0.01)
    assert found["chi2"] > 10


def test_coverage_is_that_of_what_was_asked_for() -> None:
    truth = smooth(side=64)
    batch = batch_of(truth)
    assert marks(task("fidelity"), answer(truth), batch)["coverage_68"] == pytest.approx(0.683, abs=0.02)
    assert marks(task("truth"), answer(truth), batch)["coverage_68"] == 1


def test_the_pattern_of_a_grid_is_told() -> None:
    truth = smooth(side=64)
    clean = marks(task(), answer(truth), batch_of(truth))["checkerboard"]
    chess = truth + 0.002 * (-1.0) ** (torch.arange(64)[:, None] + torch.arange(64))
    assert clean == pytest.approx(1) and marks(task(), answer(chess), batch_of(truth))["checkerboard"] > 3


def test_without_truth_its_marks_are_left_out() -> None:
    batch = batch_of(smooth())
    unknown = Batch(batch.image, batch.target, batch.index, batch.fine)
    found = marks(task("fidelity", noise=None), answer(smooth()), unknown)
    assert found.keys() == {"mse", "mae", "psnr", "ssim", "coverage_68", "coverage_95", "checkerboard"}
    with pytest.raises(InvalidDataset, match="noise-free"):
        task("truth").loss(answer(smooth()), unknown)


def test_marks_are_means_over_images_with_intervals() -> None:
    of, batch = task(), batch_of(smooth(12))
    answers = of.answers(answer(smooth(12) + 0.01), batch).numpy()
    assert answers.shape == (12, len(COLUMNS)) == (12, of.n_answers)
    found = of.marks_with_intervals(answers, batch.target.numpy())
    for name, mark in found.items():
        values = answers[:, COLUMNS.index(name)]
        assert mark.value == pytest.approx(values.mean(), rel=1e-5) and mark.n == 12
        assert mark.low <= mark.value <= mark.high
    assert list(of.columns(answers)) == list(found)


def test_the_best_and_the_worst_are_shown() -> None:
    of, truth = task(), smooth(5)
    worse = truth + torch.tensor([0.02, 0.001, 0.05, 0.03, 0.01])[:, None, None, None]
    shown = of.examples(of.answers(answer(worse), batch_of(truth)).numpy(), np.zeros(5, np.int64))
    assert {example.facts["kind"]: example.position for example in shown} == {"best": 1, "median": 0, "worst": 2}


# ---- learning


@pytest.mark.parametrize("loss", ["mse", "mae", "ssim", "mixed"])
def test_the_loss_is_least_for_what_was_asked_for(loss: str) -> None:
    batch = batch_of(smooth())
    assert batch.fine is not None and batch.truth is not None
    for estimator, wanted, other in (("truth", batch.truth, batch.fine), ("fidelity", batch.fine, batch.truth)):
        of = task(estimator, loss)
        assert (of.loss(answer(wanted), batch) < of.loss(answer(other), batch)).all()


def test_sigma_does_not_pull_at_the_estimate() -> None:
    estimate = smooth().requires_grad_()
    of, batch = task(), batch_of(smooth())
    narrow, wide = (
        torch.autograd.grad(of.loss(answer(estimate, sigma), batch).sum(), estimate)[0] for sigma in (1e-3, 1.0)
    )
    assert torch.equal(narrow, wide)


@pytest.mark.parametrize(
    "options",
    [{"estimator": "fidelity"}, {"loss": "mae"}, {"loss": "ssim"}, {"loss": "mixed"}, {"model_name": "edsr_1"}],
    ids=str,
)
def test_every_choice_gives_another_product(trained: Callable[..., RunFolder], options: dict[str, Any]) -> None:
    assert sha256(trained(**options).weights) != sha256(trained().weights)


@pytest.mark.parametrize("name", ["bicubic", "linear"])
def test_what_does_not_learn_by_gradients_is_fitted(trained: Callable[..., RunFolder], name: str) -> None:
    found = evaluate(run_id=str(trained(model_name=name).path), device="cpu")
    assert 30 < found["psnr_truth"].value < 60


def test_the_verbs(trained: Callable[..., RunFolder], pairs: Path) -> None:
    run = trained()
    config = run.config()
    assert config["task"] == "super_resolve" and config["image_shape"] == [1, 24, 24]
    settings = config["options"]
    assert settings["degradation"] == Degradation(2).as_dict() and settings["degradation_is_known"]
    assert settings["data_range"] == 1 and 0 < settings["noise"]["per_value"] < 1e-2
    found = evaluate(run_id=str(run.path), device="cpu")
    assert set(found) == {*COLUMNS, "theta_E_error"}
    assert abs(found["theta_E_error"].value) < 0.2, "of a network that has learnt for one epoch"
    table = pq.read_table(run.predictions)
    assert table.column_names == ["id", "label", "split", *COLUMNS] and table.num_rows == 8
    shown = load_file(run.path / "panels.safetensors")
    assert {name: array.shape[1:] for name, array in shown.items()} == {"images": (1, 24, 24)} | dict.fromkeys(
        ("estimate", "sigma", "fine", "truth"), (1, 48, 48)
    )
    dataset = open_dataset(pairs)
    low = dataset.array("low", dataset.indices("test"))
    assert any(np.array_equal(shown["images"][0], image) for image in low)
    again = evaluate(run_id=str(run.path), device="cpu", batch_size=3)
    assert again["psnr"].value == pytest.approx(found["psnr"].value, abs=1e-4)


def test_sigma_is_widened_on_validation(trained: Callable[..., RunFolder]) -> None:
    run = trained()
    found = evaluate(run_id=str(run.path), device="cpu", split="validation")
    assert found["coverage_68"].value == pytest.approx(0.683, abs=0.03)
    assert load_file(run.weights)["widening"] != 1


def test_training_goes_on_from_weights(trained: Callable[..., RunFolder]) -> None:
    before = trained()
    run = trained(pretrained=str(before.weights), lr=1e-30, epochs=1)
    old, new = load_file(before.weights), load_file(run.weights)
    assert all(np.allclose(old[name], new[name]) for name in old if name != "widening")


def test_averaged_copies_are_turned_back(trained: Callable[..., RunFolder]) -> None:
    plain, averaged = (
        trained(average_symmetry=average, symmetry="half_turn").history()[0]["validation_psnr_truth"]
        for average in (False, True)
    )
    assert averaged == pytest.approx(plain, abs=1.0) and averaged != plain


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"normalise": "max"}, "--normalise with the task super_resolve"),
        ({"detector": "pca"}, "--detector with the task super_resolve"),
        ({"crop": 20}, "--crop with the task"),
        ({"random_rotation": 5.0}, "--random-rotation with the task"),
    ],
)
def test_options_without_a_meaning_are_refused(pairs: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        train(dataset=str(pairs), task="super_resolve", **options)


def test_a_classifier_has_no_estimator(small_set: Path) -> None:
    with pytest.raises(InvalidOption, match="--estimator with the task classify"):
        train(dataset=str(small_set), estimator="truth")


# ---- what is known of pairs


def test_how_pairs_were_made_is_found_out(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    for folder in ("HR", "LR"):
        (tmp_path / folder).mkdir()
    for k in range(12):
        image = torch.rand(1, 1, 12, 18, generator=generator)
        np.save(tmp_path / "HR" / f"{k}.npy", image[0].numpy())
        np.save(tmp_path / "LR" / f"{k}.npy", Degradation(3, "area")(image)[0].numpy())
    dataset = open_dataset(tmp_path)
    found = pair_settings(PairLoader(dataset, dataset.indices("train")))
    assert found["degradation"] == Degradation(3, "area").as_dict() and found["degradation_is_known"]
    assert found["noise"] is None
    for k in range(12):
        np.save(tmp_path / "LR" / f"{k}.npy", torch.rand(1, 4, 6, generator=generator).numpy())
    again = open_dataset(tmp_path)
    assert not pair_settings(PairLoader(again, again.indices("train")))["degradation_is_known"]


def test_fine_images_must_be_a_whole_number_of_times_larger(tmp_path: Path) -> None:
    for folder, side in (("HR", 10), ("LR", 4)):
        (tmp_path / folder).mkdir()
        for k in range(8):
            np.save(tmp_path / folder / f"{k}.npy", np.random.default_rng(k).random((side, side), np.float32))
    dataset = open_dataset(tmp_path)
    with pytest.raises(InvalidDataset, match="fine images of 10×10 pixels with coarse ones of 4×4"):
        pair_settings(PairLoader(dataset, dataset.indices("train")))


# ---- against an opponent


@pytest.fixture(scope="module")
def by_error(trained: Callable[..., RunFolder]) -> RunFolder:
    return trained(model_name="srgan", adversary=0.0, lr=1e-3)


def test_an_opponent_changes_the_product(trained: Callable[..., RunFolder], by_error: RunFolder) -> None:
    known: dict[str, Any] = {"model_name": "srgan", "pretrained": str(by_error.weights), "lr": 1e-6}
    products = [trained(**known, adversary=adversary) for adversary in (0.0, 0.1, 1.0)]
    assert len({sha256(run.weights) for run in products}) == 3
    assert products[1].config()["options"]["adversary"] == 0.1
    assert sha256(trained(**known).weights) == sha256(products[1].weights), "0.1 is what srgan has by itself"


def test_an_opponent_needs_a_network_that_knows_something(pairs: Path) -> None:
    with pytest.raises(InvalidOption, match="has learnt nothing"):
        train(dataset=str(pairs), **BASE | {"model_name": "srgan"})


def test_a_contest_goes_on_where_it_was(
    trained: Callable[..., RunFolder], by_error: RunFolder, pairs: Path, tmp_path: Path
) -> None:
    known: dict[str, Any] = {"model_name": "srgan", "pretrained": str(by_error.weights), "lr": 1e-3, "epochs": 2}
    known |= {"average_weights": True, "schedule": "constant"}
    whole = trained(**known)
    stopped = tmp_path / "stopped"

    class Stopped(Exception):
        pass

    from deeplense.training.loop import Trainer

    save = Trainer._save

    def save_and_stop(self: Trainer, *args: Any) -> None:
        save(self, *args)
        raise Stopped

    with pytest.MonkeyPatch.context() as patched, pytest.raises(Stopped):
        patched.setattr(Trainer, "_save", save_and_stop)
        train(dataset=str(pairs), out=stopped, **BASE | known)
    train(resume=str(stopped))
    assert sha256(RunFolder(stopped).weights) == sha256(whole.weights)


def test_a_network_that_falls_goes_back(
    trained: Callable[..., RunFolder], by_error: RunFolder, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    monkeypatch.setattr("deeplense.training.loop.TOLERATED", -50.0)  # whatever it does, it has fallen
    known: dict[str, Any] = {"model_name": "srgan", "pretrained": str(by_error.weights), "lr": 1e-3}
    run = trained(**known, epochs=2, adversary=0.2)
    old, new = load_file(by_error.weights), load_file(run.weights)
    assert all(np.array_equal(old[name], new[name]) for name in old if name != "widening")
    assert "back to the network of epoch 0" in capfd.readouterr().err


def test_a_network_that_falls_again_and_again_is_given_up(
    trained: Callable[..., RunFolder], by_error: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deeplense.training.loop.TOLERATED", -50.0)
    known: dict[str, Any] = {"model_name": "srgan", "pretrained": str(by_error.weights), "lr": 1e-3}
    with pytest.raises(Diverged, match="fallen for the"):
        trained(**known, epochs=6, adversary=0.2)


def test_an_opponent_that_breaks_the_network_is_fallen_back_from(
    trained: Callable[..., RunFolder], by_error: RunFolder, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    from deeplense.training.loop import Trainer

    epoch, broken = Trainer._epoch, []

    def break_once(self: Trainer, *args: Any) -> Any:
        record = epoch(self, *args)
        if not broken:
            broken.append(next(self.network.parameters()).data.fill_(float("nan")))
        return record

    monkeypatch.setattr(Trainer, "_epoch", break_once)
    known: dict[str, Any] = {"model_name": "srgan", "pretrained": str(by_error.weights), "lr": 1e-5}
    run = trained(**known, epochs=2, adversary=0.01)
    assert "fallen to weights that are no numbers" in capfd.readouterr().err
    assert len(run.history()) == 2, "the epoch was learnt again"
    assert all(np.isfinite(value).all() for value in load_file(run.weights).values())


def test_weights_of_another_network_are_refused(trained: Callable[..., RunFolder], by_error: RunFolder) -> None:
    with pytest.raises(CorruptFile, match="not those of this network"):
        trained(model_name="srcnn", pretrained=str(by_error.weights))


def test_features_of_a_classifier_change_the_product(trained: Callable[..., RunFolder], small_run: Path) -> None:
    assert sha256(trained(perceptual=str(small_run)).weights) != sha256(trained().weights)


def test_patches_change_the_product_and_whole_images_are_judged(trained: Callable[..., RunFolder]) -> None:
    patches, whole = trained(patch=12), trained()
    assert sha256(patches.weights) != sha256(whole.weights)
    assert patches.config()["image_shape"] == whole.config()["image_shape"] == [1, 24, 24]
    assert sha256(patches.weights) == sha256(trained(patch=12, workers=0).weights)
    with pytest.raises(InvalidOption, match="patches of 25 coarse pixels"):
        trained(patch=25)


def test_features_are_those_of_a_classifier(trained: Callable[..., RunFolder], pairs: Path) -> None:
    with pytest.raises(InvalidOption, match="a classifier that learns from pixels"):
        train(dataset=str(pairs), **BASE | {"perceptual": str(trained().path)})


def test_the_truth_cannot_be_asked_of_pairs_that_lack_it(tmp_path: Path) -> None:
    for folder, side in (("HR", 32), ("LR", 16)):
        (tmp_path / "real" / folder).mkdir(parents=True)
        for k in range(12):
            np.save(tmp_path / "real" / folder / f"{k}.npy", np.random.default_rng(k).random((side, side), np.float32))
    with pytest.raises(InvalidDataset, match="without the noise-free image"):
        train(dataset=str(tmp_path / "real"), out=tmp_path / "run", **BASE)
    assert not (tmp_path / "run").exists(), "nothing was begun"
    run = RunFolder(train(dataset=str(tmp_path / "real"), out=tmp_path / "run", **BASE | {"estimator": "fidelity"}))
    found = evaluate(run_id=str(run.path), device="cpu")
    assert {"psnr", "coverage_68"} <= set(found) and "floor" not in found

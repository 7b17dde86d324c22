"""Training on images that are drawn and never stored."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deeplense.cli import main
from deeplense.core.compiled import Runner
from deeplense.core.errors import InvalidDataset, InvalidOption, MissingFile
from deeplense.core.files import sha256
from deeplense.core.run_folder import RunFolder
from deeplense.data.dataset import open_dataset
from deeplense.data.loader import Loader
from deeplense.data.transforms import centre_crop
from deeplense.evaluate import evaluate
from deeplense.recipes.recipe import Sample
from deeplense.simulate import simulate
from deeplense.simulation import fresh
from deeplense.simulation.fresh import FreshLoader, RecipeDataset
from deeplense.train import train
from deeplense.training.loop import Trainer

BASE: dict[str, Any] = {"fresh": True, "epochs": 3, "batch_size": 12, "device": "cpu"}


@pytest.fixture(scope="module")
def recipe(write_recipe: Callable[..., str]) -> str:
    """Return a recipe of 24 + 12 + 12 images of 16 pixels."""
    return write_recipe(counts=(8, 4, 4))


@pytest.fixture(scope="module")
def run(recipe: str, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Return a run on fresh images that nothing interrupted; to be read only."""
    return RunFolder(train(dataset=recipe, out=tmp_path_factory.mktemp("run") / "run", **BASE))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Sample]:
    """Return a list that every image drawn for a loader or a dataset is put into."""
    samples: list[Sample] = []
    draw = fresh.draw_images

    def noted(recipe: Any, seed: int, some: Any, *rest: Any) -> Any:
        samples.extend(some)
        return draw(recipe, seed, some, *rest)

    monkeypatch.setattr(fresh, "draw_images", noted)
    return samples


def images(loader: Loader) -> np.ndarray:
    return np.concatenate([batch.image.numpy() for batch in loader.in_order(7)])


# ---- what is drawn


def test_an_epoch_has_as_many_images_as_the_recipe_says_and_none_twice(recipe: str) -> None:
    loader = FreshLoader(RecipeDataset(recipe, compiled=False), seed=5)
    epochs = []
    for epoch in range(3):
        loader.begin_epoch(epoch)
        epochs.append(images(loader))
    assert [part.shape for part in epochs] == [(24, 1, 16, 16)] * 3
    assert len({image.tobytes() for part in epochs for image in part}) == 72
    loader.begin_epoch(1)
    assert np.array_equal(images(loader), epochs[1]), "an epoch is what its number says"


def test_the_seed_decides_and_no_stored_image_is_among_them(recipe: str) -> None:
    dataset = RecipeDataset(recipe, compiled=False)
    sets = [images(FreshLoader(dataset, seed)) for seed in (0, 0, 1)] + [dataset.images(range(len(dataset)))]
    assert np.array_equal(sets[0], sets[1])
    assert len({image.tobytes() for part in sets[1:] for image in part}) == 24 + 24 + 48


@pytest.mark.parametrize("counts", [(8, 4, 4), (8, 0, 4), (8, 4, 0), (8, 0, 0)])
def test_an_image_has_the_target_of_its_class(
    counts: tuple[int, int, int], write_recipe: Callable[..., str], drawn: list[Sample]
) -> None:
    """Also where validation or test images are taken from those for training, since the recipe has none."""
    loader = FreshLoader(RecipeDataset(write_recipe(counts=counts), compiled=False), seed=0)
    loader.begin_epoch(1)
    assert len(loader) == 24 - 3 * counts.count(0)
    order = np.random.default_rng(0).permutation(len(loader))
    targets = torch.cat([batch.target for batch in loader.batches([order[:10], order[10:]])])
    assert [sample.label for sample in drawn] == [loader.recipe.labels[target] for target in targets]
    assert len(set(drawn)) == len(loader) and {sample.k for sample in drawn} <= set(range(8, 16))


def test_batches_do_not_depend_on_how_many_are_drawn_at_once(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = FreshLoader(RecipeDataset(recipe, compiled=False), seed=0)
    order = np.random.default_rng(0).permutation(24)
    positions = [order[:10], order[10:20], order[20:]]
    together = list(loader.batches(positions))
    monkeypatch.setattr(fresh, "DRAWN_AT_ONCE", 1)
    for some, batch, where in zip(together, loader.batches(positions), positions, strict=True):
        assert torch.equal(some.image, batch.image) and torch.equal(some.target, batch.target)
        assert np.array_equal(some.index, where) and np.array_equal(batch.index, where)
    assert list(loader.batches([])) == []


def test_a_crop_is_the_centre(recipe: str) -> None:
    dataset = RecipeDataset(recipe, compiled=False)
    loader = FreshLoader(dataset, 0, crop=8)
    assert loader.image_shape == (1, 8, 8)
    whole = torch.from_numpy(images(FreshLoader(dataset, 0)))
    assert np.array_equal(images(loader), centre_crop(whole, 8))
    assert loader.sample(5).shape == (5, 1, 8, 8)
    with pytest.raises(InvalidOption, match="crop"):
        FreshLoader(dataset, 0, crop=17)


@pytest.mark.parametrize("compiled", [False, True])
def test_the_other_splits_are_those_of_the_stored_dataset(
    compiled: bool, recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    monkeypatch.setattr("deeplense.core.compiled.can_compile", lambda: True)
    monkeypatch.setattr("deeplense.simulation.order._compiled_runner", lambda recipe: Runner(compiled=True))
    stored = open_dataset(simulate(recipe=recipe, out=tmp_path / "set", compile=compiled))
    dataset = RecipeDataset(recipe, compiled=compiled)
    for split in ("validation", "test"):
        rows = dataset.indices(split)
        assert np.array_equal(rows, stored.indices(split))
        assert np.array_equal(dataset.images(rows), stored.images(rows))
    assert dataset.catalogue.equals(stored.catalogue.select(["id", "label", "split"]))
    assert (dataset.labels, dataset.image_shape) == (stored.labels, stored.image_shape)
    assert np.array_equal(dataset.targets(), stored.targets())


# ---- training


def test_a_run_writes_its_folder_and_nothing_else(recipe: str, workplace: Path) -> None:
    assert main(["train", recipe, "--fresh", "--epochs=1", "--device=cpu", "--out=run"]) == 0
    assert [path.name for path in workplace.iterdir()] == ["run"]
    evaluate(run_id="run", device="cpu")
    assert [path.name for path in workplace.iterdir()] == ["run"]


def test_the_record_says_where_the_images_came_from(run: RunFolder, recipe: str) -> None:
    config = run.config()
    assert config["dataset"]["layout"] == "recipe, drawn in memory" and config["dataset"]["name"] == recipe
    assert (config["dataset"]["n_train"], config["dataset"]["n_validation"]) == (24, 12)
    assert config["options"]["fresh"] is True and config["options"]["symmetry"] == "half_turn"


def test_a_run_sees_no_image_twice(recipe: str, tmp_path: Path, drawn: list[Sample]) -> None:
    train(dataset=recipe, out=tmp_path / "run", normalise="none", **BASE)
    seen = [sample for sample in drawn if sample.split == "fresh"]
    learnt = seen[len(seen) - 72 :]  # after the sample for the normalisation
    assert len(set(learnt)) == 72 and {sample.k for sample in learnt} == set(range(24))
    assert {sample.split for sample in drawn} == {"fresh", "validation"}


def test_the_seed_decides_the_weights(run: RunFolder, recipe: str, tmp_path: Path) -> None:
    again = train(dataset=recipe, out=tmp_path / "again", **BASE)
    assert sha256(RunFolder(again).weights) == sha256(run.weights)
    other = train(dataset=recipe, out=tmp_path / "other", **BASE | {"seed": 1})
    assert sha256(RunFolder(other).weights) != sha256(run.weights)


def test_fresh_images_are_other_images(run: RunFolder, recipe: str, workplace: Path) -> None:
    stored = train(dataset=recipe, out=workplace / "stored", **BASE | {"fresh": False})
    assert sha256(RunFolder(stored).weights) != sha256(run.weights)
    assert RunFolder(stored).config()["dataset"]["layout"] != "recipe, drawn in memory"


@pytest.mark.parametrize("n_epochs", [1, 2])
def test_an_interrupted_run_ends_as_if_nothing_had_happened(
    n_epochs: int, run: RunFolder, recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = Trainer._save

    def interrupted(self: Trainer, state: Any, optimizer: Any) -> None:
        save(self, state, optimizer)
        if state.epoch == n_epochs:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "_save", interrupted)
        train(dataset=recipe, out=tmp_path / "run", **BASE)
    resumed = RunFolder(train(resume=str(tmp_path / "run")))
    assert len(resumed.history()) == 3
    assert sha256(resumed.weights) == sha256(run.weights)


def test_a_run_is_judged_on_images_in_memory(run: RunFolder, recipe: str, tmp_path: Path) -> None:
    """The marks are those on the stored dataset of the same recipe."""
    marks = evaluate(run_id=str(run.path), device="cpu", workers=2)
    stored = simulate(recipe=recipe, out=tmp_path / "set")
    assert evaluate(run_id=str(run.path), dataset=str(stored), device="cpu") == marks
    assert (run.path / "predictions.parquet").is_file()
    assert (run.path / "set-test" / "predictions.parquet").is_file()
    written = json.loads((run.path / "metrics.json").read_text())
    assert written == {name: mark.as_dict() for name, mark in marks.items()}


def test_another_split_goes_into_a_folder_of_its_own(run: RunFolder) -> None:
    evaluate(run_id=str(run.path), split="validation", device="cpu")
    assert (run.path / "model_ii-validation" / "predictions.parquet").is_file()


def test_a_run_is_judged_from_anywhere(recipe: str, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("mine.toml").write_text(Path(recipe).read_text())
    folder = train(dataset="mine.toml", out=workplace / "run", **BASE | {"epochs": 1})
    (workplace / "elsewhere").mkdir()
    monkeypatch.chdir(workplace / "elsewhere")
    evaluate(run_id=str(folder), device="cpu")
    Path("../mine.toml").unlink()
    with pytest.raises(MissingFile, match=r"mine\.toml"):
        evaluate(run_id=str(folder), device="cpu")


def test_processes_that_read_have_nothing_to_do(run: RunFolder, recipe: str, tmp_path: Path) -> None:
    """A fork of a process could not run the formulas that it has compiled: all is drawn in one."""
    with_workers = train(dataset=recipe, out=tmp_path / "run", workers=2, **BASE)
    assert sha256(RunFolder(with_workers).weights) == sha256(run.weights)


@pytest.mark.parametrize("worth", [True, False])
def test_formulas_are_compiled_where_it_pays(
    worth: bool, recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All epochs count."""
    compiled: list[bool] = []
    begin = RecipeDataset.__init__

    def noted(self: RecipeDataset, recipe: str, how: bool = False, **named: bool) -> None:
        compiled.append(named.get("compiled", how))
        begin(self, recipe, compiled[-1])

    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    monkeypatch.setattr("deeplense.core.compiled.can_compile", lambda: True)
    monkeypatch.setattr(RecipeDataset, "__init__", noted)
    monkeypatch.setattr(sys.modules["deeplense.simulate"], "WORTH_COMPILING", 71 if worth else 72)
    train(dataset=recipe, out=tmp_path / "run", **BASE)
    assert compiled[-1] is worth


# ---- what cannot serve


@pytest.mark.parametrize("kind", ["a folder", "no name"])
def test_only_a_recipe_has_fresh_images(kind: str, small_set: Path, workplace: Path) -> None:
    dataset = str(small_set) if kind == "a folder" else "no_such_recipe"
    with pytest.raises(InvalidOption, match="--fresh") as caught:
        train(dataset=dataset, **BASE)
    assert "a recipe" in caught.value.expected and "leave --fresh out" in caught.value.remedy
    assert not list(workplace.iterdir()), "a run was begun"


def test_a_dataset_must_be_named(workplace: Path) -> None:
    with pytest.raises(InvalidOption, match="no dataset"):
        train(**BASE)


@pytest.mark.parametrize("counts", [(0, 4, 4), (0, 0, 0)])
def test_an_empty_split_is_named(
    counts: tuple[int, int, int], write_recipe: Callable[..., str], workplace: Path
) -> None:
    with pytest.raises(InvalidDataset, match="no image in the split"):
        train(dataset=write_recipe(counts=counts), **BASE)
    assert not list(workplace.iterdir()), "a run was begun"


@pytest.mark.parametrize("options", [{"limit": 3}, {"folds": 4}, {"fusion": "late", "task": "find_lenses"}])
def test_what_needs_stored_images_is_refused(options: dict[str, Any], recipe: str, workplace: Path) -> None:
    with pytest.raises(InvalidOption, match=f"--fresh with --{next(iter(options))}"):
        train(dataset=recipe, out=workplace / "run", **BASE | options)

"""A run that has learnt from some bands finds them in other images, whatever their order there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from deeplense.core.errors import InvalidDataset, InvalidOption
from deeplense.core.run_folder import RunFolder
from deeplense.describe import info
from deeplense.evaluate import evaluate
from deeplense.predict import UnreadableImages, predict
from deeplense.train import train

SIDE, N = 16, 48


def survey(folder: Path, bands: Sequence[str]) -> Path:
    """Write a catalogue and its stamps, band by band in folders; lenses are bright in g and faint in r."""
    drawn = np.random.default_rng(0)
    lines = ["ID,is_lens,split"]
    for number in range(N):
        is_lens, split = number % 2, ("train", "train", "validation", "test")[number // 2 % 4]
        images = {name: drawn.normal(size=(SIDE, SIDE)).astype(np.float32) for name in "gri"}
        images["g"] += 2 * is_lens
        images["r"] -= 2 * is_lens
        for place, name in enumerate(bands):
            (folder / f"{place}_{name}").mkdir(parents=True, exist_ok=True)
            np.save(folder / f"{place}_{name}" / f"{number + 1000}.npy", images[name])
        lines.append(f"{number + 1000},{is_lens},{split}")
    (folder / "catalogue.csv").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    home = tmp_path_factory.mktemp("learnt")
    base: dict[str, Any] = {"task": "find_lenses", "device": "cpu", "lr": 1e-2, "batch_size": 8, "epochs": 3}
    data = survey(home / "data", "gri")
    return RunFolder(train(dataset=str(data), bands=("2_i", "0_g"), out=home / "run", **base))


def answers(path: Path) -> dict[str, float]:
    """Return the score of each object."""
    rows = pq.read_table(path).to_pylist()
    return {str(row.get("id") or Path(row["file"]).stem): row.get("score", row.get("p_lens")) for row in rows}


def test_bands_have_their_place_in_the_record_and_are_judged(run: RunFolder, tmp_path: Path) -> None:
    assert run.config()["image_shape"] == [2, SIDE, SIDE]
    assert info(run.config()["dataset"]["path"])["bands"] == ["0_g", "1_r", "2_i"]
    evaluate(run_id=str(run.path), device="cpu")
    own = pq.read_table(run.predictions).to_pydict()
    other = survey(tmp_path / "other", "rgi")
    evaluate(run_id=str(run.path), dataset=str(other), bands=("2_i", "1_g"), device="cpu")
    assert pq.read_table(run.path / "other-test" / "predictions.parquet").to_pydict() == own
    with pytest.raises(InvalidOption, match="the band '0_g'"):
        evaluate(run_id=str(run.path), dataset=str(other), device="cpu")
    with pytest.raises(InvalidOption, match="own dataset"):
        evaluate(run_id=str(run.path), bands=("3", "1"), device="cpu")


def test_catalogues_and_files_of_another_order_get_the_same_answers(run: RunFolder, tmp_path: Path) -> None:
    known: dict[str, Any] = {"run_id": str(run.path), "device": "cpu"}
    same = Path(run.config()["dataset"]["path"])
    first = answers(predict(files=(same / "catalogue.csv",), out=tmp_path / "a.parquet", **known))
    other = survey(tmp_path / "other", "rgi")
    asked = {"files": (other / "catalogue.csv",), **known}
    second = answers(predict(bands=("3", "2"), out=tmp_path / "b.parquet", **asked))
    wrong = answers(predict(bands=("3", "1"), out=tmp_path / "c.parquet", **asked))
    assert first == second != wrong
    with pytest.raises(InvalidOption, match="the band '2_g'"):
        predict(bands=("2_i", "2_g"), out=tmp_path / "d.parquet", **asked)
    cubes = tmp_path / "cubes"
    cubes.mkdir()
    for number in range(1000, 1004):
        np.save(
            cubes / f"{number}.npy",
            np.stack([np.load(other / band / f"{number}.npy") for band in ("0_r", "1_g", "2_i")]),
        )
    third = answers(predict(files=(cubes,), bands=("3", "2"), out=tmp_path / "e.parquet", **known))
    assert third == {name: pytest.approx(first[name], rel=1e-4) for name in third} and len(third) == 4
    with pytest.raises(UnreadableImages):  # files have no names of bands
        predict(files=(cubes,), out=tmp_path / "f.parquet", **known)
    assert "1 to 3; they have no names" in pq.read_table(tmp_path / "f.parquet")["error"][0].as_py()


def test_images_of_other_bands_are_told_how_to_be_chosen(run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(InvalidDataset, match="--bands"):
        evaluate(run_id=str(run.path), dataset=str(survey(tmp_path / "x", "gri")), bands=("1",), device="cpu")


def test_upscalers_choose_no_bands() -> None:
    with pytest.raises(InvalidOption, match="which super-resolves"):
        evaluate(run_id="super_resolution@deeplense", bands=("1",), device="cpu")


def test_new_images_of_a_recipe_have_the_bands_asked_for() -> None:
    from deeplense.data.transforms import part_taken
    from deeplense.simulation.fresh import FreshLoader, RecipeDataset

    dataset = RecipeDataset("lens_finding_gri", compiled=False)
    assert dataset.bands == ("g", "r", "i")
    part, whole = (FreshLoader(dataset, 0, bands=bands) for bands in (("i", "g"), ()))
    assert part.image_shape == (2, 101, 101)
    where = np.array([0, 9])
    images, all_bands = (next(loader.batches([where])).image for loader in (part, whole))
    assert images.equal(part_taken(all_bands, (2, 0), None))

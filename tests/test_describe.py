"""What is this dataset, what models are there: the facts, the picture, the export."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deeplense.core.errors import CorruptFile, InvalidDataset, InvalidOption, MissingFile, UnknownName
from deeplense.data.dataset import open_dataset
from deeplense.data.readers.folders import ClassFolders
from deeplense.describe import MontageOptions, export, info, models, montage, recipes
from deeplense.detectors.detector import DETECTORS
from deeplense.recipes.recipe import shipped_recipes

# ---- info


def test_the_facts_of_a_dataset(small_set: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = info(str(small_set))
    pixels = open_dataset(small_set).images(range(120))
    assert facts["images"] == 120 and facts["image_shape"] == [1, 64, 64]
    assert facts["labels"] == ["no_sub", "cdm", "axion"] and facts["problems"] == []
    assert facts["counts"] == {label: {"train": 24, "validation": 8, "test": 8} for label in facts["labels"]}
    assert facts["pixels"] == pytest.approx(
        {"min": pixels.min(), "median": np.median(pixels), "max": pixels.max()}, rel=1e-6
    )
    assert "axion_mass" in facts["columns"]
    said = capsys.readouterr().out
    for word in ("no_sub", "axion", "validation", "64", "24"):
        assert word in said, f"{word} is not printed"


def test_the_facts_of_a_foreign_layout_are_the_same(small_set: Path, small_tree: Path) -> None:
    own, foreign = info(str(small_set)), info(str(small_tree))
    for name in ("images", "image_shape", "labels", "counts", "pixels"):
        assert own[name] == foreign[name], name


def test_damage_is_a_problem_that_is_told(small_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(shutil.copytree(small_set, tmp_path / "set"))
    content = bytearray((folder / "shard-00000.h5").read_bytes())
    content[-10] ^= 1
    (folder / "shard-00000.h5").write_bytes(content)
    assert any("shard-00000.h5" in problem for problem in info(str(folder))["problems"])
    assert "shard-00000.h5" in capsys.readouterr().err


def test_one_bad_image_does_not_hide_the_others(
    small_tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = Path(shutil.copytree(small_tree, tmp_path / "tree"))
    files = sorted(tree.rglob("*.npy"))
    for path in files[3:5]:
        np.save(path, np.full((64, 64), np.nan, np.float32))
    facts = info(str(tree))
    kept = np.stack([np.load(path) for path in (*files[:3], *files[5:])])
    assert facts["images"] == 120 and facts["pixels_sampled_from"] == 118 and sum(facts["counts"]["cdm"].values()) == 40
    assert facts["pixels"] == pytest.approx({"min": kept.min(), "median": np.median(kept), "max": kept.max()}, rel=1e-6)
    (said,) = facts["problems"]
    assert said.startswith("2 of 120 images that were looked at cannot be read: ") and files[3].name in said
    assert "2 of 120 images" in capsys.readouterr().err


def test_when_no_image_can_be_read_the_first_error_stands(small_tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: ClassFolders, rows: Any) -> None:
        raise CorruptFile(f"{rows[0]}.npy", "no image", "one")

    monkeypatch.setattr(ClassFolders, "images", refuse)
    with pytest.raises(CorruptFile, match=r"^0\.npy: no image"):
        info(str(small_tree))


def test_unequal_classes_are_a_problem_that_is_told(small_tree: Path, tmp_path: Path) -> None:
    tree = Path(shutil.copytree(small_tree, tmp_path / "tree"))
    for path in sorted((tree / "train" / "cdm").iterdir())[:22]:
        path.unlink()
    assert any("unequal" in problem and "cdm 18" in problem for problem in info(str(tree))["problems"])


def test_images_without_labels_are_counted(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.zeros((20, 16, 16), np.float32))
    facts = info(str(tmp_path / "images.npy"))
    assert facts["labels"] == [] and sum(facts["counts"][None].values()) == 20


@pytest.mark.parametrize("verb", [info, lambda path: montage(dataset=path), lambda path: export(path, Path("out"))])
def test_what_is_no_dataset_is_named(verb: Any, workplace: Path) -> None:
    (workplace / "folder").mkdir()
    (workplace / "folder" / "notes.txt").write_text("")
    with pytest.raises((InvalidDataset, MissingFile), match="folder"):
        verb(str(workplace / "folder"))
    with pytest.raises(UnknownName, match="model_vi") as caught:
        verb("model_vi")
    assert "model_ii" in caught.value.expected
    assert {path.name for path in workplace.iterdir()} == {"folder"}, "something was written"


# ---- montage


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


def picture(dataset: Path, out: Path, **options: Any) -> Path:
    return montage(dataset=str(dataset), out=out, **options)


def test_every_montage_option_has_a_test_here() -> None:
    assert {field.name for field in dataclasses.fields(MontageOptions)} == {"dataset", "out", "per_class", "split"}


def test_montage_dataset_and_per_class(small_set: Path, small_tree: Path, tmp_path: Path) -> None:
    two = picture(small_set, tmp_path / "two.png", per_class=2)
    four = picture(small_set, tmp_path / "four.png", per_class=4)
    assert size(four)[0] > size(two)[0] > 0
    tree = picture(small_tree, tmp_path / "tree.png", per_class=2, split="test")
    assert tree.read_bytes() != two.read_bytes()


def test_montage_split(small_set: Path, tmp_path: Path) -> None:
    pictures = {split: picture(small_set, tmp_path / f"{split}.png", split=split) for split in ("train", "test")}
    assert pictures["train"].read_bytes() != pictures["test"].read_bytes()
    with pytest.raises(InvalidDataset, match="trian"):
        picture(small_set, tmp_path / "none.png", split="trian")


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml")])
def test_montage_out(small_set: Path, tmp_path: Path, suffix: str, start: bytes) -> None:
    out = picture(small_set, tmp_path / "new" / f"sky{suffix}", per_class=1)
    assert out.read_bytes().startswith(start)
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_montage_of_a_kind_that_is_none(small_set: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match=r"sky\.gif"):
        picture(small_set, tmp_path / "sky.gif")


def test_montage_of_few_or_unlabelled_images(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.random.default_rng(0).random((3, 16, 16), np.float32))
    assert size(picture(tmp_path / "images.npy", tmp_path / "sky.png"))[0] > 0


def test_montage_of_several_bands(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", images=np.random.default_rng(0).random((12, 3, 16, 16)), labels=np.arange(12) % 2)
    assert size(picture(tmp_path / "set.npz", tmp_path / "sky.png"))[0] > 0


# ---- export


def test_an_export_is_the_same_dataset(small_set: Path, small_tree: Path) -> None:
    own, foreign = open_dataset(small_set), open_dataset(small_tree)
    place = {row["id"]: i for i, row in enumerate(own.catalogue.to_pylist())}
    rows = foreign.catalogue.to_pylist()
    assert len(rows) == 120 and foreign.labels == own.labels
    twins = [place[row["id"]] for row in rows]
    assert np.array_equal(foreign.images(range(120)), own.images(twins))
    assert [row["label"] for row in rows] == own.catalogue["label"].take(twins).to_pylist()
    assert [row["split"] for row in rows] == own.catalogue["split"].take(twins).to_pylist()


def test_an_export_as_catalogue_and_stamps(small_set: Path, tmp_path: Path) -> None:
    own, foreign = open_dataset(small_set), open_dataset(export(str(small_set), tmp_path / "out", "challenge"))
    assert (tmp_path / "out" / "classifications.csv").is_file() and foreign.labels == own.labels
    assert np.array_equal(foreign.images(range(120)), own.images(range(120)))
    assert foreign.splits() == own.splits() and foreign.targets().tolist() == own.targets().tolist()


def test_a_layout_that_is_none_is_refused(small_set: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="challenge"):
        export(str(small_set), tmp_path / "out", "chalenge")  # type: ignore[arg-type]


def test_an_export_does_not_touch_what_is_there(small_set: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("do not lose me")
    with pytest.raises(InvalidOption, match="exists already"):
        export(str(small_set), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


# ---- lists


def test_a_pattern_that_fits_nothing_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    models("zzz*")
    said = capsys.readouterr().err
    assert "no architecture of timm is like 'zzz*'" in said


def test_every_recipe_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert recipes() == sorted(shipped_recipes())
    said = capsys.readouterr().out
    assert all(name in said for name in shipped_recipes())


def test_models_are_listed_and_a_pattern_narrows_timm(capsys: pytest.CaptureFixture[str]) -> None:
    own = models()
    assert {"residual_cnn", "baseline_cnn"} <= set(own) and "convit_small" not in own
    assert "architectures of timm" in capsys.readouterr().err
    some = models("convit*")
    assert set(some) - set(own) == {"convit_base", "convit_small", "convit_tiny"}
    assert "convit_small" in capsys.readouterr().out


def test_every_detector_is_listed_with_what_it_was_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(DETECTORS) <= set(models())
    said = " ".join(capsys.readouterr().out.split())
    for name in DETECTORS:
        row = said[said.index(f" {name} ", said.index("Detectors of anomalies")) :].split(maxsplit=1)[1]
        category = getattr(DETECTORS[name], "category", "")
        assert row.startswith("normal images " if category == "normal" else f"also {category} anomalies")
        assert (DETECTORS[name].__doc__ or "").split()[0] in row[:60], name

"""The dataset folder: the same bytes whatever interrupts it, every drawn parameter beside its image."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from deeplense.cli import main
from deeplense.core.errors import CorruptFile, DeepLenseError, InvalidDataset, InvalidOption, UnknownName
from deeplense.core.files import CannotWrite, sha256
from deeplense.data import shards
from deeplense.data.dataset import open_dataset
from deeplense.recipes import recipe as recipes
from deeplense.recipes.draw import draw
from deeplense.simulate import SimulateOptions, ensure, simulate

COUNTS = {"train": 5, "validation": 2, "test": 2}
N_IMAGES = 27
ROWS_PER_SHARD = 8
FILES = ["unfinished.json", "catalogue.parquet", *(f"shard-{i:05d}.h5" for i in range(4)), "manifest.json"]
MODEL_II = recipes.shipped_recipes()["model_ii"]


def tiny(where: Path, text: str = MODEL_II) -> str:
    """Write a recipe of two images per class and more; return its path."""
    file = where / "tiny.toml"
    file.write_text(text.partition("[counts]")[0] + "[counts]\ntrain = 2\nvalidation = 1\ntest = 1\n")
    return str(file)


def digests(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "ROWS_PER_SHARD", ROWS_PER_SHARD)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the checksums of the set that nothing interrupted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "ROWS_PER_SHARD", ROWS_PER_SHARD)
        return digests(simulate(recipe="model_ii", out=tmp_path_factory.mktemp("whole") / "set", **COUNTS))


# ---- the same bytes


def test_the_same_recipe_and_seed_give_the_same_bytes(
    tmp_path: Path, whole: dict[str, str], small_shards: None
) -> None:
    again = simulate(SimulateOptions("Model-II", out=tmp_path / "again", **COUNTS))
    assert digests(again) == whole
    assert sorted(whole) == sorted(set(FILES) - {"unfinished.json"}), "a file too many or too few"


def test_the_manifest_vouches_for_every_file(small_set: Path) -> None:
    manifest = json.loads((small_set / "manifest.json").read_text())
    vouched = [manifest["catalogue"], *manifest["shards"]]
    assert {entry["file"]: entry["sha256"] for entry in vouched} == {
        name: digest for name, digest in digests(small_set).items() if name != "manifest.json"
    }
    assert sum(entry["rows"] for entry in manifest["shards"]) == manifest["catalogue"]["rows"] == 120
    assert manifest["labels"] == ["no_sub", "cdm", "axion"] and manifest["recipe"]["name"] == "model_ii"
    assert manifest["pixel_scale"] == 0.101 and manifest["unit"] == "electron / s"


def test_a_complete_set_is_not_made_again(small_set: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in small_set.iterdir()}
    assert simulate(recipe="model_ii", train=24, validation=8, test=8, out=small_set) == small_set
    assert {path: path.stat().st_mtime_ns for path in small_set.iterdir()} == before
    assert "is complete: 120 images" in capsys.readouterr().err


def test_a_larger_set_contains_the_smaller_one(small_set: Path, tmp_path: Path) -> None:
    small = open_dataset(simulate(recipe="model_ii", train=7, validation=0, test=3, out=tmp_path / "set"))
    large = open_dataset(small_set)
    place = {name: row for row, name in enumerate(large.catalogue["id"].to_pylist())}
    rows = [place[name] for name in small.catalogue["id"].to_pylist()]
    assert np.array_equal(large.images(rows), small.images(range(len(small))))
    assert large.catalogue.take(rows).equals(small.catalogue)


def test_classes_alternate_and_ids_are_unique(small_set: Path) -> None:
    catalogue = open_dataset(small_set).catalogue
    assert catalogue["label"].to_pylist() == ["no_sub", "cdm", "axion"] * 40
    assert catalogue["split"].to_pylist() == ["train"] * 72 + ["validation"] * 24 + ["test"] * 24
    assert len(set(catalogue["id"].to_pylist())) == 120


# ---- interrupted at any moment

ACCIDENTS = """
import os, resource, signal, sys
from pathlib import Path
from deeplense.cli import main
from deeplense.data import shards
from deeplense.recipes import draw  # imported once, for all the children

root, rows, files = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
shards.ROWS_PER_SHARD = rows


def child(name, accident=lambda: None):
    if (process := os.fork()) == 0:
        accident()
        try:
            os._exit(main(["simulate", "model_ii", "--train=5", "--validation=2", "--test=2", f"--out={root / name}"]))
        except BaseException as error:
            print(f"Traceback of {error!r}", file=sys.stderr, flush=True)
            os._exit(1)
    return process


def ended(process):
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def die_at(name, when):
    replace = Path.replace

    def hooked(self, target):
        if target.name == name and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        replace(self, target)
        if target.name == name:
            os.kill(os.getpid(), signal.SIGKILL)

    Path.replace = hooked


for name in files:
    for when in ("before", "after"):
        code = ended(child(f"{when}-{name}", lambda: die_at(name, when)))
        assert code == -signal.SIGKILL, (name, when, code)
for limit in (200, 6000, 100000):
    code = ended(child(f"limit-{limit}", lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))))
    assert code == 2, (limit, code)
together = [child("together") for _ in range(3)]
assert [ended(process) for process in together] == [0, 0, 0]
"""


@pytest.fixture(scope="module")
def accidents(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return a folder of sets to which something happened while they were simulated, and what was printed.

    `before-FILE`, `after-FILE`: killed before or after that file came to its name; `limit-BYTES`: files may not grow
    beyond that, as on a full disk; `together`: three processes at once.
    """
    root = tmp_path_factory.mktemp("accidents")
    command = [sys.executable, "-c", ACCIDENTS, str(root), str(ROWS_PER_SHARD), *FILES]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return root, done.stderr


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_killed_simulation_is_finished_to_the_same_bytes(
    accidents: tuple[Path, str], when: str, name: str, whole: dict[str, str], small_shards: None
) -> None:
    folder = accidents[0] / f"{when}-{name}"
    left = {path.name for path in folder.iterdir()}
    assert (name in left) == (when == "after"), "the kill came at another moment than it should"
    assert any(entry.endswith(".part") for entry in left) == (when == "before")
    if (when, name) != ("after", "manifest.json"):
        with pytest.raises(InvalidDataset):
            open_dataset(folder)
    assert digests(simulate(recipe="model_ii", out=folder, **COUNTS)) == whole


@pytest.mark.parametrize("k", range(4))
def test_after_a_key_press_only_what_is_missing_is_made(
    k: int,
    tmp_path: Path,
    whole: dict[str, str],
    small_shards: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write, written = shards.write_shard, []

    def counting(path: Path, *arguments: Any) -> None:
        if len(written) == k:
            raise KeyboardInterrupt
        written.append(path.name)
        write(path, *arguments)

    arguments = ["simulate", "model_ii", "--out", str(tmp_path / "set")]
    arguments += [f"--{split}={n}" for split, n in COUNTS.items()]
    with monkeypatch.context() as patch:
        patch.setattr(shards, "write_shard", counting)
        assert main(arguments) == 130
    assert "what is finished is kept" in capsys.readouterr().err
    assert len(written) == k
    monkeypatch.setattr(shards, "write_shard", lambda *rest: (written.append(rest[0].name), write(*rest)))
    assert main(arguments) == 0
    assert written == [f"shard-{i:05d}.h5" for i in range(4)], "a finished shard was made again"
    assert digests(tmp_path / "set") == whole


def test_processes_that_simulate_one_set_at_once_make_one_sound_set(
    accidents: tuple[Path, str], whole: dict[str, str]
) -> None:
    assert digests(accidents[0] / "together") == whole


# ---- full disks


class Disk(NamedTuple):
    free: int


def test_a_set_that_cannot_fit_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Disk(27 * 64 * 64 * 4 - 1))
    out = tmp_path / "set"
    assert main(["simulate", "model_ii", "--out", str(out), *(f"--{split}={n}" for split, n in COUNTS.items())]) == 2
    assert not out.exists()
    message = capsys.readouterr().err
    assert "GB free" in message and "expected:" in message and "to do:" in message
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Disk(27 * 64 * 64 * 4))
    assert simulate(recipe="model_ii", out=out, **COUNTS) == out


def test_what_is_finished_needs_no_room_again(
    tmp_path: Path, whole: dict[str, str], small_shards: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate(recipe="model_ii", out=tmp_path, shard="1/2", **COUNTS)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Disk(16 * 64 * 64 * 4))
    with pytest.raises(CannotWrite, match="GB free"):
        simulate(recipe="model_ii", out=tmp_path / "other", **COUNTS)
    simulate(recipe="model_ii", out=tmp_path, **COUNTS)
    assert digests(tmp_path) == whole


@pytest.mark.parametrize("k", range(7))
def test_a_disk_that_fills_up_leaves_whole_files_and_the_next_run_finishes(
    k: int, tmp_path: Path, whole: dict[str, str], small_shards: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter(range(100))

    def full(handle: int) -> None:
        if next(calls) >= k:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(CannotWrite, match="No space left on device"):
            simulate(recipe="model_ii", out=tmp_path / "set", **COUNTS)
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == sorted(FILES[:k]), "something is half-written"
    assert digests(simulate(recipe="model_ii", out=tmp_path / "set", **COUNTS)) == whole


def test_a_write_that_the_system_refuses_midway_is_one_clear_error(accidents: tuple[Path, str]) -> None:
    """The refusal comes from inside the writing of the facts, of the catalogue, of the first shard."""
    folder, printed = accidents
    refused = re.findall(r"error: \S+/limit-(\d+)/(\S+) could not be written: .*File too large", printed)
    assert refused == [("200", FILES[0]), ("6000", FILES[1]), ("100000", FILES[2])], printed
    for n_files, (limit, _) in enumerate(refused):
        left = {path.name for path in (folder / f"limit-{limit}").iterdir()}
        assert left == set(FILES[:n_files]), "something is half-written"


def test_a_folder_that_is_not_ours_to_write_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotWrite, match="set"):
        simulate(recipe="model_ii", out=tmp_path / "file" / "set", **COUNTS)


# ---- what the folder already holds


@pytest.mark.parametrize("change", [{"recipe": "model_iii"}, {"seed": 1}, {"train": 6}, {"test": 0}])
@pytest.mark.parametrize("state", ["manifest.json", "unfinished.json"])
def test_another_set_in_the_same_folder_is_refused(
    tmp_path: Path, change: dict[str, Any], state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"recipe": "model_ii", "out": tmp_path, **COUNTS}
    if state == "unfinished.json":
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(shards, "write_shard", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            simulate(**options)
    else:
        simulate(**options)
    before = digests(tmp_path)
    assert state in before
    with pytest.raises(InvalidDataset, match="holds another dataset") as caught:
        simulate(**options | change)
    assert ("seed" if "seed" in change else "recipe") in caught.value.found
    assert digests(tmp_path) == before, "files of the other dataset were touched"


def test_a_folder_of_other_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("do not lose me")
    with pytest.raises(InvalidDataset, match="no dataset of ours"):
        simulate(recipe="model_ii", out=tmp_path, **COUNTS)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_no_image_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match="empty"):
        simulate(recipe="model_ii", train=0, validation=0, test=0, out=tmp_path / "set")
    assert not (tmp_path / "set").exists()


# ---- damaged


@pytest.mark.parametrize("name", ["shard-00002.h5", "catalogue.parquet"])
@pytest.mark.parametrize("damage", ["gone", "empty", "a byte"])
def test_a_damaged_file_is_made_again_and_no_other(
    name: str, damage: str, tmp_path: Path, whole: dict[str, str], small_shards: None
) -> None:
    folder = simulate(recipe="model_ii", out=tmp_path / "set", **COUNTS)
    others = {path: path.stat().st_mtime_ns for path in folder.iterdir() if path.name not in (name, "manifest.json")}
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).unlink()
    if damage != "gone":
        (folder / name).write_bytes(content if damage == "a byte" else b"")
    simulate(recipe="model_ii", out=folder, **COUNTS)
    assert digests(folder) == whole
    assert {path: path.stat().st_mtime_ns for path in others} == others, "a sound file was made again"


def test_a_file_that_is_gone_from_the_cache_is_made_again(workplace: Path) -> None:
    folder = ensure(tiny(workplace))
    before = digests(folder)
    (folder / "shard-00000.h5").unlink()
    assert ensure(tiny(workplace)) == folder and digests(folder) == before


@pytest.mark.parametrize("content", ["", "[]", "{}", "null"])
def test_a_manifest_that_is_none_is_an_error_and_nothing_is_touched(tmp_path: Path, content: str) -> None:
    options: dict[str, Any] = {"recipe": "model_ii", "out": tmp_path, **COUNTS}
    simulate(**options)
    (tmp_path / "manifest.json").write_text(content)
    before = digests(tmp_path)
    with pytest.raises(DeepLenseError):
        simulate(**options)
    assert digests(tmp_path) == before


def test_a_manifest_that_lost_its_checksums_is_named(tmp_path: Path) -> None:
    options: dict[str, Any] = {"recipe": "model_ii", "out": tmp_path, **COUNTS}
    simulate(**options)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps(manifest | {"catalogue": None}))
    with pytest.raises(CorruptFile, match=r"manifest\.json"):
        simulate(**options)


@pytest.mark.parametrize("name", ["manifest.json", "unfinished.json"])
def test_another_version_of_the_package_goes_on_with_the_same_set(
    name: str, tmp_path: Path, whole: dict[str, str], small_shards: None
) -> None:
    """Whether images would differ is what the version of the recipe says."""
    folder = simulate(recipe="model_ii", out=tmp_path / "set", **COUNTS)
    facts = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").unlink()
    (folder / name).write_text(json.dumps(facts | {"deeplense_version": "0.0.0"}))
    assert simulate(recipe="model_ii", out=folder, **COUNTS) == folder
    assert digests(folder) == whole | (
        {} if name == "unfinished.json" else {"manifest.json": sha256(folder / "manifest.json")}
    )


# ---- the catalogue


@pytest.mark.parametrize("name", ["model_i", "model_ii", "model_iii"])
def test_every_drawn_parameter_is_in_the_catalogue(name: str, tmp_path: Path) -> None:
    dataset = open_dataset(simulate(recipe=name, train=3, validation=0, test=0, seed=5, out=tmp_path / "set"))
    recipe = recipes.load_recipe(name)
    samples = [recipes.Sample("train", label, k) for k in range(3) for label in recipe.labels]
    drawn = draw(recipe, 5, samples)
    assert np.array_equal(dataset.images(range(9)), drawn.image.numpy())
    for row, sample, parameters in zip(dataset.catalogue.to_pylist(), samples, drawn.parameters, strict=True):
        identity = {"id": sample.id, "label": sample.label, "split": "train", "seed": 5}
        assert {key: value for key, value in row.items() if value is not None} == identity | parameters
        assert (row["axion_mass"] is not None) == (sample.label == "axion"), "the axion mass belongs to axion images"
    masses = [mass for mass in dataset.catalogue["axion_mass"].to_pylist() if mass is not None]
    assert len(set(masses)) == 3 and all(1e-24 <= mass <= 1e-22 for mass in masses)


# ---- a recipe where a dataset is wanted


def test_a_recipe_is_simulated_once_into_the_cache(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = ensure(tiny(workplace))
    assert first.parent == workplace / "cache" and len(open_dataset(first)) == 12
    notice = capsys.readouterr().err
    assert re.search(r"simulating 12 images of model_ii \(\d+ MB\) into \S+cache", notice), notice
    monkeypatch.setattr(
        "deeplense.simulation.order.draw_images", lambda *_: pytest.fail("a complete set was drawn again")
    )
    assert ensure(tiny(workplace)) == first


def test_recipes_that_differ_have_different_places_in_the_cache(workplace: Path) -> None:
    other = MODEL_II.replace("R_sersic = 0.25", "R_sersic = 0.3")
    assert other != MODEL_II
    assert ensure(tiny(workplace)) != ensure(tiny(workplace, other))


def test_a_path_is_taken_as_it_is(small_set: Path) -> None:
    assert ensure(str(small_set)) == small_set


def test_a_dataset_that_is_neither_lists_the_nearest_recipes() -> None:
    with pytest.raises(UnknownName, match="model_2") as caught:
        ensure("model_2")
    assert "model_i" in caught.value.expected


# ---- no dead knobs

KNOBS: dict[str, Any] = {
    "recipe": "model_iii",
    "out": Path("elsewhere"),
    "train": 3,
    "validation": 2,
    "test": 2,
    "seed": 1,
}
WITH_TESTS_ELSEWHERE = {  # tests/simulation/: test_compiled, test_cluster, test_parts; tests/recipes/test_pairs
    *("compile", "engine", "shard", "coarse", "factor"),
}


def test_no_option_is_forgotten() -> None:
    assert {field.name for field in dataclasses.fields(SimulateOptions)} == {*KNOBS, *WITH_TESTS_ELSEWHERE}


@pytest.mark.parametrize("field", KNOBS)
def test_every_option_changes_the_product(field: str, workplace: Path) -> None:
    options = {"recipe": "model_ii", "train": 2, "validation": 1, "test": 1}
    plain = simulate(**options)
    assert plain == Path("data/model_ii"), "the default folder"
    content = {name: digest for name, digest in digests(plain).items() if name.startswith("shard")}
    plain.rename("plain")
    changed = simulate(**options | {field: KNOBS[field]})
    if field == "out":
        assert changed == Path("elsewhere") and digests(changed) == digests(Path("plain"))
    else:
        others = {name: digest for name, digest in digests(changed).items() if name.startswith("shard")}
        assert content != others, f"{field} changed nothing"


def test_every_split_gets_as_many_as_it_is_told(tmp_path: Path) -> None:
    splits = open_dataset(simulate(recipe="model_ii", out=tmp_path / "set", **COUNTS)).splits()
    assert {split: splits.count(split) for split in COUNTS} == {split: 3 * n for split, n in COUNTS.items()}

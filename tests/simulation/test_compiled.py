"""Compiled formulas: recorded with the dataset, never mixed, and the images of their seed wherever they stand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deeplense.cli import main
from deeplense.core.compiled import Runner, can_compile
from deeplense.core.errors import InvalidDataset, InvalidOption
from deeplense.core.files import sha256
from deeplense.data.dataset import open_dataset
from deeplense.recipes.draw import draw_images
from deeplense.recipes.recipe import load_recipe
from deeplense.simulate import WORTH_COMPILING, ensure, simulate, worth_compiling
from deeplense.simulation import order

STATES = ["manifest.json", "unfinished.json"]


def digests(folder: Path) -> dict[str, str]:
    return {path.name: sha256(path) for path in folder.iterdir()}


def facts(folder: Path) -> Any:
    return json.loads(next(folder / name for name in STATES if (folder / name).exists()).read_text())


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a compiler be there, and compiled formulas be the formulas: all but the compiler is as it is."""
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    monkeypatch.setattr("deeplense.core.compiled.can_compile", lambda: True)
    monkeypatch.setattr(order, "_compiled_runner", lambda recipe: Runner(compiled=True))


def begin(folder: Path, recipe: str, state: str, **options: Any) -> Path:
    """Make a set, or a part of one."""
    return simulate(recipe=recipe, out=folder, shard="1/2" if state == "unfinished.json" else None, **options)


@pytest.mark.parametrize("compiled", [True, False])
def test_the_manifest_says_it(
    compiled: bool, tiny: str, whole: dict[str, str], uncompiled: None, small_shards: None, tmp_path: Path
) -> None:
    simulate(recipe=tiny, out=tmp_path, compile=compiled)
    assert facts(tmp_path)["compiled"] is compiled
    made = digests(tmp_path)
    assert made.pop("manifest.json") == whole["manifest.json"] or compiled
    assert made.items() <= whole.items(), "filling up groups to one size changed the images"


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("compiled", [True, False])
def test_a_folder_goes_on_as_it_was_begun(
    compiled: bool,
    state: str,
    tiny: str,
    uncompiled: None,
    small_shards: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begin(tmp_path, tiny, state, compile=compiled)
    monkeypatch.setattr(sys.modules["deeplense.simulate"], "WORTH_COMPILING", 10**9 if compiled else 0)
    simulate(recipe=tiny, out=tmp_path)
    assert facts(tmp_path)["compiled"] is compiled


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("compiled", [True, False])
def test_the_other_way_is_refused(
    compiled: bool, state: str, tiny: str, uncompiled: None, small_shards: None, tmp_path: Path
) -> None:
    begin(tmp_path, tiny, state, compile=compiled)
    before = digests(tmp_path)
    with pytest.raises(InvalidDataset, match="its compiled differ") as caught:
        simulate(recipe=tiny, out=tmp_path, compile=not compiled)
    assert "compiled or not" in caught.value.expected
    assert digests(tmp_path) == before


def test_many_images_are_worth_it_where_there_is_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    assert WORTH_COMPILING == 20_000
    for there in (True, False):
        monkeypatch.setattr("deeplense.core.compiled.can_compile", lambda there=there: there)
        assert [worth_compiling(n) for n in (1, 20_000, 20_001, 10**9)] == [False, False, there, there]


@pytest.mark.parametrize("worth", [True, False])
def test_what_is_not_asked_is_decided_by_the_number_of_images(
    worth: bool, tiny: str, uncompiled: None, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["deeplense.simulate"], "WORTH_COMPILING", 26 if worth else 27)
    assert facts(simulate(recipe=tiny, out=Path("set")))["compiled"] is worth
    assert facts(ensure(tiny))["compiled"] is worth


def test_without_a_compiler_it_is_an_error_before_anything_is_written(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert not can_compile()
    assert main(["simulate", tiny, "--out", str(tmp_path / "set"), "--compile"]) == 2
    assert "g++" in capsys.readouterr().err
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("state", STATES)
def test_a_compiled_folder_on_a_machine_without_a_compiler(
    state: str, tiny: str, uncompiled: None, small_shards: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(tmp_path, tiny, state, compile=True)
    before = digests(tmp_path)
    monkeypatch.setattr("deeplense.core.compiled.can_compile", lambda: False)
    if state == "manifest.json":
        simulate(recipe=tiny, out=tmp_path)
    else:
        with pytest.raises(InvalidOption, match=r"no C\+\+ compiler"):
            simulate(recipe=tiny, out=tmp_path)
    assert digests(tmp_path) == before


def test_a_runner_serves_one_recipe(write_recipe: Callable[..., str]) -> None:
    """Torch gives up on a function that is compiled for many kinds of numbers."""
    keys = [json.dumps(load_recipe(write_recipe(theta_E=theta_E)).as_dict()) for theta_E in (1.0, 1.1, 1.0)]
    runners = [order._compiled_runner(key) for key in keys]
    assert runners[0] is not runners[1] and order._compiled_runner(keys[2]) is runners[2]
    order._compiled_runner.cache_clear()


COMPILED = """
import json, sys
from pathlib import Path
import numpy as np
from deeplense.data import shards
from deeplense.data.dataset import open_dataset
from deeplense.recipes.draw import draw_images
from deeplense.recipes.recipe import load_recipe
from deeplense.simulate import simulate
from deeplense.simulation import order

root, file = Path(sys.argv[1]), sys.argv[2]
shards.ROWS_PER_SHARD = 8
simulate(recipe=file, out=root / "whole", compile=True)
for part in ("2/2", "1/2"):
    simulate(recipe=file, out=root / "parts", compile=True, shard=part)
recipe, some = load_recipe(file), [17, 3, 11]
run = order._compiled_runner(json.dumps(recipe.as_dict(), sort_keys=True))
np.save(root / "some.npy", draw_images(recipe, 0, [recipe.samples()[row] for row in some], run)["image"].numpy())
"""


@pytest.mark.skipif(not can_compile(), reason="no C++ compiler")
def test_compiled_images_depend_on_their_seed_alone(write_recipe: Callable[..., str], tmp_path: Path) -> None:
    """The order of the shards, of the images in a call and their number do not matter; the formulas are the same.

    In a process of its own: here the shapes of arguments are checked at every call, which torch does not compile.
    """
    file = write_recipe(counts=(20, 2, 2), without="cdm axion", noise='"none"')
    command = [sys.executable, "-c", COMPILED, str(tmp_path), file]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "compiling the formulas" in done.stderr and "compiled in" in done.stderr
    assert digests(tmp_path / "parts") == digests(tmp_path / "whole")
    dataset, recipe = open_dataset(tmp_path / "whole"), load_recipe(file)
    stored = dataset.images(range(len(dataset)))
    assert np.array_equal(np.load(tmp_path / "some.npy"), stored[[17, 3, 11]])
    plain = draw_images(recipe, 0, recipe.samples()[:])["image"].numpy()
    np.testing.assert_allclose(stored, plain, rtol=1e-3, atol=1e-5 * plain.max())

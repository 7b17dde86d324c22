"""Small recipes and the bytes of what nothing disturbed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from deeplense.core.files import sha256
from deeplense.data import shards
from deeplense.recipes.recipe import shipped_recipes
from deeplense.simulate import simulate

COUNTS = "[counts]\ntrain = {}\nvalidation = {}\ntest = {}\n"


def digests(folder: Path) -> dict[str, str]:
    return {path.name: sha256(path) for path in folder.iterdir()}


@pytest.fixture(scope="session")
def write_recipe(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Return a function that writes a shipped recipe with other counts and lines; it returns the file's path."""

    def write(
        name: str = "model_ii", counts: tuple[int, int, int] = (5, 2, 2), without: str = "", **lines: object
    ) -> str:
        text = shipped_recipes()[name].partition("[counts]")[0] + COUNTS.format(*counts)
        for label in without.split():
            text = re.sub(rf"\[classes\.{label}\][^\[]*(\[\d[^\[]*)*", "", text)
        for key, value in {"n_pixels": 16, **lines}.items():
            text, n = re.subn(rf"(?m)^{key} = .*$", f"{key} = {value}", text)
            assert n, key
        file = tmp_path_factory.mktemp("recipe") / f"{name}.toml"
        file.write_text(text)
        return str(file)

    return write


@pytest.fixture(scope="session")
def tiny(write_recipe: Callable[..., str]) -> str:
    """Return a recipe of 27 images of 16 pixels: four shards of eight."""
    return write_recipe()


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "ROWS_PER_SHARD", 8)


@pytest.fixture(scope="session")
def whole(tiny: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the checksums of `tiny`, made by one process that nothing interrupted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "ROWS_PER_SHARD", 8)
        return digests(simulate(recipe=tiny, out=tmp_path_factory.mktemp("whole") / "set"))

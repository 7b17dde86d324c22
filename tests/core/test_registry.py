"""Registries: a new file is found by itself, a wrong name lists the nearest."""

from __future__ import annotations

from pathlib import Path

import pytest

from deeplense.core.errors import UnknownName
from deeplense.core.registry import Registry


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Registry[type]:
    """Return a registry over a new package of two modules that nothing has imported yet."""
    package = f"shapes_{abs(hash(request.node.name))}"
    folder = tmp_path / package
    folder.mkdir()
    (folder / "__init__.py").write_text(
        f"from deeplense.core.registry import Registry\nR = Registry('shape', '{package}')\n"
    )
    for name in ("round_disc", "square"):
        (folder / f"{name}.py").write_text(f"from {package} import R\n\n@R.register('{name}')\nclass Shape: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    return __import__(package).R  # type: ignore[no-any-return]


def test_modules_of_the_package_are_found_without_being_imported(registry: Registry[type]) -> None:
    assert list(registry) == ["round_disc", "square"]
    assert registry["square"].__name__ == "Shape"
    assert "square" in registry
    assert "triangle" not in registry


def test_contains_alone_imports_the_package(registry: Registry[type]) -> None:
    assert "square" in registry


@pytest.mark.parametrize("name", ["round-disk", "Round_Disc", "rounddisc"])
def test_an_unknown_name_lists_the_nearest(registry: Registry[type], name: str) -> None:
    with pytest.raises(UnknownName, match=f"no shape is called '{name}'") as caught:
        registry[name]
    assert "round_disc" in caught.value.expected
    assert "square" not in caught.value.expected


def test_two_entries_of_one_name_are_an_error_the_same_twice_is_not(registry: Registry[type]) -> None:
    entry = registry["square"]
    assert registry.register("square")(entry) is entry
    with pytest.raises(ValueError, match="square"):
        registry.register("square")(int)
    assert registry["square"] is entry

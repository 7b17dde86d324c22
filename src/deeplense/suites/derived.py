"""Recipes that a suite derives from others: noisier, or with other settings."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deeplense.core.errors import UnknownName
from deeplense.core.files import atomic
from deeplense.suites.declared import Data

if TYPE_CHECKING:
    from deeplense.instruments.instrument import Instrument
    from deeplense.recipes.recipe import Recipe


def recipe_for(name: str, data: Data, base: Path, folder: Path) -> str:
    """Return what `simulate` takes for a dataset: the recipe's name or path, or a derived one written into `folder`.

    Parameters
    ----------
    name
        Name of the dataset: that of the derived files.
    data
        The dataset.
    base
        Folder that a recipe's relative path starts from.
    folder
        Where derived recipes and instruments go.

    Raises
    ------
    UnknownName
        When the recipe, or a setting to change, does not exist.
    InvalidOption
        When the changed recipe cannot be.
    """
    from deeplense.recipes.recipe import Recipe, load_recipe

    named = str(data.recipe)
    path = str(base / named) if named.endswith(".toml") else named
    recipe = load_recipe(path)
    if data.noise == 1 and not data.change:
        return path
    table = recipe.as_dict()
    for key, value in data.change.items():
        _change(table, key, value, name)
    recipe = Recipe.from_mapping(table, f"dataset {name}")
    table = recipe.as_dict() | {"description": f"{recipe.description}; derived: {derivation(data)}"}
    if data.noise != 1:
        table |= _noisier(recipe, data.noise, name, folder)
    file = folder / f"{name}.toml"
    _write(file, table)
    return str(file)


def derivation(data: Data) -> str:
    """Return in words what is changed in the recipe."""
    noise = [f"noise × {data.noise:g} (background × {data.noise:g}, exposure / {data.noise**2:g})"]
    return ", ".join((noise if data.noise != 1 else []) + [_changed(key, value) for key, value in data.change.items()])


def _changed(key: str, value: object) -> str:
    return f"{key} = {_toml(value) if isinstance(value, Mapping) else value}"


def _change(table: dict[str, Any], key: str, value: object, name: str) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        if not isinstance(table.get(parent), dict):
            raise UnknownName(f"recipe table (dataset {name}, change)", key, table)
        table = table[parent]
    table[last] = value


def _noisier(recipe: Recipe, factor: float, name: str, folder: Path) -> dict[str, Any]:
    """Return the settings of a recipe with the noise of every band times a factor: its variance is σ² + m / t."""
    files = [folder / f"{name}-instrument-{band}.toml" for band, _ in enumerate(recipe.instruments())]
    for file, instrument in zip(files, recipe.instruments(), strict=True):
        _write(file, _noisier_instrument(instrument, factor).as_dict())
    observation = recipe.observation.as_dict()
    time = observation["exposure_time"]
    observation["exposure_time"] = _scaled(time, factor**-2) if time is not None else None
    # the path of a single instrument starts from the recipe's folder, those of several from the current one
    names = files[0].name if len(files) == 1 else [str(file.absolute()) for file in files]
    return {"instrument": names, "observation": observation}


def _noisier_instrument(instrument: Instrument, factor: float) -> Instrument:
    """Return the instrument with its background times a factor, in exposures that are shorter by its square."""
    exposure = instrument.exposure_time
    return dataclasses.replace(
        instrument,
        description=f"{instrument.description}; noise × {factor:g}",
        background_rms=factor * instrument.background_sigma(),
        exposure_time=exposure and exposure / factor**2,
    )


def _scaled(quantity: Any, factor: float) -> Any:
    """Return a number, or every number of a prior but an exponent, times a factor."""
    if isinstance(quantity, Mapping):
        return {
            law: numbers and [number * factor for number in numbers[:2]] + numbers[2:]
            for law, numbers in quantity.items()
        }
    return quantity * factor


def _write(file: Path, table: Mapping[str, Any]) -> None:
    """Write a table as TOML, unless it is there already."""
    text = "".join(f"{key} = {_toml(value)}\n" for key, value in table.items() if value is not None)
    if not (file.is_file() and file.read_text(encoding="utf-8") == text):
        with atomic(file) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(k)} = {_toml(v)}" for k, v in value.items() if v is not None) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)

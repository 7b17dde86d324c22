"""`deeplense simulate`: recipe × seed → dataset folder."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from deeplense.core.config import Bounds, Config
from deeplense.core.console import note, progress
from deeplense.core.errors import InvalidDataset, InvalidOption, UnknownName
from deeplense.core.files import CannotWrite, alone, is_leftover, read_json, remove_leftovers, write_json

if TYPE_CHECKING:
    import pyarrow as pa

    from deeplense.recipes.recipe import Recipe, Sample

UNFINISHED = "unfinished.json"
ROWS_PER_DRAW = 128
Images = Annotated[int | None, Bounds(low=0)]


@dataclass(frozen=True)
class SimulateOptions(Config):
    """What `deeplense simulate` can be told.

    Parameters
    ----------
    recipe
        Name of a recipe (model_i, model_ii, …) or a TOML file of your own.
    out
        Folder of the dataset; by default data/<recipe>.
    train
        Training images per class; by default as many as the recipe says.
    validation
        Validation images per class; by default as many as the recipe says.
    test
        Test images per class; by default as many as the recipe says.
    seed
        Seed: the same recipe and seed give the same images, a larger set contains the smaller.
    """

    recipe: str
    _: KW_ONLY
    out: Path | None = None
    train: Images = None
    validation: Images = None
    test: Images = None
    seed: Annotated[int, Bounds(low=0)] = 0


def simulate(options: SimulateOptions | None = None, /, **fields: Any) -> Path:
    """Return the dataset folder of a recipe, simulated if it is not there yet; an interrupted or damaged one is mended.

    Parameters
    ----------
    options
        What to simulate; or give the fields of `SimulateOptions` as keywords.

    Raises
    ------
    UnknownName
        When no recipe has that name.
    InvalidDataset
        When the folder holds something else.
    CannotWrite
        When the disk is full or the folder not writable; what is already written stays and is used the next time.
    """
    options = options or SimulateOptions.from_mapping(fields)
    from deeplense.recipes.recipe import load_recipe

    recipe = load_recipe(options.recipe)
    counts = {split: n for split in ("train", "validation", "test") if (n := getattr(options, split)) is not None}
    recipe = dataclasses.replace(recipe, counts=dataclasses.replace(recipe.counts, **counts))
    return _make(recipe, options.seed, options.out or Path("data") / recipe.name, verify=True)


def ensure(dataset: str) -> Path:
    """Return the path of a dataset: an existing path as it is, or the folder of a recipe, simulated on first use.

    A recipe is made at its own counts and seed 0, in `$DEEPLENSE_CACHE`, by default `~/.cache/deeplense`.

    Raises
    ------
    UnknownName
        When it is neither.
    """
    from deeplense.core.seeding import stable_key
    from deeplense.recipes.recipe import is_recipe, load_recipe, shipped_recipes

    path = Path(dataset).expanduser()
    if path.exists() and path.suffix != ".toml":
        return path
    if not is_recipe(dataset):
        raise UnknownName("dataset (recipe or path)", dataset, shipped_recipes(), "check the path or the recipe's name")
    recipe = load_recipe(dataset)
    cache = Path(os.environ.get("DEEPLENSE_CACHE", "~/.cache/deeplense")).expanduser()
    digest = stable_key(json.dumps(recipe.as_dict(), sort_keys=True))
    return _make(recipe, 0, cache / f"{recipe.name}-v{recipe.version}-{digest:016x}")


def _make(recipe: Recipe, seed: int, folder: Path, verify: bool = False) -> Path:
    from deeplense.data.shards import CATALOGUE, MANIFEST, ROWS_PER_SHARD, shard_name, write_catalogue, write_manifest

    facts, samples = _facts(recipe, seed), recipe.samples()
    if not samples:
        raise InvalidOption("every split would be empty", "at least one image", "raise --train, --validation or --test")
    to_mend = _to_mend(facts, folder, verify)
    if to_mend == []:
        note(f"{folder} is complete: {len(samples):,} images")
        return folder
    _announce(recipe, len(samples), folder)
    with alone(folder):
        if (to_mend := _to_mend(facts, folder, verify)) == []:  # made by another process while this one waited
            return folder
        write_json(folder / UNFINISHED, facts)
        remove_leftovers(folder)
        for name in (MANIFEST, *to_mend) if to_mend else ():
            (folder / name).unlink(missing_ok=True)
        if not (folder / CATALOGUE).is_file():
            write_catalogue(folder / CATALOGUE, _schema(recipe), _catalogue_rows(recipe, seed, samples))
        with progress(f"simulating {recipe.name}", len(samples)) as advance:
            for number, first in enumerate(range(0, len(samples), ROWS_PER_SHARD)):
                rows = samples[first : first + ROWS_PER_SHARD]
                if not (folder / shard_name(number)).is_file():
                    _write_rows(recipe, seed, rows, folder / shard_name(number))
                advance(len(rows))
        write_manifest(folder, facts, len(samples))
        (folder / UNFINISHED).unlink()
    return folder


def _to_mend(facts: dict[str, Any], folder: Path, verify: bool) -> list[str] | None:
    """Return which files of a finished dataset are missing or, with `verify`, damaged; None where none is finished.

    Raises
    ------
    InvalidDataset
        When the folder holds something else.
    """
    from deeplense.data.shards import MANIFEST, damaged

    if (folder / MANIFEST).is_file():
        manifest = read_json(folder / MANIFEST)
        _must_agree(facts, manifest, folder)
        names = damaged(folder, manifest, verify)
        if names:
            note(f"{folder} is damaged: {', '.join(names)} will be made again")
        else:
            (folder / UNFINISHED).unlink(missing_ok=True)
        return names
    if (folder / UNFINISHED).is_file():
        _must_agree(facts, read_json(folder / UNFINISHED), folder)
    elif folder.exists() and any(not is_leftover(entry, UNFINISHED) for entry in folder.iterdir()):
        raise InvalidDataset(
            f"{folder} holds files that are no dataset of ours", "an empty or a new folder", "choose another --out"
        )
    return None


def _facts(recipe: Recipe, seed: int) -> dict[str, Any]:
    """Return what the manifest says of a dataset before any image is made."""
    from deeplense.instruments.instrument import load_instrument
    from deeplense.version import __version__

    instrument = load_instrument(recipe.instrument)
    facts = {
        "recipe": recipe.as_dict(),
        "seed": seed,
        "deeplense_version": __version__,
        "labels": recipe.labels,
        "image_shape": [1, recipe.n_pixels, recipe.n_pixels],
        "dtype": recipe.observation.dtype,
        "unit": recipe.observation.unit,
        "pixel_scale": instrument.pixel_scale,
        "instrument": instrument.as_dict(),
    }
    plain: dict[str, Any] = json.loads(json.dumps(facts))
    return plain


def _must_agree(facts: dict[str, Any], found: Any, folder: Path) -> None:
    found = found if isinstance(found, dict) else {}
    # the recipe has a version of its own, raised whenever a seed gives other images
    different = [key for key, value in facts.items() if found.get(key) != value and key != "deeplense_version"]
    if different:
        raise InvalidDataset(
            f"{folder} holds another dataset: its {', '.join(different)} differ",
            "the same recipe, counts and seed",
            "choose another --out, or remove the folder",
        )


def _announce(recipe: Recipe, n: int, folder: Path) -> None:
    """Say how much will be made, how long it takes and where; refuse when it cannot fit the disk."""
    from deeplense.recipes.draw import draw
    from deeplense.recipes.recipe import Sample

    size = n * recipe.n_pixels**2 * (2 if recipe.observation.dtype == "uint16" else 4)
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if size > free:
        raise CannotWrite(
            f"{recipe.name} takes {size / 1e9:.1f} GB and {existing} has {free / 1e9:.1f} GB free",
            "a disk with room for the images",
            "choose another --out, or fewer images with --train, --validation, --test",
        )
    probe = [Sample("probe", label, k) for k in range(32) for label in recipe.labels]
    draw(recipe, 0, probe[:8])  # the first call pays for start-up
    begin = time.monotonic()
    draw(recipe, 0, probe)
    seconds = (time.monotonic() - begin) / len(probe) * n
    note(f"simulating {n:,} images of {recipe.name} ({size / 1e6:,.0f} MB, about {seconds:,.0f} s) into {folder}")


def _schema(recipe: Recipe) -> pa.Schema:
    """Return the catalogue's columns: identity, and every parameter that some class draws."""
    import pyarrow as pa

    from deeplense.recipes.draw import draw_parameters
    from deeplense.recipes.recipe import Sample

    columns: list[pa.Field[Any]] = [pa.field(name, pa.string()) for name in ("id", "label", "split")]
    parameters: dict[str, pa.Field[Any]] = {}
    for label in recipe.labels:
        for name, values in draw_parameters(recipe, 0, [Sample("probe", label, 0)]).items():
            kind = pa.list_(pa.float64()) if values.ndim == 2 else pa.float64()
            parameters[name] = pa.field(name, kind)
    return pa.schema([*columns, pa.field("seed", pa.int64()), *parameters.values()])


def _catalogue_rows(recipe: Recipe, seed: int, samples: list[Sample]) -> Iterator[list[dict[str, Any]]]:
    """Yield the catalogue in batches; parameters are drawn again here, since each depends on seed and sample alone."""
    from deeplense.data.shards import ROWS_PER_SHARD
    from deeplense.recipes.draw import draw_parameters

    for first in range(0, len(samples), ROWS_PER_SHARD):
        rows: list[dict[str, Any]] = []
        for sample in samples[first : first + ROWS_PER_SHARD]:
            columns = draw_parameters(recipe, seed, [sample])
            drawn = {name: values[0].tolist() for name, values in columns.items()}
            rows.append({"id": sample.id, "label": sample.label, "split": sample.split, "seed": seed} | drawn)
        yield rows


def _write_rows(recipe: Recipe, seed: int, samples: list[Sample], path: Path) -> None:
    import numpy as np

    from deeplense.data.shards import write_shard
    from deeplense.recipes.draw import draw

    batches = [samples[i : i + ROWS_PER_DRAW] for i in range(0, len(samples), ROWS_PER_DRAW)]
    images = np.concatenate([draw(recipe, seed, batch).image.numpy() for batch in batches])
    write_shard(path, images, recipe.observation.dtype)

"""`deeplense simulate`: recipe × seed → dataset folder."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from deeplense.core.config import Bounds, Config, part_of
from deeplense.core.console import note, progress
from deeplense.core.errors import InvalidDataset, InvalidOption, MissingFile, UnknownName
from deeplense.core.files import CannotWrite, alone, is_leftover, read_json, remove_leftovers, write_json

if TYPE_CHECKING:
    from deeplense.recipes.recipe import Recipe
    from deeplense.simulation.order import Order

UNFINISHED = "unfinished.json"
WORTH_COMPILING = 20_000  # images
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
    compile
        Compile the formulas: ten times faster, after one or two minutes the first time; by default for more than 20,000
        images where there is a C++ compiler. It changes the last bits of some pixels.
    engine
        Where to simulate: this process, or a Ray cluster.
    coarse
        Also store every image coarser, and without noise, to learn super-resolution: bicubic, area, or an instrument
        (rubin_i, …) whose pixels and PSF width it gets.
    factor
        With --coarse: pixels per coarse pixel and axis; by default 2, or what the instrument's pixels say.
    shard
        "i/N": make part i of N (from 1) of the files and leave the others to other jobs; the last one finishes the set.
    """

    recipe: str
    _: KW_ONLY
    out: Path | None = None
    train: Images = None
    validation: Images = None
    test: Images = None
    seed: Annotated[int, Bounds(low=0)] = 0
    compile: bool | None = None
    engine: Literal["local", "ray"] = "local"
    coarse: str | None = None
    factor: Annotated[int | None, Bounds(2, 16)] = None
    shard: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.factor is not None and self.coarse is None:
            raise InvalidOption("--factor without --coarse", "how the coarse images are made", "add --coarse area")

    @property
    def part(self) -> tuple[int, int]:
        """Which part of how many."""
        return part_of(self.shard)


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
    options = SimulateOptions.given(options, fields)
    part = options.part
    from deeplense.recipes.pairs import with_pairs
    from deeplense.recipes.recipe import load_recipe

    recipe = load_recipe(options.recipe)
    counts = {split: n for split in ("train", "validation", "test") if (n := getattr(options, split)) is not None}
    recipe = dataclasses.replace(recipe, counts=dataclasses.replace(recipe.counts, **counts))
    if options.coarse is not None:
        recipe = with_pairs(recipe, options.coarse, options.factor)
    folder = options.out or Path("data") / recipe.name
    return _make(_order(recipe, options.seed, folder, options.compile), options.engine, part, verify=True)


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
    return _make(_order(recipe, 0, cache / f"{recipe.name}-v{recipe.version}-{digest:016x}", None))


def _order(recipe: Recipe, seed: int, folder: Path, compiled: bool | None) -> Order:
    """Return the order; whether to compile is as asked, or as the folder was begun, or as it pays."""
    from deeplense.data.shards import MANIFEST
    from deeplense.simulation.order import Order

    for name in (UNFINISHED, MANIFEST):  # in the order in which another process that finishes replaces them
        if compiled is None and (folder / name).is_file():
            with suppress(MissingFile):
                found = read_json(folder / name)
                compiled = found.get("compiled", False) if isinstance(found, dict) else None
    if compiled is None:
        compiled = worth_compiling(len(recipe.samples()))
    return Order(recipe, seed, compiled, folder)


def worth_compiling(n_images: int) -> bool:
    """Whether compiled formulas save time on so many images, on a machine that can compile."""
    from deeplense.core.compiled import can_compile

    return n_images > WORTH_COMPILING and can_compile()


def _make(order: Order, engine: str = "local", part: tuple[int, int] = (1, 1), verify: bool = False) -> Path:
    from deeplense.data.shards import MANIFEST

    facts, folder, n = _facts(order), order.folder, len(order.samples)
    if not n:
        raise InvalidOption("every split would be empty", "at least one image", "raise --train, --validation or --test")
    if (folder / MANIFEST).is_file() and _to_mend(facts, folder, verify) == []:
        note(f"{folder} is complete: {n:,} images")
        return folder
    _must_be_possible(order, engine, part)
    if part != (1, 1):
        return _make_part(order, engine, part, facts, verify)
    with alone(folder):
        if (to_mend := _to_mend(facts, folder, verify)) == []:  # made by another process while this one waited
            return folder
        _announce(order, part)
        remove_leftovers(folder)
        _begin(order, facts, to_mend or [])
        _make_shards(order, engine, part)
        _finish(order, facts)
    return folder


def _make_part(order: Order, engine: str, part: tuple[int, int], facts: dict[str, Any], verify: bool) -> Path:
    """Make one part of the shards, while other processes make theirs; whoever finds all of them finishes the set."""
    with alone(order.folder):
        to_mend = _to_mend(facts, order.folder, verify)
        if to_mend == []:  # made by other processes while this one waited
            return order.folder
        _announce(order, part)
        remove_leftovers(order.folder)
        _begin(order, facts, to_mend or [])
    _make_shards(order, engine, part)
    with alone(order.folder):
        if missing := order.missing():
            note(f"part {part[0]} of {part[1]} is done; {len(missing):,} of {order.n_shards:,} shards are missing")
        elif _to_mend(facts, order.folder, False) != []:
            _finish(order, facts)
    return order.folder


def _begin(order: Order, facts: dict[str, Any], to_mend: list[str]) -> None:
    from deeplense.data.shards import CATALOGUE, MANIFEST

    write_json(order.folder / UNFINISHED, facts)
    for name in (MANIFEST, *to_mend) if to_mend else ():
        (order.folder / name).unlink(missing_ok=True)
    if not (order.folder / CATALOGUE).is_file():
        _write_catalogue(order, measured=False)


def _write_catalogue(order: Order, measured: bool) -> None:
    """Write what was drawn and, once all images are there, what is measured on them."""
    from deeplense.data.shards import CATALOGUE, write_catalogue
    from deeplense.simulation.catalogue import schema, tables, with_observables

    recipe = order.recipe
    columns, rows = schema(recipe), tables(recipe, order.seed, order.samples)
    if measured:
        columns, rows = with_observables(rows, recipe, columns, order.folder)
    write_catalogue(order.folder / CATALOGUE, columns, rows)


def _make_shards(order: Order, engine: str, part: tuple[int, int]) -> None:
    from deeplense.data.shards import ROWS_PER_SHARD
    from deeplense.simulation.cluster import make_on_ray
    from deeplense.simulation.order import make_here

    missing = order.missing(part)
    make = {"local": make_here, "ray": make_on_ray}[engine]
    total = min(len(missing) * ROWS_PER_SHARD, len(order.samples))
    with progress(f"simulating {order.recipe.name}", total) as advance:
        for n in make(order, missing):
            advance(n)


def _finish(order: Order, facts: dict[str, Any]) -> None:
    from deeplense.data.shards import write_manifest

    if order.recipe.observables:
        _write_catalogue(order, measured=True)
    write_manifest(order.folder, facts, len(order.samples))
    (order.folder / UNFINISHED).unlink(missing_ok=True)


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


def _facts(order: Order) -> dict[str, Any]:
    """Return what the manifest says of a dataset before any image is made."""
    from deeplense.version import __version__

    recipe, instruments = order.recipe, order.recipe.instruments()
    facts = {
        "recipe": recipe.as_dict(),
        "seed": order.seed,
        "compiled": order.compiled,
        "deeplense_version": __version__,
        "labels": recipe.labels,
        "image_shape": recipe.image_shape,
        "arrays": recipe.array_shapes(),
        "dtype": recipe.observation.dtype,
        "unit": recipe.observation.unit,
        "pixel_scale": instruments[0].pixel_scale,
        "instruments": [instrument.as_dict() for instrument in instruments],
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
            "the same recipe, counts and seed, compiled or not",
            "choose another --out, or remove the folder",
        )


def _n_bytes(order: Order, part: tuple[int, int]) -> int:
    """Return what is still to be written of a part."""
    from deeplense.data.shards import ROWS_PER_SHARD

    n = min(len(order.missing(part)) * ROWS_PER_SHARD, len(order.samples))
    bytes_per_pixel = 2 if order.recipe.observation.dtype == "uint16" else 4
    return n * bytes_per_pixel * sum(math.prod(shape) for shape in order.recipe.array_shapes().values())


def _must_be_possible(order: Order, engine: str, part: tuple[int, int]) -> None:
    """Refuse what cannot fit the disk, lacks a compiler or lacks Ray, before anything is written."""
    from deeplense.core.compiled import can_compile
    from deeplense.simulation.cluster import require_ray

    if engine == "ray":
        require_ray()
    size = _n_bytes(order, part)
    existing = next(parent for parent in (order.folder, *order.folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if size > free:
        raise CannotWrite(
            f"{order.recipe.name} takes {size / 1e9:.1f} GB more and {existing} has {free / 1e9:.1f} GB free",
            "a disk with room for the images",
            "choose another --out, or fewer images with --train, --validation, --test",
        )
    if order.compiled and not can_compile():
        raise InvalidOption(
            f"compiled formulas for {order.folder}, but no C++ compiler",
            "g++ or clang++ on the PATH",
            "install one, or choose another --out and leave --compile out",
        )


def _announce(order: Order, part: tuple[int, int]) -> None:
    """Say how much will be made and where."""
    size = f"{len(order.samples):,} images of {order.recipe.name} ({_n_bytes(order, part) / 1e6:,.0f} MB)"
    share = f", part {part[0]} of {part[1]}" if part != (1, 1) else ""
    note(f"simulating {size} into {order.folder}{share}")

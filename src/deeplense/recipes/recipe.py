"""A recipe: what to draw, how to see it, how many. Parse and check it, and draw any of its images in memory."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal, NamedTuple

from deeplense.core.config import Config
from deeplense.core.errors import CorruptFile, InvalidOption, MissingFile, UnknownName
from deeplense.instruments.instrument import load_instrument
from deeplense.recipes.parts import Counts, Lens, Observation, Prior, Source
from deeplense.sky.substructure import POPULATIONS, Population


class Sample(NamedTuple):
    """Which image of a recipe: the k-th of a class in a split. With the seed this decides every pixel."""

    split: str
    label: str
    k: int

    @property
    def id(self) -> str:
        """Unique name in its dataset."""
        return f"{self.split}/{self.label}/{self.k:06d}"


@dataclass(frozen=True)
class Recipe(Config):
    """A reproducible dataset.

    Parameters
    ----------
    name
        Name of the recipe.
    version
        Raised whenever the same seed gives other images.
    description
        One line.
    reference
        Where the constants come from.
    instrument
        Name of the instrument.
    n_pixels
        Side of the images.
    lens, source, observation, counts
        The parts.
    symmetry
        The largest group of flips and turns that leaves the population as it is.
    classes
        Class name → its substructure: a table with `kind` and that kind's own settings.
    quirks
        What a reader should know of this recipe, one sentence each.
    """

    name: str
    version: int
    description: str
    reference: str
    instrument: str
    n_pixels: int
    lens: Lens
    source: Source
    observation: Observation
    classes: dict[str, dict[str, object]]
    counts: Counts = field(default_factory=Counts)
    symmetry: Literal["none", "half_turn", "d4"] = "none"
    quirks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_pixels < 8 or self.n_pixels > 4096:
            raise InvalidOption(f"n_pixels is {self.n_pixels}", "a number from 8 to 4096", "change n_pixels")
        if not self.classes:
            raise InvalidOption("a recipe without classes", "at least one [classes.NAME] table", "add one")
        for label in self.classes:
            self.population(label)
        instrument = load_instrument(self.instrument)
        self.source.surface_amplitude(instrument)
        if self.observation.noise != "none":
            instrument.background_sigma()
            self.observation.seconds(instrument)

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names, in the order of the targets."""
        return tuple(self.classes)

    def population(self, label: str) -> Population:
        """Return the substructure law of a class."""
        if label not in self.classes:
            raise UnknownName("class", label, self.classes)
        settings = dict(self.classes[label])
        kind = POPULATIONS[str(settings.pop("kind", "none"))]
        return kind.from_mapping(settings, f"class {label} of recipe {self.name}")

    def samples(self) -> list[Sample]:
        """Return every image of the recipe in catalogue order: split by split, classes alternating."""
        counts = self.counts.as_dict()
        return [Sample(split, label, k) for split, n in counts.items() for k in range(n) for label in self.labels]

    def priors(self) -> dict[str, Prior]:
        """Return the macro quantities that vary from image to image, by catalogue column."""
        quantities = {f"lens_{name}": value for name, value in vars(self.lens).items()}
        quantities |= {f"source_{name}": value for name, value in vars(self.source).items()}
        quantities["exposure_time"] = self.observation.exposure_time
        return {name: value for name, value in quantities.items() if isinstance(value, Prior)}


def load_recipe(name: str | Path) -> Recipe:
    """Return a recipe by its name ("model_ii", "Model-II") or from a TOML file of the user's.

    Raises
    ------
    UnknownName
        When no recipe has that name.
    CorruptFile
        When the file is not TOML.
    """
    path = Path(name)
    if path.suffix == ".toml":
        try:
            text, where = path.read_text(encoding="utf-8"), str(path)
        except (OSError, UnicodeDecodeError) as error:
            raise MissingFile(f"{path} cannot be read: {error}", "a recipe in TOML", "check the path") from error
    else:
        known = shipped_recipes()
        key = str(name).lower().replace("-", "_")
        if key not in known:
            raise UnknownName("recipe", str(name), known)
        text, where = known[key], f"recipe {key}"
    try:
        table: Mapping[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CorruptFile(path, f"not valid TOML ({error})", "a recipe", "correct the line it names") from error
    return Recipe.from_mapping(table, where)


def is_recipe(name: str) -> bool:
    """Whether `name` is a recipe of ours or a TOML file."""
    return name.endswith(".toml") or name.lower().replace("-", "_") in shipped_recipes()


def shipped_recipes() -> dict[str, str]:
    """Return the TOML text of every recipe in this folder, by name."""
    return {
        file.name.removesuffix(".toml"): file.read_text(encoding="utf-8")
        for file in sorted(resources.files(__package__).iterdir(), key=lambda entry: entry.name)
        if file.name.endswith(".toml")
    }

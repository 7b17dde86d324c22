"""A recipe: what to draw, how to see it, how many. Parse and check it, and draw any of its images in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, overload

from deeplense.core.config import Bounds, Config
from deeplense.core.degradation import Degradation
from deeplense.core.errors import InvalidOption, UnknownName
from deeplense.core.named_tables import key_of, load_table, shipped_tables
from deeplense.instruments.instrument import Instrument, load_instrument
from deeplense.recipes.parts import Counts, Lens, Light, Observation, Prior, Quantity
from deeplense.recipes.pictures import read_picture
from deeplense.sky.substructure import POPULATIONS, Population

TAKEN = {"source", "lens", "vortex", "halo", "axion", "exposure"}  # first words of other catalogue columns


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
        Name of the instrument, or a list of names: one per band, all with the same pixels.
    n_pixels
        Side of the images.
    lens, source, observation, counts
        The parts.
    light
        What shines without being lensed, by name: the lens galaxy, companions, contaminants.
    symmetry
        The largest group of flips and turns that leaves the population as it is.
    classes
        Class name → its substructure: a table with `kind` and that kind's own settings. `light` lists which of the
        kinds of [light] it has (by default all), `lensed = false` takes the lens and its source away.
    pair
        How a coarser image of every scene is made, to be stored beside it and the truth: what super-resolution learns
        from.
    quirks
        What a reader should know of this recipe, one sentence each.
    observables
        Whether the catalogue also has what a survey would measure on the stored images: magnitudes, colours, sizes.
    """

    name: str
    version: int
    description: str
    reference: str
    instrument: str | tuple[str, ...]
    n_pixels: Annotated[int, Bounds(8, 4096)]
    lens: Lens
    source: Light
    observation: Observation
    classes: dict[str, dict[str, object]]
    light: dict[str, Light] = field(default_factory=dict)
    pair: Degradation | None = None
    counts: Counts = field(default_factory=Counts)
    symmetry: Literal["none", "half_turn", "d4"] = "none"
    quirks: tuple[str, ...] = ()
    observables: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.classes:
            raise InvalidOption("a recipe without classes", "at least one [classes.NAME] table", "add one")
        for name in TAKEN & set(self.light):
            raise InvalidOption(
                f"a kind of light called '{name}'", "a name that no other column begins with", f"rename [light.{name}]"
            )
        instruments = self.instruments()
        if len({instrument.pixel_scale for instrument in instruments}) != 1:
            raise InvalidOption(
                f"bands with pixels of {', '.join(f'{band.pixel_scale:g}' for band in instruments)} arcsec",
                "at least one band, and the same pixel scale in all",
                "change instrument",
            )
        for label in self.classes:
            if self.population(label).n_uniforms(self.lens.plane) and "source" not in self.lights(label):
                raise InvalidOption(
                    f"class {label} has substructure, but nothing to lens",
                    "lensed = true, or kind = 'none'",
                    "change one",
                )
            for name, light in self.lights(label).items():
                self._check_light(name, light, instruments)
        if self.observation.noise != "none":
            for instrument in instruments:
                instrument.background_sigma()
                self.observation.seconds(instrument)
        if self.pair is not None and self.n_pixels % self.pair.factor:
            raise InvalidOption(
                f"{self.n_pixels} pixels at a factor of {self.pair.factor}", "a multiple", "change n_pixels or factor"
            )
        self._check_observables(instruments)

    def _check_observables(self, instruments: tuple[Instrument, ...]) -> None:
        if not self.observables:
            return
        if self.observation.rescale != "none":
            raise InvalidOption(
                "observables = true with images that are rescaled", "pixels that keep their unit", "remove one of them"
            )
        for instrument in instruments:
            instrument.electron_rate(0.0)
            instrument.background_sigma()

    def as_dict(self) -> dict[str, Any]:
        """Return the recipe as plain values; `observables` only where asked for, as manifests without it are older."""
        values = super().as_dict()
        return values if self.observables else {key: value for key, value in values.items() if key != "observables"}

    def _check_light(self, name: str, light: Light, instruments: tuple[Instrument, ...]) -> None:
        if light.magnitude is not None:
            for instrument in instruments:
                instrument.electron_rate(0.0)
        if len(light.colors) > len(instruments) - 1:
            raise InvalidOption(
                f"{len(light.colors)} colors of '{name}' in {len(instruments)} bands",
                "one for each band but the first",
                "change colors or instrument",
            )
        if light.file is not None:
            read_picture(light.file)

    def instruments(self) -> tuple[Instrument, ...]:
        """Return the instrument of each band."""
        names = (self.instrument,) if isinstance(self.instrument, str) else self.instrument
        return tuple(_instrument(name) for name in names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Bands, rows, columns."""
        return len(self.instruments()), self.n_pixels, self.n_pixels

    def array_shapes(self) -> dict[str, tuple[int, int, int]]:
        """Return the shape of each array that is stored of an image, by name."""
        channels, side, _ = self.image_shape
        shapes = {"image": (channels, side, side)}
        if self.pair is not None:
            coarse = side // self.pair.factor
            shapes |= {"low": (channels, coarse, coarse), "truth": (channels, side, side)}
        return shapes

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names, in the order of the targets."""
        return tuple(self.classes)

    def population(self, label: str) -> Population:
        """Return the substructure law of a class."""
        if label not in self.classes:
            raise UnknownName("class", label, self.classes)
        settings = {name: value for name, value in self.classes[label].items() if name not in ("light", "lensed")}
        kind = POPULATIONS[str(settings.pop("kind", "none"))]
        return kind.from_mapping(settings, f"class {label} of recipe {self.name}")

    def lights(self, label: str) -> dict[str, Light]:
        """Return what shines in images of a class, by name; "source" is what is lensed."""
        table = self.classes[label]
        names, lensed = table.get("light", tuple(self.light)), table.get("lensed", True)
        if not isinstance(lensed, bool) or not isinstance(names, list | tuple):
            raise InvalidOption(f"class {label} has odd settings", "lensed = true or false, light = [names]", "mend it")
        for name in names:
            if str(name) not in self.light:
                raise UnknownName(f"light of class {label}", str(name), self.light)
        source = {"source": self.source} if lensed else {}
        return source | {name: light for name, light in self.light.items() if name in names}

    def samples(self) -> Samples:
        """Return every image of the recipe in catalogue order: split by split, classes alternating."""
        return Samples(self.labels, self.counts)

    def priors(self, label: str) -> dict[str, tuple[Prior, str | None]]:
        """Return what varies from image to image in a class, by catalogue column, and the light it belongs to."""
        columns: dict[str, tuple[Quantity | None, str | None]] = {}
        lights = self.lights(label)
        if "source" in lights:
            columns |= {f"lens_{name}": (value, None) for name, value in vars(self.lens).items()}
        for owner, light in lights.items():
            columns |= {f"{owner}_{name}": (value, owner) for name, value in vars(light).items()}
            columns |= {f"{owner}_color_{k}": (color, owner) for k, color in enumerate(light.colors, 1)}
        columns["exposure_time"] = self.observation.exposure_time, None
        return {name: (value, owner) for name, (value, owner) in columns.items() if isinstance(value, Prior)}


class Samples(Sequence[Sample]):
    """The images of a recipe in catalogue order, each made when it is asked for: any number takes no memory.

    Parameters
    ----------
    labels
        Class names.
    counts
        Images per class in each split.
    """

    def __init__(self, labels: Sequence[str], counts: Counts) -> None:
        self.labels = tuple(labels)
        self.splits: dict[str, int] = counts.as_dict()

    def __len__(self) -> int:
        return len(self.labels) * sum(self.splits.values())

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        """Return one image, or a list of them."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        rest = index % len(self)
        for split, n in self.splits.items():
            if rest < n * len(self.labels):
                return Sample(split, self.labels[rest % len(self.labels)], rest // len(self.labels))
            rest -= n * len(self.labels)
        raise IndexError(index)


def load_recipe(name: str | Path) -> Recipe:
    """Return a recipe by its name ("model_ii", "Model-II") or from a TOML file of the user's.

    Raises
    ------
    UnknownName
        When no recipe has that name.
    CorruptFile
        When the file is not TOML.
    """
    table, where, folder = load_table(name, "recipe", __package__)
    return Recipe.from_mapping(_with_paths(table, folder), where)


def _with_paths(table: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the table with the files it names found from the recipe's own folder."""
    if isinstance(name := table.get("instrument"), str) and name.endswith(".toml"):
        table["instrument"] = str((folder / name).absolute())
    lights = table.get("light")
    for light in (table.get("source"), *(lights.values() if isinstance(lights, dict) else ())):
        if isinstance(light, dict) and isinstance(light.get("file"), str):
            light["file"] = str((folder / light["file"]).absolute())
    return table


@lru_cache(maxsize=64)
def _instrument(name: str) -> Instrument:
    return load_instrument(name)


def is_recipe(name: str) -> bool:
    """Whether `name` is a recipe of ours or a TOML file."""
    return name.endswith(".toml") or key_of(name) in shipped_recipes()


def shipped_recipes() -> dict[str, str]:
    """Return the TOML text of every recipe in this folder, by name."""
    return shipped_tables(__package__)

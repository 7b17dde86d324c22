"""A recipe: what to draw, how to see it, how many. Parse and check it, and draw any of its images in memory."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64

from deeplense.core.config import Config, CountOrZero, Positive
from deeplense.core.errors import CorruptFile, InvalidOption, MissingFile, UnknownName
from deeplense.core.seeding import image_stream, stable_key, uniforms
from deeplense.instruments.instrument import Instrument, load_instrument
from deeplense.instruments.noise import LAWS
from deeplense.instruments.optics import expose
from deeplense.sky.cosmology import DistanceConvention, theta_E2_per_solar_mass
from deeplense.sky.light import Sersic, sersic_flux
from deeplense.sky.mass import SIE, MassProfile, Shear
from deeplense.sky.scene import Scene
from deeplense.sky.substructure import POPULATIONS, Parameters, Population

NOISE_STREAM = 1  # the scene has stream 0


@dataclass(frozen=True)
class Prior(Config):
    """A distribution of one number; exactly one of its fields is set.

    Parameters
    ----------
    uniform
        Bounds of a uniform distribution.
    log_uniform
        Bounds of a distribution uniform in the logarithm.
    """

    uniform: tuple[float, float] | None = None
    log_uniform: tuple[Positive, Positive] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.uniform is None) == (self.log_uniform is None):
            raise InvalidOption(
                "a prior with none or several laws", "exactly one of uniform, log_uniform", "write { uniform = [a, b] }"
            )

    @property
    def bounds(self) -> tuple[float, float]:
        """Smallest and largest value, as written."""
        return self.uniform or self.log_uniform or (0.0, 0.0)

    def transform(self, u: Float64[np.ndarray, " B"]) -> Float64[np.ndarray, " B"]:
        """Return draws from uniform numbers."""
        low, high = self.bounds
        if self.uniform is not None:
            return low + (high - low) * u
        return np.exp(math.log(low) + (math.log(high) - math.log(low)) * u)


Quantity = float | Prior


@dataclass(frozen=True)
class Lens(Config):
    """The macro lens: an SIE with external shear.

    Parameters
    ----------
    theta_E
        Einstein radius [arcsec].
    e1, e2
        Ellipticity.
    center_x, center_y
        Position [arcsec].
    gamma1, gamma2
        External shear.
    z_lens, z_source
        Redshifts.
    distance_convention
        How substructure masses become angles; see `sky.cosmology`.
    deflection_scale
        Factor on every deflection.
    """

    theta_E: Quantity
    e1: Quantity = 0.0
    e2: Quantity = 0.0
    center_x: Quantity = 0.0
    center_y: Quantity = 0.0
    gamma1: Quantity = 0.0
    gamma2: Quantity = 0.0
    z_lens: Positive = 0.5
    z_source: Positive = 1.0
    distance_convention: DistanceConvention = "angular_diameter"
    deflection_scale: Positive = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_ellipticity("lens", self.e1, self.e2)
        if self.z_source <= self.z_lens:
            raise InvalidOption(
                f"z_source {self.z_source} is not behind z_lens {self.z_lens}", "z_source > z_lens", "change one"
            )


@dataclass(frozen=True)
class Source(Config):
    """The source: a Sérsic profile, its brightness given as magnitude or amplitude.

    Parameters
    ----------
    R_sersic
        Half-light radius [arcsec].
    n_sersic
        Sérsic index.
    e1, e2
        Ellipticity.
    center_x, center_y
        Position [arcsec].
    magnitude
        AB magnitude of the unlensed source.
    amplitude
        Surface brightness at R_sersic [electron / s / arcsec²]; either this or the magnitude.
    """

    R_sersic: Positive
    n_sersic: Positive = 1.0
    e1: Quantity = 0.0
    e2: Quantity = 0.0
    center_x: Quantity = 0.0
    center_y: Quantity = 0.0
    magnitude: float | None = None
    amplitude: Positive | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_ellipticity("source", self.e1, self.e2)
        if (self.magnitude is None) == (self.amplitude is None):
            number = "no" if self.magnitude is None else "two values of its"
            raise InvalidOption(
                f"the source has {number} brightness", "either magnitude or amplitude", "correct [source]"
            )

    def surface_amplitude(self, instrument: Instrument) -> float:
        """Return the surface brightness at R_sersic [electron / s / arcsec²]."""
        if self.magnitude is None:
            assert self.amplitude is not None
            return self.amplitude
        return instrument.electron_rate(self.magnitude) / sersic_flux(self.R_sersic, self.n_sersic)


@dataclass(frozen=True)
class Observation(Config):
    """How the expected image becomes the stored one.

    Parameters
    ----------
    noise
        Noise law; "none" stores the expected image.
    exposure_time
        Total exposure [s]; by default the instrument's.
    scale
        Factor on the stored image.
    dtype
        Pixel type on disk; "uint16" only for counts without a scale.
    unit
        Unit of the stored pixels.
    """

    noise: Literal["none", "background_and_shot", "double_shot_counts"]
    exposure_time: Positive | Prior | None = None
    scale: Positive = 1.0
    dtype: Literal["float32", "uint16"] = "float32"
    unit: str = "electron / s"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dtype == "uint16" and (self.noise != "double_shot_counts" or self.scale != 1):
            raise InvalidOption(
                f"pixels of noise law {self.noise} and scale {self.scale:g} as uint16",
                "uint16 for counts alone: it would cut off fractions and negative values",
                'write dtype = "float32"',
            )
        if isinstance(self.exposure_time, Prior) and min(self.exposure_time.bounds) <= 0:
            raise InvalidOption(
                f"exposure_time may be {min(self.exposure_time.bounds):g} s", "positive seconds", "change its bounds"
            )

    def seconds(self, instrument: Instrument) -> float | Prior:
        """Return the total exposure [s] with an instrument."""
        time = instrument.total_exposure_time if self.exposure_time is None else self.exposure_time
        if time is None:
            raise InvalidOption(
                f"noise, but no exposure time: '{instrument.description}' has none",
                "seconds",
                "add exposure_time to [observation]",
            )
        return time


@dataclass(frozen=True)
class Counts(Config):
    """Images per class in each split.

    Parameters
    ----------
    train, validation, test
        Images per class.
    """

    train: CountOrZero = 30000
    validation: CountOrZero = 3000
    test: CountOrZero = 5000


class Sample(NamedTuple):
    """Which image of a recipe: the k-th of a class in a split. With the seed this decides every pixel."""

    split: str
    label: str
    k: int

    @property
    def id(self) -> str:
        """Unique name in its dataset."""
        return f"{self.split}/{self.label}/{self.k:06d}"


class Drawn(NamedTuple):
    """Images drawn in memory, in the order asked for.

    Attributes
    ----------
    image
        Observed images, [B, 1, H, W].
    expected
        The same without noise, in the same unit. (Where Model I clips negative rates, its mean lies above this.)
    variance
        Variance of the noise, in that unit squared.
    parameters
        Every drawn parameter, one entry per image.
    """

    image: Float[torch.Tensor, "B 1 H W"]
    expected: Float[torch.Tensor, "B 1 H W"]
    variance: Float[torch.Tensor, "B 1 H W"]
    parameters: list[dict[str, float | list[float]]]


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


def draw(recipe: Recipe, seed: int, samples: Sequence[Sample], dtype: torch.dtype = torch.float32) -> Drawn:
    """Return the named images of a recipe; each depends on the seed and its own sample alone, not on its neighbours.

    Parameters
    ----------
    recipe
        What to draw.
    seed
        Seed of the dataset.
    samples
        Which images, in any order.
    dtype
        Precision of the ray shooting.
    """
    shape = (len(samples), 1, recipe.n_pixels, recipe.n_pixels)
    image, expected, variance = (torch.empty(shape, dtype=dtype) for _ in range(3))
    drawn = Drawn(image, expected, variance, [{} for _ in samples])
    for label in dict.fromkeys(sample.label for sample in samples):
        rows = [row for row, sample in enumerate(samples) if sample.label == label]
        parameters = draw_parameters(recipe, seed, [samples[row] for row in rows])
        streams = [image_stream(seed, _key(samples[row]), NOISE_STREAM) for row in rows]
        clean = expected_images(recipe, label, parameters, dtype).expand(len(rows), -1, -1)
        observed = observe(recipe, clean, parameters, streams)
        for target, value in zip((image, expected, variance), observed, strict=True):
            target[rows, 0] = value
        for position, row in enumerate(rows):
            drawn.parameters[row].update({name: column[position].tolist() for name, column in parameters.items()})
    return drawn


def draw_parameters(recipe: Recipe, seed: int, samples: Sequence[Sample]) -> Parameters:
    """Return the random parameters of samples of one class, [B] or [B, K] each."""
    priors, population = recipe.priors(), recipe.population(samples[0].label)
    numbers = uniforms(seed, [_key(sample) for sample in samples], len(priors) + population.n_uniforms)
    parameters = {name: prior.transform(numbers[:, i]) for i, (name, prior) in enumerate(priors.items())}
    return parameters | population.draw(numbers[:, len(priors) :])


def expected_images(
    recipe: Recipe, label: str, parameters: Parameters, dtype: torch.dtype = torch.float32
) -> Float[torch.Tensor, "B H W"]:
    """Return the noise-free images [electron/s] of given parameters, one where none varies: `draw` before the noise."""
    instrument, lens, like = load_instrument(recipe.instrument), recipe.lens, torch.empty(0, dtype=dtype)

    def value(name: str, fixed: Any) -> Any:
        if name not in parameters:
            return fixed
        return torch.from_numpy(parameters[name]).to(like)[:, None, None]

    macro = {name: value(f"lens_{name}", getattr(lens, name)) for name in vars(lens)}
    shape = {name: value(f"source_{name}", getattr(recipe.source, name)) for name in vars(recipe.source)}
    shape["amplitude"] = recipe.source.surface_amplitude(instrument)
    del shape["magnitude"]
    per_mass = theta_E2_per_solar_mass(lens.z_lens, lens.z_source, lens.distance_convention)
    mass: tuple[MassProfile, ...] = (
        SIE(*(macro[name] for name in ("theta_E", "e1", "e2", "center_x", "center_y"))),
        Shear(macro["gamma1"], macro["gamma2"]),
        *recipe.population(label).profiles(parameters, per_mass, like),
    )
    scene = Scene(mass, Sersic(**shape), lens.deflection_scale)
    image = expose(scene, instrument, recipe.n_pixels, like)
    return image.expand(max((len(column) for column in parameters.values()), default=1), -1, -1)


def observe(
    recipe: Recipe,
    expected: Float[torch.Tensor, "B H W"],
    parameters: Parameters,
    streams: Sequence[np.random.Generator],
) -> tuple[Float[torch.Tensor, "B H W"], Float[torch.Tensor, "B H W"], Float[torch.Tensor, "B H W"]]:
    """Return image, expected image and variance in the unit of the stored image: after noise law and scale."""
    observation, instrument, scale = recipe.observation, load_instrument(recipe.instrument), recipe.observation.scale
    if observation.noise == "none":
        return expected * scale, expected * scale, torch.zeros_like(expected)
    time = parameters.get("exposure_time", observation.seconds(instrument))
    seconds = torch.as_tensor(time).to(expected).broadcast_to(expected.shape[:1])
    image, expected, variance = LAWS[observation.noise](expected, instrument.background_sigma(), seconds, streams)
    return image * scale, expected * scale, variance * scale**2


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


def _check_ellipticity(of: str, e1: Quantity, e2: Quantity) -> None:
    largest = math.hypot(*(max(map(abs, e.bounds)) if isinstance(e, Prior) else e for e in (e1, e2)))
    if largest >= 1:
        raise InvalidOption(
            f"the ellipticity of the {of} may be {largest:g}", "e1² + e2² < 1", f"change e1 or e2 in [{of}]"
        )


def _key(sample: Sample) -> int:
    return stable_key(*sample)

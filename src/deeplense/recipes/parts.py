"""The tables of a recipe: priors, lens, light, observation, pair, counts; each checks itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Float64

from deeplense.core.config import Bounds, Config, Count, CountOrZero, Fraction, Positive
from deeplense.core.errors import InvalidOption
from deeplense.instruments.instrument import Instrument
from deeplense.sky.cosmology import DistanceConvention, LensPlane
from deeplense.sky.substructure import power_law

Uniforms = Float64[np.ndarray, "*B"]


@dataclass(frozen=True)
class Prior(Config):
    """A distribution of one number; exactly one law is set.

    Parameters
    ----------
    uniform
        Bounds of a uniform distribution.
    log_uniform
        Bounds of a distribution uniform in the logarithm.
    normal
        Mean and standard deviation of a normal distribution.
    power_law
        Bounds and exponent a of a density ∝ x^a.
    within
        Bounds at which a normal distribution is cut; by default 5 standard deviations.
    """

    uniform: tuple[float, float] | None = None
    log_uniform: tuple[Positive, Positive] | None = None
    normal: tuple[float, Positive] | None = None
    power_law: tuple[Positive, Positive, float] | None = None
    within: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        laws = ("uniform", "log_uniform", "normal", "power_law")
        if sum(getattr(self, law) is not None for law in laws) != 1:
            raise InvalidOption(
                "a prior with none or several laws",
                f"exactly one of {', '.join(laws)}",
                "write { uniform = [a, b] }, for example",
            )
        if self.within is not None and self.normal is None:
            raise InvalidOption("within without normal", "a normal distribution to cut", "remove within")
        if self.bounds[0] > self.bounds[1]:
            raise InvalidOption(
                f"a prior from {self.bounds[0]:g} to {self.bounds[1]:g}", "the smaller bound first", "swap them"
            )
        if self.normal is not None:
            low, high = self.normal[0] - 5 * self.normal[1], self.normal[0] + 5 * self.normal[1]
            if self.bounds[1] < low or self.bounds[0] > high:
                raise InvalidOption(
                    f"within = [{self.bounds[0]:g}, {self.bounds[1]:g}], where the normal distribution has nothing",
                    f"some of {low:g} to {high:g}, its 5 standard deviations",
                    "change within or normal",
                )

    @property
    def bounds(self) -> tuple[float, float]:
        """Smallest and largest value."""
        if self.normal is not None:
            mean, sigma = self.normal
            return self.within or (mean - 5 * sigma, mean + 5 * sigma)
        low, high = (self.uniform or self.log_uniform or self.power_law or (0.0, 0.0))[:2]
        return low, high

    def transform(self, u: Uniforms) -> Uniforms:
        """Return draws from uniform numbers."""
        low, high = self.bounds
        if self.normal is not None:
            mean, sigma = self.normal
            ends = torch.special.ndtr(torch.tensor([(low - mean) / sigma, (high - mean) / sigma], dtype=torch.float64))
            inside = torch.special.ndtri(ends[0] + (ends[1] - ends[0]) * torch.from_numpy(u)).numpy()
            return np.asarray(np.clip(mean + sigma * inside, low, high))
        if self.log_uniform is not None:
            return np.asarray(np.exp(math.log(low) + (math.log(high) - math.log(low)) * u))
        if self.power_law is not None:
            return power_law(u, *self.power_law)
        return low + (high - low) * u


Quantity = float | Prior


@dataclass(frozen=True)
class Lens(Config):
    """The macro lens: an elliptical power law, by default isothermal, with external shear.

    Parameters
    ----------
    theta_E
        Einstein radius [arcsec].
    e1, e2
        Ellipticity.
    slope
        Slope of the density in three dimensions; 2 is isothermal (SIE).
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
    slope: Quantity = 2.0
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
        _check_range("theta_E", self.theta_E, 0.0, 100.0)
        _check_range("slope", self.slope, 1.1, 2.9)
        if self.z_source <= self.z_lens:
            raise InvalidOption(
                f"z_source {self.z_source} is not behind z_lens {self.z_lens}", "z_source > z_lens", "change one"
            )

    @property
    def plane(self) -> LensPlane:
        """What turns masses into angles."""
        return LensPlane(self.z_lens, self.z_source, self.distance_convention)


@dataclass(frozen=True)
class Light(Config):
    """A kind of galaxy: the source, or anything in front of it. Its brightness is a magnitude or an amplitude.

    Parameters
    ----------
    kind
        "sersic"; "spiral" and "ring" (R_sersic is the scale length of the disc, the radius of the ring); "image", a
        picture from a file.
    R_sersic
        Half-light radius [arcsec].
    n_sersic
        Sérsic index.
    e1, e2
        Ellipticity.
    center_x, center_y
        Position [arcsec].
    magnitude
        AB magnitude, unlensed, in the first band.
    colors
        Magnitude in the first band minus that in each other band; by default 0.
    amplitude
        Surface brightness at R_sersic [electron / s / arcsec²] of a Sérsic profile, in place of the magnitude.
    contrast, pitch, phase
        Strength of spiral arms, their pitch angle [rad] and their phase [rad].
    width
        Width of a ring as a fraction of its radius.
    file, pixel_scale
        Picture of a galaxy (.npy, FITS, PNG, …) and the side of its pixels on the sky [arcsec].
    angle
        Angle by which the picture is turned [rad].
    count
        How many of this kind an image may have.
    probability
        Chance that each of them is there.
    """

    kind: Literal["sersic", "spiral", "ring", "image"] = "sersic"
    R_sersic: Quantity | None = None
    n_sersic: Quantity = 1.0
    e1: Quantity = 0.0
    e2: Quantity = 0.0
    center_x: Quantity = 0.0
    center_y: Quantity = 0.0
    magnitude: Quantity | None = None
    colors: tuple[Quantity, ...] = ()
    amplitude: Positive | None = None
    contrast: Quantity = 0.5
    pitch: Quantity = 0.35
    phase: Quantity = 0.0
    width: Quantity = 0.2
    file: Path | None = None
    pixel_scale: Quantity | None = None
    angle: Quantity = 0.0
    count: Count = 1
    probability: Fraction = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_ellipticity("light", self.e1, self.e2)
        for name, low, high in (("R_sersic", 1e-4, 100.0), ("n_sersic", 0.3, 10.0), ("pixel_scale", 1e-5, 10.0)):
            if (value := getattr(self, name)) is not None:
                _check_range(name, value, low, high)
        for name, low, high in (("contrast", 0.0, 1.0), ("width", 0.01, 1.0), ("pitch", 0.02, 1.57)):
            _check_range(name, getattr(self, name), low, high)
        needed = ("file", "pixel_scale") if self.kind == "image" else ("R_sersic",)
        for name in needed:
            if getattr(self, name) is None:
                raise InvalidOption(
                    f"light of kind '{self.kind}' lacks '{name}'", "a value for it", f"add a line `{name} = …`"
                )
        if (self.magnitude is None) == (self.amplitude is None):
            number = "no" if self.magnitude is None else "two values of its"
            raise InvalidOption(f"light with {number} brightness", "either magnitude or amplitude", "correct its table")
        if self.amplitude is not None and (self.kind != "sersic" or self.colors):
            raise InvalidOption(
                "an amplitude for light other than one Sérsic profile in one band", "a magnitude", "write magnitude = …"
            )
        for name in IGNORED[self.kind]:
            if getattr(self, name) != type(self).__dataclass_fields__[name].default:
                raise InvalidOption(
                    f"{name} with light of kind '{self.kind}', which does not use it", "another kind", f"remove {name}"
                )

    @property
    def fixed(self) -> bool:
        """Whether every image has exactly one of it."""
        return self.count == 1 and self.probability == 1


SPIRAL, RING, IMAGE = ("contrast", "pitch", "phase"), ("width",), ("file", "pixel_scale", "angle")
IGNORED = {
    "sersic": SPIRAL + RING + IMAGE,
    "spiral": (*RING, *IMAGE, "n_sersic"),
    "ring": (*SPIRAL, *IMAGE, "n_sersic"),
    "image": (*SPIRAL, *RING, "R_sersic", "n_sersic", "e1", "e2"),
}


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
    rescale
        "min_max" maps every image, band by band, to [0, 1] after the noise.
    supersampling
        Samples of the sky per pixel and axis.
    dtype
        Pixel type on disk; "uint16" only for counts without a scale.
    unit
        Unit of the stored pixels.
    """

    noise: Literal["none", "background_and_shot", "poisson_and_background", "double_shot_counts"]
    exposure_time: Positive | Prior | None = None
    scale: Positive = 1.0
    rescale: Literal["none", "min_max"] = "none"
    supersampling: Annotated[int, Bounds(1, 16)] = 1
    dtype: Literal["float32", "uint16"] = "float32"
    unit: str = "electron / s"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dtype == "uint16" and (self.noise != "double_shot_counts" or self.scale != 1 or self.rescale != "none"):
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


def _check_ellipticity(of: str, e1: Quantity, e2: Quantity) -> None:
    largest = math.hypot(*(max(map(abs, _bounds(e))) for e in (e1, e2)))
    if largest >= 1:
        raise InvalidOption(
            f"the ellipticity of the {of} may be {largest:g}", "e1² + e2² < 1", f"change e1 or e2 in [{of}]"
        )


def _check_range(name: str, quantity: Quantity, low: float, high: float) -> None:
    for value in _bounds(quantity):
        if not low <= value <= high:
            raise InvalidOption(f"{name} may be {value:g}", f"from {low:g} to {high:g}", f"change {name}")


def _bounds(quantity: Quantity) -> tuple[float, float]:
    return quantity.bounds if isinstance(quantity, Prior) else (quantity, quantity)

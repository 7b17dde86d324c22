"""The tables of a recipe: priors, lens, source, observation, counts; each checks itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64

from deeplense.core.config import Config, CountOrZero, Positive
from deeplense.core.errors import InvalidOption
from deeplense.instruments.instrument import Instrument
from deeplense.sky.cosmology import DistanceConvention
from deeplense.sky.light import sersic_flux


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


def _check_ellipticity(of: str, e1: Quantity, e2: Quantity) -> None:
    largest = math.hypot(*(max(map(abs, e.bounds)) if isinstance(e, Prior) else e for e in (e1, e2)))
    if largest >= 1:
        raise InvalidOption(
            f"the ellipticity of the {of} may be {largest:g}", "e1² + e2² < 1", f"change e1 or e2 in [{of}]"
        )

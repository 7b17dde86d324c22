"""An instrument: pixel scale, PSF, zero point and noise numbers, each with its source in the TOML file."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass
from importlib import resources

from deeplense.core.config import Config, Count, NonNegative, Positive
from deeplense.core.errors import InvalidOption, UnknownName


@dataclass(frozen=True)
class Instrument(Config):
    """One camera and band.

    Parameters
    ----------
    description
        What it is, in one line.
    reference
        Where the numbers come from.
    pixel_scale
        Side of a pixel [arcsec].
    psf_fwhm
        Full width at half maximum of the Gaussian PSF [arcsec].
    psf_truncation
        Radius at which the PSF kernel is cut [σ].
    zero_point
        AB magnitude of a source of 1 electron/s.
    sky_brightness
        Sky [mag / arcsec²].
    read_noise
        Read noise [electron per pixel and exposure].
    exposure_time
        Length of one exposure [s].
    num_exposures
        Exposures that are summed.
    background_rms
        Background noise [electron / s per pixel], where it is given instead of sky, read noise and zero point.
    """

    description: str
    reference: str
    pixel_scale: Positive
    psf_fwhm: NonNegative
    psf_truncation: Positive = 4.0
    zero_point: float | None = None
    sky_brightness: float | None = None
    read_noise: NonNegative = 0.0
    exposure_time: Positive | None = None
    num_exposures: Count = 1
    background_rms: NonNegative | None = None

    @property
    def total_exposure_time(self) -> float | None:
        """Seconds of all exposures together; None where a recipe must say."""
        return None if self.exposure_time is None else self.exposure_time * self.num_exposures

    def electron_rate(self, magnitude: float) -> float:
        """Return the electrons per second of a source of the given AB magnitude."""
        if self.zero_point is None:
            raise InvalidOption(
                f"magnitudes mean nothing to '{self.description}': it has no zero_point",
                "a source given by its amplitude, or an instrument with a zero point",
                "write `amplitude = …` in the recipe's [source], or add zero_point to the instrument",
            )
        return float(10 ** (-0.4 * (magnitude - self.zero_point)))

    def background_sigma(self) -> float:
        """Return the standard deviation of sky and read noise [electron / s per pixel]."""
        if self.background_rms is not None:
            return self.background_rms
        if self.sky_brightness is None or self.exposure_time is None:
            raise InvalidOption(
                f"the background of '{self.description}' is not defined",
                "background_rms, or sky_brightness with exposure_time and zero_point",
                "add one of them to the instrument's TOML file",
            )
        sky = self.electron_rate(self.sky_brightness) * self.pixel_scale**2
        variance = sky * self.exposure_time + self.read_noise**2  # electron² of one exposure
        return math.sqrt(variance / self.num_exposures) / self.exposure_time


def load_instrument(name: str) -> Instrument:
    """Return the instrument called `name`.

    Raises
    ------
    UnknownName
        When no TOML file in this folder has that name.
    """
    known = {
        file.name.removesuffix(".toml"): file
        for file in resources.files(__package__).iterdir()
        if file.name.endswith(".toml")
    }
    if name not in known:
        raise UnknownName("instrument", name, known)
    return Instrument.from_mapping(tomllib.loads(known[name].read_text(encoding="utf-8")), f"instrument {name}")

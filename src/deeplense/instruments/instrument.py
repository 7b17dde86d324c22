"""An instrument: pixel scale, PSF, zero point and noise numbers, each with its source in the TOML file."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from deeplense.core.config import Bounds, Config, Count, NonNegative, Positive
from deeplense.core.errors import CorruptFile, InvalidOption
from deeplense.core.files import sha256
from deeplense.core.named_tables import load_table, shipped_tables
from deeplense.instruments.psf import MAX_SIDE, SIGMA_PER_FWHM, read_kernel

# wide enough for every camera there is; what lies outside is a slip of unit or sign
PixelScale = Annotated[float, Bounds(1e-4, 60.0)]
Width = Annotated[float, Bounds(0.0, 60.0)]
Truncation = Annotated[float, Bounds(0.5, 100.0)]
Slope = Annotated[float, Bounds(1.05, 100.0)]  # the flux of a Moffat profile is infinite for β ≤ 1
Magnitude = Annotated[float, Bounds(0.0, 50.0)]
Electrons = Annotated[float, Bounds(0.0, 1e4)]

PSF_SETTINGS = {  # kind: what it needs, what it may have besides
    "gaussian": (("psf_fwhm",), ("psf_truncation",)),
    "moffat": (("psf_fwhm", "moffat_beta"), ("psf_truncation",)),
    "kernel": (("psf_file",), ("psf_supersampling", "psf_sha256")),
}


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
        Full width at half maximum of a Gaussian or Moffat PSF [arcsec].
    psf_truncation
        Radius at which a Gaussian or Moffat PSF is cut, in units of psf_fwhm / 2.355: the σ of a Gaussian.
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
    psf
        Kind of the PSF.
    moffat_beta
        Slope β of the wings of a Moffat PSF.
    psf_file
        FITS file whose first image is the PSF; in a TOML file, relative to the folder of that file.
    psf_supersampling
        Pixels of the PSF file per detector pixel and axis.
    psf_sha256
        SHA-256 of the PSF file; filled in when the instrument is loaded, so that a dataset tells which one it had.

    Raises
    ------
    InvalidOption
        When a number is impossible, or the PSF lacks a setting or has one that its kind does not use.
    """

    description: str
    reference: str
    pixel_scale: PixelScale
    psf_fwhm: Width | None = None
    psf_truncation: Truncation = 4.0
    zero_point: Magnitude | None = None
    sky_brightness: Magnitude | None = None
    read_noise: Electrons = 0.0
    exposure_time: Positive | None = None
    num_exposures: Count = 1
    background_rms: NonNegative | None = None
    psf: Literal["gaussian", "moffat", "kernel"] = "gaussian"
    moffat_beta: Slope | None = None
    psf_file: Path | None = None
    psf_supersampling: Count = 1
    psf_sha256: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_psf_settings()
        if self.psf == "moffat" and not self.psf_fwhm:
            raise InvalidOption(
                "psf_fwhm is 0 for a Moffat PSF", "greater than 0", "write psf = 'gaussian' for no blur"
            )
        side = 2 * self.psf_truncation * (self.psf_fwhm or 0.0) * SIGMA_PER_FWHM / self.pixel_scale + 1
        if side > MAX_SIDE:
            raise InvalidOption(
                f"the PSF is {side:.0f} pixels wide: psf_fwhm {self.psf_fwhm}, pixel_scale {self.pixel_scale}",
                f"at most {MAX_SIDE} pixels",
                "check that both are in arcsec, or lower psf_truncation",
            )

    def _check_psf_settings(self) -> None:
        """Refuse a PSF that lacks a setting, or has one that would be ignored."""
        needed, optional = PSF_SETTINGS[self.psf]
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        for name in dict.fromkeys(name for pair in PSF_SETTINGS.values() for names in pair for name in names):
            given = getattr(self, name) != defaults[name]
            if name in needed and not given:
                raise InvalidOption(
                    f"a PSF of kind '{self.psf}' lacks '{name}'", "a value for it", f"add a line `{name} = …`"
                )
            if given and name not in needed + optional:
                kinds = [kind for kind, pair in PSF_SETTINGS.items() if name in pair[0] + pair[1]]
                raise InvalidOption(
                    f"{name} with a PSF of kind '{self.psf}', which does not use it",
                    f"psf = {' or '.join(repr(kind) for kind in kinds)}",
                    f"change psf, or remove {name}",
                )

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


def load_instrument(name: str | Path) -> Instrument:
    """Return an instrument by its name ("euclid_vis", "Euclid-VIS") or from a TOML file of the user's.

    Raises
    ------
    UnknownName
        When no instrument has that name, or the file a setting that there is not.
    MissingFile
        When the file, or the PSF file it names, is not there.
    CorruptFile
        When one of them does not hold what it should.
    """
    remedy = "check the spelling, or name a TOML file of your own"
    table, where, folder = load_table(name, "instrument", __package__, remedy)
    if isinstance(table.get("psf_file"), str):
        table["psf_file"] = str((folder / table["psf_file"]).absolute())
    return _with_checksum(Instrument.from_mapping(table, where))


def _with_checksum(instrument: Instrument) -> Instrument:
    """Return the instrument with the checksum of its PSF file, which is read and checked."""
    if instrument.psf_file is None:
        return instrument
    read_kernel(instrument.psf_file)
    checksum = sha256(instrument.psf_file)
    if instrument.psf_sha256 not in (None, checksum):
        raise CorruptFile(
            instrument.psf_file,
            f"its SHA-256 is {checksum}",
            f"{instrument.psf_sha256}, which the instrument's TOML file names",
            "restore the file, or correct psf_sha256",
        )
    return dataclasses.replace(instrument, psf_sha256=checksum)


def shipped_instruments() -> dict[str, str]:
    """Return the TOML text of every instrument in this folder, by name."""
    return shipped_tables(__package__)

"""Pictures of finer images: how close they come, what they hold at each frequency, and images in one stretch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from deeplense.metrics.classification import Floats
from deeplense.metrics.figures import Figure, blank, canvas, look, png, styled
from deeplense.metrics.spectra import NYQUIST
from deeplense.metrics.stretch import stretched
from deeplense.metrics.style import FAINT, INK, short

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
DECADES = 10  # of power: what is fainter is cut off
DOTS = 100  # per inch


@styled
def psnr_figure(psnrs: Mapping[str, Floats], floor: Floats | None = None) -> Figure:
    """Return the fraction of images whose peak signal-to-noise ratio is at most so large.

    Parameters
    ----------
    psnrs
        What the images are compared with → [N] ratios [dB]; those that are not finite are left out.
    floor
        [N] the ratio against the observed image that noise allows [dB]; None where it is not known.
    """
    figure, axes = canvas()
    for k, (name, values) in enumerate(psnrs.items()):
        axes.ecdf(_finite(values), label=short(name, 30), zorder=3, **look(k))
    if floor is not None:
        axes.ecdf(_finite(floor), label="noise floor", color=FAINT, linewidth=1.2, linestyle="--")
    axes.set(xlabel="PSNR [dB]", ylabel="fraction of the images", ylim=(0, 1.02))
    axes.yaxis.set_major_formatter(lambda fraction, _: f"{fraction:.0%}")
    axes.locator_params(axis="x", nbins=6)
    if axes.get_lines():
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, columnspacing=1.0, handlelength=1.4)
    return figure


@styled
def spectrum_figure(frequencies: Floats, powers: Mapping[str, Floats], factor: int) -> Figure:
    """Return the power of images against the spatial frequency, with the limit of the coarse image.

    Parameters
    ----------
    frequencies
        [K] of the fine image [cycles per pixel].
    powers
        Name of an image → [K] its power [square of the pixel value]; what is not positive is left out.
    factor
        Fine pixels per coarse pixel: Nyquist's frequency of the coarse image is marked.
    """
    figure, axes = canvas()
    coarse = NYQUIST / factor
    axes.axvline(coarse, color=FAINT, linewidth=0.8, linestyle=":")
    for k, (name, power) in enumerate(powers.items()):
        shown = np.where(power > 0, power, np.nan)
        axes.plot(frequencies, shown, label=short(name, 30), **look(k) | {"linewidth": 1.4})
    top = max((float(power.max()) for power in powers.values()), default=1.0)
    if top > 0:
        axes.set_yscale("log")
        low, _ = axes.get_ylim()
        axes.set_ylim(max(low, top / 10**DECADES), 3 * top)
        axes.yaxis.set_major_formatter(lambda value, _: power_of_ten(value))
        axes.minorticks_off()
    axes.text(coarse, 0.985, " coarse limit", transform=axes.get_xaxis_transform(), va="top", color=INK, fontsize=7)
    axes.set(xlabel="spatial frequency [cycles per fine pixel]", ylabel="power [pixel value²]", xlim=(0, NYQUIST))
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, columnspacing=1.2)
    return figure


def power_of_ten(value: float) -> str:
    """Return a power of ten in plain text, as the style turns formulas off: 10⁻³."""
    return "10" + str(round(float(np.log10(value)))).translate(SUPERSCRIPTS)


@dataclass(frozen=True)
class SharedGreys:
    """Images as greys that mean the same in all of them.

    Parameters
    ----------
    black, middle, white
        Pixel values of black, of the middle grey and of white; what lies beyond has the grey of the end.
    pictures
        [H, W] each image from 0 to 1, in the order given.
    """

    black: float
    middle: float
    white: float
    pictures: tuple[NDArray[np.float32], ...]

    @classmethod
    def of(cls, images: Sequence[Floats]) -> Self:
        """Return images [C, H, W] of one scene in the asinh stretch of all their pixels; bands are averaged."""
        planes = [image.mean(axis=0) for image in images]
        pixels = np.concatenate([plane.ravel() for plane in planes])
        greys = stretched(pixels[None, None])[0]
        order = np.argsort(pixels)
        levels, values = greys[order], pixels[order]
        black = float(values[max(0, int(np.searchsorted(levels, 0.0, side="right")) - 1)])
        white = float(values[min(len(values) - 1, int(np.searchsorted(levels, 1.0)))])
        middle = float(np.interp(0.5, levels, values))
        parts = np.split(greys, np.cumsum([plane.size for plane in planes])[:-1])
        pictures = tuple(part.reshape(plane.shape) for part, plane in zip(parts, planes, strict=True))
        return cls(black, middle, white, pictures)

    def pngs(self) -> list[bytes]:
        """Return the images as PNG, a pixel for a pixel."""
        return [grey_png(picture) for picture in self.pictures]


def grey_png(shown: Floats) -> bytes:
    """Return [H, W] numbers from 0, black, to 1, white, as PNG, a pixel for a pixel."""
    return png(_drawn(shown), DOTS)


@styled
def _drawn(shown: Floats) -> Figure:
    figure = blank((shown.shape[1] / DOTS, shown.shape[0] / DOTS))
    figure.set_layout_engine("none")
    figure.figimage(shown, cmap="gray", vmin=0, vmax=1, origin="upper")
    return figure


def _finite(values: Floats) -> Floats:
    return values[np.isfinite(values)]

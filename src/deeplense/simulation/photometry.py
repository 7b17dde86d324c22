"""What a survey's pipeline would measure on the stored, noisy images: magnitudes, colours, size and shape."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from deeplense.data.bands import band_names
from deeplense.data.catalogue import MEASURED
from deeplense.recipes.draw import LANES
from deeplense.recipes.recipe import Recipe

OF_A_BAND = ("mag", "mag_err", "mag_central", "mag_central_err", "surface_brightness")
COLORS = ("color", "color_central")
OF_ALL_BANDS = ("radius", "concentration", "axis_ratio", "position_angle", "offset")
CORE, CENTRAL, TOTAL = 0.5, 1.0, 4.0
"""Radii of the apertures [arcsec]: of the surface brightness, of the central and of the total magnitudes."""
WINDOW = 1.5  # σ of the round weight of the moments [arcsec], cut at 2 σ: without one, noise at the rim decides them
TOGETHER = 32  # images, so few that they stay in the cache; whole vectors: each is computed by the same instructions
PER_MAGNITUDE = 2.5 / math.log(10)
Column = Float64[Tensor, " B"]
Columns = dict[str, Column]


@dataclass(frozen=True)
class Photometer:
    """How images of a recipe are measured, with nothing but what an observer knows of the camera.

    Apertures are round, of whole pixels, about the centre of the stamp. Nothing is subtracted: the mean sky of these
    images is 0, and neighbours stay where they are. Errors are those of the sky, without the object's own photons.

    Parameters
    ----------
    bands
        Their names, for the names of the columns.
    pixel_scale
        [arcsec]
    zero_points
        AB magnitude of one unit of the stored pixels, of each band.
    sigmas
        Noise of the sky in that unit, of each band.
    side
        Of the images [pixel].
    """

    bands: tuple[str, ...]
    pixel_scale: float
    zero_points: tuple[float, ...]
    sigmas: tuple[float, ...]
    side: int

    @classmethod
    def of(cls, recipe: Recipe) -> Photometer:
        """Return the photometer of a recipe.

        Raises
        ------
        InvalidOption
            When an instrument has no zero point or no background.
        """
        instruments, scale = recipe.instruments(), recipe.observation.scale
        return cls(
            band_names(recipe.instrument),
            instruments[0].pixel_scale,
            tuple(2.5 * math.log10(scale * one.electron_rate(0.0)) for one in instruments),
            tuple(scale * one.background_sigma() for one in instruments),
            recipe.n_pixels,
        )

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns, in their order."""
        names = [f"{kind}_{band}" for band in self.bands for kind in OF_A_BAND]
        names += [f"{kind}_{blue}_{red}" for blue, red in pairwise(self.bands) for kind in COLORS]
        return tuple(MEASURED + name for name in (*names, *OF_ALL_BANDS))

    def measure(self, images: Float[Tensor, "B C H W"]) -> Columns:
        """Return the columns of some images, NaN where one cannot be measured; each depends on its image alone."""
        parts = [self._some(part) for part in torch.split(images, TOGETHER)]
        return {name: torch.cat([part[name] for part in parts]) for name in self.columns}

    def _some(self, images: Float[Tensor, "B C H W"]) -> Columns:
        filled = F.pad(images, (0,) * 7 + (-len(images) % LANES,))
        pixels = filled.flatten(2).index_select(2, self._circle[0]).double()
        flux = pixels.cumsum(-1)  # in a fixed order, whatever the batch, as a sum or a product of matrices is not
        columns: Columns = {}
        for band, name in enumerate(self.bands):
            measured = self._magnitudes(flux[:, band], band)
            columns |= {f"{kind}_{name}": column for kind, column in zip(OF_A_BAND, measured, strict=True)}
        for blue, red in pairwise(self.bands):
            for kind, magnitude in zip(COLORS, ("mag", "mag_central"), strict=True):
                columns[f"{kind}_{blue}_{red}"] = columns[f"{magnitude}_{blue}"] - columns[f"{magnitude}_{red}"]
        # size and shape are those of all bands together, in units of their noise, so that a deep band counts more
        light = pixels[:, 0] / (self.sigmas[0] or 1.0)
        for band, sigma in enumerate(self.sigmas[1:], 1):
            light += pixels[:, band] / (sigma or 1.0)
        measured = (*self._sizes(light.cumsum(-1)), *self._shape(light))
        columns |= dict(zip(OF_ALL_BANDS, measured, strict=True))
        return {MEASURED + name: column[: len(images)] for name, column in columns.items()}

    def _magnitudes(self, flux: Float64[Tensor, "B P"], band: int) -> tuple[Column, ...]:
        """Return total and central magnitude with their errors, and the central surface brightness [mag/arcsec²]."""
        zero, sigma = self.zero_points[band], self.sigmas[band]
        found: list[Column] = []
        for radius in (TOTAL, CENTRAL):
            n = self._within(radius)
            light = _positive(flux[:, n - 1])
            found += [zero - 2.5 * light.log10(), PER_MAGNITUDE * sigma * math.sqrt(n) / light]
        n = self._within(CORE)
        core = _positive(flux[:, n - 1]) / (n * self.pixel_scale**2)
        return *found, zero - 2.5 * core.log10()

    def _sizes(self, curve: Float64[Tensor, "B P"]) -> tuple[Column, Column]:
        """Return the half-light radius [arcsec], and 5 log10 of the radii with 80 % and 20 % of the light.

        References
        ----------
        Concentration: Conselice 2003, ApJS 147, 1, eq. 4; here of the light in the total aperture.
        """
        half, inner, outer = (self._radius(curve, share) for share in (0.5, 0.2, 0.8))
        return half, 5 * (outer / inner).log10()

    def _radius(self, curve: Float64[Tensor, "B P"], share: float) -> Column:
        """Return the radius [arcsec] of the circle as large as the pixels that hold a share of the light."""
        wanted = share * _positive(curve[:, -1:])
        first = torch.from_numpy((curve >= wanted).numpy().argmax(1, keepdims=True))  # NumPy's is the first for sure
        above = curve.gather(1, first)
        below = torch.where(first > 0, curve.gather(1, (first - 1).clamp(min=0)), 0.0)
        area = first + (wanted - below) / (above - below)
        return self.pixel_scale * (area / math.pi).sqrt().flatten()

    def _shape(self, light: Float64[Tensor, "B P"]) -> tuple[Column, Column, Column]:
        """Return the axis ratio, the position angle [deg, from columns to rows], and how far the centroid lies off.

        From moments under a round Gaussian weight, which makes everything rounder, and smaller than it is.
        """
        one, *first, x2, y2, cross = (_sum(light[:, : len(weight)] * weight) for weight in self._weights)
        total = _positive(one)
        along, up = (moment / total for moment in first)
        xx, yy, xy = x2 / total - along**2, y2 / total - up**2, cross / total - along * up
        size = _positive(xx + yy)
        flattening = ((xx - yy) ** 2 + 4 * xy**2).sqrt() / size
        ratio = torch.where(flattening < 1, ((1 - flattening) / (1 + flattening)).clamp(min=0).sqrt(), torch.nan)
        angle = torch.where(flattening < 1, 0.5 * torch.atan2(2 * xy, xx - yy).rad2deg(), torch.nan)
        return ratio, angle, (along**2 + up**2).sqrt()

    @cached_property
    def _circle(self) -> tuple[Int64[Tensor, " P"], Float64[Tensor, " P"], Float64[Tensor, " P"]]:
        """The pixels of the total aperture from the inside out: their place in the image, x and y [arcsec]."""
        axis = (torch.arange(self.side, dtype=torch.float64) - (self.side - 1) / 2) * self.pixel_scale
        y, x = (grid.flatten() for grid in torch.meshgrid(axis, axis, indexing="ij"))
        squared = x**2 + y**2
        reach = min(TOTAL, self.side * self.pixel_scale / 2)
        places = squared.argsort(stable=True)[: max(1, int((squared <= reach**2).sum()))]
        return places, x[places], y[places]

    @cached_property
    def _weights(self) -> Float64[Tensor, "6 M"]:
        """The weight of the innermost pixels in the moments 1, x, y, x², y², xy."""
        _, x, y = (part[: self._within(2 * WINDOW)] for part in self._circle)
        return torch.exp(-(x**2 + y**2) / (2 * WINDOW**2)) * torch.stack([torch.ones_like(x), x, y, x**2, y**2, x * y])

    def _within(self, radius: float) -> int:
        """Return how many pixels have their centre within a radius [arcsec], at least one."""
        _, x, y = self._circle
        return max(1, int((x**2 + y**2 <= radius**2).sum()))


def _sum(values: Float64[Tensor, "B P"]) -> Column:
    """Return the sums, added in a fixed order: half to half, again and again."""
    while (n := values.shape[1]) > 1:
        half = n // 2
        folded = values[:, :half] + values[:, half : 2 * half]
        if n % 2:
            folded[:, 0] += values[:, -1]
        values = folded
    return values[:, 0]


def _positive(values: Float64[Tensor, "*B"]) -> Float64[Tensor, "*B"]:
    """Return what is above 0, NaN elsewhere."""
    return torch.where(values > 0, values, torch.nan)

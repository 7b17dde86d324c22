"""What is known of simulated images beyond their class: where the substructure is, and how much of it can be seen.

The convergence is that of the mass profiles, before a recipe's `deflection_scale`, and of the substructure alone: a
sheet that takes away the mean mass of the subhaloes is left out of the maps, not of the images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from deeplense.core.console import progress
from deeplense.core.errors import DeepLenseError
from deeplense.data.dataset import Dataset
from deeplense.data.transforms import part_taken
from deeplense.instruments.optics import bin_pixels, convolve_kernel, sample_grid
from deeplense.instruments.psf import kernel
from deeplense.recipes.draw import expected_images, group_size, moments, streams_of
from deeplense.recipes.recipe import Recipe, Sample
from deeplense.recipes.scenes import draw_parameters
from deeplense.sky.circular import ConvergenceSheet
from deeplense.sky.mass import Points
from deeplense.sky.substructure import Parameters

STRENGTHS = ("substructure_snr", "subhalo_mass", "axion_mass")
LENSING = ("theta_E", "source_magnitude", "arc_snr")
DUST = 1e-5  # of the brightest pixel
SUBSAMPLES = 4  # per pixel and axis, where a profile is averaged over pixels
Map = Float[Tensor, "B 1 H W"]
Images = Float[Tensor, "B C H W"]
Column = Float64[np.ndarray, " B"]
Rows = Int64[np.ndarray, " N"]
Bands = tuple[int, ...] | None

_LAST: dict[tuple[object, ...], dict[str, Column]] = {}


class Known(NamedTuple):
    """Some images of one class: their places in what was asked for, and every parameter that was drawn."""

    places: Int64[np.ndarray, " B"]
    label: str
    parameters: Parameters


@dataclass(frozen=True)
class Truth:
    """The truth of a simulated dataset.

    Parameters
    ----------
    dataset
        With its images' parameters in the catalogue, or drawn in memory.
    recipe, seed
        What it was made of.
    """

    dataset: Dataset
    recipe: Recipe
    seed: int

    @classmethod
    def of(cls, dataset: Dataset) -> Self | None:
        """Return the truth of a dataset of ours; None where no recipe comes with it, or one that is read no more."""
        manifest: dict[str, Any] = getattr(dataset, "manifest", {})
        try:
            return cls(dataset, Recipe.from_mapping(manifest["recipe"]), int(manifest["seed"]))
        except (KeyError, TypeError, ValueError, DeepLenseError):
            return None

    @property
    def lumpy(self) -> tuple[str, ...]:
        """The classes with substructure."""
        plane = self.recipe.lens.plane
        return tuple(label for label in self.recipe.labels if self.recipe.population(label).n_uniforms(plane))

    def known(self, rows: Sequence[int] | Int64[np.ndarray, " N"]) -> Iterator[Known]:
        """Yield rows of the catalogue in groups of one class, with their parameters."""
        chosen = np.asarray(rows, dtype=np.int64)
        names = np.array(self.dataset.catalogue["label"].take(chosen).to_pylist(), dtype=object)
        size = max(1, group_size(self.recipe) // 2)  # two images of each are compared
        for label in self.recipe.labels:
            places = np.flatnonzero(names == label)
            for first in range(0, len(places), size):
                some = places[first : first + size]
                yield Known(some, label, self._parameters(label, chosen[some]))

    def substructure(self, rows: Rows, crop: int | None = None, bands: Bands = None) -> dict[str, Column]:
        """Return what there is to see in some bands, by default in all: [N] each, NaN where an image has none of it.

        `substructure_snr`: the signal-to-noise ratio of the substructure in the (cropped) image, all else known; NaN
        where images are without noise. `subhalo_mass`: sum of the subhaloes' masses [solar masses]. `axion_mass` [eV].
        """
        return self._measured(self._substructure, rows, crop, bands)

    def _substructure(self, rows: Rows, crop: int | None, bands: Bands) -> dict[str, Column]:
        columns = {name: np.full(len(rows), np.nan) for name in STRENGTHS}
        with progress("measuring the substructure", len(rows)) as advance:
            for group in self.known(rows):
                signal = part_taken(substructure_signal(self.recipe, group.label, group.parameters), bands, crop)
                columns["substructure_snr"][group.places] = torch.sqrt((signal.double() ** 2).sum((1, 2, 3))).numpy()
                if (masses := group.parameters.get("halo_mass")) is not None:
                    columns["subhalo_mass"][group.places] = np.nansum(masses, axis=1)
                if (axion := group.parameters.get("axion_mass")) is not None:
                    columns["axion_mass"][group.places] = axion
                advance(len(group.places))
        return columns

    def lenses(self, rows: Rows, crop: int | None = None, bands: Bands = None) -> dict[str, Column]:
        """Return what makes a lens easy to find in some bands, by default in all: [N] each, NaN where it is not known.

        `theta_E` [arcsec]; `source_magnitude`, as it would be without the lens; `arc_snr`, the signal-to-noise ratio of
        the lensed source in the (cropped) image, all else known.
        """
        return self._measured(self._lenses, rows, crop, bands)

    def _lenses(self, rows: Rows, crop: int | None, bands: Bands) -> dict[str, Column]:
        columns = {name: np.full(len(rows), np.nan) for name in LENSING}
        with progress("measuring the arcs", len(rows)) as advance:
            for group in self.known(rows):
                advance(len(group.places))
                if not self.recipe.classes[group.label].get("lensed", True):
                    continue
                signal = part_taken(source_signal(self.recipe, group.label, group.parameters), bands, crop)
                columns["arc_snr"][group.places] = torch.sqrt((signal.double() ** 2).sum((1, 2, 3))).numpy()
                for name, key in (("theta_E", "lens_theta_E"), ("source_magnitude", "source_magnitude")):
                    if (values := group.parameters.get(key)) is not None:
                        columns[name][group.places] = values
        return columns

    def _measured(
        self,
        measure: Callable[[Rows, int | None, Bands], dict[str, Column]],
        rows: Rows,
        crop: int | None,
        bands: Bands,
    ) -> dict[str, Column]:
        """Return what is measured of images, from memory where they are those of the last time.

        The runs of a benchmark are judged on the same images one after the other; measuring takes minutes.
        """
        ids = tuple(self.dataset.catalogue["id"].take(rows).to_pylist())
        stored = str(getattr(self.dataset, "manifest", {}).get("catalogue"))  # its checksum
        key = (measure.__name__, stored, repr(self.recipe), self.seed, ids, crop, bands)
        if key not in _LAST:
            _LAST.clear()
            _LAST[key] = measure(rows, crop, bands)
        return {name: column.copy() for name, column in _LAST[key].items()}

    def maps(self, rows: Rows, crop: int | None = None, bands: Bands = None) -> tuple[Map, Map]:
        """Return the convergence of the substructure as the PSF would blur it, and its signal per pixel [σ].

        The signal of several bands is their root of summed squares.
        """
        _, height, width = self.recipe.image_shape
        convergence, signal = (torch.zeros(len(rows), 1, height, width) for _ in range(2))
        psf = kernel(self.recipe.instruments()[0])
        for group in self.known(rows):
            where = torch.from_numpy(group.places)
            kappa = substructure_convergence(self.recipe, group.label, group.parameters)
            blurred = convolve_kernel(kappa, psf)
            dust = DUST * blurred.amax((2, 3), keepdim=True)  # what a Fourier transform leaves where nothing is
            convergence[where] = torch.where(blurred > dust, blurred, 0.0)
            several = part_taken(substructure_signal(self.recipe, group.label, group.parameters), bands, None)
            signal[where] = torch.sqrt((several**2).sum(1, keepdim=True))
        return part_taken(convergence, None, crop), part_taken(signal, None, crop)

    def _parameters(self, label: str, rows: Int64[np.ndarray, " B"]) -> Parameters:
        """Return the parameters of images of one class: of the catalogue, or drawn again where it does not hold them.

        The catalogue comes first: its numbers are those of the images whichever version drew them.
        """
        probe = draw_parameters(self.recipe, label, streams_of(0, [Sample("probe", label, 0)]))
        table = self.dataset.catalogue
        if not set(probe) <= set(table.column_names):
            ids = [str(name).split("/") for name in table["id"].take(rows).to_pylist()]
            samples = [Sample(split, name, int(k)) for split, name, k in ids]
            return draw_parameters(self.recipe, label, streams_of(self.seed, samples))
        owners = {name: owner for name, (_, owner) in self.recipe.priors(label).items()}
        columns: Parameters = {}
        for name in sorted(probe, key=lambda name: not name.endswith("_present")):  # these say where the others go
            values: list[Any] = table[name].take(rows).to_pylist()
            if probe[name].ndim == 1:
                columns[name] = np.array(values, dtype=np.float64)
            else:
                columns[name] = _filled(values, columns.get(f"{owners.get(name)}_present"))
        return columns


def substructure_convergence(recipe: Recipe, label: str, parameters: Parameters) -> Map:
    """Return the convergence of the substructure, averaged over each pixel; point masses are put into their pixels.

    Parameters
    ----------
    recipe, label
        The class.
    parameters
        As drawn, B images.

    References
    ----------
    Schneider, Ehlers & Falco 1992, § 8.1.2: a point of Einstein radius θ_E has the mass π θ_E² Σ_cr.
    """
    like, side = torch.empty(0), recipe.n_pixels
    instrument = recipe.instruments()[0]
    images = max((len(column) for column in parameters.values()), default=1)
    total = torch.zeros(images, 1, side, side)
    x, y = sample_grid(instrument, side, SUBSAMPLES, like)
    for profile in recipe.population(label).profiles(parameters, recipe.lens.plane, like):
        points = profile.points()
        if points is not None:
            total += _binned(points, side, instrument.pixel_scale)
        elif not isinstance(profile, ConvergenceSheet):
            total += bin_pixels(profile.convergence(x, y), SUBSAMPLES) / SUBSAMPLES**2
    return total


def substructure_signal(recipe: Recipe, label: str, parameters: Parameters) -> Images:
    """Return how far the substructure moves each pixel, in standard deviations of its noise; NaN without noise.

    Lens, source and everything else are the same in both images: the difference is what an observer who knew all of
    them would see, and the root of its summed squares is the largest signal-to-noise ratio of any linear statistic.

    Parameters
    ----------
    recipe, label
        The class.
    parameters
        As drawn, B images.

    References
    ----------
    Kay 1998, Fundamentals of Statistical Signal Processing II, eq. 4.15: the matched filter.
    """
    kept = {name: value for name, value in recipe.classes[label].items() if name in ("light", "lensed")}
    smooth = replace(recipe, classes=recipe.classes | {label: {"kind": "none"} | kept})
    return _significance(recipe, smooth, label, parameters)


def source_signal(recipe: Recipe, label: str, parameters: Parameters) -> Images:
    """Return how far the lensed source moves each pixel, in standard deviations of its noise; NaN without noise.

    Parameters
    ----------
    recipe, label
        The class.
    parameters
        As drawn, B images.
    """
    kept = {name: value for name, value in recipe.classes[label].items() if name == "light"}
    without = replace(recipe, classes=recipe.classes | {label: kept | {"kind": "none", "lensed": False}})
    return _significance(recipe, without, label, parameters)


def _significance(recipe: Recipe, other: Recipe, label: str, parameters: Parameters) -> Images:
    """Return how far images differ from those of another recipe, in standard deviations of their noise."""
    rates = [expected_images(some, label, parameters) for some in (recipe, other)]
    (whole, variance), (less, _) = (moments(recipe, rate, parameters) for rate in rates)
    if recipe.observation.noise == "none":
        return torch.full_like(whole, math.nan)
    return (whole - less) / torch.sqrt(variance)


def _binned(points: Points, side: int, pixel_scale: float) -> Map:
    """Return the convergence of point masses, each in the pixel that holds it; those outside the field are lost."""
    theta_E2, x, y = points
    column, row = (torch.floor(position / pixel_scale + side / 2).long() for position in (x, y))
    inside = (column >= 0) & (column < side) & (row >= 0) & (row < side)
    index = torch.where(inside, row * side + column, 0)
    kappa = torch.where(inside, math.pi * theta_E2 / pixel_scale**2, 0.0)
    return torch.zeros(len(x), side * side).to(kappa).scatter_add_(1, index, kappa).reshape(-1, 1, side, side)


def _filled(values: list[list[float]], present: Float64[np.ndarray, "B K"] | None) -> Float64[np.ndarray, "B K"]:
    """Return lists of unequal length as one array, NaN where there is nothing.

    A kind of light that is in its second slot alone has one number in the catalogue.
    """
    slots = max(map(len, values), default=0) if present is None else present.shape[1]
    filled = np.full((len(values), slots), np.nan)
    for row, some in enumerate(values):
        where = np.arange(len(some)) if present is None else np.flatnonzero(present[row])
        filled[row, where] = some
    return filled

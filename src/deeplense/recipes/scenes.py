"""From a recipe to scenes: random parameters of each image, and the profiles they describe."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from deeplense.core.seeding import Streams
from deeplense.instruments.instrument import Instrument
from deeplense.instruments.optics import sample_grid
from deeplense.recipes.parts import Lens, Light, Prior
from deeplense.recipes.pictures import read_picture
from deeplense.recipes.recipe import Recipe
from deeplense.sky.ellipticity import Value
from deeplense.sky.light import LightProfile, PixelSource, Ring, Sersic, Spiral, ring_flux, sersic_flux
from deeplense.sky.mass import SIE, MassProfile, Shear, Tabulated
from deeplense.sky.power_law import EPL
from deeplense.sky.scene import Scene
from deeplense.sky.substructure import Parameters

SCENE_STREAM = 0
MACRO = ("theta_E", "e1", "e2", "slope", "center_x", "center_y", "gamma1", "gamma2")
Column = Float64[np.ndarray, "B *K"]


def draw_parameters(recipe: Recipe, label: str, streams: Streams) -> Parameters:
    """Return the random parameters of images of one class, [B] or [B, K] each: one per catalogue column.

    A kind of light that may be there several times, or not at all, has K columns, NaN where it is absent.
    """
    population, plane = recipe.population(label), recipe.lens.plane
    priors, lights = recipe.priors(label), recipe.lights(label)
    chances = {name: light for name, light in lights.items() if not light.fixed}
    slots = [1 if owner is None else lights[owner].count for _, owner in priors.values()]
    slots += [light.count for light in chances.values()]
    numbers = streams.uniforms(sum(slots) + population.n_uniforms(plane), SCENE_STREAM).numpy()
    columns = iter(np.split(numbers, np.cumsum(slots), axis=1))
    parameters = {name: prior.transform(next(columns)) for name, (prior, _) in priors.items()}
    for light_name, light in chances.items():
        present = next(columns) < light.probability
        own = (name for name, (_, owner) in priors.items() if owner == light_name)
        parameters |= {name: np.where(present, parameters[name], np.nan) for name in own}
        parameters[f"{light_name}_present"] = present.astype(np.float64)
    several = {f"{name}_present" for name in chances} | {
        name for name, (_, owner) in priors.items() if owner in chances
    }
    parameters = {name: values if name in several else values[:, 0] for name, values in parameters.items()}
    return parameters | population.draw(next(columns), plane)


def scene_of(recipe: Recipe, label: str, parameters: Parameters, like: Tensor) -> Scene:
    """Return the scenes that parameters describe, in the dtype and on the device of `like`."""
    instruments = recipe.instruments()
    lights = {
        name: [_Galaxy(name, light, slot, parameters).profile(instruments, like) for slot in range(light.count)]
        for name, light in recipe.lights(label).items()
    }
    sources = lights.pop("source", [])
    mass: tuple[MassProfile, ...] = ()
    if sources:
        mass = _macro(recipe, parameters, like) + recipe.population(label).profiles(parameters, recipe.lens.plane, like)
    foreground = tuple(profile for profiles in lights.values() for profile in profiles)
    return Scene(mass, tuple(sources), recipe.lens.deflection_scale, foreground)


def _macro(recipe: Recipe, parameters: Parameters, like: Tensor) -> tuple[MassProfile, ...]:
    """Return the macro lens: as a table, computed once in float64, where it is the same in all images."""
    lens = recipe.lens
    if not any(f"lens_{name}" in parameters for name in MACRO):
        grid = (recipe.instruments()[0], recipe.n_pixels, recipe.observation.supersampling)
        return (_tabulated(lens, *grid, like.dtype, like.device),)
    values = {name: _value(parameters.get(f"lens_{name}", getattr(lens, name)), like) for name in MACRO}
    return macro_mass(lens, values)


def macro_mass(lens: Lens, values: Mapping[str, Any]) -> tuple[MassProfile, ...]:
    """Return the macro lens of given numbers, one for each field of `Lens` that is a number of its mass."""
    shape = {name: values[name] for name in ("theta_E", "e1", "e2", "center_x", "center_y")}
    macro: MassProfile = SIE(**shape) if lens.slope == 2 else EPL(**shape, slope=values["slope"])
    return macro, Shear(values["gamma1"], values["gamma2"])


@lru_cache(maxsize=16)
def _tabulated(
    lens: Lens, instrument: Instrument, n_pixels: int, supersampling: int, dtype: torch.dtype, device: torch.device
) -> Tabulated:
    x, y = sample_grid(instrument, n_pixels, supersampling, torch.empty(0, dtype=torch.float64))
    smooth = Scene(macro_mass(lens, vars(lens)), ())
    return Tabulated(*(alpha.to(device, dtype) for alpha in smooth.deflection(x, y)))


@dataclass(frozen=True)
class _Galaxy:
    """One slot of a kind of light in every image: its numbers, drawn or fixed.

    A galaxy that is absent has NaN in the catalogue; here it has the lower bounds of its priors and no brightness.
    """

    name: str
    light: Light
    slot: int
    parameters: Parameters

    def number(self, field: str, fixed: Any) -> Column | float:
        """Return a number of each image, or the one of all."""
        column = self.parameters.get(f"{self.name}_{field}")
        if column is None:
            return cast(float, fixed)
        absent = fixed.bounds[0] if isinstance(fixed, Prior) else 0.0
        return column if column.ndim == 1 else np.nan_to_num(column[:, self.slot], nan=absent)

    def value(self, field: str, like: Tensor) -> Value:
        """Return a field of the light as the profiles take it."""
        return _value(self.number(field, getattr(self.light, field)), like)

    def amplitude(self, instruments: Sequence[Instrument], like: Tensor) -> Tensor:
        """Return what a profile of unit amplitude is multiplied by, for every band, [B, C, 1, 1]."""
        if self.light.amplitude is not None:
            bands = [np.array([self.light.amplitude])]
        else:
            magnitude, flux = self.number("magnitude", cast(float, self.light.magnitude)), self._unit_flux()
            colors = (0.0, *self.light.colors, *[0.0] * len(instruments))  # bands without a color are like the first
            bands = [
                instrument.electron_rate(0.0)
                * np.atleast_1d(10 ** (-0.4 * (magnitude - self.number(f"color_{k}", cast(float, color)))) / flux)
                for k, (instrument, color) in enumerate(zip(instruments, colors, strict=False))
            ]
        present = np.atleast_1d(self.number("present", 1.0))
        brightness = np.stack(np.broadcast_arrays(*(band * present for band in bands)), axis=1)
        return torch.from_numpy(brightness).to(like)[:, :, None, None]

    def _unit_flux(self) -> Column | float:
        """Return the flux of a profile of unit amplitude."""
        if self.light.kind == "image":
            return 1.0
        size = self.number("R_sersic", cast(float, self.light.R_sersic))
        if self.light.kind == "spiral":
            return 2 * np.pi * size**2
        if self.light.kind == "ring":
            return _each(ring_flux, size, size * self.number("width", cast(float, self.light.width)))
        return _each(sersic_flux, size, self.number("n_sersic", cast(float, self.light.n_sersic)))

    def profile(self, instruments: Sequence[Instrument], like: Tensor) -> LightProfile:
        """Return the profile."""
        amplitude, value = self.amplitude(instruments, like), partial(self.value, like=like)
        center = value("center_x"), value("center_y")
        if self.light.kind == "image":
            picture = torch.tensor(read_picture(cast(Path, self.light.file))).to(like)
            return PixelSource(picture, value("pixel_scale"), amplitude, value("angle"), *center)
        size, shape = value("R_sersic"), (value("e1"), value("e2"), *center)
        if self.light.kind == "spiral":
            return Spiral(amplitude, size, *shape, value("contrast"), value("pitch"), value("phase"))
        if self.light.kind == "ring":
            return Ring(amplitude, size, size * value("width"), *shape)
        return Sersic(amplitude, size, value("n_sersic"), *shape)


def _each(flux: Callable[[float, float], float], *shape: Column | float) -> Column:
    """Return the fluxes of many profiles, each of two parameters."""
    pairs = zip(*(np.atleast_1d(column).tolist() for column in np.broadcast_arrays(*shape)), strict=True)
    return np.array([flux(*pair) for pair in pairs])


def _value(number: Column | float, like: Tensor) -> Value:
    """Return a number of each image, or the one of all, as profiles take it."""
    if isinstance(number, np.ndarray):
        return torch.from_numpy(number).to(like)[:, None, None, None]
    assert isinstance(number, float)
    return number

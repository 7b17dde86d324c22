"""From a recipe to scenes: random parameters of each image, and the profiles they describe."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

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
        name: _profiles(name, light, parameters, instruments, like) for name, light in recipe.lights(label).items()
    }
    sources = lights.pop("source", ())
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
    values = {name: _tensor(parameters, f"lens_{name}", getattr(lens, name), like) for name in MACRO}
    return _macro_profiles(lens, values)


def _macro_profiles(lens: Lens, values: Mapping[str, Any]) -> tuple[MassProfile, ...]:
    shape = {name: values[name] for name in ("theta_E", "e1", "e2", "center_x", "center_y")}
    macro: MassProfile = SIE(**shape) if lens.slope == 2 else EPL(**shape, slope=values["slope"])
    return macro, Shear(values["gamma1"], values["gamma2"])


@lru_cache(maxsize=16)
def _tabulated(
    lens: Lens, instrument: Instrument, n_pixels: int, supersampling: int, dtype: torch.dtype, device: torch.device
) -> Tabulated:
    x, y = sample_grid(instrument, n_pixels, supersampling, torch.empty(0, dtype=torch.float64))
    smooth = Scene(_macro_profiles(lens, vars(lens)), ())
    return Tabulated(*(alpha.to(device, dtype) for alpha in smooth.deflection(x, y)))


def _profiles(
    name: str, light: Light, parameters: Parameters, instruments: Sequence[Instrument], like: Tensor
) -> list[LightProfile]:
    """Return the light of one kind, one profile for each of its slots; an absent one has brightness 0."""
    profiles = []
    for slot in range(light.count):

        def value(field: str, fixed: Any, slot: int = slot) -> Column | float:
            column = parameters.get(f"{name}_{field}")
            if column is None:
                return fixed  # type: ignore[no-any-return]
            harmless = fixed.bounds[0] if isinstance(fixed, Prior) else 0.0  # in place of what an absent one has
            return np.nan_to_num(column if column.ndim == 1 else column[:, slot], nan=harmless)

        present = np.reshape(np.asarray(value("present", 1.0)), (-1, 1))
        brightness = _amplitudes(light, value, instruments) * present
        amplitude = torch.from_numpy(brightness).to(like)[:, :, None, None]
        profiles.append(_profile(light, amplitude, value, like))
    return profiles


def _amplitudes(light: Light, value: Any, instruments: Sequence[Instrument]) -> Float64[np.ndarray, "B C"]:
    """Return what a profile of unit amplitude is multiplied by, for every band."""
    if light.amplitude is not None:
        return np.full((1, len(instruments)), light.amplitude)
    colors = [0.0, *(value(f"color_{k}", color) for k, color in enumerate(light.colors, 1))]
    colors += [0.0] * (len(instruments) - len(colors))
    magnitude = value("magnitude", light.magnitude)
    rates = [
        instrument.electron_rate(0.0) * 10 ** (-0.4 * np.asarray(magnitude - color))
        for instrument, color in zip(instruments, colors, strict=True)
    ]
    size = value("R_sersic", light.R_sersic)
    flux: Any = {
        "sersic": lambda: _each(sersic_flux, size, value("n_sersic", light.n_sersic)),
        "spiral": lambda: 2 * np.pi * np.square(size),
        "ring": lambda: _each(ring_flux, size, size * value("width", light.width)),
        "image": lambda: 1.0,
    }[light.kind]()
    flux = np.where(flux == 0, 1.0, flux)  # an absent galaxy has size 0
    return np.stack([np.broadcast_to(rate / flux, np.broadcast(*rates, flux).shape).reshape(-1) for rate in rates], 1)


def _each(flux: Callable[[float, float], float], *shape: Column | float) -> Column:
    """Return the fluxes of many profiles, each of two parameters."""
    pairs = zip(*(np.atleast_1d(column).tolist() for column in np.broadcast_arrays(*shape)), strict=True)
    return np.array([flux(*pair) for pair in pairs])


def _profile(light: Light, amplitude: Tensor, value: Any, like: Tensor) -> LightProfile:
    def tensor(field: str) -> Tensor | float:
        number = value(field, getattr(light, field))
        return torch.from_numpy(number).to(like)[:, None, None, None] if isinstance(number, np.ndarray) else number

    place = {field: tensor(field) for field in ("center_x", "center_y")}
    if light.kind == "image":
        picture = torch.from_numpy(read_picture(light.file)).to(like)  # type: ignore[arg-type]
        return PixelSource(picture, tensor("pixel_scale"), amplitude, tensor("angle"), **place)
    place |= {field: tensor(field) for field in ("e1", "e2")}
    size = tensor("R_sersic")
    if isinstance(size, Tensor):
        size = torch.where(size == 0, 1.0, size)
    if light.kind == "spiral":
        arms = {field: tensor(field) for field in ("contrast", "pitch", "phase")}
        return Spiral(amplitude, size, **place, **arms)  # type: ignore[arg-type]
    if light.kind == "ring":
        return Ring(amplitude, size, size * tensor("width"), **place)
    n_sersic = tensor("n_sersic")
    if isinstance(n_sersic, Tensor):
        n_sersic = torch.where(n_sersic == 0, 1.0, n_sersic)
    return Sersic(amplitude, size, n_sersic, **place)


def _tensor(parameters: Parameters, name: str, fixed: float | Prior, like: Tensor) -> Tensor | float:
    if name in parameters:
        return torch.from_numpy(parameters[name]).to(like)[:, None, None, None]
    assert isinstance(fixed, float)
    return fixed

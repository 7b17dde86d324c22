"""Any image of a recipe, drawn in memory: used by `simulate`, by training on fresh data and by physical models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from deeplense.core.seeding import image_stream, stable_key, uniforms
from deeplense.instruments.instrument import load_instrument
from deeplense.instruments.noise import LAWS
from deeplense.instruments.optics import expose
from deeplense.recipes.recipe import Recipe, Sample
from deeplense.sky.cosmology import theta_E2_per_solar_mass
from deeplense.sky.light import Sersic
from deeplense.sky.mass import SIE, MassProfile, Shear
from deeplense.sky.scene import Scene
from deeplense.sky.substructure import Parameters

NOISE_STREAM = 1  # the scene has stream 0


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


def _key(sample: Sample) -> int:
    return stable_key(*sample)

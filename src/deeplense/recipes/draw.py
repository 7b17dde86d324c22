"""Any image of a recipe, drawn in memory: used by `simulate`, by training on fresh data and by physical models."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from deeplense.core.compiled import EAGER, Runner
from deeplense.core.console import note
from deeplense.core.seeding import Streams, stable_key
from deeplense.instruments.noise import LAWS
from deeplense.instruments.optics import expose
from deeplense.recipes.recipe import Recipe, Sample
from deeplense.recipes.scenes import draw_parameters, scene_of
from deeplense.sky.substructure import Parameters

NOISE_STREAM = 1  # the scene has stream 0
GROUP_PIXELS = 1 << 19  # drawn at once: 2 MB an array
TOGETHER = 1024  # images that are usually asked for at once: a shard of them is cut into groups of one size
LANES = 16  # numbers in the longest vector of a processor
Images = Float[Tensor, "B C H W"]


class Drawn(NamedTuple):
    """Images drawn in memory, in the order asked for.

    Attributes
    ----------
    image
        Observed images, [B, C, H, W].
    expected
        The same without noise, in the same unit. (Where Model I clips negative rates, its mean lies above this.)
    variance
        Variance of the noise, in that unit squared.
    parameters
        Every drawn parameter, one entry per image.
    """

    image: Images
    expected: Images
    variance: Images
    parameters: list[dict[str, float | list[float]]]


class Group(NamedTuple):
    """Images of one class, drawn together: their rows in what was asked for, parameters, noise-free rates, images."""

    rows: list[int]
    label: str
    parameters: Parameters
    rate: Images
    image: Images


def draw(
    recipe: Recipe, seed: int, samples: Sequence[Sample], dtype: torch.dtype = torch.float32, run: Runner = EAGER
) -> Drawn:
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
    run
        How the formulas are run.
    """
    image, expected, variance = (torch.empty(len(samples), *recipe.image_shape, dtype=dtype) for _ in range(3))
    drawn = Drawn(image, expected, variance, [{} for _ in samples])
    for group in draw_groups(recipe, seed, samples, dtype, run):
        observed = (group.image, *moments(recipe, group.rate, group.parameters))
        for target, value in zip((image, expected, variance), rescaled(recipe, *observed), strict=True):
            target[group.rows] = value.cpu()
        for position, row in enumerate(group.rows):
            drawn.parameters[row].update({name: column[position].tolist() for name, column in group.parameters.items()})
    return drawn


def draw_images(
    recipe: Recipe,
    seed: int,
    samples: Sequence[Sample],
    run: Runner = EAGER,
    into: Mapping[str, Images] | None = None,
) -> dict[str, Images]:
    """Return the named images as they are stored: `image` and, for a recipe of pairs, `low` and `truth`.

    Parameters
    ----------
    recipe, seed, samples, run
        As in `draw`.
    into
        Arrays of an earlier call that may be overwritten: new memory costs a tenth of the time.
    """
    shapes = {name: (len(samples), *shape) for name, shape in recipe.array_shapes().items()}
    if into is None or any(into[name].shape != shape for name, shape in shapes.items()):
        into = {name: torch.empty(shape) for name, shape in shapes.items()}
    arrays = dict(into)
    for group in draw_groups(recipe, seed, samples, torch.float32, run):
        for name, value in _stored(recipe, group).items():
            arrays[name].index_copy_(0, torch.tensor(group.rows), value.cpu())
    return arrays


def compile_formulas(recipe: Recipe, run: Runner) -> None:
    """Compile the formulas of every class now, and say so and how long it took."""
    note(f"compiling the formulas of {recipe.name}: one or two minutes, once on a machine")
    begin = time.monotonic()
    draw_images(recipe, 0, [Sample("train", label, 0) for label in recipe.labels], run)
    note(f"compiled in {time.monotonic() - begin:.0f} s")


def draw_groups(
    recipe: Recipe, seed: int, samples: Sequence[Sample], dtype: torch.dtype, run: Runner = EAGER
) -> Iterator[Group]:
    """Yield the named images in groups of one class and bounded size; compiled formulas get groups of one size."""
    size = group_size(recipe)
    by_label: dict[str, list[int]] = {}
    for row, sample in enumerate(samples):
        by_label.setdefault(sample.label, []).append(row)
    for label, rows in by_label.items():
        filled = rows + rows[-1:] * (-len(rows) % size if run.compiled else 0)
        streams = streams_of(seed, [samples[row] for row in filled])
        everything = draw_parameters(recipe, label, streams)
        for first in range(0, len(rows), size):
            part = slice(first, first + size)
            some, parameters = streams[part], {name: column[part] for name, column in everything.items()}
            rate = expected_images(recipe, label, parameters, dtype, run).expand(len(some.number), -1, -1, -1)
            image = observe(recipe, rate, parameters, some, run)
            n = len(rows[part])
            parameters = {name: column[:n] for name, column in parameters.items()}
            yield Group(rows[part], label, parameters, rate[:n], image[:n])


def group_size(recipe: Recipe) -> int:
    """Return how many images are drawn together: whole vectors of pixels, or one image.

    Compiled code computes the last few numbers of a tensor, which fill no vector, by other instructions, and an image
    must not depend on its place in a group.
    """
    channels, height, width = recipe.image_shape
    samples = channels * height * width * recipe.observation.supersampling**2
    step = LANES // math.gcd(LANES, height * width)
    if step * samples > 8 * GROUP_PIXELS:
        return 1
    most = max(step, GROUP_PIXELS // samples // step * step)
    one_class = -(-TOGETHER // len(recipe.labels))
    even = -(-one_class // -(-one_class // most))
    return -(-even // step) * step


def streams_of(seed: int, samples: Sequence[Sample]) -> Streams:
    """Return the random streams of images."""
    return Streams.of([_population_key(seed, s.split, s.label) for s in samples], [s.k for s in samples])


@lru_cache(maxsize=1024)
def _population_key(seed: int, split: str, label: str) -> int:
    return stable_key(seed, split, label)


def expected_images(
    recipe: Recipe, label: str, parameters: Parameters, dtype: torch.dtype = torch.float32, run: Runner = EAGER
) -> Images:
    """Return the noise-free images [electron/s] of given parameters, one where none varies: `draw` before the noise."""
    like = torch.empty(0, dtype=dtype)
    scene = scene_of(recipe, label, parameters, like)
    image = expose(scene, recipe.instruments(), recipe.n_pixels, like, recipe.observation.supersampling, run)
    return image.expand(max((len(column) for column in parameters.values()), default=1), -1, -1, -1)


def observe(recipe: Recipe, rate: Images, parameters: Parameters, streams: Streams, run: Runner = EAGER) -> Images:
    """Return the observed images of noise-free ones [electron/s]: noise law and scale, before they are rescaled."""
    observation = recipe.observation
    if observation.noise == "none":
        return rate * observation.scale
    sigma, seconds = _noise_inputs(recipe, rate, parameters)
    key = observation.noise, observation.scale, rate.shape
    noisy = run(_noisy, key)
    return noisy(observation.noise, observation.scale, rate.contiguous(), sigma, seconds, streams)


def _noisy(noise: str, scale: float, rate: Images, sigma: Tensor, seconds: Tensor, streams: Streams) -> Images:
    law, n = LAWS[noise], rate[0].numel()
    words = streams.words(n * law.n_words, NOISE_STREAM).reshape(-1, law.n_words, *rate.shape[1:])
    return law.observe(rate, sigma, seconds, words.movedim(1, 0)) * scale


def moments(recipe: Recipe, rate: Images, parameters: Parameters) -> tuple[Images, Images]:
    """Return the expected images and the variance of the noise, in the unit of what `observe` returns."""
    observation = recipe.observation
    if observation.noise == "none":
        return rate * observation.scale, torch.zeros_like(rate)
    expected, variance = LAWS[observation.noise].moments(rate, *_noise_inputs(recipe, rate, parameters))
    return expected * observation.scale, variance * observation.scale**2


def rescaled(recipe: Recipe, image: Images, expected: Images, variance: Images) -> tuple[Images, Images, Images]:
    """Return observed images as they are stored, and what is known of them in the same unit."""
    if recipe.observation.rescale == "none":
        return image, expected, variance
    low, high = image.amin((-2, -1), keepdim=True), image.amax((-2, -1), keepdim=True)
    width = torch.where(high > low, high - low, 1.0)
    return (image - low) / width, (expected - low) / width, variance / width**2


def _noise_inputs(recipe: Recipe, rate: Images, parameters: Parameters) -> tuple[Tensor, Tensor]:
    """Return background σ [electron/s] and exposure time [s], broadcastable to the images."""
    instruments = recipe.instruments()
    sigma = torch.tensor([instrument.background_sigma() for instrument in instruments], dtype=rate.dtype).to(rate)
    drawn = parameters.get("exposure_time")
    if drawn is None:
        fixed = [recipe.observation.seconds(instrument) for instrument in instruments]
        seconds = torch.tensor(fixed, dtype=rate.dtype)[None, :]
    else:
        seconds = torch.from_numpy(drawn)[:, None]
    exposure = seconds.to(rate).expand(len(rate), -1)
    return sigma[None, :, None, None], exposure[:, :, None, None].contiguous()


def _stored(recipe: Recipe, group: Group) -> dict[str, Images]:
    if recipe.pair is None and recipe.observation.rescale == "none":
        return {"image": group.image}
    image, truth, _ = rescaled(recipe, group.image, *moments(recipe, group.rate, group.parameters))
    if recipe.pair is None:
        return {"image": image}
    return {"image": image, "low": recipe.pair(image), "truth": truth}

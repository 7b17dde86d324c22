"""Images of any size through a run of the task `super_resolve`: in the run's unit and back, holes, σ, and χ²."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor, nn

from deeplense.core.errors import DeepLenseError, InvalidDataset, InvalidOption
from deeplense.data.fits import FitsImage
from deeplense.metrics.resolution import redegradation_chi_square
from deeplense.tasks.super_resolve import SuperResolve
from deeplense.training.familiar import statistics, unfamiliar
from deeplense.training.loop import averaged
from deeplense.training.trained import TrainedModel
from deeplense.upscalers.resolver import SuperResolver
from deeplense.upscalers.tiles import filled, upscale_tiled

Rescale = Literal["none", "min_max"]
LEAST_SIDE = 8  # coarse pixels: smaller ones are all edge
AT_ONCE = 1 << 18  # coarse pixels of a batch; a larger image goes in tiles
HIGHEST_CHI2 = 1.5  # per pixel, of an estimate of the truth that agrees with what was observed
LEAST_CHI2 = 0.1  # below it, an estimate of the truth has most of the observed noise in it
BEYOND = 5.0  # standard deviations of χ² that are added for few pixels
LOWEST, HIGHEST = "lowest pixel", "highest pixel"  # ranges in a run's record


@dataclass(frozen=True)
class Upscaled:
    """What a run makes of one image, in the unit of that image.

    Parameters
    ----------
    pixels, sigma
        The estimate, and the standard deviation of its error.
    mask
        True for pixels in or beside a hole.
    chi2
        Mean of (observed − estimate made coarse)² / variance over sound pixels; None where the degradation or the noise
        are not known.
    consistent
        Whether that is at most `HIGHEST_CHI2`, and `BEYOND` standard deviations of χ² of so many pixels; else the
        estimate contradicts what was observed. Below `LEAST_CHI2` it is consistent, but has the observed noise
        in it. None where it says nothing: χ² is not known, or the estimator is "fidelity", for which it is near 0.
    flux_ratio
        Sum of the estimate over factor² times that of the image, holes filled; None where that is 0.
    masked
        Coarse pixels without a value.
    rescaled
        Whether the image was brought to the scale of the training images.
    unlike
        What sets it apart from those of training even so; None for an image like them.
    """

    pixels: Float32[np.ndarray, "C H W"]
    sigma: Float32[np.ndarray, "C H W"]
    mask: Bool[np.ndarray, "C H W"]
    chi2: float | None
    consistent: bool | None
    flux_ratio: float | None
    masked: int
    rescaled: bool
    unlike: str | None


@dataclass(frozen=True)
class _Prepared:
    """An image in the unit of the run: (pixels − zero) · gain + base, holes filled."""

    image: Float[Tensor, "C h w"]
    holes: Bool[Tensor, "C h w"]
    mask: Bool[Tensor, "C H W"]
    zero: float
    gain: float
    base: float
    rescaled: bool
    unlike: str | None


class Upscaling:
    """A run that makes images finer.

    Parameters
    ----------
    model
        A run of the task `super_resolve`.
    rescale
        "min_max" brings every image linearly to the smallest and largest pixel value that training images have in the
        middle (those of a recipe that rescales run from about 0 to 1), and the answer back; "none" takes values as
        they are. None is "min_max" for images whose smallest or largest pixel is not like those of training, if the
        run has learnt images that were scaled to [0, 1]; else "none".
    batch_size
        Most images at a time.

    Attributes
    ----------
    factor
        Fine pixels per coarse one, along each axis.

    Raises
    ------
    InvalidOption
        When the run's task is another.
    """

    def __init__(self, model: TrainedModel, rescale: Rescale | None, batch_size: int) -> None:
        if not isinstance(model.task, SuperResolve) or not isinstance(model.network, SuperResolver):
            raise InvalidOption(
                f"the run {model.run.id}, which makes no image finer", "one of the task super_resolve", "name another"
            )
        self.model, self.task, self.network = model, model.task, model.network
        self.rescale, self.batch_size = rescale, batch_size
        self.factor, self.bands = self.task.degradation.factor, self.network.upscaler.channels

    def __call__(self, images: Sequence[FitsImage]) -> list[Upscaled | str]:
        """Return what is made of each image, or why there is nothing; images of one size are worked on together."""
        results: list[Upscaled | str] = ["not worked on"] * len(images)
        alike: dict[tuple[int, ...], list[tuple[int, _Prepared]]] = {}
        for place, image in enumerate(images):
            try:
                prepared = self._prepared(image)
            except DeepLenseError as error:
                results[place] = f"{error.found}; expected {error.expected}"
            else:
                alike.setdefault(tuple(prepared.image.shape), []).append((place, prepared))
        for (_, h, w), members in alike.items():
            step = max(1, min(self.batch_size, AT_ONCE // (h * w)))
            for first in range(0, len(members), step):
                part = members[first : first + step]
                outputs = self._outputs(torch.stack([prepared.image for _, prepared in part]))
                for (place, prepared), output in zip(part, outputs, strict=True):
                    results[place] = self._finished(images[place], prepared, output)
        return results

    def _prepared(self, given: FitsImage) -> _Prepared:
        bands, *sides = given.pixels.shape
        if bands != self.bands:
            wanted = f"{self.bands}, as in training; many images in one array are [N, C, H, W]"
            raise InvalidDataset(f"{bands} bands", wanted, "choose a run of these bands")
        if min(sides) < LEAST_SIDE:
            raise InvalidDataset(f"{sides[0]} x {sides[1]} pixels", f"at least {LEAST_SIDE} a side", "cut it larger")
        holes = torch.from_numpy(given.mask)
        image, mask = filled(torch.from_numpy(given.pixels), holes, self.factor)
        lowest, highest = float(image.min()), float(image.max())
        if lowest == highest:
            raise InvalidDataset(f"every pixel is {lowest:g}", "an image with something in it", "leave it out")
        zero, gain, base = 0.0, 1.0, 0.0
        change = self.rescale == "min_max" or (self.rescale is None and self._asks_for_scale(image))
        if change:
            base, top = self._middle()
            zero, gain = lowest, (top - base) / (highest - lowest)
            image = (image - zero) * gain + base
        return _Prepared(image, holes, mask, zero, gain, base, change, self.model.unfamiliar(image[None].numpy())[0])

    def _asks_for_scale(self, image: Float[Tensor, "C h w"]) -> bool:
        """Whether training images were rescaled, and the extremes of this one are not like theirs."""
        if not self._learnt_rescaled():
            return False
        known = {name: self._range(name) for name in (LOWEST, HIGHEST)}
        return unfamiliar(statistics(image[None], self.network), known)[0] is not None

    def _middle(self) -> tuple[float, float]:
        """Return the extreme pixel values of an ordinary training image."""
        low, high = (sum(self._range(name)) / 2 for name in (LOWEST, HIGHEST))
        return (low, high) if low < high else (0.0, 1.0)

    def _range(self, name: str) -> tuple[float, float]:
        """Return the range of a number over training images."""
        try:
            low, high = map(float, self.model.config["familiar"][name])
        except (KeyError, TypeError, ValueError) as error:
            raise self.model.run.odd_config(f"no range of the {name} in 'familiar'") from error
        return low, high

    def _learnt_rescaled(self) -> bool:
        """Whether each fine training image was scaled to [0, 1]."""
        dataset = self.model.config.get("dataset")
        return isinstance(dataset, dict) and dataset.get("rescale") == "min_max"

    @torch.inference_mode()
    def _outputs(self, images: Float[Tensor, "B C h w"]) -> Float[Tensor, "B 2C H W"]:
        model = self.model
        if len(images) > 1 or images[0, 0].numel() <= AT_ONCE:
            on_device = model.normalisation(images.to(model.accelerator.device))
            return averaged(self.task, model.network, (on_device,), model.symmetry).float().cpu()
        # the copies of the whole image are cut, not the pieces copied: all pieces then start on one grid
        tiled = _Tiled(self.network, model.accelerator.device)
        return averaged(self.task, tiled, (model.normalisation(images),), model.symmetry)

    def _finished(self, given: FitsImage, prepared: _Prepared, output: Float[Tensor, "2C H W"]) -> Upscaled | str:
        estimate, log_sigma = output.chunk(2)
        pixels = (estimate - prepared.base) / prepared.gain + prepared.zero
        sigma = log_sigma.exp() / prepared.gain
        if not bool((pixels.isfinite() & sigma.isfinite()).all()):
            return "the network's answer is not a number; expected pixel values like those of the training images"
        coarse = (prepared.image - prepared.base) / prepared.gain + prepared.zero
        total = self.factor**2 * float(coarse.double().sum())
        chi2, n_counted = self._chi2(given, prepared, estimate)
        consistent = None
        if chi2 is not None and self.task.estimator == "truth":
            consistent = chi2 <= HIGHEST_CHI2 + BEYOND * (2 / n_counted) ** 0.5
        return Upscaled(
            pixels=pixels.numpy(),
            sigma=sigma.numpy(),
            mask=prepared.mask.numpy(),
            chi2=chi2,
            consistent=consistent,
            flux_ratio=float(pixels.double().sum()) / total if total else None,
            masked=int(prepared.holes.sum()),
            rescaled=prepared.rescaled,
            unlike=prepared.unlike,
        )

    def _chi2(
        self, given: FitsImage, prepared: _Prepared, estimate: Float[Tensor, "C H W"]
    ) -> tuple[float | None, int]:
        """Return χ² per pixel by the noise map of the image, else by the noise law of the run; and of how many."""
        if not self.task.is_known or (given.sigma is None and self.task.noise is None):
            return None, 0
        again = self.task.degradation(estimate[None])
        if given.sigma is not None:
            # no copy of a bad value: what is not a positive number is not counted
            variance = (torch.from_numpy(given.sigma).double() * prepared.gain).square()[None]
        else:
            assert self.task.noise is not None  # asked above
            variance = self.task.noise.variance(again)
        near_holes = prepared.mask[:, :: self.factor, :: self.factor]
        counted = (variance > 0) & variance.isfinite() & ~near_holes
        n = int(counted.sum())
        return (float(redegradation_chi_square(prepared.image[None], again, variance, counted)), n) if n else (None, 0)


class _Tiled(nn.Module):
    """A network that sees one large image tile by tile."""

    def __init__(self, network: SuperResolver, device: torch.device) -> None:
        super().__init__()
        self.network, self.device = network, device

    def forward(self, low: Float[Tensor, "1 C h w"]) -> Float[Tensor, "1 2C H W"]:
        """Return what the network would of the whole image; tiles alone are on the device."""
        upscaler, bands = self.network.upscaler, low.shape[1]
        return upscale_tiled(
            lambda twice: self.network(twice[:, :bands].to(self.device)).float(),
            torch.cat([low, low], 1),  # an answer is two images, and tiles keep the number of bands
            upscaler.factor,
            self.network.reach,
            upscaler.alignment,
        )

"""Fit the smooth lens to images: robust Gauss–Newton, batched, from the nearest of many drawn lenses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from deeplense.inverse.smooth_lens import EXPOSURE, RESCALED, SOURCE_PLACE, Images, SmoothLens, Theta

TURN = 3.0  # residuals beyond so many σ count linearly, not squared (Huber 1964): substructure does not pull the fit
DAMPING = 1e-3  # of the first step, relative to the curvature (Marquardt 1963)
LARGEST_STEP = 0.2  # of the prior's range
COARSE = 25  # pixels a side in which the start is sought, about
SHORTEST = 1e-12  # of a coarse image less its mean: an image without contrast has a scale, too


class Fit(NamedTuple):
    """Smooth lenses fitted to images.

    Attributes
    ----------
    theta
        Parameters, [B, P], in the order of the lens model's names.
    residual
        (image − mean) / σ, [B, C, H, W]: standard normal where the lens is smooth.
    mean
        The fitted images, [B, C, H, W].
    sigma
        Expected noise, [B, C, H, W].
    shift
        Derivatives of the mean by the source's place, x and y, in σ per arcsec, [B, 2, C, H, W]: what a small
        deflection would change. They are those of the last step but one, and 0 where the source has one place.
    curvature
        Fisher information of the parameters, [B, P, P]: its inverse is their covariance.
    """

    theta: Theta
    residual: Images
    mean: Images
    sigma: Images
    shift: Float[Tensor, "B 2 C H W"]
    curvature: Float[Tensor, "B P P"]


class Slope(NamedTuple):
    """Cost to be minimised, its gradient, and the curvature of the squared residuals."""

    cost: Float[Tensor, " B"]
    gradient: Theta
    curvature: Float[Tensor, "B P P"]


class Point(NamedTuple):
    """A point of the fit: parameters, what they predict, and the slope there."""

    theta: Theta
    mean: Images
    variance: Images
    shift: Float[Tensor, "B 2 C H W"]
    cost: Float[Tensor, " B"]
    gradient: Theta
    curvature: Float[Tensor, "B P P"]


def fit(lens: SmoothLens, images: Images, start: Theta, steps: int) -> Fit:
    """Return the smooth lenses nearest to images.

    Each step evaluates images and analytic derivatives once; a step that makes the fit worse is taken back and tried
    again, shorter; the last one is taken back only. The result is differentiable in `start` and in the images.

    Parameters
    ----------
    lens
        The lens model.
    images
        Observed images in the recipe's unit.
    start
        Where to begin.
    steps
        Gauss–Newton steps, at least one.
    """
    best: Point | None = None
    theta, damping = start, torch.full_like(start[:, 0], DAMPING)
    for _ in range(steps):
        mean, variance, jacobian = lens.predict(theta, True)
        slope = lens.run(_slope)(images, mean, variance, jacobian, *_prior(lens, theta))
        found = Point(theta, mean, variance, _shift(lens, jacobian), *slope)
        if best is None:
            best = found
        else:
            better = found.cost < best.cost
            best = Point(*_either(better, found, best))
            damping = torch.where(better, damping / 4, damping * 16)
        theta = _stepped(lens, best, damping)
    assert best is not None
    mean, variance, _ = lens.predict(theta)
    better = lens.run(_cost)(images, mean, variance, *_prior(lens, theta)) < best.cost
    theta, mean, variance = _either(better, (theta, mean, variance), best[:3])
    sigma = torch.sqrt(variance)
    return Fit(theta, (images - mean) / sigma, mean, sigma, best.shift / sigma[:, None], best.curvature)


def _cost(images: Images, mean: Images, variance: Images, gradient: Theta, curvature: Tensor) -> Float[Tensor, " B"]:
    """Return −2 log of the robust likelihood, and of the prior, whose gradient and curvature are given."""
    size = ((images - mean) * torch.rsqrt(variance)).abs()
    squares = torch.where(size < TURN, size**2, 2 * TURN * size - TURN**2) + torch.log(variance)
    prior = gradient**2 / curvature.diagonal(dim1=1, dim2=2).clamp(min=1e-30)
    return squares.sum((1, 2, 3)) + prior.sum(1)


def _slope(
    images: Images, mean: Images, variance: Images, jacobian: list[Images], gradient: Theta, curvature: Tensor
) -> Slope:
    """Return cost, gradient and curvature of the robust likelihood, and of the prior, whose two are given."""
    cost = _cost(images, mean, variance, gradient, curvature)
    size = ((images - mean) * torch.rsqrt(variance)).abs()
    weight = torch.clamp(TURN / size.clamp(min=1e-6), max=1) / variance
    pull = [(derivative * weight * (images - mean)).sum((1, 2, 3)) for derivative in jacobian]
    products = {
        (p, q): (jacobian[p] * weight * jacobian[q]).sum((1, 2, 3)) for p in range(len(jacobian)) for q in range(p + 1)
    }
    rows = [torch.stack([products[max(p, q), min(p, q)] for q in range(len(pull))], 1) for p in range(len(pull))]
    return Slope(cost, torch.stack(pull, 1) + gradient, torch.stack(rows, 1) + curvature)


def _shift(lens: SmoothLens, jacobian: list[Images]) -> Float[Tensor, "B 2 C H W"]:
    known = dict(zip(lens.names, jacobian, strict=True))
    return torch.stack([known.get(name, torch.zeros_like(jacobian[0])) for name in SOURCE_PLACE], 1)


def _prior(lens: SmoothLens, theta: Theta) -> tuple[Theta, Tensor]:
    """Return gradient and curvature of the normal priors."""
    precision = lens.prior_sigma.to(theta) ** -2
    return (lens.prior_mean.to(theta) - theta) * precision, torch.diag_embed(precision.expand_as(theta))


def _stepped(lens: SmoothLens, point: Point, damping: Tensor) -> Theta:
    """Return the parameters after a damped Gauss–Newton step, within the bounds of the priors."""
    theta, diagonal = point.theta, torch.diagonal(point.curvature, dim1=1, dim2=2)
    damped = point.curvature + torch.diag_embed(diagonal * damping[:, None] + 1e-12)
    scale = torch.rsqrt(torch.diagonal(damped, dim1=1, dim2=2).clamp(min=1e-30))  # parameters differ in size
    scaled = scale[:, :, None] * damped * scale[:, None, :]
    step = scale * torch.linalg.solve(scaled, scale * point.gradient)
    low, high = lens.low.to(theta), lens.high.to(theta)
    most = torch.where(torch.isfinite(high - low), LARGEST_STEP * (high - low), 1.0)
    moved: Theta = (theta + step.clamp(-most, most)).clamp(low, high)
    return moved


def _either(better: Tensor, new: Sequence[Tensor], old: Sequence[Tensor]) -> Iterator[Tensor]:
    """Yield tensors with the new images' numbers where these are better."""
    for one, other in zip(new, old, strict=True):
        yield torch.where(better.reshape(-1, *(1,) * (one.ndim - 1)), one, other)


class Bank:
    """Many smooth lenses of a recipe, to find the start of a fit: the one whose coarse image correlates best.

    Parameters
    ----------
    lens
        The lens model.
    size
        How many.

    Attributes
    ----------
    theta, coarse
        Their parameters, [N, P], and their images, binned to about 25 pixels a side and flattened, [N, M].
    factor
        Pixels a side of a bin.
    """

    def __init__(self, lens: SmoothLens, size: int) -> None:
        self.lens = lens
        self.theta = lens.draw(size)
        self.factor = max(1, lens.recipe.n_pixels // COARSE)
        self.coarse = torch.cat([coarse(lens.predict(part).mean, self.factor) for part in torch.split(self.theta, 64)])
        centred = self.coarse - self.coarse.mean(1, keepdim=True)
        self.unit = centred / _length(self.coarse)
        self.scale_free = self.relative(self.theta, self.coarse)

    def start(self, images: Images) -> Theta:
        """Return the parameters of the nearest lens, at the scale and level of the image."""
        small = coarse(images, self.factor)
        self.unit, self.scale_free = self.unit.to(small), self.scale_free.to(small)  # they stay where images come from
        nearest = (small @ self.unit.T).argmax(1)
        return self.absolute(self.scale_free[nearest], small)

    def relative(self, theta: Theta, small: Float[Tensor, "B M"]) -> Theta:
        """Return parameters that do not depend on exposure, or on scale and level of the pixel values.

        With ℓ the length of the coarse image less its mean m: log t becomes log t − log ℓ, the logarithm of the width w
        becomes log w + log ℓ, and the lowest value v becomes v + m w.
        """
        return self._converted(theta, small, 1.0)

    def absolute(self, theta: Theta, small: Float[Tensor, "B M"]) -> Theta:
        """Return what `relative` came from, within the bounds of the priors."""
        theta = self._converted(theta, small, -1.0)
        return theta.clamp(self.lens.low.to(theta), self.lens.high.to(theta))

    def _converted(self, theta: Theta, small: Float[Tensor, "B M"], sign: float) -> Theta:
        columns, log_length = dict(zip(self.lens.names, theta.unbind(1), strict=True)), torch.log(_length(small))[:, 0]
        level, log_width = small.mean(1), RESCALED[1]
        if EXPOSURE in columns:
            columns[EXPOSURE] = columns[EXPOSURE] - sign * log_length
        if log_width in columns:
            other = columns[log_width] + sign * log_length
            width = torch.exp(columns[log_width] if sign > 0 else other)
            columns[RESCALED[0]] = columns[RESCALED[0]] + sign * level * width
            columns[log_width] = other
        return torch.stack(list(columns.values()), 1)


def coarse(images: Images, factor: int) -> Float[Tensor, "B M"]:
    """Return binned images, flattened."""
    return torch.nn.functional.avg_pool2d(images, factor).flatten(1)


def _length(small: Float[Tensor, "B M"]) -> Float[Tensor, "B 1"]:
    length: Tensor = torch.linalg.vector_norm(small - small.mean(1, keepdim=True), dim=1, keepdim=True)
    return length.clamp(min=SHORTEST)

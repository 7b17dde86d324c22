"""Gravitational imaging: the mass, place by place, that would explain what the smooth lens leaves of an image."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Complex, Float
from torch import Tensor
from torch.nn.functional import avg_pool2d

from deeplense.inverse.fit import Fit

CELL = 0.1  # arcsec, about
KAPPA_RMS = 0.1  # of the prior in a cell of that size
STEPS = 10  # of conjugate gradients: the map of a typical image then stands still
SOFTENING = 0.5  # cells
TINY = 1e-30

Maps = Float[Tensor, "B h w"]


class ConvergenceMap:
    """The most probable convergence of substructure, to first order in it, given the fit of the smooth lens.

    The mass of a cell, θ_E² = t, deflects by α = t (θ − θ_c) / |θ − θ_c|², which moves the light of the source: it
    changes the image by the derivative of its mean by the source's place, times α. With G these changes, in σ, and a
    normal prior of the same variance everywhere, t minimises |residual − G t|² + λ |t|². The deflection is a
    convolution and taken as constant within a cell, so conjugate gradients need six Fourier transforms a step.

    Parameters
    ----------
    n_pixels, pixel_scale
        Side of the images; of a pixel [arcsec].
    deflection_scale
        By which the recipe multiplies every deflection.

    References
    ----------
    Koopmans 2005, MNRAS 363, 1136; Vegetti & Koopmans 2009, MNRAS 392, 945.
    """

    def __init__(self, n_pixels: int, pixel_scale: float, deflection_scale: float = 1.0) -> None:
        self.factor = max(1, round(CELL / pixel_scale))
        self.cell, self.side = self.factor * pixel_scale, n_pixels // self.factor
        # equal power per area: the smaller a cell, the more its convergence varies
        self.precision = (math.pi / (KAPPA_RMS * CELL * self.cell)) ** 2
        offset = torch.fft.fftfreq(2 * self.side, 1 / (2 * self.side), dtype=torch.float64)
        y, x = torch.meshgrid(offset, offset, indexing="ij")
        alpha = deflection_scale / self.cell * torch.stack([x, y]) / (x**2 + y**2 + SOFTENING**2)
        self.kernel: Complex[Tensor, "2 F G"] = torch.fft.rfft2(alpha)

    def __call__(self, found: Fit) -> Maps:
        """Return the convergence in cells."""
        # in single precision the result of few steps depends now and then, in its third digit, on the images beside it
        single = found.shift.device.type == "mps"
        shift, residual = (t.float() if single else t.double() for t in (found.shift, found.residual))
        self.kernel = self.kernel.to(shift.device, torch.complex64 if single else torch.complex128)
        x, y = shift.unbind(1)
        xx, xy, yy = self._summed(x * x), self._summed(x * y), self._summed(y * y)

        def curvature(t: Maps) -> Maps:
            alpha_x, alpha_y = self._deflection(t)
            return self._pull(xx * alpha_x + xy * alpha_y, xy * alpha_x + yy * alpha_y) + self.precision * t

        pull = self._pull(self._summed(x * residual), self._summed(y * residual))
        return math.pi / self.cell**2 * _conjugate_gradients(curvature, pull).to(found.residual)

    def _summed(self, images: Float[Tensor, "B C H W"]) -> Maps:
        """Return sums over bands and over the pixels of each cell."""
        return avg_pool2d(images.sum(1), self.factor) * self.factor**2

    def _deflection(self, t: Maps) -> tuple[Maps, Maps]:
        """Return what masses do to the light in each cell, x and y [arcsec]."""
        both = self._cut(self._spectrum(t)[:, None] * self.kernel)
        return both[:, 0], both[:, 1]

    def _pull(self, x: Maps, y: Maps) -> Maps:
        """Return how forces on the light of each cell add up for every mass: the adjoint of the deflection."""
        return self._cut((self._spectrum(torch.stack([x, y], 1)) * self.kernel.conj()).sum(1))

    def _spectrum(self, maps: Float[Tensor, "*B h w"]) -> Complex[Tensor, "*B F G"]:
        spectrum: Tensor = torch.fft.rfft2(maps, s=(2 * self.side, 2 * self.side))
        return spectrum

    def _cut(self, spectrum: Complex[Tensor, "*B F G"]) -> Float[Tensor, "*B h w"]:
        maps: Tensor = torch.fft.irfft2(spectrum, s=(2 * self.side, 2 * self.side))
        return maps[..., : self.side, : self.side]


def _conjugate_gradients(matrix: Callable[[Maps], Maps], right: Maps) -> Maps:
    """Return x with A x = b, nearly, after a few steps; A is symmetric and positive (Hestenes & Stiefel 1952)."""
    x, remainder, direction = torch.zeros_like(right), right, right
    length = _product(right, right)
    for _ in range(STEPS):
        ahead = matrix(direction)
        step = length / _product(direction, ahead).clamp(min=TINY)
        x, remainder = x + step * direction, remainder - step * ahead
        before, length = length, _product(remainder, remainder)
        direction = remainder + length / before.clamp(min=TINY) * direction
    return x


def _product(one: Maps, other: Maps) -> Float[Tensor, "B 1 1"]:
    return (one * other).sum((1, 2), keepdim=True)

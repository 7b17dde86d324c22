"""Light profiles: surface brightness, angles in arcsec."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from deeplense.sky.ellipticity import Value, polar_angle

MIN_RADIUS = 1e-3


class LightProfile(ABC):
    """Something that shines."""

    @abstractmethod
    def surface_brightness(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the surface brightness [flux / arcsec²] at x, y [arcsec]; the amplitude may have a band axis."""


@dataclass(frozen=True)
class Sersic(LightProfile):
    """Elliptical Sérsic profile with b_n = 1.9992 n − 0.3271 (Capaccioli 1989), as lenstronomy's SERSIC_ELLIPSE has it.

    Parameters
    ----------
    amplitude
        Surface brightness at R_sersic [flux / arcsec²].
    R_sersic
        Half-light radius [arcsec].
    n_sersic
        Sérsic index.
    e1, e2
        Ellipticity, applied as a matrix of determinant one (flux does not depend on it).
    center_x, center_y
        Position [arcsec].
    """

    amplitude: Value
    R_sersic: Value
    n_sersic: Value = 1.0
    e1: Value = 0.0
    e2: Value = 0.0
    center_x: Value = 0.0
    center_y: Value = 0.0

    def surface_brightness(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the surface brightness [flux / arcsec²] at x, y [arcsec]; flat within 0.001 arcsec of the centre."""
        dx, dy = x - self.center_x, y - self.center_y
        norm2 = 1 - self.e1**2 - self.e2**2
        u, v = (1 - self.e1) * dx - self.e2 * dy, (1 + self.e1) * dy - self.e2 * dx
        # log R, not R: one pow becomes one exp, and the gradient is finite at the centre
        log_radius = torch.log(((u**2 + v**2) / norm2).clamp(min=MIN_RADIUS**2)) / 2
        log_scale = math.log(self.R_sersic) if not isinstance(self.R_sersic, Tensor) else torch.log(self.R_sersic)
        exponent = torch.exp((log_radius - log_scale) / self.n_sersic) - 1
        return self.amplitude * torch.exp(-b_n(self.n_sersic) * exponent)


@dataclass(frozen=True)
class PixelSource(LightProfile):
    """A picture of a galaxy as a source: bilinear between the centres of its pixels, zero outside.

    The picture is normalised to unit sum. Bilinear interpolation, which goes to zero over one pixel beyond the edge,
    conserves the flux exactly.

    Parameters
    ----------
    image
        Surface brightness on a grid, rows are y without a flip: [h, w], or [N, h, w] for N images with a picture each,
        whose results have shape [N, 1, H, W]. Its sum is positive.
    pixel_scale
        Side of a pixel in the source plane [arcsec].
    flux
        Flux of the source.
    angle
        Angle by which the picture is turned counter-clockwise [rad].
    center_x, center_y
        Position of the middle of the picture [arcsec].
    """

    image: Float[Tensor, "h w"] | Float[Tensor, "N h w"]
    pixel_scale: Value
    flux: Value = 1.0
    angle: Value = 0.0
    center_x: Value = 0.0
    center_y: Value = 0.0

    def surface_brightness(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the surface brightness [flux / arcsec²] at x, y [arcsec]."""
        dx, dy = x - self.center_x, y - self.center_y
        angle = torch.as_tensor(self.angle, dtype=dx.dtype, device=dx.device)
        cos, sin = torch.cos(angle), torch.sin(angle)
        picture = self.image / self.image.sum((-2, -1), keepdim=True)
        rows, columns = picture.shape[-2:]
        column = (cos * dx + sin * dy) / self.pixel_scale + (columns + 1) / 2  # one pixel of zeros on every side
        row = (cos * dy - sin * dx) / self.pixel_scale + (rows + 1) / 2
        value = _bilinear(torch.nn.functional.pad(picture, (1, 1, 1, 1)), row, column)
        return self.flux / self.pixel_scale**2 * value


@dataclass(frozen=True)
class Spiral(LightProfile):
    """An exponential disc with logarithmic spiral arms.

    I = amplitude · exp(−R / R_scale) · (1 + contrast · (1 − exp(−R² / R_scale²)) · cos(m ϑ − m cot(pitch) ln(R /
    R_scale) − phase)) with R, ϑ in the plane of the disc, stretched as a Sérsic profile is; the disc is that of Freeman
    (1970), the arms have the shape of Binney & Tremaine (2008), § 6.1.3. They fade towards the centre, where they would
    wind without end, and carry no flux on the whole, which is 2π · amplitude · R_scale².

    Parameters
    ----------
    amplitude
        Central surface brightness [flux / arcsec²].
    R_scale
        Scale length of the disc [arcsec]; half of the light lies within 1.678 of it.
    e1, e2
        Ellipticity.
    center_x, center_y
        Position [arcsec].
    contrast
        Strength of the arms, from 0 to 1.
    pitch
        Angle between an arm and the circle through it [rad], positive: outwards is counter-clockwise.
    phase
        Phase of the arms [rad]; m times the angle by which they are turned.
    arms
        Number of arms m.
    """

    amplitude: Value
    R_scale: Value
    e1: Value = 0.0
    e2: Value = 0.0
    center_x: Value = 0.0
    center_y: Value = 0.0
    contrast: Value = 0.5
    pitch: Value = 0.35
    phase: Value = 0.0
    arms: int = 2

    def surface_brightness(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the surface brightness [flux / arcsec²] at x, y [arcsec]."""
        u, v = _stretched(x - self.center_x, y - self.center_y, self.e1, self.e2)
        radius2 = (u**2 + v**2 + MIN_RADIUS**2) / self.R_scale**2
        azimuth = polar_angle(v, torch.where((u == 0) & (v == 0), MIN_RADIUS, u))
        winding = torch.log(radius2) / 2 / torch.tan(torch.as_tensor(self.pitch, dtype=u.dtype, device=u.device))
        arms = -torch.expm1(-radius2) * torch.cos(self.arms * (azimuth - winding) - self.phase)
        return self.amplitude * torch.exp(-torch.sqrt(radius2)) * (1 + self.contrast * arms)


@dataclass(frozen=True)
class Ring(LightProfile):
    """A ring galaxy: an elliptical annulus of Gaussian cross-section, I = amplitude · exp(−(R − radius)² / (2 width²)).

    Parameters
    ----------
    amplitude
        Surface brightness on the ring [flux / arcsec²].
    radius
        Radius of the ring [arcsec].
    width
        Standard deviation of its cross-section [arcsec].
    e1, e2
        Ellipticity, applied as in `Sersic`.
    center_x, center_y
        Position [arcsec].
    """

    amplitude: Value
    radius: Value
    width: Value
    e1: Value = 0.0
    e2: Value = 0.0
    center_x: Value = 0.0
    center_y: Value = 0.0

    def surface_brightness(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the surface brightness [flux / arcsec²] at x, y [arcsec]."""
        u, v = _stretched(x - self.center_x, y - self.center_y, self.e1, self.e2)
        radius = torch.sqrt((u**2 + v**2).clamp(min=MIN_RADIUS**2))
        return self.amplitude * torch.exp(-(((radius - self.radius) / self.width) ** 2) / 2)


def ring_flux(radius: float, width: float) -> float:
    """Return the flux of a ring at unit amplitude: ∫ 2π R exp(−(R − radius)² / (2 width²)) dR."""
    z = radius / (math.sqrt(2) * width)
    return 2 * math.pi * width * (width * math.exp(-(z**2)) + radius * math.sqrt(math.pi / 2) * math.erfc(-z))


def _stretched(dx: Tensor, dy: Tensor, e1: Value, e2: Value) -> tuple[Tensor, Tensor]:
    """Return the position on the circle that ellipticity made an ellipse; the map has determinant one."""
    norm = (1 - e1**2 - e2**2) ** 0.5
    return ((1 - e1) * dx - e2 * dy) / norm, ((1 + e1) * dy - e2 * dx) / norm


def _bilinear(padded: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Return pictures with a border of zeros at fractional rows and columns; the border's value outside."""
    height, width = padded.shape[-2:]
    row, column = row.clamp(0, height - 1), column.clamp(0, width - 1)
    top, left = row.detach().floor().clamp(max=height - 2), column.detach().floor().clamp(max=width - 2)
    below, right = row - top, column - left
    start = (top * width + left).long()
    if padded.ndim == 3:
        start = start + (torch.arange(len(padded), device=start.device) * height * width)[:, None, None, None]
    flat = padded.flatten()
    upper = flat[start] * (1 - right) + flat[start + 1] * right
    lower = flat[start + width] * (1 - right) + flat[start + width + 1] * right
    return upper * (1 - below) + lower * below


def b_n(n_sersic: Value) -> Value:
    """Return the constant that makes R_sersic the half-light radius (Capaccioli 1989).

    It is 0.02 too small at n = 0.5, 0.006 at n = 1 and right to 0.003 for 2 < n < 10.
    """
    return 1.9992 * n_sersic - 0.3271


def sersic_flux(R_sersic: float, n_sersic: float) -> float:
    """Return the flux at unit amplitude: 2π n R² e^b b^(−2n) Γ(2n) (Graham & Driver 2005, eq. 2)."""
    b = float(b_n(n_sersic))
    return float(2 * math.pi * n_sersic * R_sersic**2 * math.exp(b) * b ** (-2 * n_sersic) * math.gamma(2 * n_sersic))

"""A scene: masses in front of sources, light in front of both, and the ray shooting between them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from deeplense.sky.light import LightProfile
from deeplense.sky.mass import MassProfile


@dataclass(frozen=True)
class Scene:
    """A batch of lensed sources.

    Parameters
    ----------
    mass
        Every mass profile of the lens plane.
    sources
        Light of the source plane.
    deflection_scale
        Factor on the summed deflection: 1 when the profiles already carry D_ls / D_s.
    foreground
        Light that is not lensed: the lens galaxy, companions, contaminants.
    """

    mass: tuple[MassProfile, ...]
    sources: tuple[LightProfile, ...]
    deflection_scale: float = 1.0
    foreground: tuple[LightProfile, ...] = ()

    def deflection(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the summed deflection Σ α [arcsec] at x, y [arcsec]."""
        if not self.mass:
            return torch.zeros_like(x + y), torch.zeros_like(x + y)
        alpha_x, alpha_y = zip(*(profile.deflection(x, y) for profile in self.mass), strict=True)
        return sum(alpha_x[1:], alpha_x[0]), sum(alpha_y[1:], alpha_y[0])

    def shoot(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the source-plane positions β = θ − f Σ α(θ) [arcsec] of the image-plane positions x, y [arcsec]."""
        alpha_x, alpha_y = self.deflection(x, y)
        return x - self.deflection_scale * alpha_x, y - self.deflection_scale * alpha_y

    def surface_brightness(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the surface brightness [flux / arcsec²] at x, y [arcsec]."""
        parts = [light.surface_brightness(x, y) for light in self.foreground]
        if self.sources:
            beta = self.shoot(x, y)
            parts += [source.surface_brightness(*beta) for source in self.sources]
        return sum(parts[1:], parts[0]) if parts else torch.zeros_like(x + y)

"""A scene: masses in front of a source, and the ray shooting between them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from deeplense.sky.light import Sersic
from deeplense.sky.mass import MassProfile


@dataclass(frozen=True)
class Scene:
    """A batch of lensed sources.

    Parameters
    ----------
    mass
        Every mass profile of the lens plane.
    source
        Light of the source plane.
    deflection_scale
        Factor on the summed deflection: 1 when the profiles already carry D_ls / D_s.
    """

    mass: tuple[MassProfile, ...]
    source: Sersic
    deflection_scale: float = 1.0

    def shoot(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the source-plane positions β = θ − f Σ α(θ) [arcsec] of the image-plane positions x, y [arcsec]."""
        alpha_x, alpha_y = zip(*(profile.deflection(x, y) for profile in self.mass), strict=True)
        return x - self.deflection_scale * sum(alpha_x), y - self.deflection_scale * sum(alpha_y)

    def surface_brightness(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the lensed surface brightness [flux / arcsec²] at x, y [arcsec]."""
        return self.source.surface_brightness(*self.shoot(x, y))

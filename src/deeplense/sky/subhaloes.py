"""Many haloes of one kind in front of every image, added up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from deeplense.sky.mass import MassProfile, Points, split_columns

BLOCK = 5  # haloes that are summed in one formula
STRENGTHS = ("theta_E", "alpha_Rs")


@dataclass(frozen=True)
class Subhaloes(MassProfile):
    """The sum over K profiles of one kind per image.

    An image with fewer than K haloes fills its row with haloes of zero strength (`theta_E` or `alpha_Rs` 0, the other
    parameters any allowed number): they add exactly 0. One halo is computed at a time, so memory does not grow with K
    unless gradients are kept.

    Parameters
    ----------
    profile
        The kind: `PointMass`, `SIS`, `NFW`, `TNFW`, …
    parameters
        Each parameter of the profile by name, [B, K].
    """

    profile: type[MassProfile]
    parameters: Mapping[str, Float[Tensor, "B K"]]

    def deflection(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return Σ α [arcsec], [B, 1, H, W] at positions of shape [H, W]."""
        total_x = total_y = self._nothing(x, y)
        for halo in self._haloes():
            alpha_x, alpha_y = halo.deflection(x, y)
            total_x, total_y = total_x + alpha_x, total_y + alpha_y
        return total_x, total_y

    def blocks(self) -> list[MassProfile] | None:
        """Return blocks of 5 haloes; the last one is filled up with haloes of no strength."""
        if not next(iter(self.parameters.values())).shape[1]:
            return []
        columns = {
            name: split_columns(value, BLOCK, 0.0 if name in STRENGTHS else 1.0)
            for name, value in self.parameters.items()
        }
        return [
            Subhaloes(self.profile, dict(zip(columns, part, strict=True)))
            for part in zip(*columns.values(), strict=True)
        ]

    def convergence(self, x: Tensor, y: Tensor) -> Tensor:
        """Return Σ κ, [B, 1, H, W] at positions of shape [H, W]."""
        total = self._nothing(x, y)
        for halo in self._haloes():
            total = total + halo.convergence(x, y)
        return total

    def points(self) -> Points | None:
        """Return the haloes where they are points; None where they are extended, or there is none."""
        parts = [halo.points() for halo in self._haloes()]
        found = [part for part in parts if part is not None]
        if not found or len(found) < len(parts):
            return None
        theta_E2, x, y = (torch.cat(columns, dim=1) for columns in zip(*found, strict=True))
        return theta_E2, x, y

    def _haloes(self) -> list[MassProfile]:
        """Return the k-th halo of every image as one profile with parameters of shape [B, 1, 1, 1], for each k."""
        slices = [value[:, :, None, None, None].unbind(1) for value in self.parameters.values()]
        return [self.profile(**dict(zip(self.parameters, one, strict=True))) for one in zip(*slices, strict=True)]

    def _nothing(self, x: Tensor, y: Tensor) -> Tensor:
        column = next(iter(self.parameters.values()))
        return torch.zeros_like(x + y) + column.new_zeros(len(column), 1, 1, 1)

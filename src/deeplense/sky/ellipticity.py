"""Ellipticity: (e1, e2) to axis ratio and angle and back."""

from __future__ import annotations

import math

import torch
from torch import Tensor

Value = Tensor | float
MAX_ELLIPTICITY = 0.9999
TINY = 1e-30


def bounded(e1: Value, e2: Value) -> tuple[Tensor, Tensor, Tensor]:
    """Return e1, e2 and |e|, shrunk to |e| ≤ 0.9999 as lenstronomy does (Birrer & Amara 2018); numbers become float64.

    The gradient of |e| is 0, not NaN, at e = 0.
    """
    first, second = (e if isinstance(e, Tensor) else torch.tensor(e, dtype=torch.float64) for e in (e1, e2))
    modulus = torch.sqrt(first**2 + second**2 + TINY)
    shrink = (MAX_ELLIPTICITY / modulus).clamp(max=1.0)
    return first * shrink, second * shrink, modulus * shrink


def axis_ratio_and_angle(e1: Value, e2: Value) -> tuple[Tensor, Tensor]:
    """Return the axis ratio q = (1 − |e|) / (1 + |e|) and the major axis' angle φ = atan2(e2, e1) / 2 [rad]."""
    first, second, modulus = bounded(e1, e2)
    return (1 - modulus) / (1 + modulus), torch.atan2(second, first) / 2


def ellipticity(axis_ratio: Value, angle: Value) -> tuple[Tensor, Tensor]:
    """Return (e1, e2) of an ellipse with axis ratio q whose major axis lies at the angle φ [rad]."""
    q, phi = (
        value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
        for value in (axis_ratio, angle)
    )
    modulus = (1 - q) / (1 + q)
    return modulus * torch.cos(2 * phi), modulus * torch.sin(2 * phi)


def polar_angle(y: Tensor, x: Tensor) -> Tensor:
    """Return atan2(y, x) [rad] of points other than the origin.

    The same bits wherever a point stands in a tensor: torch's own atan2 rounds the last few otherwise, so that an image
    would depend on those beside it.
    """
    behind = x < 0
    distance = torch.sqrt(x**2 + y**2) + torch.where(behind, -x, x)
    half = 2 * torch.atan(y / distance)
    return torch.where(behind, math.pi * torch.where(y < 0, -1.0, 1.0).to(y) - half, half)

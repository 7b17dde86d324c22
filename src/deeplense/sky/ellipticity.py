"""Ellipticity: (e1, e2) to axis ratio and angle and back."""

from __future__ import annotations

import torch
from torch import Tensor

Value = Tensor | float
MAX_ELLIPTICITY = 0.9999


def axis_ratio_and_angle(e1: Value, e2: Value) -> tuple[Tensor, Tensor]:
    """Return the axis ratio q = (1 − |e|) / (1 + |e|) and the major axis' angle φ = atan2(e2, e1) / 2 [rad].

    |e| is limited to 0.9999, as in lenstronomy's `param_util.ellipticity2phi_q` (Birrer & Amara 2018).
    """
    first, second = (torch.as_tensor(e, dtype=torch.get_default_dtype()) if not isinstance(e, Tensor) else e
                     for e in (e1, e2))
    ellipticity = torch.hypot(first, second).clamp(max=MAX_ELLIPTICITY)
    return (1 - ellipticity) / (1 + ellipticity), torch.atan2(second, first) / 2


def ellipticity(axis_ratio: Value, angle: Value) -> tuple[Tensor, Tensor]:
    """Return (e1, e2) of an ellipse with axis ratio q whose major axis lies at the angle φ [rad]."""
    q, phi = torch.as_tensor(axis_ratio), torch.as_tensor(angle)
    modulus = (1 - q) / (1 + q)
    return modulus * torch.cos(2 * phi), modulus * torch.sin(2 * phi)

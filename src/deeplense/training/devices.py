"""Where the work is done: a device by name, or the best there is."""

from __future__ import annotations

from typing import Literal

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState

from deeplense.core.errors import InvalidOption

Device = Literal["best", "cuda", "mps", "cpu"]
Precision = Literal["fp32", "bf16", "fp16"]


def make_accelerator(device: Device, precision: Precision) -> Accelerator:
    """Return the accelerator for a device and precision; `torchrun` and `accelerate launch` make it one of several.

    Raises
    ------
    InvalidOption
        When the named device is absent, or the precision does not work on it.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    chosen = next(name for name, there in available.items() if there) if device == "best" else device
    if not available[chosen]:
        present = ", ".join(name for name, there in available.items() if there)
        raise InvalidOption(f"this machine has no {chosen}", f"a device that is there: {present}", "use --device best")
    if precision == "fp16" and chosen == "cpu":
        raise InvalidOption("fp16 does not train on the CPU", "fp32 or bf16", "use --precision bf16")
    AcceleratorState._reset_state(reset_partial_state=not PartialState._shared_state.get("backend"))
    return Accelerator(cpu=chosen == "cpu", mixed_precision="no" if precision == "fp32" else precision)

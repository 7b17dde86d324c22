"""Optimisers and learning-rate schedules by name."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import nn

OptimizerName = Literal["sgd", "adam", "adamw"]
ScheduleName = Literal["constant", "cosine", "cosine_restarts", "cyclic", "one_cycle"]
WARM_UP = 0.25
RESTARTS = 4
CYCLES = 4
CYCLIC_FLOOR = 0.2


def build_optimizer(name: OptimizerName, network: nn.Module, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """Return the optimiser of all parameters that learn; norms and biases do not decay."""
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in learning if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in learning if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if name == "sgd":
        return torch.optim.SGD(groups, lr, momentum=0.9, nesterov=True)
    return torch.optim.Adam(groups, lr) if name == "adam" else torch.optim.AdamW(groups, lr)


def learning_rate_factor(schedule: ScheduleName, progress: float) -> float:
    """Return the factor on the peak learning rate after a fraction of all steps.

    Parameters
    ----------
    schedule
        "cosine" falls to 0 once; "cosine_restarts" falls four times (Loshchilov & Hutter 2017); "cyclic" goes four
        times from a fifth of the peak up and back (Smith 2017); "one_cycle" rises for a quarter of the steps and falls
        to 0 (Smith & Topin 2019).
    progress
        Fraction of the steps that are done, 0 to 1.
    """
    if schedule == "constant":
        return 1.0
    if schedule == "cosine":
        return _cosine(progress)
    if schedule == "cosine_restarts":
        return _cosine(progress * RESTARTS % 1)
    if schedule == "cyclic":
        return CYCLIC_FLOOR + (1 - CYCLIC_FLOOR) * (1 - abs(2 * (progress * CYCLES % 1) - 1))
    if progress < WARM_UP:
        return 0.04 + 0.96 * progress / WARM_UP
    return _cosine((progress - WARM_UP) / (1 - WARM_UP))


def _cosine(progress: float) -> float:
    return (1 + math.cos(math.pi * min(progress, 1.0))) / 2

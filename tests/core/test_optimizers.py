"""Optimisers and schedules: who learns, who decays, and the shape of the learning rate."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from deeplense.core.optimizers import OptimizerName, ScheduleName, build_optimizer, learning_rate_factor

KINDS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}

SHAPES: dict[str, list[tuple[float, float]]] = {
    "constant": [(0, 1), (0.5, 1), (0.999, 1)],
    "cosine": [(0, 1), (1 / 3, 0.75), (0.5, 0.5), (2 / 3, 0.25), (1, 0)],
    "cosine_restarts": [(0, 1), (0.125, 0.5), (0.25 - 1e-9, 0), (0.25, 1), (0.625, 0.5), (0.75, 1), (1 - 1e-9, 0)],
    "cyclic": [(0, 0.2), (0.0625, 0.6), (0.125, 1), (0.25, 0.2), (0.375, 1), (0.875, 1), (1, 0.2)],
    "one_cycle": [(0, 0.04), (0.125, 0.52), (0.25, 1), (0.625, 0.5), (1, 0)],
}


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 3))


@pytest.mark.parametrize("schedule", get_args(ScheduleName))
def test_the_shape_of_every_schedule(schedule: ScheduleName) -> None:
    for progress, factor in SHAPES[schedule]:
        assert learning_rate_factor(schedule, progress) == pytest.approx(factor, abs=1e-6), f"after {progress:.3f}"


@given(st.sampled_from(get_args(ScheduleName)), st.floats(0, 1))
def test_a_factor_is_between_0_and_1(schedule: ScheduleName, progress: float) -> None:
    assert 0 <= learning_rate_factor(schedule, progress) <= 1


@pytest.mark.parametrize("schedule", ["cosine", "one_cycle"])
def test_after_its_peak_the_learning_rate_only_falls(schedule: ScheduleName) -> None:
    factors = [learning_rate_factor(schedule, i / 1000) for i in range(250, 1001)]
    assert all(after < before for before, after in pairwise(factors))


@pytest.mark.parametrize("name", get_args(OptimizerName))
def test_every_name_gives_its_optimiser(name: OptimizerName) -> None:
    optimizer = build_optimizer(name, network(), 0.25, 0.1)
    assert type(optimizer) is KINDS[name]
    assert {group["lr"] for group in optimizer.param_groups} == {0.25}
    if name == "sgd":
        assert optimizer.param_groups[0]["momentum"] == 0.9 and optimizer.param_groups[0]["nesterov"]


@pytest.mark.parametrize("name", get_args(OptimizerName))
def test_weights_decay_and_norms_and_biases_do_not(name: OptimizerName) -> None:
    net = network()
    optimizer = build_optimizer(name, net, 1e-3, 0.5)
    before = {key: value.detach().clone() for key, value in net.named_parameters()}
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for key, value in net.named_parameters():
        if value.ndim > 1:
            assert bool((value.abs() <= before[key].abs()).all()) and not torch.equal(value, before[key]), key
        else:
            assert torch.equal(value, before[key]), key


def test_what_does_not_learn_is_not_touched() -> None:
    net = network()
    net[0].requires_grad_(False)
    optimizer = build_optimizer("adamw", net, 0.1, 0.1)
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    assert held == {id(parameter) for parameter in [*net[1].parameters(), *net[3].parameters()]}


def test_every_parameter_is_in_one_group() -> None:
    net: Any = network()
    held = [id(p) for group in build_optimizer("adam", net, 0.1, 0.1).param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(parameter) for parameter in net.parameters())

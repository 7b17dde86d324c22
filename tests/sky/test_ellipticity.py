"""Ellipticity conventions: there and back, and the limits."""

from __future__ import annotations

import math

import pytest
import torch

from deeplense.sky.ellipticity import MAX_ELLIPTICITY, axis_ratio_and_angle, bounded, ellipticity, polar_angle


@pytest.mark.parametrize(
    ("q", "phi", "e1", "e2"),
    [(0.5, 0.0, 1 / 3, 0.0), (0.5, math.pi / 2, -1 / 3, 0.0), (0.5, math.pi / 4, 0.0, 1 / 3), (1.0, 0.3, 0.0, 0.0)],
)
def test_the_convention_is_the_published_one(q: float, phi: float, e1: float, e2: float) -> None:
    assert [float(value) for value in ellipticity(q, phi)] == pytest.approx([e1, e2], abs=1e-15)


@pytest.mark.parametrize("e1", [-0.6, -0.1, 0.0, 0.3])
@pytest.mark.parametrize("e2", [-0.4, 0.0, 0.2])
def test_there_and_back(e1: float, e2: float) -> None:
    again = ellipticity(*axis_ratio_and_angle(e1, e2))
    assert [float(value) for value in again] == pytest.approx([e1, e2], abs=2e-15)


def test_numbers_become_float64_and_tensors_keep_their_type() -> None:
    assert {value.dtype for value in bounded(0.1, 0.2)} == {torch.float64}
    single = torch.tensor([0.1, 0.2])
    assert {value.dtype for value in bounded(single, single)} == {torch.float32}


def test_what_is_too_flat_is_shrunk_to_the_limit() -> None:
    e1, e2, modulus = (float(value) for value in bounded(3.0, 4.0))
    assert modulus == pytest.approx(MAX_ELLIPTICITY, abs=1e-15)
    assert (e1, e2) == pytest.approx((0.6 * MAX_ELLIPTICITY, 0.8 * MAX_ELLIPTICITY), abs=1e-15)


def test_round_has_a_gradient() -> None:
    e = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(sum(bounded(e[0], e[1])), e)
    assert gradient.tolist() == [1.0, 1.0], "e1 and e2 pass, |e| adds nothing"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_polar_angle_is_the_arctangent_of_two(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    special = torch.tensor([0.0, 1.0, -1.0, 1e-7, -1e-7, 1e5], dtype=dtype)
    values = torch.cat([torch.randn(600, generator=generator).to(dtype), special])
    y, x = (part.flatten() for part in torch.meshgrid(values, values, indexing="ij"))
    away = (x != 0) | (y != 0)
    y, x = y[away], x[away]
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(polar_angle(y, x), torch.atan2(y.double(), x.double()).to(dtype), rtol=4 * eps, atol=0)


def test_the_gradient_of_the_polar_angle_is_that_of_the_arctangent_of_two() -> None:
    points = torch.tensor([[0.3, 1.0], [-0.2, 0.5], [0.7, -1.0], [-0.1, -2.0], [0.0, 1.0], [1.0, 0.0], [-1.0, 0.0]])
    gradients = []
    for function in (polar_angle, torch.atan2):
        leaf = points.double().requires_grad_()
        gradients.append(torch.autograd.grad(function(leaf[:, 0], leaf[:, 1]).sum(), leaf)[0])
    torch.testing.assert_close(*gradients, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_polar_angle_has_the_same_bits_anywhere_in_a_tensor(dtype: torch.dtype) -> None:
    y, x = torch.randn(2, 999, generator=torch.Generator().manual_seed(1)).to(dtype)
    parts = [polar_angle(y[i : i + 7], x[i : i + 7]) for i in range(0, 999, 7)]
    assert torch.equal(torch.cat(parts), polar_angle(y, x))

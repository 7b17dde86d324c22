"""Ellipticity conventions: there and back, and the limits."""

from __future__ import annotations

import math

import pytest
import torch

from deeplense.sky.ellipticity import MAX_ELLIPTICITY, axis_ratio_and_angle, bounded, ellipticity


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

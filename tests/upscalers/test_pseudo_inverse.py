"""Filters whose images degrade to the coarse ones, against matrices."""

from __future__ import annotations

import pytest
import torch

from deeplense.core.degradation import Degradation
from deeplense.core.errors import InvalidOption
from deeplense.upscalers.back_projection import BackProjection
from deeplense.upscalers.bicubic import Bicubic
from deeplense.upscalers.pseudo_inverse import FARTHEST, ConsistentFilter, Near, PseudoInverse, consistent_taps

EVERY = [
    Degradation(2),
    Degradation(3),
    Degradation(4),
    Degradation(2, "area"),
    Degradation(3, "area"),
    Degradation(2, "gaussian", 1.0),
    Degradation(4, "gaussian", 2.0),
]
SIZE = 61
MIDDLE = slice(FARTHEST, -FARTHEST)


def coarse(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("near", ["nothing", "bicubic"])
@pytest.mark.parametrize("degradation", EVERY, ids=str)
def test_its_degradation_is_the_coarse_image(degradation: Degradation, near: Near) -> None:
    low = coarse(2, 2, SIZE, SIZE + 1)
    again = degradation(ConsistentFilter(degradation, near)(low))
    torch.testing.assert_close(again[..., MIDDLE, MIDDLE], low[..., MIDDLE, MIDDLE], rtol=0, atol=1e-4)


@pytest.mark.parametrize("degradation", EVERY[:-1], ids=str)
def test_it_is_the_pseudo_inverse_in_the_middle_of_an_axis(degradation: Degradation) -> None:
    low = coarse(1, 1, SIZE, SIZE).double()
    inverse = torch.linalg.pinv(degradation.along(SIZE))
    inside = slice(FARTHEST * degradation.factor, -FARTHEST * degradation.factor)
    expected = (inverse @ low @ inverse.T)[..., inside, inside]
    found = PseudoInverse(1, degradation)(low)[..., inside, inside]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("degradation", [Degradation(2), Degradation(2, "area"), Degradation(5, "area")], ids=str)
def test_a_constant_image_stays_that_constant_where_fine_pixels_weigh_the_same(degradation: Degradation) -> None:
    fine = PseudoInverse(1, degradation)(torch.full((1, 1, 6, 7), 5.0))
    torch.testing.assert_close(fine, torch.full_like(fine, 5.0), rtol=1e-5, atol=0)


def test_taps_are_as_many_as_are_needed() -> None:
    two = consistent_taps(Degradation(2), "nothing")
    assert two.shape == (2, 15), "each pixel farther weighs 6.3 times less: seven on either side"
    assert consistent_taps(Degradation(3, "area"), "nothing").shape == (3, 1), "each pixel is repeated"
    assert torch.allclose(two[0], two[1].flip(0)), "a mirror image"


@pytest.mark.parametrize("degradation", EVERY, ids=str)
def test_of_consistent_images_one_is_the_smallest_and_the_other_nearer_to_bicubic(degradation: Degradation) -> None:
    low = coarse(1, 1, SIZE, SIZE)
    start, smallest, near = (kind(1, degradation)(low) for kind in (Bicubic, PseudoInverse, BackProjection))
    assert float(smallest.norm()) <= float(near.norm()) * 1.001
    assert float((near - start).norm()) <= float((smallest - start).norm()) * 1.001


def test_bfloat16_around_it_does_not_break_it() -> None:
    low, degradation = coarse(1, 1, SIZE, SIZE), Degradation(2)
    inverse = PseudoInverse(1, degradation)
    with torch.autocast("cpu", torch.bfloat16):
        fine = inverse(low)
    assert torch.equal(fine, inverse(low)) and fine.dtype == torch.float32


@pytest.mark.parametrize("blur", [2.0, 3.0, 64.0])
@pytest.mark.parametrize("kind", [PseudoInverse, BackProjection])
def test_too_wide_a_blur_is_refused(kind: type, blur: float) -> None:
    with pytest.raises(InvalidOption, match="amplifies noise"):
        kind(1, Degradation(2, "gaussian", blur))


def test_there_is_nothing_to_store() -> None:
    assert not PseudoInverse(1, Degradation(2)).state_dict()

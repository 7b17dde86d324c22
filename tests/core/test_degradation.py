"""From fine images to coarse ones: linear, separable, and of the same surface brightness."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from deeplense.core.degradation import Degradation, Method
from deeplense.core.errors import InvalidOption

EVERY = [
    Degradation(2),
    Degradation(3),
    Degradation(4),
    Degradation(2, "area"),
    Degradation(5, "area"),
    Degradation(2, "gaussian", 0.8),
    Degradation(3, "gaussian", 2.5),
]


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("degradation", EVERY, ids=str)
def test_the_matrix_along_each_axis_is_the_map(degradation: Degradation) -> None:
    f = degradation.factor
    fine = images(2, 3, 11 * f, 7 * f)
    down, across = degradation.along(11), degradation.along(7)
    assert down.shape == (11, 11 * f)
    torch.testing.assert_close(down @ fine @ across.T, degradation(fine), rtol=0, atol=1e-12)


@pytest.mark.parametrize("degradation", EVERY, ids=str)
@given(value=st.floats(-1e3, 1e3), height=st.integers(1, 9), width=st.integers(1, 9))
def test_surface_brightness_is_kept(degradation: Degradation, value: float, height: int, width: int) -> None:
    f = degradation.factor
    coarse = degradation(torch.full((1, 1, height * f, width * f), value, dtype=torch.float64))
    torch.testing.assert_close(coarse, torch.full((1, 1, height, width), value, dtype=torch.float64))


@pytest.mark.parametrize("degradation", EVERY, ids=str)
def test_bands_and_images_do_not_mix(degradation: Degradation) -> None:
    fine = images(2, 2, 6 * degradation.factor, 6 * degradation.factor)
    each = torch.stack([torch.stack([degradation(band[None, None])[0, 0] for band in image]) for image in fine])
    torch.testing.assert_close(degradation(fine), each)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_bicubic_is_that_of_torch_by_size(factor: int) -> None:
    fine = images(1, 1, 9 * factor, 8 * factor)
    expected = F.interpolate(fine, size=(9, 8), mode="bicubic", align_corners=False, antialias=False)
    torch.testing.assert_close(Degradation(factor)(fine), expected)


def test_bicubic_of_factor_two_has_the_cubic_kernel_half_way_between_pixels() -> None:
    a = -0.75
    far, near = a * (1.5**3 - 5 * 1.5**2 + 8 * 1.5 - 4), (a + 2) * 0.5**3 - (a + 3) * 0.5**2 + 1
    row = Degradation(2).along(9)[4]
    torch.testing.assert_close(row[7:11], torch.tensor([far, near, near, far], dtype=torch.float64))
    assert int((row != 0).sum()) == 4


def test_area_is_the_mean_of_each_block() -> None:
    fine = images(2, 1, 12, 9)
    blocks = fine.unfold(2, 3, 3).unfold(3, 3, 3).mean((-2, -1))
    torch.testing.assert_close(Degradation(3, "area")(fine), blocks)


def test_a_gaussian_widens_a_point_by_its_variance_and_that_of_a_pixel() -> None:
    sigma, n = 3.0, 40
    point = torch.zeros(1, 1, 2 * n, 2 * n, dtype=torch.float64)
    point[..., n, n] = 1
    coarse = Degradation(2, "gaussian", sigma)(point)[0, 0]
    x = 2 * torch.arange(n, dtype=torch.float64) + 0.5  # middle of a coarse pixel [fine pixels]
    weight = coarse.sum(0) / coarse.sum()
    middle = (weight * x).sum()
    variance = (weight * (x - middle) ** 2).sum()
    assert abs(float(middle) - n) < 0.02
    assert float(variance) == pytest.approx(sigma**2 + 2**2 / 12, rel=0.02)


@pytest.mark.parametrize(("method", "blur"), [("gaussian", 0.0), ("area", 1.0), ("bicubic", 0.5)])
def test_a_blur_belongs_to_the_gaussian_alone(method: Method, blur: float) -> None:
    with pytest.raises(InvalidOption, match="a blur above 0"):
        Degradation(2, method, blur)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["bicubic", "area"])
@pytest.mark.parametrize("factor", range(2, 17))
def test_every_size_has_the_pixels_it_should(factor: int, method: Method) -> None:
    degradation = Degradation(factor, method)
    for side in range(factor, 600, factor):
        assert degradation(torch.zeros(1, 1, side, factor)).shape == (1, 1, side // factor, 1)
    # a plane stays a plane: pixels are centred on their blocks
    axis = torch.arange(6 * factor, dtype=torch.float64)
    plane = (axis[None, :] + 10 * axis[:, None])[None, None]
    centre = degradation(plane)[0, 0, 2:-2, 2:-2]
    torch.testing.assert_close(centre, Degradation(factor, "area")(plane)[0, 0, 2:-2, 2:-2])

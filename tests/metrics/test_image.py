"""Marks of images: by hand where a hand suffices, against scikit-image, and what must not change them."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from deeplense.core.errors import InvalidOption
from deeplense.metrics import image

REFUSED = (InvalidOption, TypeCheckError)  # the second where annotated shapes are checked at every call


def pair(images=3, bands=1, side=24, seed=0, noise=0.05):
    """Return blobs with noise, and without."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(*[torch.arange(float(side))] * 2, indexing="ij")
    centres = side / 2 + torch.randn(2, images, bands, 1, 1, generator=generator)
    truth = torch.exp(-((x - centres[0]) ** 2 + (y - centres[1]) ** 2) / 30)
    return truth + noise * torch.randn(truth.shape, generator=generator), truth


def test_errors_by_hand():
    truth = torch.zeros(2, 1, 2, 2)
    estimate = torch.tensor([[[[1.0, -1], [3, 1]]], [[[0.0, 0], [0, 0]]]])
    assert image.mse(estimate, truth).tolist() == [3.0, 0.0]
    assert image.mae(estimate, truth).tolist() == [1.5, 0.0]
    assert image.psnr(estimate, truth, 3.0).tolist() == [pytest.approx(10 * math.log10(3)), math.inf]


def test_sums_are_exact_where_single_precision_is_not():
    truth = torch.full((1, 1, 200, 200), 1e4)
    assert image.mse(truth + 1, truth).item() == 1.0
    assert image.mse(truth.half() + 8, truth.half()).item() == 64.0, "half precision has no 10 000² at all"


@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("data_range", [1.0, 7.0])
def test_psnr_and_ssim_equal_scikit_image(bands, data_range):
    estimate, truth = (each.double() for each in pair(bands=bands, side=25))
    estimate, truth = estimate[:, :, :19], truth[:, :, :19]
    for k, (one, other) in enumerate(zip(estimate.numpy(), truth.numpy(), strict=True)):
        expected = structural_similarity(
            one,
            other,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=data_range,
            channel_axis=0,
        )
        assert image.ssim(estimate, truth, data_range)[k].item() == pytest.approx(expected, abs=1e-12)
        found = image.psnr(estimate, truth, data_range)[k].item()
        assert found == pytest.approx(peak_signal_noise_ratio(other, one, data_range=data_range), abs=1e-9)


def test_single_precision_is_enough_for_ssim_and_half_is_not_used():
    estimate, truth = pair(images=4, side=64)
    exact = image.ssim(estimate.double(), truth.double(), 1.0)
    assert image.ssim(estimate, truth, 1.0).double() == pytest.approx(exact, abs=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert image.ssim(estimate, truth, 1.0).equal(image.ssim(estimate, truth, 1.0).float())
        assert image.ssim(estimate, truth, 1.0).double() == pytest.approx(exact, abs=1e-5)


def test_each_image_may_have_its_own_range():
    estimate, truth = pair()
    ranges = torch.tensor([0.5, 1.0, 2.0])
    for mark in (image.psnr, image.ssim):
        together = mark(estimate, truth, ranges)
        alone = [mark(estimate[k : k + 1], truth[k : k + 1], float(ranges[k])).item() for k in range(3)]
        assert together.tolist() == pytest.approx(alone)


def test_ssim_is_a_loss_that_brings_an_image_back():
    estimate, truth = pair(images=2, side=16, noise=0.3)
    estimate = estimate.requires_grad_()
    before = image.ssim(estimate, truth, 1.0)
    (gradient,) = torch.autograd.grad(before.sum(), estimate)
    assert (gradient.flatten(1).abs().sum(1) > 0).all()
    assert (image.ssim(estimate + 0.5 * gradient, truth, 1.0) > before + 0.01).all()
    small, wanted = (each[:1, :, :11, :11].detach().double() for each in (estimate, truth))
    assert torch.autograd.gradcheck(lambda x: image.ssim(x, wanted, 1.0), (small.requires_grad_(),))


@given(st.floats(0.01, 100), st.integers(0, 3))
def test_similarity_is_bounded_symmetric_and_without_unit(unit, quarter):
    estimate, truth = (each.double() for each in pair(images=2, side=16))
    found = image.ssim(estimate, truth, 1.0)
    assert ((found > -1) & (found < 1)).all()
    assert image.ssim(truth, estimate, 1.0).tolist() == pytest.approx(found.tolist())
    assert image.ssim(truth, truth, unit).tolist() == [1.0, 1.0]
    turned = [torch.rot90(unit * each, quarter, (2, 3)) for each in (estimate, truth)]
    assert image.ssim(*turned, unit).tolist() == pytest.approx(found.tolist())
    assert image.psnr(*turned, unit).tolist() == pytest.approx(image.psnr(estimate, truth, 1.0).tolist())


def test_flux_errors_by_hand():
    truth = torch.zeros(2, 1, 5, 5)
    truth[:, 0, 2, 2], truth[:, 0, 2, 3], truth[:, 0, 0, 0] = 4, 1, 5
    estimate = truth.clone()
    estimate[0, 0, 2, 3] += 1
    estimate[0, 0, 0, 0] -= 3
    assert image.flux_error(estimate, truth).tolist() == [pytest.approx(-0.2), 0.0]
    assert image.flux_error(estimate, truth, 0.5).tolist() == [0.0, 0.0]
    assert image.flux_error(estimate, truth, 1.0).tolist() == [pytest.approx(0.2), 0.0]


def test_an_aperture_of_an_even_image_is_centred_between_pixels():
    truth = torch.ones(1, 1, 6, 4)
    estimate = truth.clone()
    estimate[0, 0, 2:4, 1:3] += 1
    assert image.flux_error(estimate, truth, 0.71).item() == 1.0
    assert image.flux_error(estimate, truth, 1.6).item() == pytest.approx(4 / 12)
    with pytest.raises(InvalidOption, match=r"radius 0\.5"):
        image.flux_error(estimate, truth, 0.5)


def test_a_background_does_not_hide_an_error():
    estimate, truth = pair(noise=0)
    estimate = 1.1 * estimate
    assert image.flux_error(estimate, truth).tolist() == pytest.approx([0.1] * 3)
    for sky in (10.0, torch.tensor([1.0, 10.0, 100.0])):
        level = torch.as_tensor(sky).reshape(-1, 1, 1, 1)
        assert image.flux_error(estimate + level, truth + level, background=sky).tolist() == pytest.approx(
            [0.1] * 3, rel=1e-3
        )
    assert (image.flux_error(estimate + 10, truth + 10) < 0.01).all()


def test_without_flux_there_is_no_error_of_it():
    truth = torch.stack([torch.zeros(1, 4, 4), -torch.ones(1, 4, 4), torch.ones(1, 4, 4)])
    found = image.flux_error(truth + 1, truth)
    assert found[:2].isnan().all() and found[2] == 1
    found = image.centroid_offset(truth + 1, truth)
    assert found[:2].isnan().all() and found[2] == 0
    assert image.centroid_offset(-truth, truth).isnan().all()


@given(st.floats(-1.5, 1.5), st.floats(-1.5, 1.5))
def test_the_centroid_moves_with_a_shift(dx, dy):
    y, x = torch.meshgrid(*[torch.arange(41.0) - 20] * 2, indexing="ij")
    truth, moved = (torch.exp(-((x - a) ** 2 + (y - b) ** 2) / 18)[None, None] for a, b in ((0, 0), (dx, dy)))
    assert image.centroid_offset(moved, truth, 0.0).item() == pytest.approx(math.hypot(dx, dy), abs=1e-4)
    # the pixels are those of the truth, so that a part of the shift lies outside of them
    assert image.centroid_offset(moved, truth).item() <= math.hypot(dx, dy) + 1e-5


def test_noise_far_out_does_not_move_the_centroid():
    estimate, truth = pair(images=20, side=64, noise=0.02)
    assert image.centroid_offset(estimate, truth).max() < 0.1
    whole = image.centroid_offset(estimate.abs(), truth, 0.0)
    assert whole.max() > 5 * image.centroid_offset(estimate.abs(), truth).max()
    far = truth.clone()
    far[:, :, 0, 0] += 100
    assert image.centroid_offset(far, truth).tolist() == [0.0] * 20


def test_other_shapes_are_refused_not_broadcast():
    estimate, truth = pair(images=2, side=16)
    for mark in (image.mse, image.mae, image.flux_error, image.centroid_offset):
        with pytest.raises(REFUSED):
            mark(estimate[:1], truth)
    for mark in (image.psnr, image.ssim):
        with pytest.raises(REFUSED):
            mark(estimate, truth[:, :, :, :1], 1.0)
        with pytest.raises(InvalidOption, match="data range of 0"):
            mark(estimate, truth, 0.0)
        with pytest.raises(InvalidOption, match="data range"):
            mark(estimate, truth, torch.tensor([1.0, math.nan]))
    with pytest.raises(InvalidOption, match=r"low of shape \[1, 2\], high of shape \[2, 1\]"):
        image.require_alike(low=torch.zeros(1, 2), high=torch.zeros(2, 1))
    with pytest.raises(InvalidOption, match="10 × 16 pixels"):
        image.ssim(estimate[:, :, :10], truth[:, :, :10], 1.0)
    with pytest.raises(InvalidOption, match=r"fraction of 1\.0"):
        image.centroid_offset(estimate, truth, 1.0)


def test_devices_without_double_precision_are_given_single():
    assert image.precision(torch.device("mps")) == torch.float32
    assert image.exact(torch.ones(1)).dtype == torch.float64


def test_a_lost_pixel_is_not_overlooked():
    estimate, truth = pair()
    estimate[1, 0, 3, 3] = np.nan
    for found in (image.mse(estimate, truth), image.psnr(estimate, truth, 1.0), image.flux_error(estimate, truth)):
        assert found.isnan().tolist() == [False, True, False]

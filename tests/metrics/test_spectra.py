"""Spectra: noise is flat, a wave is where it belongs, and a grid shows where noise and smooth images have none."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from deeplense.core.errors import InvalidOption
from deeplense.metrics.spectra import checkerboard, power_spectrum


def noise(images, height, width, seed=0):
    return torch.randn(images, 1, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def lens(side, radius, width):
    """Return the ring and the core of a lens, off centre."""
    y, x = torch.meshgrid(*[torch.arange(side, dtype=torch.float64) - (side - 1) / 2] * 2, indexing="ij")
    r = torch.hypot((x - 0.2) * 1.1, (y + 0.3) / 1.1)
    return (torch.exp(-((r - radius) ** 2) / (2 * width**2)) + 2 * torch.exp(-r / (2 * width)))[None, None]


def transposed(low, factor):
    """Return what a transposed convolution makes whose kernel of constants is one longer than its stride."""
    side, size = low.shape[-1] * factor, factor + 1
    kernel = torch.full((1, 1, size, size), (factor / size) ** 2, dtype=low.dtype)
    return F.conv_transpose2d(low, kernel, stride=factor)[:, :, :side, :side]


@pytest.mark.parametrize("size", [(64, 64), (50, 33)])
def test_white_noise_has_its_variance_at_every_frequency(size):
    frequencies, power = power_spectrum(3 * noise(200, *size))
    assert power.shape == (200, min(size) // 2) and power.dtype == torch.float64
    assert power.mean(0)[2:].tolist() == pytest.approx([9.0] * (min(size) // 2 - 2), rel=0.1)
    assert (frequencies.diff() > 0).all() and frequencies[0] > 0 and frequencies[-1] <= 0.5


@given(st.integers(1, 8), st.integers(0, 1), st.floats(-5, 5), st.floats(0, 6.2))
def test_a_wave_is_in_its_bin_alone(k, axis, level, phase):
    x = torch.arange(32, dtype=torch.float64)
    wave = (level + torch.cos(2 * math.pi * k * x / 32 + phase)).expand(1, 1, 32, 32)
    _, power = power_spectrum(wave if axis else wave.transpose(2, 3), 16)
    power = power[0]
    assert power.argmax() == k - 1
    assert power.sum() - power[k - 1] < 1e-9 * power[k - 1]


def test_bins_hold_all_power_up_to_nyquist():
    images = noise(2, 24, 24)
    modes = torch.fft.fft2(images).abs().square()[:, 0] / 24**2
    y = torch.fft.fftfreq(24, dtype=torch.float64)
    radius = torch.hypot(y[:, None], y)
    for bins in (1, 5, 12):
        edges = torch.arange(bins + 1) / (2 * bins)
        frequencies, power = power_spectrum(images, bins)
        for k in range(bins):
            inside = (radius > edges[k] + 1e-6) & (radius <= edges[k + 1] + 1e-6)
            assert power[:, k].tolist() == pytest.approx(modes[:, inside].mean(1).tolist())
            assert frequencies[k].item() == pytest.approx(radius[inside].mean().item())


def test_bands_are_averaged_and_turning_changes_nothing():
    images = noise(6, 20, 20).reshape(2, 3, 20, 20)
    _, power = power_spectrum(images)
    each = torch.stack([power_spectrum(images[:, k : k + 1])[1] for k in range(3)])
    assert torch.allclose(power, each.mean(0))
    assert torch.allclose(power, power_spectrum(images.rot90(1, (2, 3)))[1])


def test_a_blurred_image_has_less_of_the_high_frequencies():
    images = noise(4, 64, 64)
    blurred = F.avg_pool2d(images, 3, stride=1, padding=1)
    ratio = power_spectrum(blurred)[1].mean(0) / power_spectrum(images)[1].mean(0)
    assert ratio[1] > 0.8 and ratio[-5:].max() < 0.2


@pytest.mark.parametrize(("size", "factor"), [((150, 150), 2), ((128, 96), 4), ((63, 63), 3), ((24, 24), 2)])
def test_white_noise_has_no_grid(size, factor):
    found = checkerboard(noise(100, *size), factor)
    assert found.mean().item() == pytest.approx(1, abs=0.15)
    assert found.max() < 4


@pytest.mark.parametrize(("side", "radius", "width"), [(150, 30, 3), (150, 15, 2), (64, 10, 2), (128, 25, 4)])
def test_smooth_images_have_no_grid(side, radius, width):
    image = lens(side, radius, width)
    assert 0.3 < checkerboard(image, 2).item() < 1.05
    noisy = image + 0.05 * noise(1, side, side)
    assert 0.3 < checkerboard(noisy, 2).item() < 1.6


def test_neither_a_slope_nor_a_constant_is_a_grid():
    slope = (torch.arange(48.0)[:, None] + 0.3 * torch.arange(48.0))[None, None]
    found = checkerboard(torch.cat([slope, torch.full_like(slope, 0.7), torch.zeros_like(slope)]), 2)
    assert found.tolist() == pytest.approx([1.0] * 3, abs=0.1)


@pytest.mark.parametrize(("side", "radius", "width", "factor"), [(150, 30, 3, 2), (64, 10, 2, 2), (128, 25, 4, 4)])
def test_artefacts_raise_the_score(side, radius, width, factor):
    truth = lens(side, radius, width)
    low = F.avg_pool2d(truth, factor)
    before = checkerboard(truth, factor).item()
    nearest = checkerboard(F.interpolate(low, scale_factor=factor, mode="nearest"), factor).item()
    uneven = checkerboard(transposed(low, factor), factor).item()
    assert nearest > 2.5 > 2 * before
    assert uneven > 100


def test_the_score_grows_with_a_faint_pattern_and_not_with_the_unit():
    truth = lens(64, 10, 2) + 0.02 * noise(1, 64, 64)
    pattern = torch.zeros(64, 64, dtype=torch.float64)
    pattern[::2, ::2] = 1
    found = [checkerboard(truth * (1 + strength * pattern), 2).item() for strength in (0, 0.03, 0.1, 0.3)]
    assert found == sorted(found) and found[-1] > 10 * found[0]
    assert checkerboard(1e-4 * truth, 2).item() == pytest.approx(checkerboard(truth, 2).item())
    added = [checkerboard(truth + strength * pattern, 2).item() for strength in (0, 0.03, 0.1)]
    assert added[2] > added[1] > 2 * added[0]


def test_a_lost_pixel_is_not_called_even():
    truth = lens(32, 6, 2)
    truth[0, 0, 3, 3] = math.nan
    assert checkerboard(truth, 2).isnan().all()


def test_what_cannot_be_resolved_is_refused():
    with pytest.raises(InvalidOption, match="17 bins"):
        power_spectrum(noise(1, 32, 40), 17)
    with pytest.raises(InvalidOption, match="at least 2 × 2"):
        power_spectrum(noise(1, 1, 40))
    for size, factor in (((32, 32), 1), ((32, 33), 2), ((14, 32), 2)):
        with pytest.raises(InvalidOption, match=f"factor of {factor}"):
            checkerboard(noise(1, *size), factor)

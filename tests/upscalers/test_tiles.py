"""Large images in tiles: the seams are not seen, and holes are filled from around them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from deeplense.core.errors import InvalidDataset, InvalidOption
from deeplense.upscalers.tiles import filled, upscale_tiled

CHANNELS = 2


class Convolutions(nn.Module):
    """Three layers of reach 1 + 2 + 1; with `window` also the mean of aligned windows, as attention has it."""

    reach = 4

    def __init__(self, factor: int = 2, window: int = 1) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        shapes = (6, CHANNELS, 3, 3), (6, 6, 5, 5), (CHANNELS * factor**2, 6, 3, 3)
        self.kernels = [torch.randn(shape, generator=generator) / 4 for shape in shapes]
        self.factor, self.window, self.largest = factor, window, 0

    def forward(self, low: Tensor) -> Tensor:
        self.largest = max(self.largest, low.shape[2] * low.shape[3])
        h, w = low.shape[2:]
        low = F.pad(low, (0, -w % self.window, 0, -h % self.window), mode="replicate")
        if self.window > 1:
            low = low + F.avg_pool2d(low, self.window).repeat_interleave(self.window, 2).repeat_interleave(
                self.window, 3
            )
        for kernel in self.kernels:
            margin = kernel.shape[-1] // 2
            low = F.conv2d(F.pad(low, (margin,) * 4, mode="replicate"), kernel).tanh()
        return F.pixel_shuffle(low, self.factor)[:, :, : h * self.factor, : w * self.factor]


@settings(max_examples=12)
@given(
    sides=st.tuples(st.integers(1, 32), st.integers(1, 32)),
    tile=st.integers(6, 40),
    factor=st.integers(1, 3),
    window=st.sampled_from([1, 4]),
)
def test_tiles_give_the_image_that_the_whole_gives(sides: tuple[int, int], tile: int, factor: int, window: int) -> None:
    low = torch.randn(1, CHANNELS, *sides, generator=torch.Generator().manual_seed(1))
    network = Convolutions(factor, window)
    reach = network.reach + window - 1
    fine = upscale_tiled(network, low, factor, reach, alignment=window, tile=tile)
    torch.testing.assert_close(fine, network(low), atol=1e-5, rtol=0)


def test_a_shorter_margin_would_be_seen() -> None:
    low = torch.randn(1, CHANNELS, 50, 60, generator=torch.Generator().manual_seed(1))
    network = Convolutions()
    whole = network(low)
    assert (upscale_tiled(network, low, 2, network.reach - 1, tile=16) - whole).abs().max() > 1e-3
    windows = Convolutions(window=4)
    assert (upscale_tiled(windows, low, 2, 7, alignment=1, tile=15) - windows(low)).abs().max() > 1e-3


def test_a_small_image_is_one_tile_and_a_large_one_never_whole() -> None:
    network = Convolutions()
    upscale_tiled(network, torch.zeros(1, CHANNELS, 30, 20), 2, network.reach, tile=32)
    assert network.largest == 30 * 20
    upscale_tiled(network, torch.zeros(1, CHANNELS, 200, 150), 2, network.reach, tile=32)
    assert network.largest <= (32 + 2 * network.reach) ** 2


def test_memory_maps_are_read_and_written_in_place(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).normal(size=(1, CHANNELS, 50, 40)).astype(">f4")
    np.save(tmp_path / "low.npy", pixels)
    low = np.load(tmp_path / "low.npy", mmap_mode="r")
    out = np.lib.format.open_memmap(tmp_path / "fine.npy", mode="w+", dtype=np.float32, shape=(1, CHANNELS, 100, 80))
    network = Convolutions()
    upscale_tiled(network, low, 2, network.reach, tile=16, out=out)
    out.flush()
    expected = network(torch.from_numpy(pixels.astype(np.float32)))
    np.testing.assert_allclose(np.load(tmp_path / "fine.npy"), expected, atol=1e-5)


def test_what_does_not_fit_is_refused() -> None:
    low = torch.zeros(1, CHANNELS, 20, 20)
    with pytest.raises(InvalidOption, match="tile 0"):
        upscale_tiled(Convolutions(), low, 2, 4, tile=0)
    with pytest.raises(InvalidOption, match=r"\(1, 2, 40, 40\)"):
        upscale_tiled(Convolutions(), low, 3, 4)
    with pytest.raises(InvalidOption, match=r"\(1, 1, 40, 40\)"):
        upscale_tiled(Convolutions(), low, 2, 4, out=np.zeros((1, 1, 40, 40), np.float32))


def test_a_hole_gets_the_mean_of_what_is_next_to_it() -> None:
    pixels = torch.arange(35.0).reshape(1, 5, 7).repeat(2, 1, 1)
    mask = torch.zeros(2, 5, 7, dtype=torch.bool)
    mask[0, 2, 3] = True
    pixels[0, 2, 3] = torch.inf  # masked values count for nothing
    mask[1, :2, :2] = True
    image, fine = filled(pixels, mask, 2)
    neighbours = [pixels[0, y, x] for y in (1, 2, 3) for x in (2, 3, 4) if (y, x) != (2, 3)]
    assert image[0, 2, 3] == pytest.approx(sum(map(float, neighbours)) / 8)
    # the corner has holes around it; of the grid of 2 x 2 its neighbours are columns 0 to 3 of rows 0 to 3
    assert image[1, 0, 0] == pytest.approx((pixels[1, :4, :4].sum() - pixels[1, :2, :2].sum()) / 12)
    torch.testing.assert_close(image[~mask], pixels[~mask], rtol=0, atol=0)
    assert fine.shape == (2, 10, 14)
    expected = torch.zeros(10, 14, dtype=torch.bool)
    expected[2:8, 4:10] = True
    assert torch.equal(fine[0], expected)


@given(seed=st.integers(0, 99), share=st.floats(0, 0.999), sides=st.tuples(st.integers(1, 40), st.integers(1, 40)))
def test_any_mask_is_filled_within_the_range_of_the_rest(seed: int, share: float, sides: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randn(1, *sides, generator=generator)
    mask = torch.rand(1, *sides, generator=generator) < share
    mask[0, seed % sides[0], seed % sides[1]] = False
    pixels[mask] = torch.nan
    image, fine = filled(pixels, torch.zeros_like(mask), 3)  # what is not finite is a hole without being told
    assert image.min() >= pixels[~mask].min() - 1e-5
    assert image.max() <= pixels[~mask].max() + 1e-5
    assert torch.equal(fine[:, ::3, ::3] & mask, mask)


def test_the_masked_part_of_a_constant_sky_gets_its_value() -> None:
    pixels = torch.full((1, 300, 300), 3.5)
    pixels[:, :, 20:] = torch.nan
    image, _ = filled(pixels, pixels.isnan(), 2)
    torch.testing.assert_close(image, torch.full_like(image, 3.5))


def test_an_image_without_a_sound_pixel_is_an_error() -> None:
    mask = torch.zeros(3, 4, 4, dtype=torch.bool)
    mask[1] = True
    with pytest.raises(InvalidDataset, match="every pixel of band 1 is masked"):
        filled(torch.zeros(3, 4, 4), mask, 2)

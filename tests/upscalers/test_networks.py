"""Networks that make images finer: what is said of each architecture."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from deeplense.core.degradation import Degradation
from deeplense.upscalers.back_projection import BackProjection
from deeplense.upscalers.bicubic import Bicubic
from deeplense.upscalers.blocks import Residual, coarse_pixels
from deeplense.upscalers.residual_unet import ResidualUNet
from deeplense.upscalers.srresnet import SRResNet
from deeplense.upscalers.upscaler import UPSCALERS

BLOCKS = {"srresnet_1": 1, "srresnet_2": 2, "srresnet_3": 3, "edsr_1": 1, "edsr_4": 4, "edsr_8": 8}
DEGRADATION = Degradation(2)


def count(module: nn.Module) -> int:
    return sum(value.numel() for value in module.parameters())


@pytest.mark.parametrize(("name", "expected"), BLOCKS.items())
def test_the_number_in_the_name_is_that_of_residual_blocks(name: str, expected: int) -> None:
    network = UPSCALERS[name](1, DEGRADATION)
    assert sum(isinstance(module, Residual) for module in network.modules()) == expected + 1


@pytest.mark.parametrize("name", ["edsr_8", "residual_unet", "srcnn"])
def test_only_srresnet_has_batch_norm(name: str) -> None:
    assert not any(isinstance(module, nn.BatchNorm2d) for module in UPSCALERS[name](1, DEGRADATION).modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in SRResNet(1, DEGRADATION).modules())


def test_srcnn_has_the_published_number_of_weights() -> None:
    weights = [value for path, value in UPSCALERS["srcnn"](1, DEGRADATION).named_parameters() if "weight" in path]
    assert sum(value.numel() for value in weights) == 57184


def test_a_transposed_convolution_instead_of_the_shuffle() -> None:
    kinds = {name: {type(module) for module in UPSCALERS[name](1, DEGRADATION).modules()} for name in UPSCALERS}
    assert nn.ConvTranspose2d in kinds["srresnet_3_deconvolution"]
    assert nn.PixelShuffle not in kinds["srresnet_3_deconvolution"]
    assert nn.PixelShuffle in kinds["srresnet_3"] and nn.ConvTranspose2d not in kinds["srresnet_3"]


@pytest.mark.parametrize(("channels", "factor"), [(1, 2), (1, 4), (4, 2)])
def test_our_unet_is_compact(channels: int, factor: int) -> None:
    assert count(ResidualUNet(channels, Degradation(factor))) <= 600_000


@pytest.mark.parametrize("factor", [2, 3])
def test_our_unet_starts_at_the_consistent_image(factor: int) -> None:
    low = torch.randn(2, 1, 14, 11, generator=torch.Generator().manual_seed(0))
    degradation = Degradation(factor)
    assert torch.equal(ResidualUNet(1, degradation)(low), BackProjection(1, degradation)(low))


def test_our_unet_starts_at_bicubic_interpolation_where_a_blur_is_too_wide() -> None:
    low, degradation = torch.randn(1, 1, 9, 9), Degradation(2, "gaussian", 3.0)
    assert torch.equal(ResidualUNet(1, degradation)(low), Bicubic(1, degradation)(low))


def test_our_unet_learns() -> None:
    torch.manual_seed(0)
    network, fine = ResidualUNet(1, DEGRADATION), torch.rand(2, 1, 16, 16).square()
    low = DEGRADATION(fine)
    optimiser = torch.optim.Adam(network.parameters(), 2e-3)
    losses = []
    for _ in range(12):
        optimiser.zero_grad()
        loss = (network(low) - fine).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


def test_our_unet_depends_on_where_its_coarse_grid_starts() -> None:
    torch.manual_seed(0)
    network = ResidualUNet(1, DEGRADATION).eval()
    nn.init.normal_(network.tail[0].weight, std=0.1)
    low = torch.randn(1, 1, 8, 96)
    found = {k: network(low[..., k:])[..., 2 * (48 - k) : 2 * (50 - k)] for k in (0, 2, 4)}
    assert network.alignment == 4
    assert torch.allclose(found[0], found[4], atol=1e-5)
    assert not torch.allclose(found[0], found[2], atol=1e-5)


@pytest.mark.parametrize(("fine", "factor", "expected"), [(1, 2, 1), (4, 2, 2), (4, 3, 2), (8, 4, 2), (9, 4, 3)])
def test_fine_pixels_reach_over_so_many_coarse_ones(fine: int, factor: int, expected: int) -> None:
    assert coarse_pixels(fine, factor) == expected
    assert max((offset + fine) // factor for offset in range(factor)) == expected

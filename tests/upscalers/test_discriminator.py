"""The opponent of an upscaler: its losses against their formulas, and that it can tell images apart."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from deeplense.upscalers.discriminator import PatchDiscriminator, generator_loss, opponent_loss, steepness


def test_a_logit_for_each_patch_and_none_for_other_images() -> None:
    torch.manual_seed(0)
    opponent, images = PatchDiscriminator(2).eval(), torch.randn(3, 2, 48, 41)
    logits = opponent(images)
    assert logits.shape == (3, 1, 6, 5)
    torch.testing.assert_close(opponent(images[1:2]), logits[1:2], rtol=1e-5, atol=1e-6)


def test_a_patch_is_38_pixels_wide_and_8_from_the_next() -> None:
    images = torch.zeros(1, 1, 8, 160)
    images[..., 80] = torch.nan
    hit = PatchDiscriminator(1).eval()(images).isnan().any(2)[0, 0].nonzero()[:, 0]
    assert len(hit) in (math.floor(38 / 8), math.ceil(38 / 8))


def test_every_layer_has_unit_spectral_norm() -> None:
    torch.manual_seed(0)
    opponent = PatchDiscriminator(1)
    for _ in range(50):
        opponent(torch.randn(1, 1, 16, 16))
    layers = [module for module in opponent.modules() if isinstance(module, nn.Conv2d)]
    assert len(layers) == 4
    for layer in layers:
        assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1, abs=0.05)


def test_losses_are_log_two_where_nothing_can_be_told_and_mirror_each_other() -> None:
    same = torch.full((2, 1, 3, 3), 5.0)
    real, made = torch.full((2, 1, 3, 3), 4.0), torch.full((2, 1, 3, 3), 1.0)
    assert float(opponent_loss(same, same)) == pytest.approx(math.log(2))
    assert float(opponent_loss(real, made)) == pytest.approx(math.log1p(math.exp(-3)))
    assert float(generator_loss(real, made)) == pytest.approx(math.log1p(math.exp(3)))
    torch.testing.assert_close(opponent_loss(real + 7, made + 7), opponent_loss(real, made))


def test_the_average_is_over_all_others() -> None:
    real, made = torch.tensor([0.0, 2.0]).reshape(2, 1, 1, 1), torch.tensor([-1.0, 2.0]).reshape(2, 1, 1, 1)
    terms = [math.log1p(math.exp(0.5 - x)) for x in (0.0, 2.0)], [math.log1p(math.exp(x - 1)) for x in (-1.0, 2.0)]
    assert float(opponent_loss(real, made)) == pytest.approx((sum(terms[0]) + sum(terms[1])) / 4)


def test_steepness_of_a_linear_map_is_half_its_squared_weights() -> None:
    weight = torch.tensor([[1.0, -2.0], [0.5, 3.0]])
    found = steepness(_Weighted(weight), torch.randn(5, 1, 2, 2))
    assert float(found) == pytest.approx(float(weight.square().sum()) / 2)


def test_it_learns_to_tell_noise_from_smooth_images() -> None:
    torch.manual_seed(0)
    opponent = PatchDiscriminator(1)
    optimiser = torch.optim.Adam(opponent.parameters(), 2e-3, betas=(0.0, 0.9))
    for _ in range(15):
        real, made = torch.randn(4, 1, 32, 32), torch.randn(4, 1, 32, 32).mean(3, keepdim=True).expand(-1, -1, -1, 32)
        optimiser.zero_grad()
        loss = opponent_loss(opponent(real), opponent(made)) + 1e-3 * steepness(opponent, real)
        loss.backward()
        optimiser.step()
    assert all(value.grad is not None for value in opponent.parameters())
    assert loss.item() < 0.6


class _Weighted(nn.Module):
    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (images * self.weight).sum((2, 3), keepdim=True)

"""σ of an estimate's error: within bounds, local, learnt without moving the estimate."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from deeplense.upscalers.spread import HIGHEST, LOWEST, SpreadHead


def loosened(channels: int = 1, factor: int = 2, size: float = 0.3) -> SpreadHead:
    torch.manual_seed(0)
    head = SpreadHead(channels, factor)
    nn.init.normal_(head.layers[-1].weight, std=size)
    return head


@pytest.mark.parametrize(("channels", "factor"), [(1, 2), (1, 3), (1, 4), (4, 2)])
def test_every_fine_pixel_has_one_and_the_network_is_small(channels: int, factor: int) -> None:
    head = loosened(channels, factor)
    log_sigma = head(torch.randn(2, channels, 7, 5), torch.randn(2, channels, 7 * factor, 5 * factor))
    assert log_sigma.shape == (2, channels, 7 * factor, 5 * factor)
    assert sum(value.numel() for value in head.parameters()) <= 30_000


def test_it_starts_at_one() -> None:
    log_sigma = SpreadHead(1, 2)(torch.randn(1, 1, 6, 6), torch.randn(1, 1, 12, 12))
    torch.testing.assert_close(log_sigma, torch.zeros(1, 1, 12, 12), rtol=0, atol=1e-5)


@pytest.mark.parametrize("scale", [1e3, 1e30])
def test_it_stays_within_its_bounds_and_comes_near_both(scale: float) -> None:
    log_sigma = loosened(size=30.0)(scale * torch.randn(1, 1, 9, 9), scale * torch.randn(1, 1, 18, 18))
    assert LOWEST <= float(log_sigma.min()) < LOWEST + 0.1
    assert HIGHEST - 0.1 < float(log_sigma.max()) <= HIGHEST


def test_the_estimate_gets_no_gradient() -> None:
    head = loosened()
    low, estimate = torch.randn(1, 1, 6, 6, requires_grad=True), torch.randn(1, 1, 12, 12, requires_grad=True)
    head(low, estimate).sum().backward()
    assert low.grad is None and estimate.grad is None
    assert all(value.grad is not None and value.grad.any() for value in head.parameters())


@pytest.mark.parametrize("of", ["coarse", "estimate"])
@torch.no_grad()
def test_nothing_farther_than_reach_matters(of: str) -> None:
    head, low, estimate = loosened(), torch.zeros(1, 1, 5, 15), torch.zeros(1, 1, 10, 30)
    if of == "coarse":
        low[..., 7] = torch.nan
    else:
        estimate[..., 14] = torch.nan
    hit = head(low, estimate)[0, 0].isnan().any(0).reshape(-1, 2).any(1).nonzero()[:, 0]
    assert int((hit - 7).abs().max()) == head.reach


def test_it_learns_where_errors_are_large() -> None:
    torch.manual_seed(0)
    head = SpreadHead(1, 2)
    optimiser = torch.optim.Adam(head.parameters(), 5e-3)
    for _ in range(90):
        estimate = 2 * torch.randn(2, 1, 16, 16)
        low = nn.functional.avg_pool2d(estimate, 2)
        bright = estimate > 0
        sigma = torch.where(bright, 0.5, 0.1)
        error = sigma * torch.randn_like(estimate)
        log_sigma = head(low, estimate)
        optimiser.zero_grad()
        (log_sigma + (error / log_sigma.exp()).square() / 2).mean().backward()
        optimiser.step()
    assert float(log_sigma[bright].mean()) > float(log_sigma[~bright].mean()) + 0.4

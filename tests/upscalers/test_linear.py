"""The best linear filter: against least squares, and against the filter that made the data."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from deeplense.core.degradation import Degradation
from deeplense.core.errors import InvalidDataset
from deeplense.upscalers.bicubic import Bicubic
from deeplense.upscalers.linear import Linear


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def smooth(n: int, side: int, seed: int = 0) -> torch.Tensor:
    return F.avg_pool2d(noise(n, 1, side + 4, side + 4, seed=seed), 5, 1) * 5


@pytest.mark.parametrize("channels", [1, 2])
def test_a_linear_rule_is_found_exactly(channels: int) -> None:
    low = 1e-3 * noise(6, channels, 20, 21) - 7
    rule, constant = noise(4 * channels, channels, 7, 7, seed=1), noise(4 * channels, seed=2)
    fine = F.pixel_shuffle(F.conv2d(F.pad(low, (3,) * 4, mode="replicate"), rule, constant), 2)
    linear = Linear(channels, Degradation(2))
    linear.fit(zip(low.double().split(2), fine.double().split(2), strict=True))
    torch.testing.assert_close(linear.weight, rule, rtol=0, atol=2e-2)
    torch.testing.assert_close(linear(low), fine, rtol=0, atol=1e-3 * float(fine.std()))


def test_it_is_the_least_squares_solution() -> None:
    low, fine = noise(3, 1, 9, 9), noise(3, 1, 27, 27, seed=1)
    linear = Linear(1, Degradation(3), size=3)
    linear.fit(iter([(low, fine)]))
    around = F.unfold(F.pad(low, (1,) * 4, mode="replicate"), 3).transpose(1, 2).reshape(-1, 9).numpy()
    wanted = F.pixel_unshuffle(fine, 3).permute(0, 2, 3, 1).reshape(-1, 9).numpy()
    solution = np.linalg.lstsq(np.column_stack([around, np.ones(len(around))]).astype(float), wanted, rcond=None)[0]
    np.testing.assert_allclose(linear.weight.reshape(9, 9).numpy().T, solution[:9], atol=1e-5)
    np.testing.assert_allclose(linear.bias.numpy(), solution[9], atol=1e-5)


def test_batches_do_not_matter() -> None:
    fine = smooth(7, 24)
    low = Degradation(2)(fine)
    whole, parts = Linear(1, Degradation(2)), Linear(1, Degradation(2))
    whole.fit(iter([(low, fine)]))
    parts.fit(zip(low.split(3), fine.split(3), strict=True))
    torch.testing.assert_close(parts.weight, whole.weight, rtol=0, atol=1e-5)


def test_it_beats_bicubic_on_images_of_the_kind_that_it_has_seen() -> None:
    degradation = Degradation(2)
    linear, fine = Linear(1, degradation), smooth(20, 48, seed=1)
    linear.fit((degradation(part), part) for part in smooth(20, 48).split(5))
    low = degradation(fine)
    assert F.mse_loss(linear(low), fine) < 0.95 * F.mse_loss(Bicubic(1, degradation)(low), fine)


def test_before_it_is_fitted_each_pixel_is_repeated() -> None:
    low = noise(1, 2, 5, 6)
    expected = low.repeat_interleave(3, 2).repeat_interleave(3, 3)
    assert torch.equal(Linear(2, Degradation(3))(low), expected)


def test_images_of_one_value_can_be_fitted() -> None:
    linear = Linear(1, Degradation(2))
    linear.fit(iter([(torch.ones(2, 1, 9, 9), torch.full((2, 1, 18, 18), 3.0))]))
    torch.testing.assert_close(linear(torch.ones(1, 1, 5, 5)), torch.full((1, 1, 10, 10), 3.0))


def test_no_pairs_are_an_error() -> None:
    with pytest.raises(InvalidDataset, match="training split"):
        Linear(1, Degradation(2)).fit(iter([]))

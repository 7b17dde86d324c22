"""What every upscaler owes: fine images of any size, local, of the image alone, and the same again when stored."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest
import torch

from deeplense.core.degradation import Degradation
from deeplense.upscalers.upscaler import UPSCALERS, Upscaler

NAMES = list(UPSCALERS)
TRAINED = [name for name in NAMES if UPSCALERS[name].trained]  # type: ignore[attr-defined]
LINEAR = ["back_projection", "bicubic", "pseudo_inverse"]
CONSTANT = ["back_projection", "bicubic", "residual_unet"]  # before it has learnt anything
DEGRADATION = Degradation(2)


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pairs(degradation: Degradation, channels: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for seed in range(2):
        fine = images(2, channels, 24 * degradation.factor, 24 * degradation.factor, seed=seed)
        yield degradation(fine), fine


@functools.cache
def ready(name: str, channels: int = 1, degradation: Degradation = DEGRADATION) -> Upscaler:
    """Return an upscaler whose every parameter counts: none is left as it is initialised."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        upscaler = UPSCALERS[name](channels, degradation)
        upscaler.fit(pairs(degradation, channels))
        with torch.no_grad():
            for parameter in upscaler.parameters():
                parameter += 0.02 * torch.randn_like(parameter)
    return upscaler.eval()


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_it_is(name: str) -> None:
    kind = UPSCALERS[name]
    assert isinstance(kind, type) and issubclass(kind, Upscaler)
    assert kind.reference.strip() and kind.__doc__
    upscaler = ready(name)
    assert any(True for _ in upscaler.parameters()) == kind.trained
    assert (upscaler.channels, upscaler.factor, upscaler.degradation) == (1, 2, DEGRADATION)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("channels, factor", [(1, 2), (1, 3), (4, 2), (2, 4)])
@torch.no_grad()
def test_fine_images_have_factor_times_the_side_whatever_it_is(name: str, channels: int, factor: int) -> None:
    upscaler = ready(name, channels, Degradation(factor, "area"))
    for height, width in ((17, 22), (5, 3), (1, 1)):
        fine = upscaler(images(2, channels, height, width))
        assert fine.shape == (2, channels, height * factor, width * factor)
        assert fine.dtype == torch.float32 and bool(fine.isfinite().all())


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_an_answer_is_of_the_image_alone(name: str) -> None:
    upscaler, low = ready(name), images(3, 1, 19, 20)
    given = low.clone()
    together = upscaler(low)
    alone = torch.cat([upscaler(low[k : k + 1]) for k in range(3)])
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-6 * float(together.abs().max()))
    assert torch.equal(low, given)


@pytest.mark.parametrize("factor", [2, 3])
@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_nothing_farther_than_reach_matters_and_something_near_it_does(name: str, factor: int) -> None:
    upscaler = ready(name, 1, Degradation(factor))
    reach, step = upscaler.reach, upscaler.alignment
    farthest = 0
    for shift in range(step):
        middle = step * -(-(reach + 1) // step) + shift
        low = torch.zeros(1, 1, 3, 2 * middle + 1)
        low[..., middle] = torch.nan  # what depends on it is then none either: rounding hides nothing
        hit = upscaler(low)[0, 0].isnan().any(0).reshape(-1, factor).any(1).nonzero()[:, 0]
        farthest = max(farthest, int((hit - middle).abs().max()))
    assert farthest <= reach
    assert farthest >= reach - 1, "a reach that is overstated costs margins"


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_a_tile_with_margins_is_what_the_whole_image_has_there(name: str) -> None:
    upscaler = ready(name)
    step = upscaler.alignment
    margin = step * -(-upscaler.reach // step)
    low = images(1, 1, 9, 2 * margin + 2 * step + 7)
    start, stop = margin + step, margin + step + 6
    tile = upscaler(low[..., start - margin : stop + margin])[..., 2 * margin : 2 * (margin + stop - start)]
    whole = upscaler(low)[..., 2 * start : 2 * stop]
    torch.testing.assert_close(tile, whole, rtol=0, atol=1e-5 * float(whole.abs().max()))


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_what_is_stored_gives_the_same_images(name: str) -> None:
    fitted, low = ready(name), images(1, 1, 12, 13)
    other = UPSCALERS[name](1, DEGRADATION).eval()
    other.load_state_dict({key: value.clone() for key, value in fitted.state_dict().items()})
    assert torch.equal(other(low), fitted(low))


@pytest.mark.parametrize("name", TRAINED)
def test_gradients_reach_every_parameter(name: str) -> None:
    upscaler = ready(name)
    upscaler(images(2, 1, 16, 16)).square().mean().backward()
    missed = [path for path, value in upscaler.named_parameters() if value.grad is None or not value.grad.any()]
    upscaler.zero_grad(set_to_none=True)
    assert not missed


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_nothing_is_clipped(name: str) -> None:
    fine = ready(name)(30 * images(1, 1, 16, 16))
    assert float(fine.min()) < 0 and float(fine.max()) > 1


@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize("name", LINEAR)
@torch.no_grad()
def test_images_may_be_scaled_and_added(name: str, factor: int) -> None:
    upscaler = ready(name, 2, Degradation(factor))
    one, other = images(1, 2, 9, 8), images(1, 2, 9, 8, seed=1)
    torch.testing.assert_close(upscaler(1e4 * one - other), 1e4 * upscaler(one) - upscaler(other), rtol=1e-5, atol=2e-2)


@pytest.mark.parametrize("degradation", [Degradation(2), Degradation(3), Degradation(4), Degradation(2, "gaussian", 1)])
@pytest.mark.parametrize("name", CONSTANT)
@torch.no_grad()
def test_a_constant_image_stays_that_constant(name: str, degradation: Degradation) -> None:
    fine = UPSCALERS[name](1, degradation)(torch.full((1, 1, 7, 9), -3.0))
    torch.testing.assert_close(fine, torch.full_like(fine, -3.0), rtol=1e-5, atol=0)

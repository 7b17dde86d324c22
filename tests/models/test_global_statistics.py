"""The model of nine numbers: whitened by the images it has seen, and a linear head on it a discriminant."""

from __future__ import annotations

import torch

from deeplense.models.global_statistics import STATISTICS, GlobalStatistics, statistics


def images(n: int, seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * (torch.rand(n, 1, 1, 1, generator=generator) + torch.rand(n, 2, 12, 15, generator=generator))


def seen(parts: list[torch.Tensor]) -> GlobalStatistics:
    model = GlobalStatistics((2, 12, 15)).train()
    for part in parts:
        model.forward_features(part)
    return model.eval()


def test_mean_and_covariance_are_those_of_all_images_seen() -> None:
    every = images(50)
    found, model = statistics(every), seen(list(every.split(7)))
    assert torch.allclose(model.running_mean, found.mean(0))
    assert torch.allclose(model.moments / (model.n_seen - 1), found.T.cov())


def test_what_it_gives_is_uncorrelated_and_of_unit_variance_whatever_the_unit() -> None:
    for scale in (1e-6, 1.0, 1e6):
        every = images(400, scale=scale)
        white = seen([every]).forward_features(every)
        assert white.shape == (400, len(STATISTICS)) and white.dtype == torch.float32
        variances = white.T.cov().diagonal()
        assert bool((variances < 1.05).all()) and float(variances.median()) > 0.7, "shrunk by 1 %: never larger"


def test_judging_changes_nothing_and_a_reload_answers_the_same() -> None:
    model, fresh = seen([images(30)]), images(5, seed=1)
    before = model.forward_features(fresh)
    model.forward_features(images(100, seed=2))
    other = GlobalStatistics((2, 12, 15)).eval()
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.forward_features(fresh), before)
    assert not list(model.parameters())


def test_images_that_are_all_alike_give_numbers() -> None:
    model = seen([torch.zeros(3, 2, 12, 15)])
    assert bool(model.forward_features(images(2)).isfinite().all())

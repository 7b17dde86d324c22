"""Images unlike those of training."""

from __future__ import annotations

import json

import numpy as np
import torch

from deeplense.models.baseline_cnn import BaselineCNN
from deeplense.training.familiar import ranges, statistics, unfamiliar

BACKBONE = BaselineCNN((1, 32, 32))


def drawn(n: int, seed: int) -> torch.Tensor:
    return torch.randn(n, 1, 32, 32, generator=torch.Generator().manual_seed(seed))


def test_images_of_one_kind_are_familiar() -> None:
    known = json.loads(json.dumps(ranges(statistics(drawn(256, 0), BACKBONE))))
    words = unfamiliar(statistics(drawn(2000, 1), BACKBONE), known)
    assert sum(word is not None for word in words) <= 4


def test_what_is_odd_is_said() -> None:
    known = ranges(statistics(drawn(256, 0), BACKBONE))
    one = drawn(1, 1)
    odd = torch.cat([one * 3, one + 1, one * 0, one])
    scaled, shifted, blank, like = unfamiliar(statistics(odd, BACKBONE), known)
    assert scaled is not None and scaled.startswith("lowest pixel")
    assert shifted is not None and "in training" in shifted
    assert blank is not None
    assert like is None


def test_numbers_without_a_range_are_not_judged() -> None:
    values = statistics(drawn(3, 1), BACKBONE)
    assert unfamiliar(values, {}) == [None] * 3
    values["mean pixel"] = np.array([0.0, np.nan, 5.0])
    assert [word is None for word in unfamiliar(values, {"mean pixel": [-1.0, 1.0]})] == [True, False, False]

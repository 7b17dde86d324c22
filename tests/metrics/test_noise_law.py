"""The noise of an image, by its brightness."""

from __future__ import annotations

import pytest
import torch

from deeplense.metrics.noise_law import NoiseLaw, fit_noise_law


@pytest.mark.parametrize(("background", "per_value"), [(1e-4, 0.0), (1e-4, 2e-3), (4.0, 1.0)])
def test_the_law_that_made_the_noise_is_found(background: float, per_value: float) -> None:
    generator = torch.Generator().manual_seed(1)
    expected = torch.rand(40, 1, 64, 64, generator=generator) ** 3 * (10 if background > 1 else 1)
    noise = torch.randn(expected.shape, generator=generator)
    law = NoiseLaw(background, per_value)
    found = fit_noise_law(expected + noise * law.variance(expected).sqrt(), expected)
    assert found.background == pytest.approx(background, rel=0.03)
    assert found.per_value == pytest.approx(per_value, rel=0.04, abs=0.02 * background)


def test_what_is_fainter_than_the_faintest_has_its_noise() -> None:
    law = NoiseLaw(-1.0, 3.0, faintest=1.0)
    assert law.variance(torch.tensor([-5.0, 1.0, 2.0])).tolist() == [2.0, 2.0, 5.0] and law.least == 2.0


def test_a_sky_that_is_not_zero_has_its_own_noise() -> None:
    generator = torch.Generator().manual_seed(2)
    expected = 0.02 + torch.rand(20, 1, 64, 64, generator=generator) ** 4
    variance = 1e-4 + 1e-3 * (expected - 0.02)
    law = fit_noise_law(expected + variance.sqrt() * torch.randn(expected.shape, generator=generator), expected)
    assert law.faintest == pytest.approx(0.02, abs=1e-3) and law.least == pytest.approx(1e-4, rel=0.05)


def test_without_noise_there_is_none() -> None:
    image = torch.rand(2, 1, 8, 8)
    assert fit_noise_law(image, image) == NoiseLaw(0.0)

"""The physical detector: what a smooth lens leaves of an image, against noise."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from deeplense.core.errors import InvalidDataset
from deeplense.detectors.calibrated import CalibratedDetector, build_detector, has_p_chi2
from deeplense.detectors.detector import Effort
from deeplense.detectors.physical import Physical, _smoothed, _spectrum, chi2_tail
from deeplense.metrics.anomalies import uniformity
from deeplense.metrics.ranking import auroc
from deeplense.recipes.draw import draw_images
from deeplense.recipes.recipe import Recipe, Sample, load_recipe

EFFORT = Effort(epochs=1, batch_size=64, lr=1e-3)
SHAPE = (1, 40, 40)


class Given:
    """Normal images that a detector is given, in memory."""

    def __init__(self, images: torch.Tensor) -> None:
        self.images = images

    def sample(self, n: int) -> torch.Tensor:
        return self.images[:n]


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return dataclasses.replace(load_recipe("model_ii"), n_pixels=40)


def images(recipe: Recipe, label: str, n: int, split: str = "test") -> torch.Tensor:
    return draw_images(recipe, 5, [Sample(split, label, k) for k in range(n)])["image"]


@pytest.fixture(scope="module")
def fitted(recipe: Recipe) -> CalibratedDetector:
    network = CalibratedDetector(build_detector("physical", SHAPE, recipe.as_dict()))
    network.detector.fit(Given(images(recipe, "no_sub", 200, "train")), EFFORT)  # type: ignore[arg-type]
    network.calibrate(network.detector.score(images(recipe, "no_sub", 200, "validation")))
    return network


def test_it_finds_what_it_has_never_seen(fitted: CalibratedDetector, recipe: Recipe) -> None:
    normal = fitted(images(recipe, "no_sub", 100))
    for label in ("cdm", "axion"):
        other = fitted(images(recipe, label, 60))
        scores = torch.cat([normal[:, 0], other[:, 0]]).numpy()
        assert auroc(scores, np.arange(160) >= 100) > 0.97, label
    distance, chance = uniformity(normal[:, 1].numpy(), calibration=200)
    assert chance > 0.01, f"p-values of normal images are not uniform: {distance}"


@given(st.integers(1, 50_000), st.lists(st.floats(-8, 12), min_size=1, max_size=20))
def test_the_tail_of_chi2_is_that_of_scipy(freedom: int, sigmas: list[float]) -> None:
    chi2 = np.maximum(0, freedom + np.array(sigmas) * np.sqrt(2 * freedom))
    found = chi2_tail(torch.from_numpy(chi2), freedom)
    np.testing.assert_allclose(found.numpy(), stats.chi2.sf(chi2, freedom), rtol=1e-7, atol=1e-300)


def test_p_values_of_chi2_are_uniform_for_smooth_lenses_alone(fitted: CalibratedDetector, recipe: Recipe) -> None:
    assert has_p_chi2("physical")
    assert not has_p_chi2("pca")
    smooth = images(recipe, "no_sub", 200)
    p_chi2 = fitted(smooth)[:, 2]
    assert uniformity(p_chi2.numpy())[1] > 0.01, "Model II: normal noise of known variance"
    chi2 = 1600 * fitted.detector.misfit(smooth[:20]).double()  # type: ignore[union-attr]
    torch.testing.assert_close(p_chi2[:20], chi2_tail(chi2, 1600 - 2), rtol=1e-3, atol=1e-4)
    assert (fitted(images(recipe, "axion", 30))[:, 2] < 0.01).float().mean() > 0.9


def test_what_has_no_chi2_fits_as_badly_as_can_be(
    fitted: CalibratedDetector, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    none = torch.full((2,), torch.nan)
    monkeypatch.setattr(fitted.detector, "judge", lambda images: (none, none))
    assert fitted(images(recipe, "no_sub", 2))[:, 1:].tolist() == [[1 / 201, 0.0]] * 2


def test_what_is_no_lens_is_as_strange_as_can_be(fitted: CalibratedDetector, recipe: Recipe) -> None:
    lens = images(recipe, "no_sub", 1)
    masked = lens.clone()
    masked[:, :, :12, :12] = 0
    noise = lens.std() * torch.randn(lens.shape, generator=torch.Generator().manual_seed(0))
    odd = {
        "blank": torch.zeros_like(lens),
        "constant": torch.full_like(lens, 7.0),
        "saturated": lens.clamp(max=0.2 * lens.max().item()),
        "white": torch.full_like(lens, 1e6),
        "masked corner": masked,
        "noise": noise,
        "negative": -lens,
    }
    for name, image in odd.items():
        score, p_value, _ = fitted(image)[0]
        assert torch.isfinite(score), name
        assert p_value <= 2 / 201, name


def test_its_map_shows_where_the_mass_is(fitted: CalibratedDetector, recipe: Recipe) -> None:
    smooth, lumpy = (fitted.map(images(recipe, label, 40)) for label in ("no_sub", "cdm"))
    assert smooth is not None
    assert lumpy is not None
    assert smooth.shape == (40, 1, 40, 40)
    assert smooth.std().item() == pytest.approx(1, abs=0.15), "it is in units of its noise"
    assert lumpy.abs().amax((1, 2, 3)).median() > smooth.abs().amax((1, 2, 3)).max()


def test_it_is_stored_and_read(fitted: CalibratedDetector, recipe: Recipe) -> None:
    other = CalibratedDetector(build_detector("physical", SHAPE, recipe.as_dict()))
    other.load_state_dict(fitted.state_dict())
    some = images(recipe, "axion", 3)
    assert torch.equal(other(some), fitted(some))
    torch.testing.assert_close(fitted(some[1:2]), fitted(some)[1:2], rtol=1e-3, atol=1e-3)


def test_a_pixel_that_is_no_number_is_named(fitted: CalibratedDetector, recipe: Recipe) -> None:
    bad = images(recipe, "no_sub", 2)
    bad[0, 0, 3, 3] = torch.nan
    with pytest.raises(InvalidDataset, match="1 of 2 images"):
        fitted(bad)


def test_white_noise_has_unit_statistics() -> None:
    noise = torch.randn(64, 2, 50, 50, generator=torch.Generator().manual_seed(1))
    assert _smoothed(noise, 2.0)[:, :, 10:-10, 10:-10].var().item() == pytest.approx(1, abs=0.05)
    torch.testing.assert_close(_spectrum(noise).mean(0), torch.ones(6), rtol=0, atol=0.05)


def test_small_images_have_fewer_widths(recipe: Recipe) -> None:
    assert Physical(SHAPE, recipe.as_dict()).widths == [1.0, 2.0, 4.0]

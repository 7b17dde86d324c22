"""Images through a run of super-resolution: the unit is kept, holes are flagged, χ² means what it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from astropy.io.fits import Header
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from deeplense.core.errors import CorruptFile, InvalidOption
from deeplense.core.run_folder import RunFolder
from deeplense.data.fits import FitsImage
from deeplense.tasks.super_resolve import SuperResolve
from deeplense.training import upscaling as module
from deeplense.training.trained import TrainedModel
from deeplense.training.upscaling import Upscaled, Upscaling

FAMILIAR = {"lowest pixel": [-0.1, 0.1], "mean pixel": [0.0, 1.0], "highest pixel": [0.9, 1.1]}
BACKGROUND = 1e-4


def resolver_run(
    folder: Path,
    channels: int = 1,
    model: str = "bicubic",
    average: bool = False,
    rescale: str = "min_max",
    **changed: Any,
) -> Path:
    """Return a run folder of a model that has learnt nothing, as `train` would write it."""
    options = {
        "estimator": "truth",
        "loss": "mse",
        "degradation": {"factor": 2, "method": "area", "blur": 0.0},
        "degradation_is_known": True,
        "data_range": 1.0,
        "noise": {"background": BACKGROUND, "per_value": 0.0},
        "model_name": model,
        "crop": None,
        "symmetry": "half_turn",
        "average_symmetry": average,
    }
    options |= changed
    torch.manual_seed(0)
    network = SuperResolve.of((), options).network((channels, 16, 16), options)
    if model == "residual_unet":
        for parameter in network.upscaler.tail.parameters():  # it adds nothing before it has learnt
            nn.init.normal_(parameter, std=0.1)
    folder.mkdir(parents=True)
    config = {"task": "super_resolve", "labels": ["lens"], "image_shape": [channels, 16, 16], "options": options}
    config |= {"normalisation": {"kind": "none"}, "familiar": FAMILIAR, "dataset": {"rescale": rescale}}
    (folder / "config.json").write_text(json.dumps(config))
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, folder / "model.safetensors")
    return folder


def stamp(pixels: np.ndarray, sigma: np.ndarray | None = None) -> FitsImage:
    """Return an image as it is read."""
    pixels = pixels.astype(np.float32)
    return FitsImage("", 0, pixels, ~np.isfinite(pixels), Header(), None, sigma)


def lens(seed: int = 0, side: int = 16) -> np.ndarray:
    """Return [1, side, side], a blob with noise, from 0 to 1."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    image = np.exp(-(x**2 + y**2) / side) + np.random.default_rng(seed).normal(0, 0.01, (side, side))
    return ((image - image.min()) / (image.max() - image.min()))[None].astype(np.float32)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run that interpolates."""
    return resolver_run(tmp_path_factory.mktemp("runs") / "plain")


def use(run: Path, rescale: Any = None, batch_size: int = 8) -> Upscaling:
    """Return the run at work."""
    return Upscaling(TrainedModel.load(RunFolder(run), "cpu"), rescale, batch_size)


def one(upscaling: Upscaling, image: FitsImage) -> Upscaled:
    """Return the answer for one image, which must be one."""
    answer = upscaling([image])[0]
    assert isinstance(answer, Upscaled), answer
    return answer


def test_an_image_of_the_runs_unit_is_taken_as_it_is(run: Path) -> None:
    image = lens()
    answer = one(use(run), stamp(image))
    wanted = F.interpolate(torch.from_numpy(image)[None], scale_factor=2, mode="bicubic", align_corners=False)[0]
    np.testing.assert_allclose(answer.pixels, wanted.numpy(), atol=1e-6)
    assert answer.sigma.shape == (1, 32, 32) and (answer.sigma > 0).all()
    assert not answer.rescaled and answer.unlike is None and not answer.mask.any() and answer.masked == 0
    assert answer.flux_ratio == pytest.approx(1, abs=0.01)


@settings(max_examples=12)
@given(gain=st.floats(1e-3, 1e4), zero=st.floats(-5, 5))
def test_another_unit_is_brought_there_and_back(run: Path, gain: float, zero: float) -> None:
    upscaling, image = use(run, "min_max"), lens()
    plain, other = one(upscaling, stamp(image)), one(upscaling, stamp((image + zero) * gain))
    np.testing.assert_allclose(other.pixels, (plain.pixels + zero) * gain, atol=1e-5 * gain)
    np.testing.assert_allclose(other.sigma, plain.sigma * gain, rtol=1e-3)
    assert other.chi2 == pytest.approx(plain.chi2, rel=1e-2)
    assert other.rescaled and other.unlike is None


def test_by_default_only_other_units_are_rescaled(run: Path, tmp_path: Path) -> None:
    assert one(use(run), stamp(lens() * 50)).rescaled
    assert not one(use(run), stamp(lens())).rescaled
    dim = lens() ** 9 - 0.3 * lens()[:, ::-1]  # extremes near those of training, another mean
    dim = (dim - dim.min()) / (dim.max() - dim.min()) - 0.05
    assert not one(use(run), stamp(dim)).rescaled
    counts = resolver_run(tmp_path / "counts", rescale="none")
    assert not one(use(counts), stamp(lens() * 50)).rescaled, "a run of images in counts"


def test_rescale_none_says_that_the_image_is_unlike(run: Path) -> None:
    answer = one(use(run, "none"), stamp(lens() * 50))
    assert not answer.rescaled and answer.unlike is not None and "in training" in answer.unlike


def test_holes_are_filled_and_flagged_and_do_not_count(run: Path) -> None:
    image = lens()
    clean = one(use(run), stamp(image))
    image[0, 3, 4], image[0, 10, 10] = np.nan, np.inf
    answer = one(use(run), stamp(image))
    assert answer.masked == 2 and np.isfinite(answer.pixels).all() and np.isfinite(answer.sigma).all()
    assert answer.mask.sum() == 2 * 9 * 4 and answer.mask[0, 4:10, 6:12].all()
    assert answer.chi2 is not None and clean.chi2 is not None and answer.chi2 == pytest.approx(clean.chi2, rel=0.5)


def test_chi2_is_that_of_the_noise_law_or_of_the_noise_map(run: Path) -> None:
    image = lens()
    by_law = one(use(run, "none"), stamp(image)).chi2
    again = F.avg_pool2d(torch.from_numpy(one(use(run, "none"), stamp(image)).pixels), 2)
    assert by_law == pytest.approx(float((again - torch.from_numpy(image)).square().mean()) / BACKGROUND, rel=1e-4)
    rms = np.full(image.shape, 2 * BACKGROUND**0.5, np.float32)
    assert by_law is not None and one(use(run, "none"), stamp(image, rms)).chi2 == pytest.approx(by_law / 4, rel=1e-4)
    assert one(use(run, "min_max"), stamp(image * 7, rms * 7)).chi2 == pytest.approx(by_law / 4, rel=0.2)
    rms[0, :4] = 0
    assert one(use(run, "none"), stamp(image, rms)).chi2 is not None
    assert one(use(run, "none"), stamp(image, 0 * rms)).chi2 is None, "no pixel has a noise"


def test_where_nothing_shone_in_training_the_noise_law_is_not_stretched(tmp_path: Path) -> None:
    run = resolver_run(tmp_path / "photons", noise={"background": 1e-17, "per_value": 1e-3, "faintest": 0.01})
    dark = lens() - 0.2
    chi2, expected = one(use(run, "none"), stamp(dark)).chi2, one(use(run, "none"), stamp(dark)).pixels
    again = F.avg_pool2d(torch.from_numpy(expected), 2)
    squares = (again - torch.from_numpy(dark)).square() / (1e-3 * again.clamp(min=0.01))
    assert chi2 == pytest.approx(float(squares.mean()), rel=1e-4)


def shifted(run: Path, by: float, monkeypatch: pytest.MonkeyPatch) -> Upscaling:
    """Return a run whose answers are too bright."""
    upscaling = use(run, "none")
    right = upscaling.network.upscaler.forward
    scale = float(upscaling.network.scale)
    monkeypatch.setattr(upscaling.network.upscaler, "forward", lambda low: right(low) + by / scale)
    return upscaling


@pytest.mark.parametrize(("sigmas", "consistent"), [(0.0, True), (1.0, True), (2.0, False)])
def test_an_estimate_that_contradicts_the_image_is_told_of(
    tmp_path: Path, sigmas: float, consistent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = resolver_run(tmp_path / "exact", model="pseudo_inverse")
    answer = one(shifted(run, sigmas * BACKGROUND**0.5, monkeypatch), stamp(lens(side=64)))
    assert answer.consistent is consistent
    assert answer.chi2 == pytest.approx(sigmas**2, abs=0.05)


@pytest.mark.parametrize(
    ("settings", "has_chi2"),
    [({"estimator": "fidelity"}, True), ({"degradation_is_known": False}, False), ({"noise": None}, False)],
)
def test_chi2_says_nothing_where_it_is_0_by_construction_or_not_known(
    tmp_path: Path, settings: dict[str, Any], has_chi2: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = one(shifted(resolver_run(tmp_path / "run", **settings), 1.0, monkeypatch), stamp(lens()))
    assert (answer.chi2 is not None) is has_chi2 and answer.consistent is None


@pytest.mark.parametrize(
    ("pixels", "why"),
    [
        (np.full((1, 16, 16), 3.0), "every pixel is 3"),
        (np.full((1, 16, 16), np.nan), "masked or not finite"),
        (np.zeros((3, 16, 16)), r"3 bands; expected 1"),
        (np.ones((1, 7, 16)), "7 x 16 pixels"),
        (lens() * 3e38, "not a number"),
    ],
)
def test_an_image_that_cannot_be_used_is_told_why_and_stops_no_other(run: Path, pixels: np.ndarray, why: str) -> None:
    good = lens()
    good[0, 0, 0] = np.nan
    upscaling = use(run, "none")
    if why == "not a number":
        pixels = np.where(np.arange(16) % 2, 3.4e38, -3.4e38) * np.ones((1, 16, 1))  # bicubic overshoots
    first, bad, last = upscaling([stamp(good), stamp(pixels), stamp(lens(1))])
    assert isinstance(bad, str) and why in bad
    assert isinstance(first, Upscaled) and isinstance(last, Upscaled)


def test_sizes_are_sorted_into_batches_and_answers_back(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    upscaling, sizes = use(run, "none", batch_size=2), []
    real = upscaling._outputs
    monkeypatch.setattr(upscaling, "_outputs", lambda images: (sizes.append(tuple(images.shape)), real(images))[1])
    images = [lens(k, side) for k, side in enumerate((16, 24, 16, 16, 24))]
    answers = upscaling([stamp(image) for image in images])
    assert sorted(sizes) == [(1, 1, 16, 16), (2, 1, 16, 16), (2, 1, 24, 24)]
    for image, answer in zip(images, answers, strict=True):
        assert isinstance(answer, Upscaled)
        np.testing.assert_allclose(answer.pixels, one(use(run, "none"), stamp(image)).pixels, atol=1e-6)
    monkeypatch.setattr(module, "AT_ONCE", 24 * 24)
    sizes.clear()
    upscaling([stamp(image) for image in images])
    assert (1, 1, 24, 24) in sizes and (2, 1, 24, 24) not in sizes, "fewer at a time where they are large"


@pytest.mark.parametrize("average", [False, True])
def test_a_large_image_in_tiles_is_the_whole_one(
    tmp_path: Path, average: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = resolver_run(tmp_path / "run", model="residual_unet", average=average)
    image = np.random.default_rng(0).normal(0.5, 0.2, (1, 9, 515))
    whole = one(use(run, "none"), stamp(image))
    monkeypatch.setattr(module, "AT_ONCE", 1000)
    tiled = one(use(run, "none"), stamp(image))
    np.testing.assert_allclose(tiled.pixels, whole.pixels, atol=2e-5)
    np.testing.assert_allclose(tiled.sigma, whole.sigma, rtol=1e-3)


def test_bands_are_answered_one_by_one(tmp_path: Path) -> None:
    run = resolver_run(tmp_path / "run", channels=3)
    image = np.concatenate([lens(k) for k in range(3)])
    image[1, 2, 2] = np.nan
    answer = one(use(run), stamp(image))
    assert answer.pixels.shape == answer.sigma.shape == (3, 32, 32)
    assert answer.mask[1].any() and not answer.mask[0].any()


def test_another_task_is_refused(small_run: Path) -> None:
    with pytest.raises(InvalidOption, match="small123"):
        use(small_run)


def test_a_record_without_what_is_familiar_is_damaged(run: Path, tmp_path: Path) -> None:
    other = resolver_run(tmp_path / "run")
    config = json.loads((other / "config.json").read_text())
    del config["familiar"]
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(CorruptFile, match="familiar"):
        use(other, "min_max")._middle()

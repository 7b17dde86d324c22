"""What happens to an image before the network sees it: numbers of the normalisations, exactness of the symmetries."""

from __future__ import annotations

import json
import math
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from deeplense.data.transforms import (
    Augmentation,
    Normalisation,
    NormalisationKind,
    Symmetry,
    fit_normalisation,
    symmetric_copies,
    turned_back,
)

KINDS = get_args(NormalisationKind)
PER_IMAGE, FITTED = ("none", "max", "min_max"), ("standard", "sqrt", "log", "asinh")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noisy(n: int = 32, side: int = 32, channels: int = 1) -> Tensor:
    """Return images with σ = 2 of background noise around 5, and a bright spot."""
    images = 5 + 2 * torch.randn(n, channels, side, side, generator=generator())
    images[:, :, side // 2, side // 2] += 500
    return images


# ---- normalisations


def test_every_kind_is_in_one_of_the_groups_below() -> None:
    assert set(KINDS) == {*PER_IMAGE, *FITTED}


def test_none_leaves_the_pixels_alone() -> None:
    images = noisy()
    assert torch.equal(fit_normalisation("none", images)(images), images)


def test_max_and_min_max_scale_each_image_by_itself() -> None:
    images = noisy() * torch.linspace(0.1, 10, 32)[:, None, None, None]
    by_max, by_range = (fit_normalisation(kind, images)(images) for kind in ("max", "min_max"))
    assert torch.allclose(by_max.amax((1, 2, 3)), torch.ones(32))
    assert torch.allclose(by_max * images.amax((1, 2, 3), keepdim=True), images, rtol=1e-5)
    assert torch.allclose(by_range.amax((1, 2, 3)), torch.ones(32)) and bool((by_range.amin((1, 2, 3)) == 0).all())
    for kind in ("max", "min_max"):
        alone = Normalisation(kind)(images[:1])
        assert torch.equal(alone, Normalisation(kind)(images)[:1]), "an image depends on its neighbours"


@pytest.mark.parametrize("kind", FITTED)
def test_fitted_kinds_give_mean_0_and_deviation_1_on_what_they_were_fitted_on(kind: NormalisationKind) -> None:
    images = noisy()
    normalised = fit_normalisation(kind, images)(images)
    assert abs(float(normalised.mean())) < 1e-4
    assert abs(float(normalised.std()) - 1) < 1e-3


@pytest.mark.parametrize("kind", FITTED)
def test_a_fitted_kind_keeps_its_numbers_on_other_images(kind: NormalisationKind) -> None:
    normalisation = fit_normalisation(kind, noisy())
    brighter = normalisation(noisy() + 100)
    assert float(brighter.mean()) > 1, "other images were normalised by their own numbers"
    restored = Normalisation.from_mapping(normalisation.as_dict())
    assert torch.equal(restored(noisy() + 100), brighter)


def test_asinh_turns_at_three_deviations_of_the_background_whatever_shines_on_it() -> None:
    assert fit_normalisation("asinh", noisy()).scale == pytest.approx(3 * 2, rel=0.03)
    x = torch.tensor([[[[0.0, 1.0, -1.0, 1e4]]]])
    stretched = Normalisation("asinh", scale=6.0)(x)
    assert torch.allclose(stretched.flatten(), torch.asinh(x.flatten() / 6))


@pytest.mark.parametrize("kind", ["sqrt", "log"])
def test_sqrt_and_log_take_the_bright_end_to_1_and_keep_the_sign(kind: NormalisationKind) -> None:
    images = torch.linspace(0, 200, 10_000).reshape(1, 1, 100, 100)
    scale = fit_normalisation(kind, images).scale
    assert scale == pytest.approx(199.8, rel=1e-3)
    stretch = Normalisation(kind, scale=scale)
    x = torch.tensor([scale, 0.0, -scale, scale / 4]).reshape(1, 1, 2, 2)
    quarter = 0.5 if kind == "sqrt" else math.log(3.5) / math.log(11)
    assert stretch(x).flatten().tolist() == pytest.approx([1, 0, -1, quarter], abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [0.0, 7.0, -3.0, 1e-30, 1e30])
def test_blank_images_stay_finite(kind: NormalisationKind, value: float) -> None:
    blank = torch.full((2, 1, 8, 8), value)
    for sample in (blank, noisy()):
        for images in (blank, noisy()):
            assert bool(fit_normalisation(kind, sample)(images).isfinite().all())


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_bright_pixel_or_negative_images_stay_finite(kind: NormalisationKind) -> None:
    single = torch.zeros(1, 1, 8, 8)
    single[0, 0, 0, 0] = 1
    for images in (single, -noisy(), noisy() - 100):
        assert bool(fit_normalisation(kind, images)(images).isfinite().all())


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "none"])
def test_the_unit_of_the_pixels_does_not_matter(kind: NormalisationKind) -> None:
    """Electrons per second or counts: the network sees the same."""
    images = noisy()
    one, other = (fit_normalisation(kind, unit * images)(unit * images) for unit in (1.0, 1000.0))
    assert torch.allclose(one, other, atol=1e-3)


def test_order_is_kept() -> None:
    """A brighter pixel stays brighter than another in its image."""
    images = torch.sort(torch.randn(1, 1, 1, 1000, generator=generator()) * 10)[0]
    for kind in KINDS:
        assert bool((fit_normalisation(kind, images)(images).diff() >= 0).all()), kind


# ---- augmentation


def numbers(*first: float) -> Tensor:
    """Return the random numbers of some images whose symmetry is chosen by `first`, the rest in the middle."""
    return torch.tensor([[value, 0.5, 0.5, 0.5] for value in first])


def test_half_turns_are_exact() -> None:
    images = noisy(2, 7)
    turned = Augmentation("half_turn").apply(images, numbers(0.49, 0.5))
    assert torch.equal(turned[0], images[0])
    assert torch.equal(turned[1], torch.rot90(images[1], 2, (1, 2)))


def test_d4_is_the_whole_group_each_element_exact_and_as_likely() -> None:
    image = torch.arange(25.0).reshape(1, 1, 5, 5)
    group = [torch.rot90(flipped, k, (2, 3)) for flipped in (image, image.flip(3)) for k in range(4)]
    eighths = [(k + offset) / 8 for k in range(8) for offset in (0.0, 0.999)]
    changed = Augmentation("d4").apply(image.expand(16, -1, -1, -1), numbers(*eighths))
    found = [next(i for i, element in enumerate(group) if torch.equal(element[0], each)) for each in changed]
    assert found[::2] == found[1::2] and sorted(found[::2]) == list(range(8))


def test_none_changes_nothing() -> None:
    images = noisy(3)
    assert torch.equal(Augmentation().apply(images, numbers(0.0, 0.5, 0.99)), images)


@given(
    st.sampled_from(["none", "half_turn", "d4"]),
    st.sampled_from([0.0, 30.0, 180.0]),
    st.sampled_from([1.0, 1.5]),
    st.sampled_from([0.0, 1.5]),
    st.sampled_from([0.0, 0.2]),
    st.integers(0, 100),
)
def test_an_image_is_changed_alike_alone_and_in_a_batch(
    symmetry: Symmetry, rotation: float, zoom: float, blur: float, noise: float, seed: int
) -> None:
    augmentation = Augmentation(symmetry, rotation, zoom, blur, noise)
    images, drawn = noisy(6, 9, 2), augmentation.draw(6, generator(seed))
    whole = augmentation.apply(images, drawn)
    parts = [augmentation.apply(images[mine], drawn[mine]) for mine in (slice(0, 2), slice(2, 3), slice(3, 6))]
    assert torch.equal(torch.cat(parts), whole), "a share of the batch is changed otherwise than the whole"


def test_the_same_seed_draws_the_same_numbers_whatever_is_drawn_elsewhere() -> None:
    augmentation = Augmentation("d4", 10, 1.2)
    first = augmentation.draw(5, generator(3))
    torch.rand(7)
    assert torch.equal(augmentation.draw(5, generator(3)), first)
    assert not torch.equal(augmentation.draw(5, generator(4)), first)


def blob(height: int = 64, width: int = 64) -> Tensor:
    """Return an elongated spot: σ = 4 along x, 2 along y."""
    y, x = torch.meshgrid(torch.arange(height) - (height - 1) / 2, torch.arange(width) - (width - 1) / 2, indexing="ij")
    return torch.exp(-(x**2) / 32 - y**2 / 8)[None, None]


def deviations(image: Tensor) -> tuple[float, float]:
    """Return the σ of the light along x and along y."""
    height, width = image.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height) - (height - 1) / 2, torch.arange(width) - (width - 1) / 2, indexing="ij")
    total = image.sum()
    return float(((image * x**2).sum() / total).sqrt()), float(((image * y**2).sum() / total).sqrt())


@pytest.mark.parametrize(("number", "factor"), [(1.0, 1.5), (0.5, 1.0), (0.0, 1 / 1.5)])
def test_zoom_magnifies_by_up_to_its_factor_in_or_out(number: float, factor: float) -> None:
    zoomed = Augmentation(zoom=1.5).apply(blob(), torch.tensor([[0.0, 0.5, number, 0.5]]))
    assert deviations(zoomed) == pytest.approx((4 * factor, 2 * factor), rel=0.03)


@pytest.mark.parametrize("number", [0.0, 1.0])
@pytest.mark.parametrize("shape", [(64, 64), (64, 80)])
def test_rotation_turns_by_up_to_its_angle_and_keeps_shapes(number: float, shape: tuple[int, int]) -> None:
    turned = Augmentation(rotation=90).apply(blob(*shape), torch.tensor([[0.0, number, 0.5, 0.5]]))
    assert deviations(turned) == pytest.approx((2, 4), rel=0.03)
    assert float(turned.sum()) == pytest.approx(float(blob(*shape).sum()), rel=0.01)


def test_a_quarter_turn_by_interpolation_is_the_exact_one() -> None:
    images = noisy(1, 8)
    turned = Augmentation(rotation=90).apply(images, torch.tensor([[0.0, 1.0, 0.5, 0.5]]))
    exact = [torch.rot90(images, k, (2, 3)) for k in (1, 3)]
    assert any(torch.allclose(turned, each, rtol=1e-4) for each in exact)


def test_rotations_differ_from_image_to_image_and_fill_the_range() -> None:
    augmentation = Augmentation(rotation=20)
    drawn = augmentation.draw(1000, generator())
    turned = augmentation.apply(blob(16, 16).expand(1000, -1, -1, -1), drawn)
    assert len({tuple(each.flatten().tolist()) for each in turned[:50]}) == 50
    assert float(drawn.min()) < 0.01 and float(drawn.max()) > 0.99


def test_blur_and_noise_leave_the_numbers_of_the_others_as_they_were() -> None:
    first = torch.rand(5, 4, generator=generator(3))
    for augmentation in (Augmentation("d4"), Augmentation(blur=2), Augmentation(noise=1)):
        assert torch.equal(augmentation.draw(5, generator(3))[:, :4], first)
    one, other = generator(3), generator(3)
    Augmentation("d4", 10, 1.2).draw(5, one), torch.rand(5, 4, generator=other)
    assert torch.equal(torch.rand(1, generator=one), torch.rand(1, generator=other)), "later batches would change"


@pytest.mark.parametrize("sigma", [1.4, 2.0])
@pytest.mark.parametrize("number", [0.5, 1.0])
def test_blur_widens_by_up_to_its_deviation_and_keeps_the_light(sigma: float, number: float) -> None:
    blurred = Augmentation(blur=sigma).apply(blob(), torch.tensor([[0.0, 0.5, 0.5, number]]))
    assert deviations(blurred) == pytest.approx([math.hypot(s, sigma * number) for s in (4, 2)], rel=0.01)
    assert float(blurred.sum()) == pytest.approx(float(blob().sum()), rel=1e-4)


def test_a_blur_of_nothing_changes_nothing_and_a_wide_one_fits_any_image() -> None:
    images = noisy(2, 5)
    untouched = Augmentation(blur=3.0).apply(images, torch.tensor([[0.0, 0.5, 0.5, 0.0]] * 2))
    assert torch.allclose(untouched, images)
    flat = Augmentation(blur=16.0).apply(torch.full((1, 2, 5, 8), 7.0), torch.tensor([[0.0, 0.5, 0.5, 1.0]]))
    assert torch.allclose(flat, torch.full((1, 2, 5, 8), 7.0))


def test_noise_has_up_to_its_deviation_mean_0_and_another_face_in_every_image() -> None:
    images = torch.ones(3, 2, 64, 64)
    numbers = torch.tensor([[0.0, 0.5, 0.5, 0.5, amount, seed] for amount, seed in ((1, 0.1), (0.5, 0.2), (0, 0.3))])
    noise = Augmentation(noise=0.3).apply(images, numbers) - images
    assert noise.std((1, 2, 3)).tolist() == pytest.approx([0.3, 0.15, 0.0], rel=0.03)
    assert float(noise.mean().abs()) < 0.005
    assert not torch.allclose(noise[0] / 2, noise[1], atol=0.01) and not torch.allclose(noise[0, 0], noise[0, 1])


def test_noise_comes_from_the_numbers_alone() -> None:
    augmentation = Augmentation("d4", noise=0.3)
    drawn = augmentation.draw(4, generator(1))
    first = augmentation.apply(noisy(4), drawn)
    torch.rand(7)
    assert torch.equal(augmentation.apply(noisy(4), drawn), first)
    assert not torch.equal(augmentation.apply(noisy(4), augmentation.draw(4, generator(2))), first)


@pytest.mark.parametrize(("symmetry", "n"), [("none", 1), ("half_turn", 2), ("d4", 8)])
def test_the_copies_of_an_image_are_those_that_augmentation_draws(symmetry: Symmetry, n: int) -> None:
    image = noisy(1, 9)
    copies = {copy.numpy().tobytes() for copy in symmetric_copies(image, symmetry)}
    assert len(copies) == n
    numbers = torch.rand(200, 4, generator=generator())
    drawn = Augmentation(symmetry).apply(image.expand(200, -1, -1, -1), numbers)
    assert {one[None].numpy().tobytes() for one in drawn} == copies


@pytest.mark.parametrize("symmetry", ["none", "half_turn", "d4"])
def test_copies_that_are_turned_back_are_the_image(symmetry: Symmetry) -> None:
    image = torch.rand(2, 3, 5, 5)
    copies = symmetric_copies(image, symmetry)
    assert len(turned_back(copies, symmetry)) == len(copies)
    assert all(torch.equal(copy, image) for copy in turned_back(copies, symmetry))


@pytest.mark.parametrize("kind", ["asinh", "standard", "sqrt", "log"])
def test_each_band_has_its_own_unit_and_the_record_keeps_it(kind: NormalisationKind) -> None:
    images = (
        torch.randn(16, 2, 12, 12, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 1e4])[:, None, None]
    )
    fitted = Normalisation.from_mapping(json.loads(json.dumps(fit_normalisation(kind, images).as_dict())))
    stretched = fitted(images)
    assert torch.allclose(stretched.std((0, 2, 3)), torch.ones(2), atol=0.05)
    alone = fit_normalisation(kind, images[:, 1:])(images[:, 1:])
    assert torch.allclose(stretched[:, 1:], alone, atol=1e-5)

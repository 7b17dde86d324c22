"""Autoencoders: they learn what normal images look like, and see what is not of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor

from deeplense.core.errors import Diverged
from deeplense.core.seeding import own_randomness
from deeplense.data.dataset import Dataset
from deeplense.data.loader import Loader
from deeplense.data.transforms import Normalisation
from deeplense.detectors.coders import Reconstructing
from deeplense.detectors.detector import DETECTORS, Effort, Normals
from deeplense.detectors.learning import learn, renew
from deeplense.detectors.masked_autoencoder import complementary_masks

NAMES = ("autoencoder", "variational_autoencoder", "adversarial_autoencoder", "masked_autoencoder")
SIDE, N, NOISE = 32, 96, 0.02
EFFORT = Effort(epochs=12, batch_size=16, lr=3e-3, seed=4)
SHORT = Effort(epochs=1, batch_size=8, lr=1e-3, seed=4)
CPU = torch.device("cpu")


def rings(n: int, shape: tuple[int, int, int] = (1, SIDE, SIDE), seed: int = 0) -> Tensor:
    """Return noisy rings of different radius, width and brightness."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = (torch.linspace(-1, 1, side) for side in shape[1:])
    radius = (columns[None, :] ** 2 + rows[:, None] ** 2).sqrt()
    size, width, height = (
        a + b * torch.rand(n, 1, 1, 1, generator=generator) for a, b in ((0.4, 0.3), (0.1, 0.1), (1, 1))
    )
    clean = height * torch.exp(-(((radius - size) / width) ** 2))
    return clean.expand(n, *shape) + NOISE * torch.randn(n, *shape, generator=generator)


class InMemory(Dataset):
    """A dataset that is a tensor."""

    layout = "tensor"

    def __init__(self, images: Tensor) -> None:
        self.path, self.problems, self.labels, self.held = Path("memory"), [], ("no_sub",), images
        self.image_shape = tuple(images.shape[1:])
        n = len(images)
        self.catalogue = pa.table({"id": [str(i) for i in range(n)], "label": ["no_sub"] * n, "split": ["train"] * n})

    @classmethod
    def recognises(cls, path: Path) -> bool:
        return False

    def images(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        return self.held[torch.as_tensor(np.asarray(indices))].numpy()


def normals(images: Tensor) -> Normals:
    return Normals(Loader(InMemory(images), np.arange(len(images))), Normalisation("none"), "d4", CPU)


def fitted(name: str, images: Tensor, effort: Effort) -> Reconstructing:
    detector = DETECTORS[name](tuple(images.shape[1:]))
    assert isinstance(detector, Reconstructing)
    detector.fit(normals(images), effort)
    return detector


@pytest.fixture(scope="module", params=NAMES)
def learnt(request: pytest.FixtureRequest) -> Reconstructing:
    return fitted(request.param, rings(N), EFFORT)


def test_an_image_is_reconstructed_better_than_by_the_mean_image(learnt: Reconstructing) -> None:
    new = rings(32, seed=1)
    with torch.no_grad():
        error = float(learnt.squared_errors(new).mean())
    by_mean = float((new - rings(N).mean(0)).square().mean())
    assert error < 0.5 * by_mean, f"squared error {error:.4f}, that of the mean image {by_mean:.4f}"


def test_a_blob_makes_an_image_strange_where_it_is(learnt: Reconstructing) -> None:
    clean = rings(24, seed=2)
    row, column = 7, 12
    blob = clean.clone()
    blob[:, :, row - 1 : row + 2, column - 1 : column + 2] += 1.0
    before, after = learnt.score(clean), learnt.score(blob)
    assert (after > before).all()
    peaks = learnt.map(blob).flatten(1).argmax(1)
    near = ((peaks // SIDE - row).abs() <= 3) & ((peaks % SIDE - column).abs() <= 3)
    assert near.float().mean() > 0.8, f"{int(near.sum())} of {len(near)} peaks near the blob"


def test_a_score_is_of_its_image_alone_and_always_the_same(learnt: Reconstructing) -> None:
    images = rings(6, seed=3)
    together = learnt.score(images)
    alone = torch.cat([learnt.score(image[None]) for image in images])
    torch.testing.assert_close(alone, together, rtol=1e-5, atol=1e-5)
    torch.manual_seed(8)
    learnt.train()  # what was stored and read again has not been told otherwise
    torch.testing.assert_close(learnt.score(images), together, rtol=0, atol=0)
    assert learnt.map(images).shape == (6, 1, SIDE, SIDE)


@pytest.mark.parametrize("value", [0.0, 0.7, 1e6, -1e6])
def test_flat_images_have_finite_scores(learnt: Reconstructing, value: float) -> None:
    images = torch.full((2, 1, SIDE, SIDE), value)
    assert learnt.score(images).isfinite().all()
    assert learnt.map(images).isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_alone_decides(name: str) -> None:
    images, new = rings(16), rings(4, seed=1)
    scores = []
    for outer, effort in ((1, SHORT), (2, SHORT), (2, Effort.from_mapping(SHORT.as_dict() | {"seed": 5}))):
        torch.manual_seed(outer)
        detector = DETECTORS[name]((1, SIDE, SIDE))
        state = torch.get_rng_state()
        detector.fit(normals(images), effort)
        assert torch.equal(torch.get_rng_state(), state), "the outer random stream was used"
        scores.append(detector.score(new))
    assert torch.equal(scores[0], scores[1])
    assert not torch.equal(scores[0], scores[2])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(1, 33, 33), (2, 40, 40), (1, 16, 16), (3, 30, 51)])
def test_any_shape(name: str, shape: tuple[int, int, int]) -> None:
    images = rings(10, shape)
    turned = Normals(normals(images).loader, Normalisation("none"), "half_turn", CPU)
    detector = DETECTORS[name](shape)
    detector.fit(turned, SHORT)
    assert detector.score(images).shape == (10,)
    assert detector.score(images).isfinite().all()
    assert detector.map(images).shape == (10, 1, *shape[1:])  # type: ignore[union-attr]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(1, 64, 64), (4, 150, 150)])
def test_they_are_small(name: str, shape: tuple[int, int, int]) -> None:
    assert sum(parameter.numel() for parameter in DETECTORS[name](shape).parameters()) <= 1_500_000


@pytest.mark.parametrize("name", NAMES)
def test_what_is_learnt_is_in_the_state(name: str) -> None:
    images = rings(16)
    detector = fitted(name, images, SHORT)
    state = detector.state_dict()
    assert all(value.is_contiguous() for value in state.values())
    again = DETECTORS[name]((1, SIDE, SIDE))
    again.load_state_dict(state)
    assert torch.equal(again.score(images), detector.score(images))


@pytest.mark.parametrize("size", [(64, 64), (33, 50), (16, 16)])
def test_masks_hide_every_pixel_once(size: tuple[int, int]) -> None:
    masks = complementary_masks(*size)
    assert torch.equal(masks.sum(0), torch.ones(1, *size))
    assert (masks.mean((1, 2, 3)) < 0.4).all()


def test_a_hidden_patch_is_not_seen() -> None:
    detector = fitted("masked_autoencoder", rings(16), SHORT)
    images, mask = rings(2, seed=1), complementary_masks(SIDE, SIDE)[0]
    changed = images + mask * 5
    with torch.no_grad():
        assert torch.equal(mask * detector.reconstruct(images), mask * detector.reconstruct(changed))


def test_a_loss_that_is_no_number_is_an_error() -> None:
    network = torch.nn.Linear(1, 1)
    with pytest.raises(Diverged, match="the loss of nothing in epoch 1 is nan") as caught:
        learn(network, lambda images: network.weight.sum() * float("nan"), normals(rings(8)), SHORT, "nothing")
    assert "--lr" in caught.value.remedy


def test_new_weights_are_the_seeds() -> None:
    first, second = torch.nn.Conv2d(1, 4, 3), torch.nn.Conv2d(1, 4, 3)
    renew(first, 3)
    renew(second, 3)
    assert torch.equal(first.weight, second.weight)
    renew(second, 4)
    assert not torch.equal(first.weight, second.weight)


def test_weights_that_cannot_be_drawn_again_are_an_error() -> None:
    class Odd(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token = torch.nn.Parameter(torch.zeros(3))

    with pytest.raises(TypeError, match="Odd has parameters"):
        renew(Odd(), 0)


def test_random_numbers_within_are_their_own() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    with own_randomness(1, "a"):
        first = torch.rand(3)
    assert torch.equal(torch.rand(3), expected)
    with own_randomness(1, "a"):
        assert torch.equal(torch.rand(3), first)
    with own_randomness(1, "b"):
        assert not torch.equal(torch.rand(3), first)

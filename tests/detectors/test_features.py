"""Detectors on learnt features, and the self-made anomaly: what they notice, what they must not."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor

from deeplense.data.dataset import Dataset
from deeplense.data.loader import Loader
from deeplense.data.transforms import Normalisation, Symmetry
from deeplense.detectors.detector import DETECTORS, Detector, Effort, Normals
from deeplense.detectors.encoder import noise_level, two_views, whitening
from deeplense.detectors.flow import RealNVP
from deeplense.detectors.nearest_neighbours import NearestNeighbours, spread_out
from deeplense.detectors.perturbed import (
    Masses,
    SmoothLight,
    draw_innocent,
    lens_light,
    normal_and_strange,
    stretched,
    warped,
)

SIDE, N_NORMAL, NOISE = 32, 192, 0.1
NAMES = ("flow", "mahalanobis", "nearest_neighbours", "perturbed")
CPU = torch.device("cpu")


def distance(x: Tensor | float, y: Tensor | float) -> Tensor:
    rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    return torch.hypot(columns - torch.as_tensor(x).reshape(-1, 1, 1), rows - torch.as_tensor(y).reshape(-1, 1, 1))


def rings(n: int, seed: int, blob: float = 0.0, dent: float = 0.0) -> Tensor:
    """Return noisy rings in slightly different places, with a blob of light or a dent (a bump where negative) each."""
    generator = torch.Generator().manual_seed(seed)
    x, y = (SIDE - 1) / 2 + torch.rand(2, n, generator=generator) * 3 - 1.5
    angle = 2 * torch.pi * torch.rand(n, generator=generator)
    radius = distance(x, y)
    near = distance(x + 9 * angle.cos(), y + 9 * angle.sin())
    light = 4 * torch.exp(-((radius - 9 + dent * torch.exp(-(near**2) / 18)) ** 2) / 4)
    light = light + blob * torch.exp(-(near**2) / 4)
    return (light + NOISE * torch.randn(n, SIDE, SIDE, generator=generator))[:, None]


class Rings(Dataset):
    """Rings in memory."""

    def __init__(self, n: int = N_NORMAL, seed: int = 0) -> None:
        self.path, self.labels, self.image_shape, self.problems = Path("rings"), ("no_sub",), (1, SIDE, SIDE), []
        ids = [str(number) for number in range(n)]
        self.catalogue = pa.table({"id": ids, "label": ["no_sub"] * n, "split": ["train"] * n})
        self.all = rings(n, seed).numpy()

    @classmethod
    def recognises(cls, path: Path) -> bool:
        return False

    def images(self, indices: object) -> np.ndarray:
        return self.all[np.asarray(indices)]


def normals(symmetry: Symmetry = "half_turn", n: int = N_NORMAL) -> Normals:
    return Normals(Loader(Rings(n), range(n)), Normalisation("none"), symmetry, CPU)


def fitted(name: str, epochs: int = 1, seed: int = 0, n: int = N_NORMAL) -> Detector:
    detector = DETECTORS[name]((1, SIDE, SIDE))
    detector.fit(normals(n=n), Effort(epochs=epochs, batch_size=32, lr=3e-3, seed=seed))
    return detector.eval()


@pytest.fixture(scope="module")
def detectors() -> dict[str, Detector]:
    return {name: fitted(name, epochs=20 if name == "perturbed" else 3) for name in NAMES}


def ranks(normal: Tensor, strange: Tensor) -> float:
    """Return how often a strange image has the higher score: the AUROC."""
    return float((strange[:, None] > normal[None, :]).double().mean())


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_strange_rings_rank_above_clean_ones(detectors: dict[str, Detector], name: str) -> None:
    score = detectors[name].score
    clean = score(rings(48, seed=1))
    assert ranks(clean, score(rings(48, seed=2, blob=4.0))) > 0.9
    assert ranks(clean, score(rings(48, seed=2, dent=-3.0))) > 0.9


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_same_seed_same_detector(name: str) -> None:
    images = rings(8, seed=3)
    torch.manual_seed(1)
    first = fitted(name, n=64).score(images)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    second = fitted(name, n=64).score(images)
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert not torch.equal(first, fitted(name, n=64, seed=1).score(images))
    assert before.shape == torch.get_rng_state().shape


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_stored_state_reproduces_scores_and_maps(detectors: dict[str, Detector], name: str) -> None:
    detector, other = detectors[name], DETECTORS[name]((1, SIDE, SIDE)).eval()
    state = detector.state_dict()
    for key, value in state.items():  # what is empty before `fit` takes the stored shape
        owner, _, leaf = key.rpartition(".")
        if other.state_dict()[key].shape != value.shape:
            setattr(other.get_submodule(owner), leaf, torch.empty_like(value))
    other.load_state_dict(state)
    images = rings(5, seed=4)
    torch.testing.assert_close(other.score(images), detector.score(images), rtol=0, atol=0)
    mine, theirs = detector.map(images), other.map(images)
    assert (mine is None) == (theirs is None)
    if mine is not None and theirs is not None:
        assert mine.shape == (5, 1, SIDE, SIDE)
        torch.testing.assert_close(theirs, mine, rtol=0, atol=0)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_scores_do_not_depend_on_the_batch_and_are_finite(detectors: dict[str, Detector], name: str) -> None:
    score = detectors[name].score
    odd = torch.stack([torch.zeros(1, SIDE, SIDE), torch.full((1, SIDE, SIDE), 7.0), torch.full((1, SIDE, SIDE), 1e4)])
    images = torch.cat([rings(6, seed=5), odd])
    scores = score(images)
    assert scores.shape == (9,) and bool(torch.isfinite(scores).all())
    alone = torch.cat([score(image[None]) for image in images])
    torch.testing.assert_close(scores, alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ("nearest_neighbours", "perturbed"))
@torch.no_grad()
def test_maps_point_at_the_blob(detectors: dict[str, Detector], name: str) -> None:
    clean, strange = rings(48, seed=6), rings(48, seed=6, blob=6.0)
    found = cast(Tensor, detectors[name].map(strange)) - cast(Tensor, detectors[name].map(clean))
    blob, place = ((map_.flatten(1).argmax(1)) for map_ in ((strange - clean).clamp(min=0), found))
    away, by_chance = (apart(place, where).median() for where in (blob, blob.roll(1)))
    assert away < 0.75 * by_chance, "no nearer than to the blob of another image"


def apart(one: Tensor, other: Tensor) -> Tensor:
    """Return how far pixels are from each other."""
    return torch.hypot((one % SIDE - other % SIDE).double(), (one // SIDE - other // SIDE).double())


def test_other_symmetries_shapes_and_channels_are_taken() -> None:
    for name in NAMES:
        detector = DETECTORS[name]((3, 33, 40)).eval()
        source = normals("none", n=16)
        source.loader.image_shape = (3, 33, 40)
        source.loader._memory = {"image": torch.randn(16, 3, 33, 40)}
        detector.fit(source, Effort(epochs=1, batch_size=8, lr=1e-3))
        assert bool(torch.isfinite(detector.score(torch.randn(2, 3, 33, 40))).all())


# the self-made anomaly


def no_mass(n: int) -> Masses:
    nothing = torch.zeros(n, 3)
    return Masses(nothing + 5, nothing + 5, nothing, nothing + 1, nothing + 1)


def test_without_mass_nothing_changes() -> None:
    images = rings(4, seed=7)
    field = stretched(no_mass(4).deflection(SIDE, SIDE), torch.full((4, 1, 1), 3.0))
    torch.testing.assert_close(warped(images, field), images, atol=1e-4, rtol=0)


@torch.no_grad()
def test_an_innocent_change_hardly_changes_the_score(detectors: dict[str, Detector]) -> None:
    torch.manual_seed(0)
    images, smooth = rings(96, seed=8), SmoothLight.of(rings(512, seed=9))
    light = smooth.deflected(images)
    changed = images + warped(light, draw_innocent(images)) - light
    score = detectors["perturbed"].score
    assert ranks(score(images), score(changed)) == pytest.approx(0.5, abs=0.12)


def test_both_classes_have_the_same_noise() -> None:
    torch.manual_seed(0)
    normal, strange = normal_and_strange(rings(256, seed=10), SmoothLight.of(rings(1024, seed=11)))
    # light that is warped has sharper edges; noise that is not has what it had
    assert noise_level(strange) == pytest.approx(noise_level(normal), rel=0.12)
    assert float((strange - normal).flatten(1).norm(dim=1).min()) > 0


def test_a_point_mass_moves_light_by_its_deflection() -> None:
    mass = Masses(*(torch.tensor([[value]]) for value in (16.0, 12.0, 2.0, 0.0, 1.0)))
    along_x, along_y = mass.deflection(SIDE, SIDE)
    assert float(along_x[0, 12, 20]) == pytest.approx(2.0**2 / 4)
    assert float(along_y[0, 12, 20]) == 0
    assert float(along_y[0, 20, 16]) == pytest.approx(2.0**2 / 8)


def test_light_moves_away_from_a_mass() -> None:
    spot = torch.exp(-(distance(20.0, 16.0) ** 2) / 8)[:, None]
    mass = Masses(*(torch.tensor([[value]]) for value in (12.0, 16.0, 3.0, 1.0, 1.0)))
    seen = warped(spot, mass.deflection(SIDE, SIDE))[0, 0]
    columns = torch.arange(SIDE)
    assert float((seen * columns).sum() / seen.sum()) > 20.5


def test_the_light_of_the_lens_stays() -> None:
    middle = (SIDE - 1) / 2
    galaxy = 6 * torch.exp(-distance(middle, middle) / 3)[:, None]
    ring = torch.exp(-((distance(middle, middle) - 9) ** 2) / 4)[:, None]
    torch.testing.assert_close(lens_light(galaxy + 0 * ring), galaxy, atol=0.15, rtol=0)
    assert float(lens_light(ring).max()) < 0.01, "a ring that all images share is deflected"


# parts


def test_views_are_of_the_same_part() -> None:
    torch.manual_seed(0)
    one, other = two_views(rings(4, seed=12), noise=0.0)
    assert one.shape == other.shape and one.shape[2] >= SIDE - 6
    shifted = [other.roll((down, right), (2, 3)) for down in range(-6, 7) for right in range(-6, 7)]
    alike = [float(torch.corrcoef(torch.stack([one.flatten(), copy.flatten()]))[0, 1]) for copy in shifted]
    assert max(alike) > 0.5


def test_whitened_features_have_unit_covariance() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(4000, 6, generator=generator) @ (torch.eye(6) + 0.3 * torch.randn(6, 6, generator=generator))
    mean, matrix = whitening(features)
    torch.testing.assert_close(torch.cov(((features - mean) @ matrix).T), torch.eye(6), atol=0.1, rtol=0)


def test_memory_covers_what_is_rare() -> None:
    points = torch.cat([torch.zeros(500, 2), torch.tensor([[9.0, 9.0]])])
    assert spread_out(points, 2).tolist() == [0, 500]
    assert len(spread_out(points, 10_000)) == 501


def test_memory_is_bounded(detectors: dict[str, Detector]) -> None:
    assert len(cast(NearestNeighbours, detectors["nearest_neighbours"]).memory) <= 4000


def test_a_flow_is_a_density() -> None:
    torch.manual_seed(0)
    flow = RealNVP(2).eval()
    axis = torch.linspace(-12, 12, 241)  # far beyond where a flow of small initial weights has its mass
    points = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        total = float((-flow(points)).exp().sum() * 0.1**2)
    assert total == pytest.approx(1, abs=0.01)

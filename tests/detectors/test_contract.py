"""What every detector owes: scores that are numbers, of the image alone, and the same again from what is stored."""

import functools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from deeplense.data.dataset import Dataset
from deeplense.data.loader import Loader
from deeplense.data.transforms import fit_normalisation
from deeplense.detectors.detector import DETECTORS, Detector, Effort, Normals

SHAPE = (1, 32, 32)
EFFORT = Effort(epochs=1, batch_size=16, lr=1e-3, seed=0)
NAMES = [name for name in DETECTORS if not getattr(DETECTORS[name], "physical", False)]
LIGHT = 50.0  # of a ring's brightest pixel: the background has a mean of 1 and noise of 1


class Rings(Dataset):
    """Rings of random radius, centre and brightness, in memory."""

    layout, labels, path, problems = "made up", ("no_sub",), Path("made up"), []

    def __init__(self, n, seed, shape=SHAPE):
        self.image_shape = shape
        names = pa.array([f"{seed}-{k}" for k in range(n)])
        labels, splits = pa.array(["no_sub"] * n), pa.array(["train"] * n)
        self.catalogue = pa.table({"id": names, "label": labels, "split": splits})
        generator = np.random.default_rng(seed)
        y, x = np.mgrid[: shape[1], : shape[2]][:, None, None] - np.array(shape[1:])[:, None, None, None, None] / 2
        down, across = generator.normal(0, 0.5, (2, n, 1, 1, 1))
        radius = generator.normal(shape[1] / 4, 0.5, (n, 1, 1, 1))
        light = LIGHT * generator.uniform(0.7, 1.0, (n, 1, 1, 1))
        rings = light * np.exp(-((np.hypot(y - down, x - across) - radius) ** 2) / 4)
        self._images = (1 + rings + generator.normal(size=(n, *shape))).astype(np.float32)

    @classmethod
    def recognises(cls, path):
        return False

    def images(self, indices):
        return self._images[np.asarray(indices)]


def normals(n=48, raw=False, seed=0, shape=SHAPE):
    loader = Loader(Rings(n, seed, shape), np.arange(n))
    normalisation = fit_normalisation("none" if raw else "asinh", loader.in_memory())
    return Normals(loader, normalisation, "d4", torch.device("cpu"))


def fitted(name, seed=0, world=1):
    torch.manual_seed(world)
    detector = DETECTORS[name](SHAPE)
    before = torch.get_rng_state()
    detector.fit(normals(raw=detector.raw), Effort(EFFORT.epochs, EFFORT.batch_size, EFFORT.lr, seed))
    detector.drew_from_others = not torch.equal(before, torch.get_rng_state())
    return detector.eval()


ready = functools.cache(fitted)


def strange(detector):
    """Return rings, then images that are blank, constant, saturated, negative, and of one bright pixel."""
    normal = normals(8, detector.raw, seed=1)
    blank = torch.zeros(6, *SHAPE)
    blank[1], blank[2], blank[3], blank[4, :, 5, 5], blank[5, :, :16] = 1.0, 65535.0, -LIGHT, 1e5, 1e4
    reference = normals(raw=detector.raw).normalisation
    return torch.cat([reference(normal.loader.in_memory()), reference(blank)])


@torch.no_grad()
def scores(detector, images):
    return detector.score(images).double().numpy()


def restored(name, state):
    """Return a new detector with a stored state; buffers that depend on the images take the shape stored."""
    torch.manual_seed(99)
    detector = DETECTORS[name](SHAPE)
    for path, tensor in state.items():
        *modules, leaf = path.split(".")
        owner = detector.get_submodule(".".join(modules))
        if leaf in owner._buffers and owner._buffers[leaf].numel() == 0:
            owner.register_buffer(leaf, torch.empty_like(tensor))
    detector.load_state_dict(state)
    return detector.eval()


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_it_is(name):
    kind = DETECTORS[name]
    assert isinstance(kind, type) and issubclass(kind, Detector)
    assert isinstance(kind.reference, str) and kind.reference.strip()
    assert kind.category in ("normal", "simulated", "labelled")
    assert kind.__doc__


@pytest.mark.parametrize("name", NAMES)
def test_every_image_gets_a_number(name):
    detector = ready(name)
    images = strange(detector)
    found = detector.score(images)
    assert found.shape == (len(images),) and found.is_floating_point()
    assert torch.isfinite(found).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_score_is_of_the_image_alone(name):
    detector = ready(name)
    images = strange(detector)
    together = scores(detector, images)
    alone = np.concatenate([scores(detector, images[k : k + 1]) for k in range(len(images))])
    turned = scores(detector, images.flip(0))[::-1]
    scale = np.abs(together).max() if np.ptp(together[:8]) == 0 else np.maximum(np.abs(together), np.ptp(together[:8]))
    assert (np.abs(alone - together) <= 1e-5 * scale + 1e-7).all()
    assert (np.abs(turned - together) <= 1e-5 * scale + 1e-7).all()


@pytest.mark.parametrize("name", NAMES)
def test_scoring_twice_says_the_same_and_changes_nothing(name):
    detector = ready(name)
    images = strange(detector)
    before = {key: tensor.clone() for key, tensor in detector.state_dict().items()}
    given = images.clone()
    assert (scores(detector, images) == scores(detector, images)).all()
    assert torch.equal(images, given)
    assert all(torch.equal(tensor, before[key]) for key, tensor in detector.state_dict().items())


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_scores_in_any_world(name):
    first = ready(name)
    images = strange(first)
    assert (scores(first, images) == scores(fitted(name, world=2), images)).all()


@pytest.mark.parametrize("name", NAMES)
def test_fitting_leaves_the_random_stream_of_others_alone(name):
    assert not ready(name).drew_from_others


@pytest.mark.parametrize("name", NAMES)
def test_what_is_stored_gives_the_same_scores(name):
    detector = ready(name)
    images = strange(detector)
    assert detector.state_dict()
    state = {key: tensor.clone() for key, tensor in detector.state_dict().items()}
    assert (scores(restored(name, state), images) == scores(detector, images)).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_map_has_a_pixel_for_a_pixel(name):
    detector = ready(name)
    images = strange(detector)
    with torch.no_grad():
        found = detector.map(images)
    if found is not None:
        assert found.shape == (len(images), 1, *SHAPE[1:])
        assert torch.isfinite(found).all()

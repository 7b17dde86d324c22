"""Detectors without a network: against formulas, scikit-learn, and images whose strangeness is known."""

import numpy as np
import pytest
import torch
from sklearn.covariance import EmpiricalCovariance
from sklearn.decomposition import PCA
from sklearn.svm import OneClassSVM
from tests.detectors.test_contract import Rings

from deeplense.core.errors import InvalidDataset
from deeplense.data.loader import Loader
from deeplense.data.transforms import Normalisation
from deeplense.detectors.detector import DETECTORS, Effort, Normals
from deeplense.detectors.mean_image import floored
from deeplense.detectors.pca import pooled, pooled_sample, pooling, principal_components
from deeplense.metrics.ranking import auroc
from deeplense.models.global_statistics import STATISTICS, statistics

EFFORT = Effort(epochs=1, batch_size=16, lr=1e-3, seed=0)
CLASSICAL = ["brightness", "global_statistics", "mean_image", "one_class_svm", "pca"]


def normals(n=300, shape=(1, 32, 32), kind="none", seed=0):
    return Normals(Loader(Rings(n, seed, shape), np.arange(n)), Normalisation(kind), "d4", torch.device("cpu"))


def fitted(name, given):
    detector = DETECTORS[name](given.loader.image_shape)
    detector.fit(given, EFFORT)
    return detector


def images_of(given):
    return given.loader.in_memory()


@pytest.mark.parametrize("name", CLASSICAL)
@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 32, 40), (2, 70, 70)])
def test_strange_images_score_higher_whatever_their_shape(name, shape):
    given = normals(100, shape)
    detector = fitted(name, given)
    fresh = images_of(normals(50, shape, seed=1))
    spotted = fresh.clone()
    spotted[:, :, 4:9, 4:9] += 100.0
    scores = torch.cat([detector.score(fresh), detector.score(spotted)])
    assert auroc(scores.numpy(), np.arange(100) >= 50) > (0.7 if name == "brightness" else 0.9)
    found = detector.map(spotted)
    if found is not None:
        assert found.shape == (50, 1, *shape[1:])
        place = found.mean(0)[0].argmax().item()
        assert 4 <= place // shape[2] <= 9 and 4 <= place % shape[2] <= 9


@pytest.mark.parametrize("name", CLASSICAL)
@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("level", [None, 0.0, 3.0])
def test_few_or_featureless_normal_images_still_give_numbers(name, n, level):
    given = normals(n)
    if level is not None:
        given.loader.in_memory().fill_(level)
    if name == "one_class_svm" and (n == 1 or level is not None):
        with pytest.raises(InvalidDataset, match="all the same"):
            fitted(name, given)
        return
    scores = fitted(name, given).score(images_of(normals(4, seed=1)))
    assert torch.isfinite(scores).all()


@pytest.mark.parametrize("name", ["brightness", "global_statistics"])
@pytest.mark.parametrize("unit", [1e-15, 1e15])
def test_the_unit_of_pixel_values_does_not_matter(name, unit):
    given, fresh = normals(), images_of(normals(20, seed=1))
    expected = fitted(name, given).score(fresh)
    given.loader.in_memory().mul_(unit)
    torch.testing.assert_close(fitted(name, given).score(fresh * unit), expected, rtol=1e-3, atol=1e-4)


def test_mean_image_is_the_formula():
    given = normals()
    detector, images = fitted("mean_image", given), images_of(given).double()
    mean, std = images.mean(0), images.std(0)
    fresh = images_of(normals(5, seed=1))
    expected = (((fresh - mean) / std.maximum(0.1 * std.median())) ** 2).mean((1, 2, 3))
    torch.testing.assert_close(detector.score(fresh).double(), expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(detector.map(fresh).mean((1, 2, 3)), detector.score(fresh))


def test_a_bright_sky_costs_no_digits():
    given = normals()
    plain = fitted("mean_image", given)
    given.loader.in_memory().mul_(2**-6).add_(1000.0)
    raised = fitted("mean_image", given)
    torch.testing.assert_close(raised.deviation * 2**6, plain.deviation, rtol=2e-3, atol=1e-3)


def test_deviations_have_a_floor():
    deviation = torch.tensor([[[1.0, 1.0, 0.0, 2.0]], [[0.0, 0.0, 0.0, 4.0]], [[0.0] * 4]])
    expected = torch.tensor([[[1.0, 1.0, 0.1, 2.0]], [[0.2, 0.2, 0.2, 4.0]], [[0.1] * 4]])
    torch.testing.assert_close(floored(deviation), expected)


@pytest.mark.parametrize(("n", "d"), [(60, 200), (400, 50)])
def test_components_are_those_of_scikit_learn(n, d):
    values = torch.randn(n, d, generator=torch.Generator().manual_seed(0)) * torch.linspace(3, 1, d) + 5
    centre, components, variance = principal_components(values, 8)
    expected = PCA(8, svd_solver="full").fit(values.double().numpy())
    np.testing.assert_allclose(centre, expected.mean_, rtol=1e-5)
    np.testing.assert_allclose(variance, expected.explained_variance_, rtol=1e-5)
    np.testing.assert_allclose(np.abs(components.numpy() @ expected.components_.T), np.eye(8), atol=1e-4)
    assert components.dtype == torch.float32


def test_components_are_no_more_than_there_is_variance():
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(80, 2, generator=generator) @ torch.randn(2, 100, generator=generator)
    assert len(principal_components(values.double(), 64)[1]) == 2
    assert len(principal_components(torch.randn(48, 100, generator=generator), 64)[1]) == 12


def test_normal_images_have_a_residual_of_about_one():
    given = normals(600)
    detector = fitted("pca", given)
    assert len(detector.components) == 64
    assert detector.score(images_of(given)).mean().item() == pytest.approx(535 / 600, abs=0.01)  # degrees of freedom
    assert detector.score(images_of(normals(200, seed=1))).mean().item() == pytest.approx(1.1, abs=0.2)


@pytest.mark.parametrize("side", [32, 64, 65, 100, 150])
def test_pooling_leaves_at_most_64_pixels_and_forgets_none(side):
    factor = pooling((1, side, side))
    images = torch.ones(1, 1, side, side)
    small = pooled(images, factor)
    assert small.shape[-1] == -(-side // factor) <= 64
    assert (small == 1).all()
    assert pooling((1, 32, side)) == factor


def test_a_sample_is_pooled_and_evenly_spaced(monkeypatch):
    monkeypatch.setattr("deeplense.detectors.pca.SAMPLE", 7)
    monkeypatch.setattr("deeplense.detectors.pca.BATCH", 10)
    given = normals(100)
    wanted = np.rint(np.linspace(0, 99, 7)).astype(int)
    assert torch.equal(pooled_sample(given, 2), pooled(images_of(given)[wanted], 2))


def test_one_class_svm_equals_scikit_learn():
    given = normals(400)
    detector = fitted("one_class_svm", given)
    features = detector._features(images_of(given).flatten(1))
    assert features.shape[1] == 32
    np.testing.assert_allclose(features.std(0), 1, rtol=1e-3)
    machine = OneClassSVM(gamma="scale", nu=0.1).fit(features.double().numpy())
    fresh = images_of(normals(50, seed=1))
    fresh[25:, :, 4:9, 4:9] += 20.0
    expected = -machine.decision_function(detector._features(fresh.flatten(1)).double().numpy())
    np.testing.assert_allclose(detector.score(fresh), expected, atol=1e-4 * np.abs(machine.dual_coef_).sum())
    assert np.ptp(expected) > 1
    assert (detector.score(images_of(given)) > 0).float().mean().item() == pytest.approx(0.1, abs=0.03)


def test_global_statistics_of_a_known_image():
    image = torch.full((1, 1, 21, 21), 2.0)
    image[0, 0, 10, 8:13] = torch.tensor([12.0, 12.0, 12.0, 12.0, 12.0])
    found = dict(zip(STATISTICS, statistics(image)[0].tolist(), strict=True))
    values = image.double().numpy().ravel()
    standard = (values - values.mean()) / values.std()
    expected = {
        "minimum": 2.0,
        "maximum": 12.0,
        "mean": values.mean(),
        "standard deviation": values.std(),
        "skewness": (standard**3).mean(),
        "excess kurtosis": (standard**4).mean() - 3,
        "flux of bright pixels": 50.0,
        "fraction of pixels above half the maximum": 5 / 441,
        "half-light radius": 1.0,
    }
    assert found == pytest.approx(expected, rel=1e-6)
    assert list(found) == list(expected)


def test_global_statistics_do_not_fail_on_images_without_light():
    for level in (0.0, 1.1, 65535.0, -3.0, 1e-30, 1e30):
        found = statistics(torch.full((2, 3, 9, 9), level))
        assert torch.isfinite(found).all()
        assert found[0, STATISTICS.index("half-light radius")] == found[0, STATISTICS.index("skewness")] == 0


def test_the_distance_is_that_of_the_covariance(monkeypatch):
    monkeypatch.setattr("deeplense.models.global_statistics.SHRINKAGE", 0.0)
    given = normals(400)
    detector = fitted("global_statistics", given)
    fresh = images_of(normals(30, seed=1))
    known = statistics(images_of(given)).numpy()
    scale = known.std(0)
    expected = EmpiricalCovariance().fit(known / scale).mahalanobis(statistics(fresh).numpy() / scale) * 399 / 400
    np.testing.assert_allclose(detector.score(fresh), expected, rtol=1e-3)


def test_brightness_is_the_formula():
    given = normals()
    fresh = images_of(normals(10, seed=1))
    flux, others = (images.double().sum((1, 2, 3)) for images in (images_of(given), fresh))
    expected = (others - flux.mean()).abs() / flux.std()
    torch.testing.assert_close(fitted("brightness", given).score(fresh).double(), expected, rtol=1e-4, atol=1e-5)

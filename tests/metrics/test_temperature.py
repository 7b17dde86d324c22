"""Temperature scaling: the likelihood's own answer, found whatever the logits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from deeplense.core.errors import InvalidDataset, InvalidOption
from deeplense.metrics.calibrated import pooled
from deeplense.metrics.calibration import ece
from deeplense.metrics.temperature import fit_temperature, logits_of, nll_per_image, softmax, tempered


def honest(images=20_000, classes=3, seed=0, spread=2.0):
    """Return logits and classes drawn with just the probabilities that the logits state."""
    generator = np.random.default_rng(seed)
    logits = spread * generator.normal(size=(images, classes))
    odds = np.exp(logits - logits.max(1, keepdims=True))
    chance = (odds / odds.sum(1, keepdims=True)).cumsum(1)
    return logits, (generator.random((images, 1)) > chance).sum(1)


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_honest_logits_have_temperature_one_and_others_their_factor(classes):
    logits, targets = honest(classes=classes)
    assert fit_temperature(logits, targets) == pytest.approx(1, abs=0.04)
    for factor in (0.5, 2.0, 5.0):
        found = fit_temperature(factor * logits, targets)
        assert found == pytest.approx(factor * fit_temperature(logits, targets), rel=1e-6)


@given(st.integers(2, 5), st.integers(3, 60), st.integers(0, 2**20), st.floats(0.3, 10))
def test_no_other_temperature_is_more_likely(classes, images, seed, factor):
    generator = np.random.default_rng(seed)
    logits, targets = factor * generator.normal(size=(images, classes)), generator.integers(0, classes, images)
    probabilities = tempered(np.full((images, classes), 1 / classes), 1.0)
    assert probabilities == pytest.approx(1 / classes)

    def nll(log_temperature):
        scaled = logits / np.exp(log_temperature)
        return float((np.log(np.exp(scaled - scaled.max(1, keepdims=True)).sum(1)) + scaled.max(1)
                      - scaled[np.arange(images), targets]).mean())  # fmt: skip

    found = fit_temperature(logits, targets)
    if (logits.argmax(1) == targets).all():
        assert found == 1
        return
    best = minimize_scalar(nll, bounds=(np.log(0.05), np.log(20)), method="bounded", options={"xatol": 1e-10})
    assert nll(np.log(found)) <= best.fun + 1e-9


def test_scaling_makes_an_overconfident_model_honest_and_keeps_its_answers():
    logits, targets = honest()
    odds = np.exp(3 * logits - 3 * logits.max(1, keepdims=True))
    sure = (odds / odds.sum(1, keepdims=True)).astype(np.float32)
    temperature = fit_temperature(logits_of(sure[:10_000]), targets[:10_000])
    scaled = tempered(sure[10_000:], temperature)
    assert temperature == pytest.approx(3, rel=0.05)
    assert ece(scaled, targets[10_000:]) < 0.02 < 0.08 < ece(sure[10_000:], targets[10_000:])
    assert nll_per_image(scaled, targets[10_000:]).mean() < nll_per_image(sure[10_000:], targets[10_000:]).mean()
    assert (scaled.argmax(1) == sure[10_000:].argmax(1)).mean() > 0.9999
    assert scaled.sum(1) == pytest.approx(1)


def test_temperature_one_changes_nothing():
    probabilities = np.random.default_rng(0).dirichlet([1, 1, 1], 50)
    assert tempered(probabilities, 1.0) == pytest.approx(probabilities)


def test_without_a_mistake_there_is_nothing_to_learn_and_without_a_hit_all_is_doubt():
    logits = 10 * np.eye(3)
    assert fit_temperature(logits, [0, 1, 2]) == 1
    assert fit_temperature(logits, [1, 2, 0]) == pytest.approx(20)


def test_a_probability_of_zero_is_no_infinite_logit():
    probabilities = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.4]], np.float32)
    targets = [0, 0, 0]
    assert np.isfinite(logits_of(probabilities)).all()
    assert nll_per_image(probabilities, targets) == pytest.approx([0, 87.3, -np.log(0.6)], abs=0.1)
    assert 1 < fit_temperature(logits_of(probabilities), targets) <= 20


def test_undefined_cases_say_so():
    with pytest.raises(InvalidOption, match="logits of shape"):
        fit_temperature(np.zeros((3, 2)), [0, 1])
    with pytest.raises(InvalidOption):
        fit_temperature(np.full((2, 2), np.nan), [0, 1])
    with pytest.raises(InvalidDataset, match="no image"):
        fit_temperature(np.zeros((0, 2)), np.zeros(0, int))


def test_who_knows_little_does_not_blur_what_others_are_sure_of():
    logits, targets = honest(classes=2, spread=4.0)
    sure, blind = softmax(logits), softmax(0.05 * np.random.default_rng(1).normal(size=logits.shape))
    both = pooled([softmax(2 * logits), blind], [{"temperature": 2.0}, {}])
    assert np.allclose(logits_of(both) @ [-1, 1], (logits + logits_of(blind)) @ [-0.5, 0.5])
    mean = (sure + blind) / 2

    def found(p):  # of the first class, with one of the others in a thousand
        return (p[targets == 0, 0] > np.quantile(p[targets == 1, 0], 0.999)).mean()

    assert found(mean) < 0.85 * found(sure) and found(both) > 0.95 * found(sure)

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplense.metrics import calibration


def loop_ece(probabilities, targets, bins):
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == targets
    total = 0.0
    for b in range(bins):
        inside = (confidence > b / bins) & (confidence <= (b + 1) / bins)
        if inside.any():
            total += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
    return total


@given(st.integers(2, 6), st.integers(1, 80), st.integers(0, 2**20))
@settings(max_examples=50)
def test_equals_the_definition(classes, images, seed):
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.full(classes, 0.5), images)
    targets = generator.integers(0, classes, images)
    expected = loop_ece(probabilities, targets, 15)
    assert calibration.ece(probabilities, targets) == pytest.approx(expected, abs=1e-12)
    table = calibration.reliability_table(probabilities, targets)
    gap = np.nan_to_num(np.abs(table.confidence - table.accuracy))
    assert (gap * table.count).sum() / images == pytest.approx(expected, abs=1e-12)
    assert table.count.sum() == images
    full = table.count > 0
    assert (table.edges[:-1][full] < table.confidence[full] + 1e-12).all()
    assert (table.confidence[full] <= table.edges[1:][full] + 1e-12).all()


def test_hand_computed():
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [1.0, 0.0]])
    # Bins of width 1/15: {0.9 right, 0.9 wrong}, {0.6 right}, {1.0 right}.
    assert calibration.ece(probabilities, [0, 1, 1, 0]) == pytest.approx((2 * 0.4 + 0.4 + 0.0) / 4)


def test_right_and_sure_is_zero_wrong_and_sure_is_one():
    sure = np.eye(3)
    assert calibration.ece(sure, [0, 1, 2]) == 0.0
    assert calibration.ece(sure, [1, 2, 0]) == 1.0


def test_replicates_of_a_calibrated_model_resemble_it():
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.ones(3), 2000)
    targets = (generator.random((2000, 1)) > probabilities.cumsum(axis=1)).sum(axis=1)
    errors = calibration.calibrated_replicates(probabilities, targets, 0, 200)
    assert np.quantile(errors, 0.005) < calibration.ece(probabilities, targets) < np.quantile(errors, 0.995)

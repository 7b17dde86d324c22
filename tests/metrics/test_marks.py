import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplense.core.errors import InvalidDataset, InvalidOption
from deeplense.metrics.marks import classification_marks, point_marks

LABELS = ["no_sub", "cdm", "axion"]


def predictions(images=600, classes=3, separation=2.0, seed=0, temper=1.0):
    generator = np.random.default_rng(seed)
    targets = np.arange(images) % classes
    logits = generator.normal(size=(images, classes)) + separation * np.eye(classes)[targets]
    odds = np.exp(temper * separation * logits)
    return (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32), targets


def test_names_and_order():
    marks = classification_marks(*predictions(60), LABELS, resamples=20)
    assert list(marks) == ["accuracy", "auroc_macro", "auroc_micro", "auroc_no_sub", "auroc_cdm", "auroc_axion", "ece"]
    assert marks["ece"].as_dict().keys() == {"value", "low", "high", "n"}


@given(st.integers(2, 5), st.integers(0, 10_000), st.floats(0, 4))
@settings(max_examples=25, deadline=None)
def test_every_value_lies_in_its_interval_and_is_the_point_mark(classes, seed, separation):
    probabilities, targets = predictions(40, classes, separation, seed)
    labels = [f"class {k}" for k in range(classes)]
    marks, points = (
        classification_marks(probabilities, targets, labels, resamples=50),
        point_marks(probabilities, targets, labels),
    )
    assert {name: mark.value for name, mark in marks.items()} == points
    for mark in marks.values():
        assert 0 <= mark.low <= mark.value <= mark.high <= 1
        assert mark.n == 40
    each = [points[f"auroc_{label}"] for label in labels]
    assert points["auroc_macro"] == pytest.approx(np.mean(each), abs=1e-12)


def test_two_classes_share_one_area():
    probabilities, targets = predictions(200, 2)
    marks = point_marks(probabilities, targets, ["nonlens", "lens"])
    assert marks["auroc_lens"] == pytest.approx(marks["auroc_nonlens"], abs=1e-4)


def test_order_of_images_does_not_matter():
    probabilities, targets = predictions(300)
    order = np.random.default_rng(1).permutation(300)
    assert point_marks(probabilities, targets, LABELS) == pytest.approx(
        point_marks(probabilities[order], targets[order], LABELS), abs=1e-12
    )


def test_seed_makes_it_repeatable():
    probabilities, targets = predictions(300)
    first = classification_marks(probabilities, targets, LABELS, seed=1, resamples=100)
    assert first == classification_marks(probabilities, targets, LABELS, seed=1, resamples=100)
    assert first != classification_marks(probabilities, targets, LABELS, seed=2, resamples=100)


@pytest.mark.parametrize("size", [1, 5, 100])
def test_perfection_keeps_a_lower_end(size):
    marks = classification_marks(np.tile(np.eye(3), (size, 1)), np.tile(np.arange(3), size), LABELS, resamples=50)
    for name, mark in marks.items():
        if name != "ece":
            assert (mark.value, mark.high) == (1.0, 1.0)
    assert marks["auroc_cdm"].low == pytest.approx(size / (size + 3.8415), abs=1e-4)
    assert marks["accuracy"].low == pytest.approx(3 * size / (3 * size + 3.8415), abs=1e-4)
    assert marks["ece"].low == 0.0 < marks["ece"].high


def test_always_wrong_keeps_an_upper_end():
    marks = classification_marks(np.tile(np.eye(2)[::-1], (50, 1)), np.tile([0, 1], 50), ["a", "b"], resamples=50)
    for name in ("accuracy", "auroc_a", "auroc_b", "auroc_macro", "auroc_micro"):
        assert marks[name].low == marks[name].value == 0.0 < marks[name].high


def test_a_class_of_two_images_gets_a_wide_interval():
    probabilities, targets = predictions(300)
    kept = (targets != 2) | (np.arange(300) > 293)
    mark = classification_marks(probabilities[kept], targets[kept], LABELS, resamples=100)["auroc_axion"]
    assert mark.high - mark.low > 0.4


def test_error_of_a_calibrated_model_is_compatible_with_zero():
    missed = 0
    for seed in range(40):
        probabilities, targets = predictions(300, seed=seed)  # these probabilities are the exact posterior
        missed += classification_marks(probabilities, targets, LABELS, resamples=200)["ece"].low > 0
    assert missed <= 4


def test_error_interval_covers_that_of_an_overconfident_model():
    truth = point_marks(*predictions(600_000, temper=2.0, seed=99), LABELS)["ece"]
    missed = 0
    for seed in range(60):
        mark = classification_marks(*predictions(900, temper=2.0, seed=seed), LABELS, resamples=200)["ece"]
        missed += not mark.low <= truth <= mark.high
    assert missed <= 9


def test_undefined_cases_say_so():
    probabilities, targets = predictions(30)
    with pytest.raises(InvalidDataset, match="no image of class axion among 20"):
        point_marks(probabilities[targets != 2], targets[targets != 2], LABELS)
    for labels in (["a", "b"], ["a", "a", "b"], ["a", "b", "macro"]):
        with pytest.raises(InvalidOption, match="class names"):
            classification_marks(probabilities, targets, labels)
    with pytest.raises(InvalidDataset, match="no image to mark"):
        point_marks(np.zeros((0, 3)), np.zeros(0, int), LABELS)


def test_fast_enough_for_a_large_test_split():
    probabilities, targets = predictions(15_000)
    start = time.process_time()  # the processor's time: another program on the machine must not fail the test
    classification_marks(probabilities, targets, LABELS)
    assert time.process_time() - start < 60  # about three seconds

"""Sensitivity: stronger signals are found more often, and the intervals say how well that is known."""

import numpy as np
import pytest

from deeplense.core.errors import InvalidDataset, InvalidOption
from deeplense.metrics.intervals import mean_mark
from deeplense.metrics.marks import auroc_mark, classification_marks, ece_mark, nll_mark
from deeplense.metrics.ranking import auroc
from deeplense.metrics.sensitivity import pair_scores, sensitivity_curve
from deeplense.metrics.temperature import logits_of


def scores(images=2000, seed=0):
    generator = np.random.default_rng(seed)
    strength = generator.uniform(0, 4, images)
    return generator.normal(size=images) + strength, strength, generator.normal(size=images)


def test_a_stronger_signal_is_found_more_often():
    curve = sensitivity_curve(*scores(), resamples=100)
    assert len(curve) == 8 and sum(one.positives for one in curve) == 2000
    areas = [one.auroc.value for one in curve]
    assert areas == sorted(areas) and areas[0] < 0.65 and areas[-1] > 0.98
    for one, after in zip(curve, [*curve[1:], None], strict=True):
        assert one.low <= one.middle <= one.high
        assert after is None or one.high <= after.low
        assert one.auroc.low < one.auroc.value < one.auroc.high


def test_each_bin_is_its_own_area():
    positives, strength, negatives = scores(160)
    for one in sensitivity_curve(positives, strength, negatives, resamples=20):
        inside = positives[(strength >= one.low) & (strength <= one.high)]
        wanted = auroc(np.concatenate([inside, negatives]), np.arange(len(inside) + 160) < len(inside))
        assert one.auroc.value == wanted and one.positives == len(inside) >= 25


@pytest.mark.parametrize(("images", "bins"), [(3, 1), (49, 1), (60, 2), (5000, 8)])
def test_few_images_make_few_bins(images, bins):
    assert len(sensitivity_curve(*scores(images), resamples=20)) == bins


def test_one_strength_is_one_bin():
    positives, strength, negatives = scores(500)
    assert len(sensitivity_curve(positives, np.full_like(strength, 3e10), negatives, resamples=20)) == 1


def test_undefined_cases_say_so():
    positives, strength, negatives = scores(50)
    with pytest.raises(InvalidOption, match="49 finite strengths for 50"):
        sensitivity_curve(positives, np.where(strength == strength.max(), np.nan, strength), negatives)
    with pytest.raises(InvalidDataset):
        sensitivity_curve(positives, strength, negatives[:0])
    with pytest.raises(InvalidDataset):
        sensitivity_curve(positives[:0], strength[:0], negatives)


def test_pairs_leave_the_third_class_out():
    probabilities = np.array([[0.2, 0.4, 0.4], [0.02, 0.04, 0.94], [1.0, 0.0, 0.0]])
    found = pair_scores(probabilities, 1, 0)
    assert found[:2] == pytest.approx(np.log([2, 2]))
    assert np.isfinite(found).all() and found[2] < -80


def test_single_marks_are_those_of_the_table():
    generator = np.random.default_rng(4)
    targets = np.arange(400) % 2
    p = 1 / (1 + np.exp(-3 * (generator.normal(size=400) + targets - 0.5)))
    probabilities = np.stack([1 - p, p], 1)
    table = classification_marks(probabilities, targets, ["a", "b"], seed=3, resamples=100)
    assert ece_mark(probabilities, targets, 3, 100) == table["ece"]
    found = auroc_mark(probabilities[:, 1], targets, 3, 100)
    assert found == table["auroc_b"]
    nll = nll_mark(probabilities, targets, 3, 200)
    assert nll.value == pytest.approx(-logits_of(probabilities)[np.arange(400), targets].mean())
    assert nll.low < nll.value < nll.high


def test_the_interval_of_a_mean_covers_it():
    generator, missed = np.random.default_rng(0), 0
    for seed in range(100):
        mark = mean_mark(generator.exponential(size=80), np.zeros(80, int), seed, 300)
        missed += not mark.low <= 1 <= mark.high
    assert 1 <= missed <= 13

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from sklearn.metrics import roc_curve as sklearn_roc_curve

from deeplense.core.errors import InvalidDataset, InvalidOption
from deeplense.metrics import ranking


def sample(kind: str, images: int = 400) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(3)
    positive = generator.random(images) < 0.3
    scores = generator.normal(positive * 1.5, 1.0)
    return {
        "random": scores,
        "tied": np.round(scores),
        "constant": np.zeros(images),
        "perfect": positive + generator.random(images) / 2,
        "reversed": -(positive + generator.random(images) / 2),
        "float32": scores.astype(np.float32),
        "infinite": np.where(scores > 2, np.inf, scores),
        "saturated": (1 / (1 + np.exp(-40 * scores))).astype(np.float32),
    }[kind], positive


KINDS = ["random", "tied", "constant", "perfect", "reversed", "float32", "saturated"]


@pytest.mark.parametrize("kind", KINDS)
def test_area_equals_scikit_learn(kind):
    scores, positive = sample(kind)
    assert ranking.auroc(scores, positive) == pytest.approx(roc_auc_score(positive, scores), abs=1e-12)


def test_infinite_scores_are_ranks_like_any_other():
    scores, positive = sample("infinite")
    assert ranking.auroc(scores, positive) == ranking.auroc(np.minimum(scores, 1e9), positive)


@pytest.mark.parametrize("kind", KINDS)
def test_curve_equals_scikit_learn(kind):
    scores, positive = sample(kind)
    curve = ranking.roc_curve(scores, positive)
    false, true, _ = sklearn_roc_curve(positive, scores, drop_intermediate=False)
    assert {*zip(curve.false_positive_rate, curve.true_positive_rate, strict=True)} <= {*zip(false, true, strict=True)}
    # Trapezoids over the points kept give the same area: nothing but straight-line points was left out.
    area = np.trapezoid(curve.true_positive_rate, curve.false_positive_rate)
    assert area == pytest.approx(ranking.auroc(scores, positive), abs=1e-12)
    assert (curve.false_positive_rate[[0, -1]] == [0, 1]).all()
    assert (curve.true_positive_rate[[0, -1]] == [0, 1]).all()


def test_thresholds_let_through_what_the_curve_says():
    scores, positive = sample("tied")
    curve = ranking.roc_curve(scores, positive)
    for false, true, threshold in zip(
        curve.false_positive_rate, curve.true_positive_rate, curve.threshold, strict=True
    ):
        assert true == (scores[positive] >= threshold).mean()
        assert false == (scores[~positive] >= threshold).mean()


def test_curve_of_a_constant_score_is_the_diagonal():
    scores, positive = sample("constant")
    assert ranking.roc_curve(scores, positive).false_positive_rate.tolist() == [0, 1]


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("decimals", [1, 6])
def test_averages_equal_scikit_learn(classes, decimals):
    generator = np.random.default_rng(classes)
    targets = generator.permutation(np.arange(300) % classes)
    logits = generator.normal(size=(300, classes)) + 1.2 * np.eye(classes)[targets]
    probabilities = np.round(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), decimals)
    truth = np.eye(classes)[targets]
    each = ranking.auroc_per_class(probabilities, targets)
    assert each == pytest.approx(roc_auc_score(truth, probabilities, average=None), abs=1e-12)
    micro = ranking.auroc_micro(probabilities, targets)
    assert micro == pytest.approx(roc_auc_score(truth, probabilities, average="micro"), abs=1e-12)


cases = st.lists(st.tuples(st.integers(-50, 50), st.booleans()), min_size=2, max_size=60).filter(
    lambda rows: 0 < sum(truth for _, truth in rows) < len(rows)
)


@given(cases, st.randoms(use_true_random=False))
def test_area_ignores_monotone_maps_and_order(rows, random):
    scores, positive = np.array([row[0] for row in rows], float), np.array([row[1] for row in rows])
    area = ranking.auroc(scores, positive)
    assert ranking.auroc(np.exp(scores / 20) * 3 - 1, positive) == area
    order = random.sample(range(len(rows)), len(rows))
    assert ranking.auroc(scores[order], positive[order]) == area
    assert ranking.auroc(-scores, positive) == pytest.approx(1 - area, abs=1e-12)
    assert ranking.auroc(-scores, ~positive) == area


@given(cases)
def test_weights_count_like_copies(rows):
    scores, positive = np.array([row[0] for row in rows], float), np.array([row[1] for row in rows])
    weights = 1 + np.arange(len(rows)) % 3
    copied = ranking.auroc(np.repeat(scores, weights), np.repeat(positive, weights))
    found = ranking.placements(scores, positive)
    assert ranking.resampled_area(found, weights[None].astype(float))[0] == pytest.approx(copied, abs=1e-12)


@given(cases)
def test_influence_is_the_derivative_by_weight(rows):
    scores, positive = np.array([row[0] for row in rows], float), np.array([row[1] for row in rows])
    found, step = ranking.placements(scores, positive), 1e-6
    weights = 1 + step * np.eye(len(rows))
    slope = (ranking.resampled_area(found, weights) - ranking.area(found)) / step
    assert ranking.influence(found, len(rows)) == pytest.approx(slope, abs=1e-4)


def test_influence_of_pooled_classes_is_the_derivative_by_weight():
    generator = np.random.default_rng(1)
    probabilities, targets, step = generator.dirichlet(np.ones(3), 40).round(1), np.arange(40) % 3, 1e-6
    found = ranking.micro_placements(probabilities, targets)
    slope = (ranking.resampled_area(found, 1 + step * np.eye(40)) - ranking.area(found)) / step
    assert ranking.influence(found, 40) == pytest.approx(slope, abs=1e-4)


@pytest.mark.parametrize("function", [ranking.auroc, ranking.roc_curve])
def test_undefined_cases_say_so(function):
    with pytest.raises(InvalidDataset, match="0 positive and 3 negative"):
        function([0.1, 0.2, 0.3], [0, 0, 0])
    with pytest.raises(InvalidDataset, match="3 positive and 0 negative"):
        function([0.1, 0.2, 0.3], [1, 1, 1])
    with pytest.raises(InvalidOption, match="1 of them NaN"):
        function([0.1, np.nan, 0.3], [1, 0, 1])
    with pytest.raises(InvalidOption, match="for 2 truths"):
        function([0.1, 0.2, 0.3], [1, 0])
    with pytest.raises(InvalidDataset):
        function([], [])

import numpy as np
import pytest
from sklearn.metrics import accuracy_score
from sklearn.metrics import confusion_matrix as sklearn_confusion

from deeplense.core.errors import InvalidDataset, InvalidOption
from deeplense.metrics import classification


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_equal_to_scikit_learn(classes):
    generator = np.random.default_rng(classes)
    targets, probabilities = generator.integers(0, classes, 200), generator.dirichlet(np.ones(classes), 200)
    predicted = probabilities.argmax(axis=1)
    assert classification.accuracy(probabilities, targets) == accuracy_score(targets, predicted)
    expected = sklearn_confusion(targets, predicted, labels=range(classes))
    assert (classification.confusion_matrix(predicted, targets, classes) == expected).all()


def test_confusion_matrix_is_true_class_by_row():
    assert classification.confusion_matrix([1, 1, 0], [0, 1, 0], 3).tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert classification.confusion_matrix([], np.array([], int), 2).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(("predicted", "targets"), [([0, 3], [0, 1]), ([0, -1], [0, 1]), ([0], [0, 1])])
def test_confusion_matrix_refuses_what_is_no_class(predicted, targets):
    with pytest.raises(InvalidDataset, match="for 3 classes"):
        classification.confusion_matrix(predicted, targets, 3)


GOOD = [[0.2, 0.8], [0.6, 0.4]]


@pytest.mark.parametrize(
    ("probabilities", "targets", "error", "message"),
    [
        (np.zeros((0, 2)), np.zeros(0, int), InvalidDataset, "no image"),
        ([[0.2, np.nan], [0.6, 0.4]], [0, 1], InvalidOption, "1 of 2 predictions are not finite"),
        ([[0.2, np.inf], [np.nan, 0.4]], [0, 1], InvalidOption, "2 of 2 predictions"),
        ([[-3.0, 5.0], [0.6, 0.4]], [0, 1], InvalidOption, "softmax"),
        (GOOD, [0, 2], InvalidDataset, "from 0 to 2"),
        (GOOD, [-1, 1], InvalidDataset, "from -1 to 1"),
        (GOOD, [0.0, 1.0], InvalidDataset, "float64"),
        (GOOD, [0, 1, 1], InvalidOption, "shape"),
        ([[1.0], [1.0]], [0, 0], InvalidOption, "K ≥ 2"),
        ([0.2, 0.8], [0, 1], InvalidOption, "shape"),
    ],
)
def test_undefined_cases_say_so(probabilities, targets, error, message):
    with pytest.raises(error, match=message):
        classification.accuracy(probabilities, targets)


def test_half_precision_may_overshoot_one():
    assert classification.accuracy(np.array([[1.0005, 0.0], [0.0, 1.0]], np.float32), [0, 1]) == 1.0


def test_missing_class_is_named():
    with pytest.raises(InvalidDataset, match="no image of class axion, vortex"):
        classification.require_every_class(np.array([0, 0]), ["no_sub", "axion", "vortex"])

"""Pictures of anomaly scores: everything that is given is on them."""

from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.patches import StepPatch

from deeplense.core.errors import InvalidDataset
from deeplense.metrics import figures
from deeplense.metrics.anomalies import conformal_p_values, uniformity
from deeplense.metrics.anomaly_figures import p_value_figure, score_figure

RNG = np.random.default_rng(0)
NORMAL = RNG.normal(size=500)


def texts(figure):
    return " ".join(ElementTree.fromstring(figures.svg(figure)).itertext())


def steps(figure):
    return [patch.get_data() for patch in figure.axes[0].patches if isinstance(patch, StepPatch)]


@pytest.mark.parametrize(
    "other",
    [NORMAL + 1, NORMAL + 1e9, np.exp(30 * RNG.random(50)), np.array([3.0]), np.zeros(7), -1e5 - NORMAL],
    ids=["near", "far", "wide", "single", "constant", "below"],
)
def test_every_score_is_counted(other):
    figure = score_figure({"cdm": other, "no_sub": NORMAL, "axion": NORMAL}, "no_sub", "misfit")
    for share, _, _ in steps(figure):
        assert share.sum() == pytest.approx(1)
    words = texts(figure)
    assert all(word in words for word in ("cdm", "no_sub", "axion", "misfit", "fraction of the class"))
    figures.png(figure)


def test_far_anomalies_leave_the_normal_images_room():
    figure = score_figure({"no_sub": NORMAL, "cdm": NORMAL + 1e9}, "no_sub")
    normal, far = (share for share, _, _ in steps(figure))
    assert (normal > 0).sum() >= 8 and far[-1] == 1
    assert "(the rest at the edges)" in texts(figure)
    assert "edges" not in texts(score_figure({"a": np.zeros(9), "b": np.zeros(9)}, "a"))


def test_p_values_are_counted_and_judged():
    p = conformal_p_values(RNG.normal(size=1000), NORMAL)
    figure = p_value_figure(p, len(NORMAL))
    ((counts, edges, _),) = steps(figure)
    assert counts.sum() == 1000 and (edges[0], edges[-1]) == (0, 1)
    distance, probability = uniformity(p, len(NORMAL))
    assert f"KS distance {distance:.3f}, probability {probability:.2g}" in texts(figure)
    assert "1,000 normal images" in texts(figure)


def test_p_values_on_the_edges_of_bins_are_shared_out_fairly():
    ((counts, _, _),) = steps(p_value_figure(np.arange(1, 501) / 500))
    assert (counts == 25).all()


def test_extremes_of_p_values():
    assert "probability < 0.0001" in texts(p_value_figure(np.full(50, 0.002)))
    for p in (np.array([1.0]), np.array([0.0, 1.0])):
        figures.png(p_value_figure(p))
    with pytest.raises(InvalidDataset, match="no p-value"):
        p_value_figure(np.array([]))

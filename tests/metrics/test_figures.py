import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest

from deeplense.metrics import calibration, figures, ranking
from deeplense.metrics.intervals import Interval
from deeplense.metrics.stretch import stretched

LABELS = ["no_sub", "$cdm_{", "<b>&axion\x07"]
MARK = Interval(0.9934, 0.9921, 0.9946, 3000)


def texts(figure):
    return " ".join(ElementTree.fromstring(figures.svg(figure)).itertext())


def scores(separation, images=300):
    generator = np.random.default_rng(0)
    targets = np.arange(images) % 3
    odds = np.exp(generator.normal(size=(images, 3)) + separation * np.eye(3)[targets])
    return odds / odds.sum(axis=1, keepdims=True), targets


def roc(separation):
    values, targets = scores(separation)
    curves = {label: ranking.roc_curve(values[:, k], targets == k) for k, label in enumerate(LABELS)}
    return figures.roc_figure(curves, dict.fromkeys(LABELS, MARK))


def test_roc_names_classes_and_areas():
    shown = texts(roc(3.0))
    for expected in ("no_sub  0.9934 [0.9921, 0.9946]", "$cdm_{", "<b>&axion\N{REPLACEMENT CHARACTER}"):
        assert expected in shown


@pytest.mark.parametrize(("separation", "enlarged"), [(0.2, 0), (4.0, 1), (40.0, 1)])
def test_roc_enlarges_the_corner_only_where_the_bend_is(separation, enlarged):
    assert len(roc(separation).axes[0].child_axes) == enlarged


def test_roc_of_several_methods_has_a_panel_per_class_and_a_legend_for_all():
    values, targets = scores(1.0, images=30_000)
    curves = {
        label: {name: ranking.roc_curve(values[:, k], targets == k) for name in ("one", "other")}
        for k, label in enumerate(LABELS)
    }
    figure = figures.roc_comparison_figure(curves, {"one": MARK, "other": MARK})
    shown = texts(figure)
    assert "no_sub" in shown and shown.count("0.9934 [0.9921, 0.9946]") == 2
    assert len(figure.axes) == 3 and all(len(axes.lines) == 3 for axes in figure.axes)
    line, curve = figure.axes[0].lines[1], curves["no_sub"]["one"]
    assert len(line.get_xdata()) <= 1002 < len(curve.threshold), "thinned: the picture stays small"
    places = np.interp(line.get_xdata(), curve.false_positive_rate, curve.true_positive_rate)
    assert np.abs(places - line.get_ydata()).max() < 0.01


@pytest.mark.parametrize("classes", [2, 3, 6, 20])
def test_confusion_of_any_number_of_classes(classes):
    matrix = np.eye(classes, dtype=int) * 75 + 1
    matrix[0] = 0  # a class without images
    shown = texts(figures.confusion_figure(matrix, [f"class {k}" for k in range(classes)]))
    assert "class 1" in shown
    assert ("76" in shown) == (classes <= 6)


def test_reliability_shows_the_error():
    table = calibration.reliability_table(*scores(2.0))
    assert "ECE 0.9934 [0.9921, 0.9946]" in texts(figures.reliability_figure(table, MARK))


def test_history_skips_what_is_not_there():
    history = [{"epoch": 1, "train_loss": 900.0}, {"epoch": 2, "train_loss": 1.0, "validation_loss": 1.5}]
    curves = {"train_loss": "training", "validation_loss": "validation", "other": "other"}
    figure = figures.history_figure(history, curves, "loss")
    assert "other" not in texts(figure)
    assert figure.axes[0].get_yscale() == "log"
    texts(figures.history_figure([], curves, "loss"))


def test_comparison_names_every_run():
    shown = texts(figures.comparison_figure({"first": MARK, "second": MARK}, "AUROC"))
    assert "first" in shown
    assert "second" in shown


def test_grid_of_images_of_any_kind():
    images = np.random.default_rng(0).normal(size=(7, 2, 12, 10)).astype(np.float32)
    figure = figures.image_grid(images, [f"no {i}\nsecond line" for i in range(7)], columns=3)
    assert len(figure.axes) == 7
    assert figures.png(figure).startswith(b"\x89PNG")
    figures.png(figures.image_grid(images[:0], []))


def test_equal_figures_give_equal_text():
    assert figures.svg(roc(2.0)) == figures.svg(roc(2.0))


def test_nothing_global_is_touched():
    code = "import sys, deeplense.metrics.figures; assert 'matplotlib.pyplot' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((1, 8, 8)),
        np.full((1, 8, 8), np.nan),
        np.full((1, 8, 8), 7.0),
        np.pad(np.ones((1, 1, 1)), ((0, 0), (4, 4), (4, 4))) * 1e-20,
        np.random.default_rng(0).poisson(100, (1, 8, 8)),
        np.array([[[np.inf, 1.0], [2.0, -np.inf]]]),
        np.array([[[3e38, -3e38], [2.0, 0.0]]], np.float32),
        np.array([[[0, 255], [7, 9]]], np.uint8),
    ],
)
def test_any_image_can_be_shown(image):
    shown = stretched(image)
    assert shown.shape == image.shape[1:]
    assert np.isfinite(shown).all()
    assert 0 <= shown.min() <= shown.max() <= 1
    assert figures.image_png(image).startswith(b"\x89PNG")


def test_three_channels_are_colours_and_others_a_mean():
    images = np.random.default_rng(0).normal(size=(5, 9, 9))
    assert stretched(images[:3]).shape == (9, 9, 3)
    assert np.array_equal(stretched(images), stretched(images.mean(axis=0, keepdims=True)))
    assert figures.image_png(images[:3]).startswith(b"\x89PNG")


def test_stretch_keeps_the_order_and_the_scale_does_not_matter():
    image = np.random.default_rng(0).normal(size=(1, 30, 30))
    image[0, 10:13, 10:13] += 30
    shown = stretched(image)
    rising = shown.ravel()[np.argsort(image.ravel())]
    assert (np.diff(rising) >= 0).all()
    assert stretched(image * 1e-3 + 5) == pytest.approx(shown, abs=1e-5)
    assert shown[11, 11] > 0.95
    assert 0.1 < np.median(shown) < 0.6


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (0.9921, 0.9946, "0.9934 [0.9921, 0.9946]"),
        (0.99339, 0.99341, "0.993400 [0.993390, 0.993410]"),
        (0.95, 0.9999, "0.993 [0.950, 1.000]"),
        (0.4, 1.0, "0.99 [0.40, 1.00]"),
        (0.9934, 0.9934, "0.9934 [0.9934, 0.9934]"),
    ],
)
def test_intervals_are_printed_as_precisely_as_they_are_known(low, high, text):
    assert str(Interval(0.9934, low, high, 100)) == text


def test_a_wide_range_of_losses_has_plain_numbers_on_its_axis() -> None:
    history = [{"epoch": epoch, "train_loss": 10.0**-epoch} for epoch in range(1, 5)]
    picture = figures.svg(figures.history_figure(history, {"train_loss": "training"}, "loss"))
    assert "mathdefault" not in picture
    assert "0.001" in picture

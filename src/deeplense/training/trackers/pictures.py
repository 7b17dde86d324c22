"""The pictures that a tracker shows of a split."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float32, Int64
from PIL.Image import Image
from PIL.Image import open as decode

from deeplense.metrics import figures
from deeplense.metrics.classification import confusion_matrix
from deeplense.metrics.intervals import RESAMPLES, Interval
from deeplense.metrics.marks import classification_marks
from deeplense.metrics.ranking import roc_curve

_DRAWN = 1_000_000  # images drawn for the intervals of a picture made during training: about half a second


def classification_pictures(
    answers: Float32[np.ndarray, "N K"],
    targets: Int64[np.ndarray, " N"],
    labels: Sequence[str],
    marks: Mapping[str, Interval] | None = None,
) -> dict[str, Image]:
    """Return the pictures `roc` and `confusion`.

    Parameters
    ----------
    answers
        [N, K] probability of each class.
    targets
        [N] index of the true class.
    labels
        K class names.
    marks
        Marks with intervals, of which the legend shows the areas; by default they are computed here.
    """
    if marks is None:
        resamples = max(100, min(RESAMPLES, _DRAWN // len(targets)))
        marks = classification_marks(answers, targets, labels, resamples=resamples)
    curves = {label: roc_curve(answers[:, k], targets == k) for k, label in enumerate(labels)}
    drawn = {
        "roc": figures.roc_figure(curves, {label: marks[f"auroc_{label}"] for label in labels}),
        "confusion": figures.confusion_figure(confusion_matrix(answers.argmax(1), targets, len(labels)), labels),
    }
    return {name: decode(io.BytesIO(figures.png(figure))).convert("RGB") for name, figure in drawn.items()}

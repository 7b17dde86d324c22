"""What a run looked at: attributions of some of its answers, beside what is known of the images, and their scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from deeplense.metrics.classification import Floats
from deeplense.metrics.localisation import LocalisationScore, localisation_score
from deeplense.metrics.panels import Panel

CONVERGENCE, SIGNAL = "true convergence", "change of the image"
SHOWN = 4  # images of a group on the page


@dataclass(frozen=True)
class Group:
    """Images of one class that were all answered right, or all wrong.

    Parameters
    ----------
    label
        True class.
    right
        Whether the answers are.
    ids, predictions
        N names, and N classes that were answered: those that the attributions explain.
    images
        [N, C, H, W].
    attributions
        Method → [N, H, W].
    truths
        `CONVERGENCE` → [N, H, W], and `SIGNAL` where images have noise; empty where the images are not simulated.
    """

    label: str
    right: bool
    ids: Sequence[str]
    predictions: Sequence[str]
    images: Floats
    attributions: Mapping[str, Floats]
    truths: Mapping[str, Floats]


@dataclass(frozen=True)
class ScoreRow:
    """A row of the table: one method on one group.

    Parameters
    ----------
    label, right, method, images
        Which; `images` counts them.
    convergence
        Against the top 5 % of the substructure's convergence.
    signal
        Against the 5 % of pixels that the substructure changes most, in units of the noise; None without noise.
    """

    label: str
    right: bool
    method: str
    images: int
    convergence: LocalisationScore
    signal: LocalisationScore | None


def score_rows(groups: Sequence[Group]) -> list[ScoreRow]:
    """Return the scores of all groups whose truth is known."""
    rows = []
    for group in groups:
        for method, maps in group.attributions.items():
            scores = {name: localisation_score(maps, truth) for name, truth in group.truths.items()}
            if (convergence := scores.get(CONVERGENCE)) is not None:
                which = (group.label, group.right, method, len(group.ids))
                rows.append(ScoreRow(*which, convergence, scores.get(SIGNAL)))
    return rows


def panels(group: Group) -> list[Panel]:
    """Return what the page shows of a group: its first images."""
    return [
        Panel(
            f"{name}: {answer}",
            np.asarray(group.images[k]),
            {method: maps[k] for method, maps in group.attributions.items()},
            {truth: maps[k] for truth, maps in group.truths.items()},
        )
        for k, (name, answer) in enumerate(zip(group.ids[:SHOWN], group.predictions, strict=False))
    ]

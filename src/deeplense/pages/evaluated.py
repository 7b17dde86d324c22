"""An evaluated run of a classifier, read back from its folder, every file of it checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deeplense.core.run_folder import RunFolder
from deeplense.metrics.calibrated import read_calibration
from deeplense.metrics.classification import checked
from deeplense.pages.judged import JudgedRun, read_judged, read_labels, read_shown, unsound


@dataclass(frozen=True)
class Mistake:
    """An image that was taken for something else.

    Parameters
    ----------
    id
        The image's name in its dataset.
    label
        True class.
    prediction
        What it was taken for.
    probability
        Probability given to the prediction.
    image
        [C, H, W].
    """

    id: str
    label: str
    prediction: str
    probability: float
    image: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class EvaluatedRun(JudgedRun):
    """All that is known of a classifier and how it did.

    Parameters
    ----------
    probabilities
        [N, K] on its own test split.
    mistakes
        The most confident ones; None where none were stored, empty where there are none.
    temperature
        Fitted on the validation split; None where none was.
    """

    probabilities: NDArray[np.float32]
    mistakes: list[Mistake] | None
    temperature: float | None


def read_evaluated(folder: RunFolder) -> EvaluatedRun:
    """Return the content of a run folder.

    Raises
    ------
    MissingFile
        When the run was not evaluated, or a file is gone.
    CorruptFile
        When a file is not what `train` or `evaluate` writes.
    """
    labels = read_labels(folder)
    needed = ["accuracy", "auroc_macro", "ece", *(f"auroc_{label}" for label in labels)]
    run, probabilities = read_judged(folder, needed, [f"p_{label}" for label in labels], checked)
    mistakes, temperature = _mistakes(folder.path), read_temperature(folder)
    return EvaluatedRun(**vars(run), probabilities=probabilities, mistakes=mistakes, temperature=temperature)


def read_temperature(folder: RunFolder) -> float | None:
    """Return the temperature of a run, or None where none was fitted; raises as `read_calibration`."""
    return read_calibration(folder).get("temperature")


def _mistakes(folder: Path) -> list[Mistake] | None:
    found = read_shown(folder, "mistakes")
    if found is None:
        return None
    rows, arrays = found
    try:
        return [
            Mistake(str(row["id"]), str(row["label"]), str(row["prediction"]), float(row["probability"]), image)
            for row, image in zip(rows, arrays.get("images", ()), strict=True)
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise unsound(folder / "mistakes.json", f"not a list of mistakes ({error})", "what each image was") from error

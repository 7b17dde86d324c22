"""An evaluated run of a classifier, read back from its folder, every file of it checked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplense.core.errors import DeepLenseError
from deeplense.core.files import read_json
from deeplense.core.run_folder import RunFolder
from deeplense.metrics.classification import checked
from deeplense.metrics.isotonic import Isotonic
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


def read_calibration(folder: RunFolder) -> dict[str, Any]:
    """Return how a run's probabilities are made honest; nothing where that was not fitted.

    Its `temperature`; of a class that is looked for also `isotonic`, an `Isotonic`'s fields, and `prevalence`, the
    fraction of the images that it was fitted on.

    Raises
    ------
    CorruptFile
        When its file is not what `evaluate` writes.
    """
    if not folder.calibration.is_file():
        return {}
    found = read_json(folder.calibration)
    value = found.get("temperature") if isinstance(found, dict) else None
    if not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise unsound(folder.calibration, f"the temperature {value!r}", "a positive number")
    if "isotonic" in found:
        try:
            Isotonic.from_mapping(found["isotonic"])
            if not 0 < float(found["prevalence"]) < 1:
                raise ValueError(f"a prevalence of {found['prevalence']}")
        except (DeepLenseError, KeyError, TypeError, ValueError) as error:
            raise unsound(folder.calibration, f"no rising function ({error})", "knots x and y") from error
    return dict(found)


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

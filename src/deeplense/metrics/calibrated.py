"""How a run's probabilities are made honest, as `evaluate` stores it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplense.core.errors import CorruptFile, DeepLenseError
from deeplense.core.files import read_json
from deeplense.core.run_folder import RunFolder
from deeplense.metrics.classification import Floats
from deeplense.metrics.isotonic import Isotonic
from deeplense.metrics.temperature import logits_of, softmax, tempered


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
        raise _unsound(folder, f"the temperature {value!r}", "a positive number")
    if "isotonic" in found:
        try:
            Isotonic.from_mapping(found["isotonic"])
            if not 0 < float(found["prevalence"]) < 1:
                raise ValueError(f"a prevalence of {found['prevalence']}")
        except (DeepLenseError, KeyError, TypeError, ValueError) as error:
            raise _unsound(folder, f"no rising function ({error})", "knots x and y") from error
    return dict(found)


def calibrated(answers: Floats, calibration: Mapping[str, Any], place: int | None) -> NDArray[np.float64]:
    """Return probabilities that are made honest: by a rising function, else by a temperature, else as they are.

    Parameters
    ----------
    answers
        [N, K] probability of each class.
    calibration
        As `read_calibration` returns it.
    place
        Which of two classes is looked for: the one that the rising function is of.
    """
    if "isotonic" in calibration and place is not None and answers.shape[1] == 2:
        p = Isotonic.from_mapping(calibration["isotonic"])(answers[:, place])
        return np.stack([p, 1 - p] if place == 0 else [1 - p, p], axis=1)
    if "temperature" in calibration:
        return tempered(answers, calibration["temperature"])
    return np.asarray(answers, np.float64)


def pooled(answers: Sequence[Floats], calibrations: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
    """Return what several say together: the mean of their logits, each divided by its own temperature.

    One that knows little says little and moves the mean little, where a mean of probabilities would let it blur the
    order of images that the others are sure of.

    Parameters
    ----------
    answers
        Of each, [N, K] probability of each class.
    calibrations
        Of each, as `read_calibration` returns it; without a temperature it counts as it is.

    Returns
    -------
    [N, K] probability of each class.

    References
    ----------
    Genest & Zidek 1986, Statistical Science 1, 114: the logarithmic opinion pool.
    """
    logits = [logits_of(one) / known.get("temperature", 1.0) for one, known in zip(answers, calibrations, strict=True)]
    return softmax(np.mean(logits, axis=0))


def _unsound(folder: RunFolder, found: str, expected: str) -> CorruptFile:
    return CorruptFile(folder.calibration, found, expected, f"write it anew: `deeplense evaluate {folder.path}`")

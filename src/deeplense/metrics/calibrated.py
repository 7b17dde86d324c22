"""How a run's probabilities are made honest, as `evaluate` stores it."""

from __future__ import annotations

import math
from typing import Any

from deeplense.core.errors import CorruptFile, DeepLenseError
from deeplense.core.files import read_json
from deeplense.core.run_folder import RunFolder
from deeplense.metrics.isotonic import Isotonic


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


def _unsound(folder: RunFolder, found: str, expected: str) -> CorruptFile:
    return CorruptFile(folder.calibration, found, expected, f"write it anew: `deeplense evaluate {folder.path}`")

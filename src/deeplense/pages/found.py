"""An evaluated run of a finder of lenses, read back from its folder, every file of it checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv

from deeplense.core.run_folder import RunFolder
from deeplense.metrics.calibrated import read_calibration
from deeplense.metrics.classification import Floats, checked
from deeplense.metrics.isotonic import Isotonic
from deeplense.pages.judged import JudgedRun, read_judged, read_labels, read_shown, unsound

LENS, NAME = "lens", "mistakes"
NEEDED = (f"auroc_{LENS}", "tpr0", "tpr10", "accuracy", "ece")


@dataclass(frozen=True)
class FoundImage:
    """An image that a reader should see.

    Parameters
    ----------
    id
        The image's name in its dataset.
    label
        True class.
    group
        Why it is shown.
    rank
        Its place among all images, 1 for the most probable lens.
    p_lens
        Probability of a lens.
    image
        [C, H, W].
    """

    id: str
    label: str
    group: str
    rank: int
    p_lens: float
    image: Floats


@dataclass(frozen=True, kw_only=True)
class FinderRun(JudgedRun):
    """All that is known of a finder of lenses and how it did.

    Parameters
    ----------
    probabilities
        [N, 2] on its own test split.
    temperature, isotonic, prevalence
        Fitted on the validation split, and how many of its images are lenses; None where they were not.
    selection
        Rows of the completeness in bins of a property; empty where nothing is known of the lenses.
    shown
        Images to be shown; None where none were stored.
    """

    probabilities: NDArray[np.float32]
    temperature: float | None
    isotonic: Isotonic | None
    prevalence: float | None
    selection: list[dict[str, Any]]
    shown: list[FoundImage] | None

    @property
    def is_lens(self) -> NDArray[np.bool_]:
        """[N] which images are lenses."""
        return np.asarray(self.targets == self.labels.index(LENS))

    @property
    def scores(self) -> NDArray[np.float32]:
        """[N] the probability of a lens."""
        return self.probabilities[:, self.labels.index(LENS)]


def read_finder_run(folder: RunFolder) -> FinderRun:
    """Return the content of a run folder.

    Raises
    ------
    MissingFile
        When the run was not evaluated, or a file is gone.
    CorruptFile
        When a file is not what `train` or `evaluate` writes.
    """
    labels = read_labels(folder)
    if len(labels) != 2 or LENS not in labels:
        raise folder.odd_config(f"the classes {', '.join(labels)}")
    run, probabilities = read_judged(folder, NEEDED, [f"p_{label}" for label in labels], checked)
    known = read_calibration(folder)
    return FinderRun(
        **vars(run),
        probabilities=probabilities,
        temperature=known.get("temperature"),
        isotonic=Isotonic.from_mapping(known["isotonic"]) if "isotonic" in known else None,
        prevalence=known.get("prevalence"),
        selection=_selection(folder.selection),
        shown=_shown(folder.path, labels),
    )


def _selection(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    numbers = ("false_positive_rate", "low", "high", "median", "completeness", "completeness_low", "completeness_high")
    try:
        return [
            {"property": str(row["property"]), "lenses": int(row["lenses"])}
            | {name: _finite(row, name) for name in numbers}
            for row in csv.read_csv(path).to_pylist()
        ]
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
        raise unsound(path, f"not a selection function ({error})", f"property, lenses, {', '.join(numbers)}") from error


def _finite(row: Mapping[str, Any], name: str) -> float:
    value = float(row[name])
    if not math.isfinite(value):
        raise ValueError(f"{name} of {value}")
    return value


def _shown(folder: Path, labels: tuple[str, ...]) -> list[FoundImage] | None:
    found = read_shown(folder, NAME)
    if found is None:
        return None
    rows, arrays = found
    try:
        return [_image(row, labels, arrays["images"][k]) for k, row in enumerate(rows)]
    except (KeyError, TypeError, ValueError) as error:
        expected = "id, label, group, rank and p_lens of each image"
        raise unsound(folder / f"{NAME}.json", f"not a list of ranked images ({error!r})", expected) from error


def _image(row: Mapping[str, Any], labels: tuple[str, ...], image: Floats) -> FoundImage:
    label, p_lens = str(row["label"]), float(row["p_lens"])
    if label not in labels or not 0 <= p_lens <= 1:
        raise ValueError(f"{label}, probability {p_lens}")
    return FoundImage(str(row["id"]), label, str(row["group"]), int(row["rank"]), p_lens, image)

"""An evaluated run of a detector of anomalies, read back from its folder, every file of it checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from deeplense.core.run_folder import RunFolder
from deeplense.metrics.anomalies import ALARMS, CONTAMINATIONS, FALSE_ALARMS
from deeplense.metrics.classification import Floats
from deeplense.pages.judged import JudgedRun, read_judged, read_labels, read_shown, unsound

NAME = "strangest"
COLUMNS, P_CHI2 = ("score", "p_value", "q_value"), "p_chi2"


@dataclass(frozen=True)
class StrangeImage:
    """An image that a reader should see.

    Parameters
    ----------
    id
        The image's name in its dataset.
    label
        True class.
    kind
        Why it is shown.
    score, p_value
        How strange it is to the detector.
    image
        [C, H, W].
    map
        [H, W] where it is strange; None where the detector cannot say.
    """

    id: str
    label: str
    kind: str
    score: float
    p_value: float
    image: Floats
    map: Floats | None


@dataclass(frozen=True, kw_only=True)
class DetectorRun(JudgedRun):
    """All that is known of a detector and how it did.

    Parameters
    ----------
    normal
        The class that it takes for normal.
    scores, p_values, q_values
        [N] on its own test split.
    p_chi2
        [N] p-values of χ²; None of a detector without a model of the image, and of runs stored before there were any.
    shown
        Images to be shown; None where none were stored.
    """

    normal: str
    scores: NDArray[np.float32]
    p_values: NDArray[np.float32]
    q_values: NDArray[np.float32]
    p_chi2: NDArray[np.float32] | None
    shown: list[StrangeImage] | None

    @property
    def is_normal(self) -> NDArray[np.bool_]:
        """[N] which images are normal."""
        return np.asarray(self.targets == self.labels.index(self.normal))

    @property
    def areas(self) -> dict[str, str]:
        """Each class that is not normal → the name of its area under the ROC curve."""
        strange = [label for label in self.labels if label != self.normal]
        return {label: f"auroc_{label}" if len(strange) > 1 else "auroc" for label in strange}


def read_detector_run(folder: RunFolder) -> DetectorRun:
    """Return the content of a run folder.

    Raises
    ------
    MissingFile
        When the run was not evaluated, or a file is gone.
    CorruptFile
        When a file is not what `train` or `evaluate` writes.
    """
    labels, normal = read_labels(folder), _normal(folder)
    strange = [label for label in labels if label != normal]
    areas = [f"auroc_{label}" for label in strange] if len(strange) > 1 else []
    needed = ["auroc", *areas, *CONTAMINATIONS, *ALARMS, FALSE_ALARMS]
    run, answers = read_judged(folder, needed, [*COLUMNS, *_more(folder.predictions)], _check)
    shown = _shown(folder.path, labels)
    scores, p_values, q_values, *more = answers.T
    found = {"scores": scores, "p_values": p_values, "q_values": q_values, "p_chi2": more[0] if more else None}
    return DetectorRun(**vars(run), normal=normal, **found, shown=shown)


def _more(predictions: Path) -> list[str]:
    """Return the names of the answers that only some detectors give; none of a table that cannot be read."""
    try:
        return [P_CHI2] if P_CHI2 in pq.read_schema(predictions).names else []
    except (OSError, pa.ArrowException):
        return []  # what is wrong with it, whoever reads all of it will say


def _normal(folder: RunFolder) -> str:
    options = folder.config().get("options")
    normal = options.get("normal") if isinstance(options, dict) else None
    if not isinstance(normal, str) or normal not in read_labels(folder):
        raise folder.odd_config(f"the normal class {normal!r}, which is none of 'labels'")
    return normal


def _check(answers: Floats, targets: Any) -> None:
    if np.isnan(answers[:, 0]).any():
        raise ValueError(f"{int(np.isnan(answers[:, 0]).sum())} scores that are NaN")
    if bad := int((~((answers[:, 1:] >= 0) & (answers[:, 1:] <= 1))).sum()):
        raise ValueError(f"{bad} p-values and q-values that are not from 0 to 1")


def _shown(folder: Path, labels: Sequence[str]) -> list[StrangeImage] | None:
    found = read_shown(folder, NAME)
    if found is None:
        return None
    rows, arrays = found
    images, maps = arrays.get("images", np.empty((0, 1, 1, 1))), arrays.get("maps")
    if maps is not None and maps.shape != (len(images), 1, *images.shape[2:]):
        raise unsound(folder / f"{NAME}.safetensors", f"maps of shape {maps.shape}", "[M, 1, H, W]: one per image")
    try:
        return [_image(row, labels, images[k], None if maps is None else maps[k, 0]) for k, row in enumerate(rows)]
    except (KeyError, TypeError, ValueError) as error:
        expected = "id, label, kind, score and p_value of each image"
        raise unsound(folder / f"{NAME}.json", f"not a list of strange images ({error!r})", expected) from error


def _image(row: Mapping[str, Any], labels: Sequence[str], image: Floats, map_: Floats | None) -> StrangeImage:
    label, score, p_value = str(row["label"]), float(row["score"]), float(row["p_value"])
    if label not in labels or np.isnan(score) or not 0 <= p_value <= 1:
        raise ValueError(f"{label}, score {score}, p-value {p_value}")
    return StrangeImage(str(row["id"]), label, str(row["kind"]), score, p_value, image, map_)

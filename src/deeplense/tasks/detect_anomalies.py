"""Task `detect_anomalies`: how strange an image is to a detector that has seen normal ones alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor

from deeplense.core.errors import UnknownName
from deeplense.data.loader import Batch
from deeplense.detectors.calibrated import CalibratedDetector, build_detector, has_p_chi2
from deeplense.metrics.anomalies import anomaly_marks, anomaly_point_marks, false_discovery_q_values
from deeplense.metrics.intervals import Interval
from deeplense.metrics.ranking import roc_curve
from deeplense.metrics.sensitivity import Contest, sensitivity_table
from deeplense.tasks.task import TASKS, Example, Task

N_STRANGEST, N_WRONG = 8, 4


@TASKS.register("detect_anomalies")
class DetectAnomalies(Task):
    """A score that is higher for stranger images, its conformal p-value, and of some detectors a p-value of χ².

    Parameters
    ----------
    labels
        Class names, in the order of the targets.
    normal
        The class of normal images.
    p_chi2
        Whether the detector has a p-value of χ², too.

    Raises
    ------
    UnknownName
        When no class is called so.
    """

    primary_metric: str = "auroc"
    examples_name: ClassVar[str] = "strangest"

    def __init__(self, labels: Sequence[str], normal: str, p_chi2: bool = False) -> None:
        self.labels, self.normal, self.p_chi2 = tuple(labels), normal, p_chi2
        if normal not in self.labels:
            raise UnknownName("class of this dataset", normal, self.labels, "name the normal one with --normal")

    @classmethod
    def of(cls, labels: Sequence[str], settings: Mapping[str, Any]) -> Self:
        """Return the task for these classes; `normal` of the settings says which is normal."""
        return cls(labels, str(settings["normal"]), has_p_chi2(str(settings["detector"])))

    def network(self, image_shape: tuple[int, int, int], settings: Mapping[str, Any]) -> CalibratedDetector:
        """Return the detector that the options name, not yet fitted."""
        return CalibratedDetector(build_detector(settings["detector"], image_shape, settings["recipe"]))

    @property
    def n_answers(self) -> int:
        """Score, p-value, and that of χ² where there is one."""
        return 2 + self.p_chi2

    def answers(self, output: Float[Tensor, "B K"], batch: Batch | None = None) -> Float32[Tensor, "B K"]:
        """Return score and p-values."""
        return output.float()

    def marks(self, answers: Float32[np.ndarray, "N K"], targets: Int64[np.ndarray, " N"]) -> dict[str, float]:
        """Return areas under the ROC and precision-recall curves, and rates of detection."""
        return anomaly_point_marks(answers[:, 0], targets, self.labels, self.normal, answers[:, 1])

    def marks_with_intervals(
        self, answers: Float32[np.ndarray, "N K"], targets: Int64[np.ndarray, " N"], temperature: float | None = None
    ) -> dict[str, Interval]:
        """Return the same with intervals."""
        return anomaly_marks(answers[:, 0], targets, self.labels, self.normal, answers[:, 1])

    def columns(self, answers: Float32[np.ndarray, "N K"]) -> dict[str, Any]:
        """Return score, p-value and q-value: among the images with a q of at most α, at most α are normal, on average.

        The q-value is that of all these images together (Benjamini & Hochberg 1995).
        """
        score, p_value, *p_chi2 = answers.T
        q_value = false_discovery_q_values(p_value).astype(np.float32)
        columns = {"score": score, "p_value": p_value, "q_value": q_value}
        return columns | ({"p_chi2": p_chi2[0]} if p_chi2 else {})

    def tables(
        self, answers: Float32[np.ndarray, "N K"], targets: Int64[np.ndarray, " N"]
    ) -> dict[str, dict[str, Sequence[Any] | np.ndarray]]:
        """Return the points of the ROC curve of every class against the normal one."""
        columns: dict[str, list[Any]] = {}
        for k, label in self._strange():
            chosen = np.isin(targets, (k, self.labels.index(self.normal)))
            curve = roc_curve(answers[chosen, 0], targets[chosen] == k)
            columns.setdefault("class", []).extend([label] * len(curve.threshold))
            for name in ("false_positive_rate", "true_positive_rate", "threshold"):
                columns.setdefault(name, []).extend(getattr(curve, name))
        return {"roc": dict(columns)}

    def examples(self, answers: Float32[np.ndarray, "N K"], targets: Int64[np.ndarray, " N"]) -> list[Example]:
        """Return the strangest images, the strangest normal ones, and the least strange of the others."""
        normal = targets == self.labels.index(self.normal)
        order = np.argsort(-answers[:, 0], kind="stable")
        kinds = {
            "strangest": order[:N_STRANGEST],
            "strangest normal": order[normal[order]][:N_WRONG],
            "least strange anomaly": order[~normal[order]][::-1][:N_WRONG],
        }
        return [
            Example(k, {"kind": kind, "score": float(answers[k, 0]), "p_value": float(answers[k, 1])})
            for kind, places in kinds.items()
            for k in places.tolist()
        ]

    def sensitivity(
        self,
        answers: Float32[np.ndarray, "N K"],
        targets: Int64[np.ndarray, " N"],
        strengths: Mapping[str, Float64[np.ndarray, " N"]],
    ) -> dict[str, list[Any]]:
        """Return the AUROC of each class against the normal one in bins of strength."""
        scores, normal = answers[:, 0].astype(np.float64), targets == self.labels.index(self.normal)
        contests = (Contest(label, self.normal, scores, targets == k, normal) for k, label in self._strange())
        return sensitivity_table(contests, strengths)

    def _strange(self) -> list[tuple[int, str]]:
        """Return index and name of the classes that are not normal."""
        return [(k, label) for k, label in enumerate(self.labels) if label != self.normal]

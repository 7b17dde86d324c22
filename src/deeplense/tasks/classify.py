"""Task `classify`: which of K ≥ 2 classes; two classes take the same path as more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from itertools import permutations
from typing import Any, ClassVar

import numpy as np
import torch.nn.functional as F
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor, nn

from deeplense.core.errors import InvalidDataset
from deeplense.data.loader import Batch
from deeplense.metrics.intervals import Interval
from deeplense.metrics.marks import classification_marks, ece_mark, nll_mark, point_marks
from deeplense.metrics.ranking import roc_curve
from deeplense.metrics.sensitivity import pair_scores, sensitivity_curve
from deeplense.metrics.temperature import fit_temperature, logits_of, tempered
from deeplense.models.network import ModelChoice, build_network
from deeplense.tasks.task import TASKS, Task


@TASKS.register("classify")
class Classify(Task):
    """Softmax over classes, cross-entropy, AUROC.

    Parameters
    ----------
    labels
        Class names, in the order of the targets.
    """

    primary_metric: ClassVar[str] = "auroc_macro"

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = tuple(labels)
        if len(self.labels) < 2:
            raise InvalidDataset(
                f"the dataset has {len(self.labels)} labelled class(es)",
                "at least two classes",
                "add images of another class",
            )

    def network(self, image_shape: tuple[int, int, int], settings: Mapping[str, Any]) -> nn.Module:
        """Return a backbone with a head of one logit per class."""
        known = {"recipe": None} | dict(settings)  # records of other models may do without
        choice = ModelChoice(**{field.name: known[field.name] for field in fields(ModelChoice)})
        return build_network(choice, image_shape, len(self.labels))

    def loss(self, output: Float[Tensor, "B K"], batch: Batch) -> Float[Tensor, " B"]:
        """Return the cross-entropy of every image."""
        return F.cross_entropy(output.float(), batch.target, reduction="none")

    def answers(self, output: Float[Tensor, "B K"]) -> Float32[Tensor, "B K"]:
        """Return the probability of every class."""
        return F.softmax(output.float(), dim=1)

    def marks(self, answers: Float32[np.ndarray, "N K"], targets: Int64[np.ndarray, " N"]) -> dict[str, float]:
        """Return accuracy, AUROC (macro, micro, per class) and calibration error."""
        return point_marks(answers, targets, self.labels)

    def marks_with_intervals(
        self, answers: Float32[np.ndarray, "N K"], targets: Int64[np.ndarray, " N"], temperature: float | None = None
    ) -> dict[str, Interval]:
        """Return the same with intervals, and the negative log-likelihood; with a temperature, both calibrations.

        The areas are those of the answers as they are: with three classes or more, a temperature changes them a little.
        """
        marks = classification_marks(answers, targets, self.labels) | {"nll": nll_mark(answers, targets)}
        if temperature is not None:
            scaled = tempered(answers, temperature)
            marks |= {"ece_scaled": ece_mark(scaled, targets), "nll_scaled": nll_mark(scaled, targets)}
        return marks

    def temperature(self, answers: Float32[np.ndarray, "N K"], targets: Int64[np.ndarray, " N"]) -> float | None:
        """Return the temperature of the largest likelihood."""
        return fit_temperature(logits_of(answers), targets)

    def columns(self, answers: Float32[np.ndarray, "N K"]) -> dict[str, Any]:
        """Return the most probable class and every probability."""
        names = [self.labels[index] for index in answers.argmax(axis=1)]
        columns: dict[str, Any] = {"prediction": names}
        return columns | {f"p_{label}": answers[:, i] for i, label in enumerate(self.labels)}

    def tables(
        self, answers: Float32[np.ndarray, "N K"], targets: Int64[np.ndarray, " N"]
    ) -> dict[str, dict[str, Sequence[Any] | np.ndarray]]:
        """Return the points of the ROC curve of every class against the rest."""
        curves = {label: roc_curve(answers[:, i], targets == i) for i, label in enumerate(self.labels)}
        columns: dict[str, Sequence[Any] | np.ndarray] = {
            "class": [label for label, curve in curves.items() for _ in curve.threshold]
        }
        for name in ("false_positive_rate", "true_positive_rate", "threshold"):
            columns[name] = np.concatenate([getattr(curve, name) for curve in curves.values()])
        return {"roc": columns}

    def sensitivity(
        self,
        answers: Float32[np.ndarray, "N K"],
        targets: Int64[np.ndarray, " N"],
        strengths: Mapping[str, Float64[np.ndarray, " N"]],
    ) -> dict[str, list[Any]]:
        """Return the AUROC of each class against each other one in bins of strength, by the ratio of probabilities."""
        rows: list[dict[str, Any]] = []
        for (k, label), (j, against) in permutations(enumerate(self.labels), 2):
            scores = pair_scores(answers, k, j)
            for name, values in strengths.items():
                chosen = (targets == k) & np.isfinite(values)
                if len(np.unique(values[chosen])) < 2:
                    continue
                where = {"class": label, "against": against, "quantity": name}
                curve = sensitivity_curve(scores[chosen], values[chosen], scores[targets == j])
                rows += [where | one.as_dict() for one in curve]
        return {name: [row[name] for row in rows] for name in rows[0]} if rows else {}

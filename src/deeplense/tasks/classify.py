"""Task `classify`: which of K ≥ 2 classes; two classes take the same path as more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from itertools import permutations
from typing import Any, ClassVar, Self

import numpy as np
import torch.nn.functional as F
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor, nn

from deeplense.core.errors import InvalidDataset
from deeplense.data.loader import Batch
from deeplense.metrics.intervals import Interval
from deeplense.metrics.marks import classification_marks, ece_mark, nll_mark, point_marks
from deeplense.metrics.ranking import roc_curve
from deeplense.metrics.sensitivity import Contest, pair_scores, sensitivity_table
from deeplense.metrics.temperature import fit_temperature, logits_of, tempered
from deeplense.models.network import ModelChoice, build_network
from deeplense.tasks.task import TASKS, Example, LearntTask

N_MISTAKES = 12
LATER_SETTINGS = {  # records of other or older runs lack them
    **{"recipe": None, "extractor": None, "single_logit": False},
    **{"fusion": "none", "features": ()},
}


@TASKS.register("classify")
class Classify(LearntTask):
    """Softmax over classes, cross-entropy (of one logit for two classes: binary cross-entropy), AUROC.

    Parameters
    ----------
    labels
        Class names, in the order of the targets.
    """

    primary_metric: str = "auroc_macro"
    examples_name: ClassVar[str] = "mistakes"
    has_temperature: ClassVar[bool] = True

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = tuple(labels)
        if len(self.labels) < 2:
            raise InvalidDataset(
                f"the dataset has {len(self.labels)} labelled class(es)",
                "at least two classes",
                "add images of another class",
            )

    @classmethod
    def of(cls, labels: Sequence[str], settings: Mapping[str, Any]) -> Self:
        """Return the task for these classes."""
        return cls(labels)

    def network(self, image_shape: tuple[int, int, int], settings: Mapping[str, Any]) -> nn.Module:
        """Return a backbone with a head of one logit per class; with `single_logit`, two classes share one.

        Raises
        ------
        InvalidOption
            When three classes or more are to share one logit.
        """
        known = LATER_SETTINGS | {name: value for name, value in settings.items() if value is not None}
        choice = ModelChoice(**{field.name: known[field.name] for field in fields(ModelChoice)})
        return build_network(choice, image_shape, len(self.labels))

    def loss(self, output: Float[Tensor, "B K"], batch: Batch) -> Float[Tensor, " B"]:
        """Return the cross-entropy of every image."""
        return F.cross_entropy(output.float(), batch.target, reduction="none")

    @property
    def n_answers(self) -> int:
        """One probability per class."""
        return len(self.labels)

    def answers(self, output: Float[Tensor, "B K"], batch: Batch | None = None) -> Float32[Tensor, "B K"]:
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

    def examples(self, answers: Float32[np.ndarray, "N K"], targets: Int64[np.ndarray, " N"]) -> list[Example]:
        """Return the mistakes that it is surest of."""
        confidence = np.where(answers.argmax(1) != targets, answers.max(1), -1.0)
        worst = np.argsort(-confidence, kind="stable")[:N_MISTAKES]
        return [
            Example(k, {"prediction": self.labels[int(answers[k].argmax())], "probability": float(answers[k].max())})
            for k in worst[confidence[worst] >= 0].tolist()
        ]

    def sensitivity(
        self,
        answers: Float32[np.ndarray, "N K"],
        targets: Int64[np.ndarray, " N"],
        strengths: Mapping[str, Float64[np.ndarray, " N"]],
    ) -> dict[str, list[Any]]:
        """Return the AUROC of each class against each other one in bins of strength, by the ratio of probabilities."""
        contests = (
            Contest(label, against, pair_scores(answers, k, j), targets == k, targets == j)
            for (k, label), (j, against) in permutations(enumerate(self.labels), 2)
        )
        return sensitivity_table(contests, strengths)

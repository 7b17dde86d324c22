"""Task `find_lenses`: is there a lens? By the image, by the catalogue, or by both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn

from deeplense.core.errors import InvalidDataset
from deeplense.data.loader import Batch
from deeplense.metrics.intervals import Interval
from deeplense.metrics.survey import purity_table, survey_marks
from deeplense.tasks.classify import Classify
from deeplense.tasks.task import TASKS, Example

LENS = "lens"
N_TOP = 6  # images at the top of the ranking, and as many of the worst mistakes of either kind
FOCUS = 2.0  # the exponent γ of the focal loss: Lin et al. 2017


@TASKS.register("find_lenses")
class FindLenses(Classify):
    """One logit, binary cross-entropy or focal loss, classes weighted where they are uneven; judged as a survey would.

    Parameters
    ----------
    labels
        Two, one of them `lens`.
    loss
        bce, or focal: what is easy counts little (Lin et al. 2017, ICCV, arXiv:1708.02002).
    class_weights
        Of each class in the loss.

    Raises
    ------
    InvalidDataset
        When the classes are others.
    """

    primary_metric = "auroc_lens"
    positive: ClassVar[str | None] = LENS

    def __init__(self, labels: Sequence[str], loss: str = "bce", class_weights: Sequence[float] | None = None) -> None:
        super().__init__(labels)
        if len(self.labels) != 2 or LENS not in self.labels:
            raise InvalidDataset(
                f"the classes {', '.join(self.labels)}",
                f"two, of which one is '{LENS}' (nonlens, lens; a label column such as is_lens of 0 and 1)",
                "rename the classes, or use --task classify",
            )
        self.loss_name, self.class_weights = loss, tuple(class_weights or (1.0, 1.0))

    @classmethod
    def of(cls, labels: Sequence[str], settings: Mapping[str, Any]) -> Self:
        """Return the task for these classes, with the loss that the options ask for."""
        return cls(labels, settings["loss"], settings["class_weights"])

    @property
    def lens(self) -> int:
        """The place of the class `lens`."""
        return self.labels.index(LENS)

    def network(self, image_shape: tuple[int, int, int], settings: Mapping[str, Any]) -> nn.Module:
        """Return a backbone, what joins the catalogue to it, and a head of one logit."""
        return super().network(image_shape, {**settings, "single_logit": True})

    def loss(self, output: Float[Tensor, "B 2"], batch: Batch) -> Float[Tensor, " B"]:
        """Return the loss of every image, weighted by its class and by what the catalogue says of it."""
        entropy = F.cross_entropy(output.float(), batch.target, reduction="none")
        if self.loss_name == "focal":
            entropy = (1 - torch.exp(-entropy)) ** FOCUS * entropy
        weights = torch.tensor(self.class_weights, device=entropy.device)
        entropy = entropy * weights[batch.target]
        return entropy if batch.weight is None else entropy * batch.weight

    def marks_with_intervals(
        self, answers: Float32[np.ndarray, "N K"], targets: Int64[np.ndarray, " N"], temperature: float | None = None
    ) -> dict[str, Interval]:
        """Return the marks of a classifier, and how many lenses are found where few other images may pass."""
        found = super().marks_with_intervals(answers, targets, temperature)
        alike = {name for name in found if name.startswith("auroc_")} - {f"auroc_{LENS}"}  # all the same of two classes
        return {name: mark for name, mark in found.items() if name not in alike} | survey_marks(
            answers[:, self.lens], targets == self.lens
        )

    def tables(
        self, answers: Float32[np.ndarray, "N K"], targets: Int64[np.ndarray, " N"]
    ) -> dict[str, dict[str, Sequence[Any] | np.ndarray]]:
        """Return the ROC curve, and completeness and purity where lenses are rare."""
        purity: dict[str, Sequence[Any] | np.ndarray] = dict(
            purity_table(answers[:, self.lens], targets == self.lens).items()
        )
        return super().tables(answers, targets) | {"purity": purity}

    def examples(self, answers: Float32[np.ndarray, "N K"], targets: Int64[np.ndarray, " N"]) -> list[Example]:
        """Return the images at the top of the ranking, and the mistakes that it is surest of, either kind."""
        score, is_lens = answers[:, self.lens], targets == self.lens
        order = np.argsort(-score, kind="stable")
        groups = {
            "top of the ranking": order,
            "not a lens, ranked high": order[~is_lens[order]],
            "a lens, ranked low": order[::-1][is_lens[order[::-1]]],
        }
        return [
            Example(int(k), {"group": name, "rank": int(rank_of), "p_lens": float(score[k])})
            for name, places in groups.items()
            for k, rank_of in ((k, np.flatnonzero(order == k)[0] + 1) for k in places[:N_TOP])
        ]

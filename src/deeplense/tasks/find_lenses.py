"""Task `find_lenses`: is there a lens? By the image, by the catalogue, or by both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from deeplense.core.errors import InvalidDataset
from deeplense.data.loader import Batch
from deeplense.tasks.classify import Classify
from deeplense.tasks.task import TASKS

LENS = "lens"
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
        """Return the loss of every image, weighted by its class."""
        entropy = F.cross_entropy(output.float(), batch.target, reduction="none")
        if self.loss_name == "focal":
            entropy = (1 - torch.exp(-entropy)) ** FOCUS * entropy
        weights = torch.tensor(self.class_weights, device=entropy.device)
        return entropy * weights[batch.target]

"""The contract of a task: network, loss, answers, marks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor, nn

from deeplense.core.registry import Registry
from deeplense.data.loader import Batch
from deeplense.metrics.intervals import Interval


@dataclass(frozen=True)
class Example:
    """An image worth showing, and why.

    Parameters
    ----------
    position
        Which of the images.
    facts
        What is said of it.
    """

    position: int
    facts: dict[str, Any]


class Task(ABC):
    """What is asked.

    Attributes
    ----------
    primary_metric
        The mark that matters most; it chooses the best epoch on validation. Higher is better.
    examples_name
        What the images worth showing are called: the stem of their files.
    has_temperature
        Whether answers are probabilities that a temperature, fitted on validation, makes honest.
    positive
        The class whose probability is also calibrated by a rising function, and whose completeness is told by what its
        images are like; None where no class is asked for.
    needs_labels
        Whether an image can be judged only when its class is known.
    pairs
        Whether it is asked of pairs: the network sees the coarse image and answers with a fine one.
    """

    primary_metric: str
    examples_name: ClassVar[str]
    has_temperature: ClassVar[bool] = False
    positive: ClassVar[str | None] = None
    needs_labels: ClassVar[bool] = True
    pairs: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def of(cls, labels: Sequence[str], settings: Mapping[str, Any]) -> Self:
        """Return the task for a dataset's classes, as the options of a run say."""

    @abstractmethod
    def network(self, image_shape: tuple[int, int, int], settings: Mapping[str, Any]) -> nn.Module:
        """Return the network that the options ask for."""

    @property
    @abstractmethod
    def n_answers(self) -> int:
        """How many numbers an answer has, K."""

    @abstractmethod
    def answers(self, output: Tensor, batch: Batch | None = None) -> Float32[Tensor, "B K"]:
        """Return one row per image: what is stored as prediction; of new images nothing is known, there is no batch."""

    @abstractmethod
    def marks(self, answers: Float32[np.ndarray, "N K"], targets: Int64[np.ndarray, " N"]) -> dict[str, float]:
        """Return every mark as a plain number: cheap, for each epoch."""

    @abstractmethod
    def marks_with_intervals(
        self, answers: Float32[np.ndarray, "N K"], targets: Int64[np.ndarray, " N"], temperature: float | None = None
    ) -> dict[str, Interval]:
        """Return every mark with its 95 % interval, for the test split; with a temperature, calibration after it."""

    @abstractmethod
    def columns(self, answers: Float32[np.ndarray, "N K"]) -> dict[str, Any]:
        """Return the answers as columns of a table."""

    @abstractmethod
    def tables(
        self, answers: Float32[np.ndarray, "N K"], targets: Int64[np.ndarray, " N"]
    ) -> dict[str, dict[str, Sequence[Any] | np.ndarray]]:
        """Return what else is worth keeping of an evaluation: name of a table → its columns."""

    @abstractmethod
    def examples(self, answers: Float32[np.ndarray, "N K"], targets: Int64[np.ndarray, " N"]) -> list[Example]:
        """Return the images that a reader should see."""

    def pictures(self, output: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Return what a reader should see of images beside what the network saw: name → [B, C, H, W]."""
        return {}

    def temperature(self, answers: Float32[np.ndarray, "N K"], targets: Int64[np.ndarray, " N"]) -> float | None:
        """Return the temperature that makes probabilities honest, fitted on validation; None for other answers."""
        return None

    def sensitivity(
        self,
        answers: Float32[np.ndarray, "N K"],
        targets: Int64[np.ndarray, " N"],
        strengths: Mapping[str, Float64[np.ndarray, " N"]],
    ) -> dict[str, list[Any]]:
        """Return, as columns of a table, how well each class is told from each other one, by strength of its signal.

        Parameters
        ----------
        answers, targets
            As in `marks`.
        strengths
            What makes a signal strong, by name; NaN where an image has none, or it is not known.
        """
        return {}


class LearntTask(Task):
    """A task that a network learns step by step, in the training loop.

    Attributes
    ----------
    finishes
        Whether something is left to be learnt without gradients: `finish`.
    """

    finishes: ClassVar[bool] = False

    @abstractmethod
    def loss(self, output: Tensor, batch: Batch) -> Float[Tensor, " B"]:
        """Return the loss of every image."""

    def contested(self, output: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the images that are made and those that are real, for an opponent to tell apart.

        Raises
        ------
        NotImplementedError
            When the task makes none.
        """
        raise NotImplementedError(f"{type(self).__name__} makes no images")

    def finish(self, network: nn.Module, batches: Iterable[tuple[Tensor, Batch]]) -> None:
        """Take what is left to be learnt, without gradients, from the network's outputs on the validation images."""
        return None


TASKS: Registry[type[Task]] = Registry("task", "deeplense.tasks")

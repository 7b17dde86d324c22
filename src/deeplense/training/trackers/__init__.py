"""Trackers mirror a run folder; they are never the record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from deeplense.core.run_folder import RunFolder


class Tracker:
    """Tracks nothing; the base of those that do."""

    def log_epoch(
        self,
        record: Mapping[str, float],
        answers: Float32[np.ndarray, "N K"],
        targets: Int64[np.ndarray, " N"],
        labels: Sequence[str],
    ) -> None:
        """Mirror one epoch: its record, ROC curve and confusion matrix on validation."""


@contextmanager
def start_tracker(name: str, run: RunFolder, config: Mapping[str, Any]) -> Iterator[Tracker]:
    """Yield the tracker called `name`, started for a run; it is closed at the end."""
    yield Tracker()


def fetch_from_wandb(run_id: str) -> RunFolder | None:
    """Return a run that W&B has, its config and weights fetched into runs/<id>; None where W&B cannot be asked."""
    return None

"""What of a run is mirrored, and that a failing mirror never stops the work."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from deeplense.core.console import note
from deeplense.core.errors import DeepLenseError, InvalidOption
from deeplense.core.run_folder import RunFolder
from deeplense.metrics.intervals import Interval
from deeplense.tasks.task import TASKS
from deeplense.training.trackers.service import TRACKERS, Service, reason

FILES = ("config.json", "model.safetensors", "history.json")  # what another machine needs of a run
ENDS = {"": "value", "_low": "low", "_high": "high"}


class Tracker:
    """Mirrors one run; without a service it does nothing.

    Numbers that could not be sent go with the next ones, and the first failure is noted: the run folder has it all.

    Parameters
    ----------
    service
        Where to.
    run
        The run to mirror.
    primary
        Key of the records that training wants to raise.
    past
        Records of the epochs that earlier sessions have mirrored.
    draws
        Whether ROC curve and confusion matrix mean anything: of classifiers.
    """

    def __init__(
        self,
        service: Service | None = None,
        run: RunFolder | None = None,
        primary: str = "",
        past: Sequence[Mapping[str, float]] = (),
        draws: bool = True,
    ) -> None:
        self._draws = draws
        self._service, self._run, self._primary = service, run, primary
        self._epoch = len(past)
        self._best = max((record.get(primary, -math.inf) for record in past), default=-math.inf)
        # a session that would replace the earlier ones begins with what they had
        again = past if service is not None and not service.resumes else ()
        self._waiting = [(epoch, _grouped(record)) for epoch, record in enumerate(again, 1)]
        self._files: Sequence[str] = FILES
        self._complained = False

    def log_epoch(
        self,
        record: Mapping[str, float],
        answers: Float32[np.ndarray, "N K"],
        targets: Int64[np.ndarray, " N"],
        labels: Sequence[str],
    ) -> None:
        """Mirror one epoch's record and, where it is the best so far, its ROC curve and confusion matrix."""
        self._epoch = int(record["epoch"])
        self._send_numbers(_grouped(record))
        if record.get(self._primary, -math.inf) > self._best:  # the pictures show the epoch whose weights are kept
            self._best = record[self._primary]
            self._send_pictures("validation", answers, targets, labels)

    def log_marks(
        self,
        marks: Mapping[str, Interval],
        answers: Float32[np.ndarray, "N K"],
        targets: Int64[np.ndarray, " N"],
        labels: Sequence[str],
    ) -> None:
        """Mirror the marks of the test split with their intervals, its ROC curve and its confusion matrix."""
        self._send_numbers(
            {f"test/{name}{end}": getattr(mark, key) for name, mark in marks.items() for end, key in ENDS.items()}
        )
        self._send_pictures("test", answers, targets, labels, marks)
        self._files = ["metrics.json"] if self._service and self._service.resumes else [*FILES, "metrics.json"]

    def close(self, finished: bool) -> None:
        """End the session; where the work was finished, the files that another machine needs go along."""
        if finished and self._run is not None:
            paths = [self._run.path / name for name in self._files]
            self._try(self._send_waiting)
            self._try(lambda service: [service.file(path) for path in paths if path.is_file()])
        self._try(lambda service: service.close(finished))

    def _send_numbers(self, values: dict[str, float]) -> None:
        if self._service is not None:
            self._waiting.append((self._epoch, values))
            self._try(self._send_waiting)

    def _send_waiting(self, service: Service) -> None:
        while self._waiting:
            epoch, values = self._waiting[0]
            service.numbers(values, epoch)
            del self._waiting[0]

    def _send_pictures(self, split: str, *drawn_from: Any) -> None:
        def send(service: Service) -> None:
            from deeplense.training.trackers.pictures import classification_pictures

            images = classification_pictures(*drawn_from)
            service.pictures({f"{split}/{name}": image for name, image in images.items()}, self._epoch)

        if self._draws:
            self._try(send)

    def _try(self, send: Callable[[Service], object]) -> None:
        if self._service is None:
            return
        try:
            send(self._service)
        except Exception as error:  # a service may raise anything, and none of it is worth a training run
            if not self._complained:
                note(f"{self._service.title} did not take everything ({reason(error)}); the run folder has it all")
            self._complained = True


@contextmanager
def start_tracker(name: str, run: RunFolder, config: Mapping[str, Any]) -> Iterator[Tracker]:
    """Yield the tracker called `name` ("none" for none), started for a run that is to be trained.

    At a clean exit it sends the run's configuration, weights and history. Only the main process tracks.

    Raises
    ------
    InvalidOption
        When the tracker's package is not installed.
    UnknownName
        When there is no such tracker.
    """
    tracker = _open(name, run, config, training=True)
    finished = False
    try:
        yield tracker
        finished = True
    finally:
        tracker.close(finished)


def log_evaluation(
    run: RunFolder,
    config: Mapping[str, Any],
    marks: Mapping[str, Interval],
    answers: Float32[np.ndarray, "N K"],
    targets: Int64[np.ndarray, " N"],
) -> None:
    """Mirror the marks, ROC curve and confusion matrix of a run's test split where its training was mirrored.

    Parameters
    ----------
    run, config
        The run and its record, whose options name the tracker.
    marks
        Name → value with interval.
    answers
        [N, K] probability of each class.
    targets
        [N] index of the true class.
    """
    try:
        tracker = _open(config["options"].get("tracker", "none"), run, config, training=False)
    except InvalidOption as error:  # this may be another machine than the one that trained
        note(f"the marks are not mirrored: {error.found}")
        return
    tracker.log_marks(marks, answers, targets, config["labels"])
    tracker.close(finished=True)


def require_tracker(name: str) -> None:
    """Check that the tracker called `name` is there and installed.

    Raises
    ------
    InvalidOption
        When its package is not installed.
    UnknownName
        When there is no such tracker.
    """
    if name != "none":
        TRACKERS[name].load()


def _open(name: str, run: RunFolder, config: Mapping[str, Any], training: bool) -> Tracker:
    from accelerate import PartialState

    require_tracker(name)
    if name == "none" or not PartialState().is_main_process:
        return Tracker()
    kind = TRACKERS[name]
    past = _past(run) if run.resume_state.is_file() or not training else []
    try:
        service = kind(run, config, len(past) + 1 if training else None)
    except Exception as error:  # as in Tracker._try
        note(f"{kind.title} could not be started ({reason(error)}): going on without it")
        return Tracker()
    task = config["task"]
    return Tracker(service, run, f"validation_{TASKS[task].primary_metric}", past, draws=task == "classify")


def _past(run: RunFolder) -> list[dict[str, float]]:
    try:
        return run.history()
    except DeepLenseError:  # a missing or damaged history is not the mirror's affair
        return []


def _grouped(record: Mapping[str, float]) -> dict[str, float]:
    """Return a record with the split of each key as its group: `validation_accuracy` → `validation/accuracy`."""
    parts = {key: key.partition("_") for key in record if key != "epoch"}
    return {
        f"{group}/{rest}" if group in ("train", "validation") and rest else key: float(record[key])
        for key, (group, _, rest) in parts.items()
    }

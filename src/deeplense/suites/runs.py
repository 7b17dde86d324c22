"""What a benchmark must know of a task: how its runs are read, whom to cite, what they cost. One entry per task."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deeplense.core.run_folder import RunFolder
    from deeplense.pages.judged import JudgedRun
    from deeplense.suites.cell import Cell, Outcome
    from deeplense.suites.declared import Method

SHOWN = {"normal": "normal images only", "simulated": "simulated anomalies", "labelled": "labels", "pairs": "pairs"}


@dataclass(frozen=True)
class Asked:
    """What a benchmark must know of a task.

    Parameters
    ----------
    table
        Name of the `Kind` of table that its methods stand in; None where one class has to be normal.
    against_normal
        The same of a dataset of which one class is normal; None where that means nothing.
    read
        Folder of a judged run → its content.
    by_steps
        Whether it is learnt in the training loop: in the size's arithmetic, and an interrupted run goes on.
    source
        Method → what carries a `reference` of its own; None where the suite has to name one.
    parameters
        Numbers that a run has learnt.
    epochs
        How often a run went through the training images.
    category
        What a method was shown, a key of `SHOWN`.
    """

    table: str | None
    against_normal: str | None
    read: Callable[[RunFolder], JudgedRun]
    by_steps: bool
    source: Callable[[Method], Any] | None
    parameters: Callable[[Cell, JudgedRun], Any]
    epochs: Callable[[Cell, JudgedRun], int]
    category: Callable[[Method], str]


def read_run(folder: RunFolder, task: str) -> JudgedRun:
    """Return a judged run.

    Raises
    ------
    MissingFile, CorruptFile
        When it was not judged, or a file is damaged.
    """
    return TASKS[task].read(folder)


def reference_of(method: Method) -> str:
    """Return whom to cite: what the suite names, else a detector's or an upscaler's own reference."""
    source = TASKS[method.task].source
    return method.reference or (str(getattr(source(method), "reference", "")) if source else "")


def facts_of(one: Outcome) -> dict[str, Any]:
    """Return what a judged cell cost and how it came about, from its run folder."""
    run, record = one.run, one.record or {}
    if run is None:
        return {}
    dataset, asked = _table(run, "dataset"), TASKS[one.cell.options.task]
    seconds = [record.get("fit_seconds", record.get("seconds", 0.0)) for record in run.history]
    return {
        "parameters": asked.parameters(one.cell, run),
        "n_train": dataset.get("n_train", ""),
        "n_validation": dataset.get("n_validation", ""),
        "epochs": asked.epochs(one.cell, run),
        "train_seconds": round(float(sum(seconds)), 1),
        "images_per_second": round(float(record["images_per_second"]), 1),
        "devices": "; ".join(map(str, record.get("devices") or ())),
        **{key: run.config.get(key) or "" for key in ("created", "deeplense_version", "git_commit")},
    }


def _table(run: JudgedRun, key: str) -> Mapping[str, Any]:
    part = run.config.get(key)
    return part if isinstance(part, Mapping) else {}


def _classifier(folder: RunFolder) -> JudgedRun:
    from deeplense.pages.evaluated import read_evaluated

    return read_evaluated(folder)


def _detector_run(folder: RunFolder) -> JudgedRun:
    from deeplense.pages.strange import read_detector_run

    return read_detector_run(folder)


def _finder(folder: RunFolder) -> JudgedRun:
    from deeplense.pages.found import read_finder_run

    return read_finder_run(folder)


def _resolved(folder: RunFolder) -> JudgedRun:
    from deeplense.pages.resolved import read_resolved_run

    return read_resolved_run(folder)


def _detector(method: Method) -> Any:
    from deeplense.detectors.detector import DETECTORS

    return DETECTORS[str(method.options["detector"])]


def _upscaler(method: Method) -> Any:
    from deeplense.upscalers.upscaler import UPSCALERS

    return UPSCALERS[str(method.options.get("model_name", "residual_unet"))]


def _of_network(_: Cell, run: JudgedRun) -> Any:
    return _table(run, "model").get("parameters", "")


def _stored(cell: Cell, _: JudgedRun | None = None) -> int:
    """Return how many numbers a run has stored, but for the scores that calibrate a detector."""
    from safetensors import safe_open

    with safe_open(cell.run.weights, "np") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys() if name != "null")  # noqa: SIM118


def _of_upscaler(cell: Cell, run: JudgedRun) -> Any:
    """Return the parameters of a network; of an upscaler without gradients also the numbers that were fitted."""
    trained = getattr(_upscaler(cell.method), "trained", True)
    return _of_network(cell, run) if trained else _stored(cell)


def _all_epochs(_: Cell, run: JudgedRun) -> int:
    return len(run.history)


def _passes(cell: Cell, _: JudgedRun) -> int:
    """Return how often a detector went through the images: once where it does not learn by steps."""
    return cell.options.epochs if getattr(_detector(cell.method), "learns", False) else 1


TASKS = {
    "classify": Asked(
        table="classes",
        against_normal="anomalies",
        read=_classifier,
        by_steps=True,
        source=None,
        parameters=_of_network,
        epochs=_all_epochs,
        category=lambda method: "labelled",
    ),
    "detect_anomalies": Asked(
        table=None,
        against_normal="anomalies",
        read=_detector_run,
        by_steps=False,
        source=_detector,
        parameters=_stored,
        epochs=_passes,
        category=lambda method: str(getattr(_detector(method), "category", "normal")),
    ),
    "find_lenses": Asked(
        table="lenses",
        against_normal=None,
        read=_finder,
        by_steps=True,
        source=None,
        parameters=_of_network,
        epochs=_all_epochs,
        category=lambda method: "labelled",
    ),
    "super_resolve": Asked(
        table="pairs",
        against_normal=None,
        read=_resolved,
        by_steps=True,
        source=_upscaler,
        parameters=_of_upscaler,
        epochs=_all_epochs,
        category=lambda method: "pairs",
    ),
}

"""What is read of every judged run, whatever its task: each file is checked."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow import csv
from safetensors import SafetensorError
from safetensors.numpy import load_file

from deeplense.core.errors import CorruptFile, DeepLenseError, MissingFile
from deeplense.core.files import read_json
from deeplense.core.run_folder import RunFolder
from deeplense.metrics.classification import Floats, require_every_class
from deeplense.metrics.intervals import Interval
from deeplense.metrics.sensitivity import SensitivityBin


@dataclass(frozen=True)
class Sensitivity:
    """How well a class is told from another, by one measure of its strength.

    Parameters
    ----------
    label, against
        The two classes.
    quantity
        Name of the strength: `substructure_snr`, `subhalo_mass` [solar masses], `axion_mass` [eV].
    bins
        From weak to strong.
    """

    label: str
    against: str
    quantity: str
    bins: list[SensitivityBin]


@dataclass(frozen=True, kw_only=True)
class JudgedRun:
    """What is known of a run and how it did, whatever its task.

    Parameters
    ----------
    folder
        The run folder.
    config
        Its configuration, as stored.
    labels
        K class names; one or none where the task asks for no class.
    history
        One record of numbers per epoch.
    marks
        Marks on its own test split, by name.
    elsewhere
        Marks on other sets, by the name of their folder.
    ids
        [N] names of the images of its own test split.
    targets
        [N] index of their true class; −1 where the task asks for none and it is not known.
    sensitivity
        One per class and strength; empty where the images are not simulated.
    """

    folder: RunFolder
    config: dict[str, Any]
    labels: tuple[str, ...]
    history: list[dict[str, float]]
    marks: dict[str, Interval]
    elsewhere: dict[str, dict[str, Interval]]
    ids: tuple[str, ...]
    targets: NDArray[np.int64]
    sensitivity: tuple[Sensitivity, ...]


def read_labels(folder: RunFolder, needed: bool = True) -> tuple[str, ...]:
    """Return the class names of a run: two or more where they are needed, else as many as there are."""
    labels = folder.config().get("labels")
    least = 2 if needed else 0
    if not isinstance(labels, list) or len(labels) < least or not all(isinstance(label, str) for label in labels):
        expected = "'labels': a list of two names or more" if needed else "'labels': a list of names"
        raise CorruptFile(folder.path / "config.json", "no class names", expected)
    return tuple(labels)


def read_judged(
    folder: RunFolder,
    marks: Sequence[str],
    columns: Sequence[str],
    check: Callable[[NDArray[np.float32], NDArray[np.int64]], object],
    needs_labels: bool = True,
) -> tuple[JudgedRun, NDArray[np.float32]]:
    """Return what is known of a run, and [N, A] its answers.

    Parameters
    ----------
    folder
        The run folder.
    marks
        Names of the marks that must be there.
    columns
        Names of the answers in the table of predictions.
    check
        Takes answers and targets, raises an error where they are none.
    needs_labels
        Whether every class must be among the images, and every image of one.

    Raises
    ------
    MissingFile
        When the run was not evaluated, or a file is gone.
    CorruptFile
        When a file is not what `train` or `evaluate` writes.
    """
    labels, history = read_labels(folder, needs_labels), _history(folder)
    own = read_marks(folder, marks)
    others = [RunFolder(path.parent) for path in sorted(folder.path.glob("*/metrics.json"))]
    ids, answers, targets = _predictions(folder, columns, check, labels, needs_labels)
    run = JudgedRun(
        folder=folder,
        config=folder.config(),
        labels=labels,
        history=history,
        marks=own,
        elsewhere={other.id: read_marks(other, marks) for other in others},
        ids=ids,
        targets=targets,
        sensitivity=_sensitivity(folder.sensitivity),
    )
    return run, answers


def read_marks(folder: RunFolder, needed: Sequence[str]) -> dict[str, Interval]:
    """Return the marks of an evaluation by name, those that are needed among them."""
    path = folder.path / "metrics.json"
    try:
        marks = {name: _interval(mark) for name, mark in folder.metrics().items()}
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise unsound(path, "not a table of marks", "for each mark: value, low, high and n") from error
    if missing := [name for name in needed if name not in marks]:
        raise unsound(path, f"no mark '{missing[0]}'", f"the marks {', '.join(needed)}")
    return marks


def read_shown(folder: Path, name: str) -> tuple[list[dict[str, Any]], dict[str, Floats]] | None:
    """Return the rows of images that were stored to be shown, and their arrays, M rows each; None where none were.

    Parameters
    ----------
    folder
        Folder of the run.
    name
        Of the two files: NAME.json holds the rows, NAME.safetensors `images` [M, C, H, W], other arrays beside them.
    """
    listing, pixels = folder / f"{name}.json", folder / f"{name}.safetensors"
    if not listing.is_file():
        return None
    rows = read_json(listing)
    if rows == [] or not pixels.is_file():
        return ([], {}) if rows == [] else None
    try:
        arrays = load_file(pixels)
        images = arrays["images"]
        if images.ndim != 4 or 0 in images.shape or len(images) != len(rows):
            raise ValueError(f"images of shape {images.shape} for {len(rows)} rows")
        if not all(isinstance(row, dict) for row in rows):
            raise TypeError("rows that are no tables")
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise unsound(pixels, f"not the images of {listing.name} ({error})", "[M, C, H, W]: one per row") from error
    return rows, arrays


def unsound(path: Path, found: str, expected: str) -> CorruptFile:
    """Return the error for a file that is not what `evaluate` writes."""
    return CorruptFile(path, found, expected, f"write it anew: `deeplense evaluate {path.parent}`")


def _history(folder: RunFolder) -> list[dict[str, float]]:
    history = folder.history()
    if not all(isinstance(record, dict) for record in history):
        raise CorruptFile(folder.path / "history.json", "not a list of records", "one record of numbers per epoch")
    return [{name: number for name, number in record.items() if _is_number(number)} for record in history]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _interval(mark: Mapping[str, float]) -> Interval:
    found = Interval(float(mark["value"]), float(mark["low"]), float(mark["high"]), int(mark["n"]))
    if not all(map(math.isfinite, (found.value, found.low, found.high))):
        raise ValueError(found)
    return found


def _predictions(
    folder: RunFolder,
    columns: Sequence[str],
    check: Callable[[Any, Any], object],
    labels: Sequence[str],
    needs_labels: bool,
) -> tuple[tuple[str, ...], NDArray[np.float32], NDArray[np.int64]]:
    path = folder.predictions
    if not path.is_file():
        raise MissingFile(
            f"the run {folder.id} has no {path.name}", f"the file {path}", f"run `deeplense evaluate {folder.path}`"
        )
    try:
        table = pq.read_table(path)
        ids = tuple(map(str, table["id"].to_pylist()))
        values = np.stack([table[name].to_numpy().astype(np.float32) for name in columns], axis=1)
        names = table["label"].to_pylist()
        known = [labels.index(name) if needs_labels or name in labels else -1 for name in names]
        truth = np.array(known, np.int64)
        check(values, truth)
        if needs_labels:
            require_every_class(truth, labels)
    except (OSError, KeyError, ValueError, TypeError, pa.ArrowException, DeepLenseError) as error:
        found = error.found if isinstance(error, DeepLenseError) else str(error).split("\n", 1)[0][:200]
        raise unsound(path, found, f"the columns id, label, {', '.join(columns)}") from error
    return ids, values, truth


def _sensitivity(path: Path) -> tuple[Sensitivity, ...]:
    if not path.is_file():
        return ()
    curves: dict[tuple[str, str, str], list[SensitivityBin]] = {}
    try:
        for row in csv.read_csv(path).to_pylist():
            which = str(row["class"]), str(row["against"]), str(row["quantity"])
            curves.setdefault(which, []).append(SensitivityBin.from_mapping(row))
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
        raise unsound(path, f"not a table of sensitivities ({error})", "class, against, quantity, bins") from error
    return tuple(Sensitivity(*key, bins) for key, bins in curves.items())

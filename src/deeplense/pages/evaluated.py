"""An evaluated run read back from its folder, every file of it checked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
from deeplense.metrics.classification import checked, require_every_class
from deeplense.metrics.intervals import Interval
from deeplense.metrics.sensitivity import SensitivityBin


@dataclass(frozen=True)
class Mistake:
    """An image that was taken for something else.

    Parameters
    ----------
    id
        The image's name in its dataset.
    label
        True class.
    prediction
        What it was taken for.
    probability
        Probability given to the prediction.
    image
        [C, H, W].
    """

    id: str
    label: str
    prediction: str
    probability: float
    image: NDArray[np.float32]


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


@dataclass(frozen=True)
class EvaluatedRun:
    """All that is known of a run and how it did.

    Parameters
    ----------
    folder
        The run folder.
    config
        Its configuration, as stored.
    labels
        K class names.
    history
        One record of numbers per epoch.
    marks
        Marks on its own test split, by name.
    elsewhere
        Marks on other sets, by the name of their folder.
    probabilities
        [N, K] on its own test split.
    targets
        [N] index of the true class.
    mistakes
        The most confident ones; None where none were stored, empty where there are none.
    ids
        [N] names of the images of its own test split.
    temperature
        Fitted on the validation split; None where none was.
    sensitivity
        One per class and strength; empty where the images are not simulated.
    """

    folder: RunFolder
    config: dict[str, Any]
    labels: tuple[str, ...]
    history: list[dict[str, float]]
    marks: dict[str, Interval]
    elsewhere: dict[str, dict[str, Interval]]
    probabilities: NDArray[np.float32]
    targets: NDArray[np.int64]
    mistakes: list[Mistake] | None
    ids: tuple[str, ...] = ()
    temperature: float | None = None
    sensitivity: tuple[Sensitivity, ...] = ()


def read_evaluated(folder: RunFolder) -> EvaluatedRun:
    """Return the content of a run folder.

    Raises
    ------
    MissingFile
        When the run was not evaluated, or a file is gone.
    CorruptFile
        When a file is not what `train` or `evaluate` writes.
    """
    config = folder.config()
    labels = config.get("labels")
    if not isinstance(labels, list) or len(labels) < 2 or not all(isinstance(label, str) for label in labels):
        raise CorruptFile(folder.path / "config.json", "no class names", "'labels': a list of two names or more")
    history = folder.history()
    if not all(isinstance(record, dict) for record in history):
        raise CorruptFile(folder.path / "history.json", "not a list of records", "one record of numbers per epoch")
    marks = _marks(folder, labels)
    others = [RunFolder(path.parent) for path in sorted(folder.path.glob("*/metrics.json"))]
    ids, probabilities, targets = _predictions(folder, labels)
    return EvaluatedRun(
        folder=folder,
        config=config,
        labels=tuple(labels),
        history=[{name: number for name, number in record.items() if _is_number(number)} for record in history],
        marks=marks,
        elsewhere={other.id: _marks(other, labels) for other in others},
        probabilities=probabilities,
        targets=targets,
        mistakes=_mistakes(folder.path),
        ids=ids,
        temperature=read_temperature(folder),
        sensitivity=_sensitivity(folder.sensitivity),
    )


def read_temperature(folder: RunFolder) -> float | None:
    """Return the temperature of a run, or None where none was fitted.

    Raises
    ------
    CorruptFile
        When its file is not what `evaluate` writes.
    """
    if not folder.calibration.is_file():
        return None
    found = read_json(folder.calibration)
    value = found.get("temperature") if isinstance(found, dict) else None
    if isinstance(value, int | float) and math.isfinite(value) and value > 0:
        return float(value)
    raise _unsound(folder.calibration, f"the temperature {value!r}", "a positive number")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _unsound(path: Path, found: str, expected: str) -> CorruptFile:
    return CorruptFile(path, found, expected, f"write it anew: `deeplense evaluate {path.parent}`")


def _marks(folder: RunFolder, labels: Sequence[str]) -> dict[str, Interval]:
    path = folder.path / "metrics.json"
    try:
        marks = {name: _interval(mark) for name, mark in folder.metrics().items()}
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise _unsound(path, "not a table of marks", "for each mark: value, low, high and n") from error
    needed = ["accuracy", "auroc_macro", "ece", *(f"auroc_{label}" for label in labels)]
    if missing := [name for name in needed if name not in marks]:
        raise _unsound(path, f"no mark '{missing[0]}'", f"the marks {', '.join(needed)}")
    return marks


def _interval(mark: Mapping[str, float]) -> Interval:
    found = Interval(float(mark["value"]), float(mark["low"]), float(mark["high"]), int(mark["n"]))
    if not all(map(math.isfinite, (found.value, found.low, found.high))):
        raise ValueError(found)
    return found


def _predictions(
    folder: RunFolder, labels: Sequence[str]
) -> tuple[tuple[str, ...], NDArray[np.float32], NDArray[np.int64]]:
    path, columns = folder.predictions, [f"p_{label}" for label in labels]
    if not path.is_file():
        raise MissingFile(
            f"the run {folder.id} has no {path.name}", f"the file {path}", f"run `deeplense evaluate {folder.path}`"
        )
    try:
        table = pq.read_table(path)
        ids = tuple(map(str, table["id"].to_pylist()))
        values = np.stack([table[name].to_numpy().astype(np.float32) for name in columns], axis=1)
        truth = np.array([labels.index(label) for label in table["label"].to_pylist()], np.int64)
        checked(values, truth)
        require_every_class(truth, labels)
    except (OSError, KeyError, ValueError, TypeError, pa.ArrowException, DeepLenseError) as error:
        found = error.found if isinstance(error, DeepLenseError) else str(error).split("\n", 1)[0][:200]
        raise _unsound(path, found, f"the columns id, label, {', '.join(columns)}") from error
    return ids, values, truth


def _mistakes(folder: Path) -> list[Mistake] | None:
    listing, pixels = folder / "mistakes.json", folder / "mistakes.safetensors"
    if not listing.is_file():
        return None
    rows = read_json(listing)
    if rows == [] or not pixels.is_file():
        return [] if rows == [] else None
    try:
        images = load_file(pixels)["images"]
        if images.ndim != 4:
            raise ValueError(f"images of shape {images.shape}")
        return [
            Mistake(str(row["id"]), str(row["label"]), str(row["prediction"]), float(row["probability"]), image)
            for row, image in zip(rows, images, strict=True)
        ]
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise _unsound(pixels, f"not the images of {listing.name} ({error})", "[M, C, H, W]: one per row") from error


def _sensitivity(path: Path) -> tuple[Sensitivity, ...]:
    if not path.is_file():
        return ()
    curves: dict[tuple[str, str, str], list[SensitivityBin]] = {}
    try:
        for row in csv.read_csv(path).to_pylist():
            which = str(row["class"]), str(row["against"]), str(row["quantity"])
            curves.setdefault(which, []).append(SensitivityBin.from_mapping(row))
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
        raise _unsound(path, f"not a table of sensitivities ({error})", "class, against, quantity, bins") from error
    return tuple(Sensitivity(*key, bins) for key, bins in curves.items())

"""What a run answers of image files: a row for each, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch

from deeplense.core.errors import DeepLenseError, InvalidOption
from deeplense.core.files import atomic, shown
from deeplense.data.writers import write_fits_image
from deeplense.metrics.figures import image_png
from deeplense.training.trained import TrainedModel


class Answers(NamedTuple):
    """What is answered of some files.

    Attributes
    ----------
    answers
        One row for each file that is good, [G, K].
    good
        Which files are answered, [B].
    unlike
        What sets an image apart from those of training, for each file.
    errors
        Why there is no answer, for each file.
    """

    answers: np.ndarray
    good: np.ndarray
    unlike: list[str | None]
    errors: list[str | None]


def answer_files(model: TrainedModel, files: Sequence[Path], maps: Path | None) -> Answers:
    """Return what is answered of some files; write maps of where they are strange into a folder, if there is one.

    Raises
    ------
    InvalidOption
        When maps are asked of a run that cannot say.
    """
    images: list[np.ndarray] = []
    errors: list[str | None] = []
    for path in files:
        try:
            images.append(model.prepare(path))
            errors.append(None)
        except DeepLenseError as error:
            errors.append(shown(f"{error.found}; expected {error.expected}"))
    good = np.array([error is None for error in errors])
    unlike: list[str | None] = [None] * len(files)
    if not images:
        return Answers(np.empty((0, 0), np.float32), good, unlike, errors)
    batch = np.stack(images)
    answers = model.answer(batch)
    for row, what in zip(np.flatnonzero(good), model.unfamiliar(batch), strict=True):
        unlike[row] = what
    odd = ~np.isfinite(answers).all(axis=1)
    for row in np.flatnonzero(good)[odd]:
        errors[row] = "the network's answer is not a number; expected pixel values like those of the training images"
    if maps is not None:
        _write_maps(model, batch, [path for path, is_good in zip(files, good, strict=True) if is_good], maps)
    good[np.flatnonzero(good)[odd]] = False
    return Answers(answers[~odd], good, unlike, errors)


def answer_table(model: TrainedModel, files: Sequence[Path], parts: Sequence[Answers]) -> pa.Table:
    """Return one row per file; the columns of an answer are empty where there is none."""
    good = np.concatenate([part.good for part in parts])
    rows = np.concatenate(
        [part.answers for part in parts if len(part.answers)] or [np.empty((0, model.task.n_answers), np.float32)]
    )
    places = pa.array(np.where(good, np.cumsum(good) - 1, 0), mask=~good)
    columns: dict[str, Any] = {"file": [shown(path) for path in files]}
    columns |= {name: pa.array(values).take(places) for name, values in model.task.columns(rows).items()}
    columns["unlike"] = pa.array([word for part in parts for word in part.unlike], pa.string())
    columns["error"] = pa.array([word for part in parts for word in part.errors], pa.string())
    return pa.table(columns)


def _write_maps(model: TrainedModel, images: np.ndarray, files: Sequence[Path], folder: Path) -> None:
    """Write where each image is strange, as FITS and as a picture."""
    maps = model.maps(torch.from_numpy(images))
    if maps is None:
        raise InvalidOption(
            f"--maps with {model.run.id}, which cannot say where an image is strange",
            "a run of a detector that can: physical, or one that reconstructs images",
            "leave it out",
        )
    folder.mkdir(parents=True, exist_ok=True)
    for path, map_ in zip(files, maps.numpy(), strict=True):
        write_fits_image(map_[0], folder / f"{path.stem}.fits", f"deeplense predict {model.run.id} {path.name}")
        with atomic(folder / f"{path.stem}.png") as temporary:
            temporary.write_bytes(image_png(map_))

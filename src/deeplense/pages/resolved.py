"""An evaluated run of super-resolution, read back from its folder, every file of it checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplense.core.errors import DeepLenseError
from deeplense.core.run_folder import RunFolder
from deeplense.metrics.classification import Floats
from deeplense.pages.judged import JudgedRun, read_judged, read_labels, read_marks, read_shown, unsound
from deeplense.tasks.super_resolve import COLUMNS, SuperResolve

NAME = SuperResolve.examples_name
NEEDED = ("psnr", "ssim")  # against the observed fine image, which every pair has
ESTIMATORS = ("truth", "fidelity")


@dataclass(frozen=True)
class ResolvedImage:
    """A pair that a reader should see, in pixel values.

    Parameters
    ----------
    id
        The pair's name in its dataset.
    kind
        Why it is shown: "best", "median" or "worst".
    psnr
        Against what was asked for [dB].
    coarse
        [C, h, w] the image that was given.
    estimate, sigma
        [C, H, W] the finer one, and its claimed error.
    fine
        [C, H, W] as it was observed.
    truth
        [C, H, W] without noise; None where that is not known.
    """

    id: str
    kind: str
    psnr: float
    coarse: Floats
    estimate: Floats
    sigma: Floats
    fine: Floats
    truth: Floats | None


@dataclass(frozen=True, kw_only=True)
class ResolvedRun(JudgedRun):
    """All that is known of an upscaler and how it did.

    Parameters
    ----------
    task
        What it was asked for, with the degradation and the data range of its marks.
    answers
        Name of a mark → [N] its value for every image of its own test split; marks that need what is not known are
        left out.
    shown
        Pairs to be shown; None where none were stored.
    """

    task: SuperResolve
    answers: dict[str, NDArray[np.float32]]
    shown: list[ResolvedImage] | None


def read_resolved_run(folder: RunFolder) -> ResolvedRun:
    """Return the content of a run folder.

    Raises
    ------
    MissingFile
        When the run was not evaluated, or a file is gone.
    CorruptFile
        When a file is not what `train` or `evaluate` writes.
    """
    task = _task(folder)
    own = read_marks(folder, (*NEEDED, task.primary_metric))  # on other sets the truth may be unknown
    names = [name for name in COLUMNS if name in own]
    run, answers = read_judged(folder, NEEDED, names, _check, needs_labels=False)
    found = dict(zip(names, answers.T, strict=True))
    return ResolvedRun(**vars(run), task=task, answers=found, shown=_shown(folder.path, task))


def _task(folder: RunFolder) -> SuperResolve:
    try:
        task = SuperResolve.of(read_labels(folder, needed=False), folder.config()["options"])
        known = float(task.data_range) > 0 and isinstance(task.is_known, bool)
        if task.estimator not in ESTIMATORS or not known:
            raise ValueError(f"estimator {task.estimator!r}, data range {task.data_range!r}")
    except (DeepLenseError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise folder.odd_config(error) from error
    return task


def _check(answers: Floats, targets: Any) -> None:
    known = ~np.isnan(answers)
    if not known.any(axis=1).all():
        raise ValueError(f"{int((~known.any(axis=1)).sum())} images without any mark")


def _shown(folder: Path, task: SuperResolve) -> list[ResolvedImage] | None:
    found = read_shown(folder, NAME)
    if found is None or not found[0]:
        return None if found is None else []
    rows, arrays = found
    coarse, factor = arrays["images"], task.degradation.factor
    expected = (*coarse.shape[:2], coarse.shape[2] * factor, coarse.shape[3] * factor)
    for name in ("estimate", "sigma", "fine", *(["truth"] if "truth" in arrays else [])):
        if name not in arrays or arrays[name].shape != expected:
            what = f"'{name}' of shape {arrays[name].shape}" if name in arrays else f"no '{name}'"
            raise unsound(folder / f"{NAME}.safetensors", what, f"arrays of shape {expected}")
    if not (arrays["sigma"] > 0).all():
        raise unsound(folder / f"{NAME}.safetensors", "a σ that is not positive", "a claimed error for each pixel")
    try:
        return [_image(row, {name: array[k] for name, array in arrays.items()}) for k, row in enumerate(rows)]
    except (KeyError, TypeError, ValueError) as error:
        what = f"not a list of pairs ({error!r})"
        raise unsound(folder / f"{NAME}.json", what, "id, kind and psnr of each pair") from error


def _image(row: Mapping[str, Any], arrays: Mapping[str, Floats]) -> ResolvedImage:
    psnr = float(row["psnr"])
    if np.isnan(psnr):
        raise ValueError(f"a PSNR of {psnr}")
    finer = (arrays["estimate"], arrays["sigma"], arrays["fine"], arrays.get("truth"))
    return ResolvedImage(str(row["id"]), str(row["kind"]), psnr, arrays["images"], *finer)

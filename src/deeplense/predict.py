"""`deeplense predict`: run × new images → a table with one row per image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from deeplense.core.config import Config, Count
from deeplense.core.console import note, progress
from deeplense.core.errors import DeepLenseError, InvalidOption, MissingFile
from deeplense.core.files import atomic

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from deeplense.training.trained import TrainedModel


class UnreadableImages(DeepLenseError):
    """Some images could not be read; the table holds the others."""


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


@dataclass(frozen=True)
class PredictOptions(Config):
    """What `deeplense predict` can be told.

    Parameters
    ----------
    run_id
        Id or folder of the run.
    files
        Images (.npy, .png, .jpg), or folders that are searched for them.
    out
        Table to write: .csv or .parquet.
    maps
        Folder for a map of where each image is strange, NAME.fits and NAME.png; of detectors that can say.
    batch_size
        Images at a time.
    device
        Where to compute; best takes CUDA, then MPS, then the CPU.
    """

    run_id: str
    files: tuple[Path, ...]
    _: KW_ONLY
    out: Path = Path("predictions.csv")
    maps: Path | None = None
    batch_size: Count = 256
    device: Literal["best", "cuda", "mps", "cpu"] = "best"


def predict(options: PredictOptions | None = None, /, **fields: Any) -> Path:
    """Return the path of a table with one row per image: file, the answer's columns, unlike, error.

    A classifier answers with its prediction and the probability of each class; a detector of anomalies with score,
    p-value and q-value, the false discovery rate among these images at which each would be a discovery.
    An image that cannot be read gets a row that says why, and does not stop the others. An image that is unlike those
    of training is told of in the column `unlike`: a network answers it just as surely.

    Parameters
    ----------
    options
        What to predict; or give the fields of `PredictOptions` as keywords.

    Raises
    ------
    MissingFile
        When there is no such run or file.
    UnreadableImages
        After the table is written, when some images could not be read.
    """
    options = PredictOptions.given(options, fields)
    if options.out.suffix not in (".csv", ".parquet"):
        raise InvalidOption(f"--out {options.out}", "a name that ends in .csv or .parquet", "change --out")
    from deeplense.training.trained import TrainedModel, locate_run

    files = list(_expand(options.files))
    if options.maps is not None:
        _check_names(files)
    model = TrainedModel.load(locate_run(options.run_id), options.device)
    model.expect(len(files))
    parts = []
    with progress("predicting", len(files)) as advance:
        for first in range(0, len(files), options.batch_size):
            batch = files[first : first + options.batch_size]
            parts.append(_predict_batch(model, batch, options.maps))
            advance(len(batch))
    whole = _table(model, files, parts)
    _write(whole, options.out)
    note(f"{len(files):,} rows are in {options.out}")
    failed, strange = (len(whole) - int(whole[name].null_count) for name in ("error", "unlike"))
    if strange:
        example = next(value for value in whole["unlike"].to_pylist() if value is not None)
        note(
            f"{strange:,} of {len(whole):,} unlike the training images, not to be trusted (column 'unlike'): {example}"
        )
    if failed:
        raise UnreadableImages(
            f"{failed} of {len(files)} images could not be read",
            "images like those of the training set",
            f"read the column 'error' of {options.out}; the other rows are sound",
        )
    return options.out


def _expand(paths: tuple[Path, ...]) -> Iterator[Path]:
    """Yield every image file: files as given, folders searched in sorted order."""
    from deeplense.data.readers.files import SUFFIXES

    for path in paths:
        if path.is_dir():
            found = sorted(entry for entry in path.rglob("*") if entry.suffix.lower() in SUFFIXES)
            if not found:
                raise MissingFile(
                    f"no image is below {path}", f"files ending in {', '.join(SUFFIXES)}", "check the folder"
                )
            yield from found
        elif path.exists():
            yield path
        else:
            raise MissingFile(f"there is no file {path}", "an image or a folder of images", "check the path")
    if not paths:
        raise InvalidOption("no image is named", "at least one file or folder", "add it after the run")


def _check_names(files: list[Path]) -> None:
    """Refuse files whose maps would have the same name."""
    from collections import Counter

    name, n = Counter(path.stem for path in files).most_common(1)[0]
    if n > 1:
        raise InvalidOption(f"--maps for {n} files called {name}", "a name for each map", "predict them apart")


def _predict_batch(model: TrainedModel, files: list[Path], maps: Path | None) -> Answers:
    """Return what is answered of some files."""
    import numpy as np

    images: list[np.ndarray] = []
    errors: list[str | None] = []
    for path in files:
        try:
            images.append(model.prepare(path))
            errors.append(None)
        except DeepLenseError as error:
            errors.append(f"{error.found}; expected {error.expected}")
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


def _table(model: TrainedModel, files: list[Path], parts: list[Answers]) -> pa.Table:
    """Return one row per file; the columns of an answer are empty where there is none."""
    import numpy as np
    import pyarrow as pa

    good = np.concatenate([part.good for part in parts])
    rows = np.concatenate(
        [part.answers for part in parts if len(part.answers)] or [np.empty((0, model.task.n_answers), np.float32)]
    )
    places = pa.array(np.where(good, np.cumsum(good) - 1, 0), mask=~good)
    columns: dict[str, Any] = {"file": [str(path) for path in files]}
    columns |= {name: pa.array(values).take(places) for name, values in model.task.columns(rows).items()}
    columns["unlike"] = pa.array([word for part in parts for word in part.unlike], pa.string())
    columns["error"] = pa.array([word for part in parts for word in part.errors], pa.string())
    return pa.table(columns)


def _write_maps(model: TrainedModel, images: np.ndarray, files: list[Path], folder: Path) -> None:
    """Write where each image is strange, as FITS and as a picture."""
    import torch

    from deeplense.data.writers import write_fits_image
    from deeplense.metrics.figures import image_png

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


def _write(table: pa.Table, out: Path) -> None:
    import pyarrow.csv
    import pyarrow.parquet as pq

    with atomic(out) as temporary:
        if out.suffix == ".csv":
            pyarrow.csv.write_csv(table, temporary)
        else:
            pq.write_table(table, temporary)

"""`deeplense predict`: run × new images → a table with one row per image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from deeplense.core.config import Config, Count
from deeplense.core.console import note, progress
from deeplense.core.errors import DeepLenseError, InvalidOption, MissingFile
from deeplense.core.files import atomic

if TYPE_CHECKING:
    import pyarrow as pa

    from deeplense.training.trained import TrainedModel


class UnreadableImages(DeepLenseError):
    """Some images could not be read; the table holds the others."""


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
    batch_size
        Images at a time.
    device
        Where to compute; best takes CUDA, then MPS, then the CPU.
    """

    run_id: str
    files: tuple[Path, ...]
    _: KW_ONLY
    out: Path = Path("predictions.csv")
    batch_size: Count = 256
    device: Literal["best", "cuda", "mps", "cpu"] = "best"


def predict(options: PredictOptions | None = None, /, **fields: Any) -> Path:
    """Return the path of a table with one row per image: file, prediction, probability of each class, unlike, error.

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
    import pyarrow as pa

    from deeplense.training.trained import TrainedModel, locate_run

    files = list(_expand(options.files))
    model = TrainedModel.load(locate_run(options.run_id), options.device)
    model.expect(len(files))
    tables = []
    with progress("predicting", len(files)) as advance:
        for first in range(0, len(files), options.batch_size):
            batch = files[first : first + options.batch_size]
            tables.append(_predict_batch(model, batch))
            advance(len(batch))
    whole = pa.concat_tables(tables)
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


def _predict_batch(model: TrainedModel, files: list[Path]) -> pa.Table:
    """Return the rows of some files."""
    import numpy as np
    import pyarrow as pa

    images: list[np.ndarray] = []
    errors: list[str | None] = []
    for path in files:
        try:
            images.append(model.prepare(path))
            errors.append(None)
        except DeepLenseError as error:
            errors.append(f"{error.found}; expected {error.expected}")
    unlike: list[str | None] = [None] * len(files)
    answers = np.full((len(files), len(model.labels)), np.nan, dtype=np.float32)
    good = np.array([error is None for error in errors])
    if images:
        batch = np.stack(images)
        answers[good] = model.answer(batch)
        for row, what in zip(np.flatnonzero(good), model.unfamiliar(batch), strict=True):
            unlike[row] = what
    for row in np.flatnonzero(good & ~np.isfinite(answers).all(axis=1)):
        errors[row] = "the network's answer is not a number; expected pixel values like those of the training images"
        good[row] = False
    columns = model.task.columns(np.nan_to_num(answers))
    texts = {"unlike": pa.array(unlike, pa.string()), "error": pa.array(errors, pa.string())}
    table = pa.table({"file": [str(path) for path in files], **columns, **texts})
    for index, name in enumerate(table.column_names):
        if name not in ("file", *texts):
            masked = pa.array(table[name].to_pylist(), table[name].type, mask=~good)
            table = table.set_column(index, name, masked)
    return table


def _write(table: pa.Table, out: Path) -> None:
    import pyarrow.csv
    import pyarrow.parquet as pq

    with atomic(out) as temporary:
        if out.suffix == ".csv":
            pyarrow.csv.write_csv(table, temporary)
        else:
            pq.write_table(table, temporary)

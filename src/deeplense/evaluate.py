"""`deeplense evaluate`: run × dataset → predictions and marks with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from deeplense.core.config import Bounds, Config, Count
from deeplense.core.console import note, table
from deeplense.core.errors import InvalidDataset, InvalidOption
from deeplense.core.files import atomic, write_json
from deeplense.core.run_folder import RUNS, SHIPPED, SHIPPED_SUFFIX, RunFolder

if TYPE_CHECKING:
    import numpy as np

    from deeplense.data.dataset import Dataset
    from deeplense.data.loader import Loader
    from deeplense.metrics.intervals import Interval
    from deeplense.training.committee import Committee
    from deeplense.training.trained import TrainedModel

    Judged = TrainedModel | Committee

MOST = 2000  # images of a class whose substructure, or whose arcs, are measured
N_SCENES = 32  # lenses whose Einstein radius is fitted after super-resolution


@dataclass(frozen=True)
class EvaluateOptions(Config):
    """What `deeplense evaluate` can be told.

    Parameters
    ----------
    run_id
        Id or folder of the run.
    dataset
        Recipe or path; by default the run's own dataset.
    split
        Which images.
    batch_size
        Images at a time.
    committee
        Further runs: what is judged is the mean of all their logits, each calibrated by itself.
    bands
        Of another dataset: its bands that the run takes, in the order of training, by name or by number from 1; by
        default those of training.
    device
        Where to compute; best takes CUDA, then MPS, then the CPU.
    workers
        Processes that read images.
    """

    run_id: str
    _: KW_ONLY
    dataset: str | None = None
    split: Literal["train", "validation", "test"] = "test"
    batch_size: Count = 256
    committee: tuple[str, ...] = ()
    bands: tuple[str, ...] = ()
    device: Literal["best", "cuda", "mps", "cpu"] = "best"
    workers: Annotated[int, Bounds(0, 256)] = 0


def evaluate(options: EvaluateOptions | None = None, /, **fields: Any) -> dict[str, Interval]:
    """Return the marks of a run with 95 % intervals, and write them with the predictions beside the run.

    The run's own test split goes into the run folder itself; any other dataset or split into a folder below it. With
    the test split, the validation split is answered too: it gives the temperature that marks `…_scaled` are after. Of
    simulated images the substructure is measured, up to 2,000 of each class: truth.parquet, sensitivity.csv. A
    committee gets a run folder of its own, runs/ID+ID, to report on and to predict catalogues with.

    Parameters
    ----------
    options
        What to evaluate; or give the fields of `EvaluateOptions` as keywords.

    Raises
    ------
    MissingFile
        When there is no such run, or its dataset is gone.
    InvalidDataset
        When the dataset has other classes or other image sizes than the run was trained on.
    InvalidOption
        When the runs of a committee do not answer one question.
    """
    options = EvaluateOptions.given(options, fields)
    from deeplense.simulation.fresh import RecipeDataset
    from deeplense.training.committee import Committee
    from deeplense.training.trackers import log_evaluation

    run, model = _asked(options)
    dataset, is_own = _dataset(options.dataset, model.config["dataset"])
    if is_own and options.bands:
        raise InvalidOption(
            "--bands with the run's own dataset, whose bands it has learnt from", "another dataset", "leave it out"
        )
    drawn = isinstance(dataset, RecipeDataset)
    workers = 0 if drawn else options.workers  # what is drawn comes from this process
    # a fold is of names: also in a copy of the dataset it holds what the run has not learnt from
    images = model.loader(dataset, dataset.indices(options.split, model.fold), workers)
    answers = model.answers(images, options.batch_size)
    if model.task.needs_labels and bool((images.targets < 0).any()):
        raise InvalidDataset(
            f"{dataset.path} has images without a label", "a label for each image", "use `deeplense predict` instead"
        )
    home = run.path if run.path.parent != SHIPPED else RUNS / f"{run.id}{SHIPPED_SUFFIX}"  # the package stays as it is
    judged = is_own and options.split == "test"
    folder = RunFolder(home if judged else home / f"{dataset.path.name}-{options.split}")
    calibration = _calibration(model, images, options.batch_size) if judged else _known_calibration(home, run)
    marks = model.task.marks_with_intervals(answers, images.targets.numpy(), calibration.get("temperature"))
    marks |= _after_isotonic(model, answers, images, calibration) | _einstein_radius(model, dataset)
    if isinstance(model, Committee):
        model.write_record(run)
    elif home != run.path:
        RunFolder(home).write_config(model.config)
        RunFolder(home).write_history(run.history())
    stamp = {"truth_features_used": [True] * len(images)} if model.used_truth else {}
    _write(folder, dict(model.task.columns(answers)) | stamp, images, marks, options.split)
    _write_or_remove(folder.calibration, calibration if judged else {})
    _write_tables(folder.path, model.task.tables(answers, images.targets.numpy()))
    if model.place is None:
        _write_sensitivity(folder, model, answers, images)
    else:
        _write_selection(folder, model, answers, images)
    _write_examples(folder.path, model, answers, images)
    if judged:
        log_evaluation(run, model.config, marks, answers, images.targets.numpy())
    table(
        f"{run.id} on {dataset.path.name}, {options.split} split, {len(images):,} images",
        ("mark", "value", "95 % interval"),
        [(name, *_printed(mark)) for name, mark in marks.items()],
    )
    if model.used_truth:
        note("columns that no survey can measure were read: these marks mean nothing for real objects")
    # a page begins with the run's own test images
    page = f"; see them with: deeplense report {home}" if RunFolder(home).predictions.is_file() else ""
    note(f"marks and predictions are in {folder.path}{page}")
    return marks


def _asked(options: EvaluateOptions) -> tuple[RunFolder, Judged]:
    """Return a run and its model, or a committee and the folder that is its run."""
    from deeplense.training.committee import Committee, members_of
    from deeplense.training.trained import TrainedModel, locate_run

    named = [locate_run(name) for name in (options.run_id, *options.committee)]
    runs = [run for one in named for run in members_of(one)]
    models = [TrainedModel.load(run, options.device).with_bands(options.bands) for run in runs]
    for model in models:
        if model.run.resume_state.is_file():
            note(f"{model.run.path} has not come to its end: judged is its best epoch so far")
    if len(models) == 1:
        return named[0], models[0]
    committee = Committee.of(models)
    return named[0] if len(named) == 1 else committee.folder(), committee


def _printed(mark: Interval) -> tuple[str, str]:
    """Return a mark and its interval to be read: four decimals, more where the interval is narrower."""
    places = max(4, mark.decimals)
    return f"{mark.value:.{places}f}", f"{mark.low:.{places}f} – {mark.high:.{places}f}"


def _dataset(asked: str | None, own: dict[str, Any]) -> tuple[Dataset, bool]:
    """Return the dataset to judge on, and whether it is the run's own: where it was, or made again from its recipe."""
    from deeplense.core.compiled import can_compile
    from deeplense.data.dataset import open_dataset
    from deeplense.simulate import ensure
    from deeplense.simulation.fresh import RecipeDataset

    if asked is None and own.get("layout") == RecipeDataset.layout:
        return RecipeDataset(own["name"], compiled=own.get("compiled", False) and can_compile()), True
    known = Path(own["path"])
    dataset = open_dataset(ensure(asked or (str(known) if known.exists() else own["name"])))
    return dataset, dataset.path.resolve() == known.resolve()


def _calibration(model: Judged, images: Loader, batch_size: int) -> dict[str, Any]:
    """Return the temperature of a run, fitted on the validation split of the dataset that it is judged on."""
    from deeplense.metrics.isotonic import fit_isotonic

    if not model.task.has_temperature:
        return {}
    if "validation" not in images.dataset.splits_of(model.fold):
        note(f"{images.dataset.path} has no validation split: no temperature is fitted")
        return {}
    rows = images.dataset.indices("validation", model.fold)
    rows = rows[images.dataset.targets(model.labels)[rows] >= 0]
    validation = model.loader(images.dataset, rows, images.workers)
    answers, targets = model.answers(validation, batch_size), validation.targets.numpy()
    temperature = model.task.temperature(answers, targets)
    found: dict[str, Any] = {} if temperature is None else {"temperature": temperature}
    if (place := model.place) is not None:
        found["isotonic"] = fit_isotonic(answers[:, place], targets == place).as_dict()
        found["prevalence"] = float((targets == place).mean())
    return found and found | {"split": "validation", "n": len(validation)}


def _known_calibration(home: Path, run: RunFolder) -> dict[str, Any]:
    """Return the calibration of a run as it was fitted before, or came with the package; nothing where it was not."""
    from deeplense.metrics.calibrated import read_calibration

    return read_calibration(RunFolder(home)) or read_calibration(run)


def _after_isotonic(
    model: Judged, answers: np.ndarray, images: Loader, calibration: Mapping[str, Any]
) -> dict[str, Interval]:
    """Return how honest the probability of the class that is looked for is after its rising function."""
    import numpy as np

    from deeplense.metrics.isotonic import Isotonic
    from deeplense.metrics.marks import ece_mark

    if "isotonic" not in calibration or (place := model.place) is None:
        return {}
    p = Isotonic.from_mapping(calibration["isotonic"])(answers[:, place])
    return {"ece_isotonic": ece_mark(np.stack([1 - p, p], 1), (images.targets.numpy() == place).astype(np.int64))}


def _einstein_radius(model: Judged, dataset: Dataset) -> dict[str, Interval]:
    """Return by how much the Einstein radius of simulated lenses is off after super-resolution."""
    import torch

    from deeplense.data.loader import Batch
    from deeplense.metrics.intervals import mean_interval
    from deeplense.simulation.einstein_radius import einstein_radius_errors
    from deeplense.simulation.truth import Truth

    truth = Truth.of(dataset) if model.task.pairs else None
    if truth is None or truth.recipe.pair is None:
        return {}

    def answer(low: torch.Tensor) -> torch.Tensor:
        n = len(low)
        return model.pictures(Batch(low, torch.full((n,), -1), torch.arange(n)))["estimate"]

    errors = einstein_radius_errors(truth.recipe, N_SCENES, answer)
    return {"theta_E_error": mean_interval(errors["super_resolved"])} if errors else {}


def _write_selection(folder: RunFolder, model: Judged, answers: np.ndarray, images: Loader) -> None:
    """Store which of the simulated lenses are found, by what they are like."""
    import numpy as np

    from deeplense.metrics.selection import selection_table
    from deeplense.simulation.truth import Truth

    truth, place = Truth.of(images.dataset), model.place
    lenses = np.flatnonzero(images.targets.numpy() == place)
    rows: dict[str, Any] = {}
    if truth is not None and lenses.size:
        some = lenses[np.linspace(0, lenses.size - 1, min(MOST, lenses.size)).astype(np.int64)]
        properties = {}
        for name, values in truth.lenses(images.rows[some], model.crop, images.bands).items():
            properties[name] = np.full(len(images), np.nan)
            properties[name][some] = values
        rows = selection_table(answers[:, place], images.targets.numpy() == place, properties)
    if rows:
        _write_tables(folder.path, {folder.selection.stem: rows})
    else:
        folder.selection.unlink(missing_ok=True)


def _write_sensitivity(folder: RunFolder, model: Judged, answers: np.ndarray, images: Loader) -> None:
    """Store what is known of the substructure of simulated images, and how well it is seen by its strength."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from deeplense.simulation.truth import Truth

    truth = None if model.task.pairs else Truth.of(images.dataset)
    targets = images.targets.numpy()
    lumpy = [model.labels.index(label) for label in (truth.lumpy if truth else ())]
    some = np.concatenate([np.flatnonzero(targets == k)[:MOST] for k in lumpy] or [np.empty(0, np.int64)])
    if truth is None or not some.size:
        for path in (folder.truth, folder.sensitivity):
            path.unlink(missing_ok=True)
        return
    found = truth.substructure(images.rows[some], model.crop, images.bands)
    names = images.dataset.catalogue.select(["id", "label"]).take(images.rows[some])
    with atomic(folder.truth) as temporary:
        known = {name: pa.array(column, from_pandas=True) for name, column in found.items()}  # NaN becomes null
        pq.write_table(pa.table({"id": names["id"], "label": names["label"], **known}), temporary)
    strengths = {name: np.full(len(targets), np.nan) for name in found}
    for name, column in found.items():
        strengths[name][some] = column
    if rows := model.task.sensitivity(answers, targets, strengths):
        _write_tables(folder.path, {folder.sensitivity.stem: rows})
    else:
        folder.sensitivity.unlink(missing_ok=True)


def _write_or_remove(path: Path, content: Mapping[str, Any]) -> None:
    if content:
        write_json(path, content)
    else:
        path.unlink(missing_ok=True)


def _write(
    folder: RunFolder, columns: Mapping[str, Any], images: Loader, marks: Mapping[str, Interval], split: str
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    catalogue = images.dataset.catalogue.select(["id", "label"]).take(images.rows)
    content = {"id": catalogue["id"], "label": catalogue["label"], "split": [split] * len(images), **columns}
    with atomic(folder.predictions) as temporary:
        pq.write_table(pa.table(content), temporary)
    folder.write_metrics({name: mark.as_dict() for name, mark in marks.items()})


def _write_tables(folder: Path, tables: Mapping[str, Mapping[str, Any]]) -> None:
    import pyarrow as pa
    from pyarrow import csv

    for name, columns in tables.items():
        with atomic(folder / f"{name}.csv") as temporary:
            csv.write_csv(pa.table(dict(columns)), temporary)


def _write_examples(folder: Path, model: Judged, answers: np.ndarray, images: Loader) -> None:
    """Store the images that a reader should see, and what the model says of their pixels, if it does."""
    import numpy as np
    from safetensors.torch import save_file

    targets, labels = images.targets.numpy(), model.labels
    examples = model.task.examples(answers, targets)
    positions = np.array([example.position for example in examples], np.int64)
    ids = images.dataset.catalogue["id"].take(images.rows[positions]).to_pylist()
    named = [*labels, None]  # the last is for the target -1
    rows = [
        {"id": name, "label": named[targets[example.position]], **example.facts}
        for name, example in zip(ids, examples, strict=True)
    ]
    pixels = folder / f"{model.task.examples_name}.safetensors"
    pixels.unlink(missing_ok=True)
    if rows:
        shown = next(images.batches([positions]))
        with atomic(pixels) as temporary:
            save_file({"images": shown.image.contiguous()} | model.pictures(shown), temporary)
    write_json(pixels.with_suffix(".json"), rows)

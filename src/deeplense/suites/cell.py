"""A cell: one method on one dataset with one seed, and what its folder says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from deeplense.core.errors import DeepLenseError, InvalidOption
from deeplense.core.files import read_json, write_json
from deeplense.core.run_folder import RunFolder
from deeplense.suites.declared import Data, Method, Size, fewest
from deeplense.suites.kinds import Kind, kind_of, own_kind
from deeplense.suites.runs import TASKS, read_run
from deeplense.suites.suite import Suite
from deeplense.train import TrainOptions

if TYPE_CHECKING:
    from deeplense.metrics.intervals import Interval
    from deeplense.pages.judged import JudgedRun

RECORD = "benchmark.json"
ELSEWHERE = ("dataset", "out", "device", "pretrained")  # where a cell is run; its budget and method are the others
State = Literal["done", "begun", "waiting", "not run"]


@dataclass(frozen=True)
class Cell:
    """One method on one dataset with one seed.

    Parameters
    ----------
    name
        Name of the dataset.
    data, method
        What is learnt, and how.
    options
        What `train` is told.
    counts
        Images per class, split by split, where they are not the recipe's own.
    folder
        The run folder.
    seed
        Its seed, where there are others like it.
    """

    name: str
    data: Data
    method: Method
    options: TrainOptions
    counts: Mapping[str, int]
    folder: Path
    seed: int | None = None

    def __str__(self) -> str:
        return f"{self.name} × {self.method.name}" + (f", seed {self.seed}" if self.seed is not None else "")

    @property
    def run(self) -> RunFolder:
        """The run folder, with its documents."""
        return RunFolder(self.folder)

    @property
    def images(self) -> dict[str, Any]:
        """What decides which images the cell gets."""
        if self.data.path is not None:
            return {"path": self.data.path}
        return {"recipe": self.data.recipe, "noise": self.data.noise, "change": self.data.change, **self.counts}


@dataclass(frozen=True)
class Outcome:
    """What is known of a cell.

    Parameters
    ----------
    cell
        Which one.
    state
        done: trained and judged. begun: being run or interrupted. not run: it could not be. waiting: nothing happened.
    reason
        Why, or how far.
    run
        The judged run; None but where the state is "done".
    marks
        Its marks, in those of the dataset.
    record
        Devices and speed.
    """

    cell: Cell
    state: State
    reason: str = ""
    run: JudgedRun | None = None
    marks: Mapping[str, Interval] = field(default_factory=dict)
    record: Mapping[str, Any] | None = None


def cells_of(suite: Suite, size: str, folder: Path) -> list[Cell]:
    """Return every cell that a size takes, dataset by dataset, in the order of the suite."""
    plan = suite.sizes[size]
    return [
        cell
        for name in suite.datasets
        for method in (suite.methods_of(name) if name in (plan.datasets or suite.datasets) else ())
        if plan.methods is None or method.name in plan.methods
        for cell in _seeds_of(suite, size, folder, name, method)
    ]


def _seeds_of(suite: Suite, size: str, folder: Path, name: str, method: Method) -> list[Cell]:
    """Return the cells of one method on one dataset: several where seeds are, each in a folder below the method's."""
    plan, data = suite.sizes[size], suite.datasets[name]
    n_seeds = min(plan.seeds, method.seeds or plan.seeds)
    options = replace(suite.train_options(method, size, name), dataset=str(folder / "data" / name))
    cells = []
    for seed in range(options.seed, options.seed + n_seeds):
        place = folder / name / method.name / (f"seed-{seed}" if n_seeds > 1 else "")
        own = replace(options, seed=seed, out=place)
        cells.append(Cell(name, data, method, own, counts_of(plan, data), place, seed if n_seeds > 1 else None))
    return cells


def counts_of(size: Size, data: Data) -> dict[str, int]:
    """Return the images per class in each split, where they are not the recipe's own; none of images that are there."""
    if data.path is not None:
        return {}
    counts = {"train": fewest(size.train, data.train), "validation": size.validation, "test": size.test}
    return {split: n for split, n in counts.items() if n is not None}


def outcome(cell: Cell) -> Outcome:
    """Return what a cell's folder says: nothing is run."""
    record, run = read_record(cell), cell.run
    reason = str(record.get("reason") or "")
    if not run.exists():
        return Outcome(cell, "not run" if reason else "waiting", reason)
    try:
        if different := other_options(cell):
            return Outcome(cell, "not run", _other(cell, different).found)
        if not run.is_finished():
            far = f"{_epochs_done(run)} of {cell.options.epochs} epochs"
            far = far if TASKS[cell.options.task].by_steps else "its fit begins again"
            return Outcome(cell, "not run" if reason else "begun", reason or far)
    except DeepLenseError as error:
        return Outcome(cell, "not run", one_line(error))
    try:
        from deeplense.suites.judged import stored_marks

        judged = read_run(run, cell.options.task)
    except DeepLenseError as error:
        return Outcome(cell, "begun", reason or f"trained, not judged: {one_line(error)}")
    if not isinstance(record.get("images_per_second"), int | float):
        return Outcome(cell, "begun", reason or "trained, its speed not measured")
    marks = judged.marks if has_own_marks(cell) else stored_marks(record.get("marks"))
    if marks is None:
        return Outcome(cell, "begun", reason or "trained, its marks against the normal class not taken")
    return Outcome(cell, "done", "", judged, marks, record)


def has_own_marks(cell: Cell) -> bool:
    """Whether the run's marks are those of the dataset; a classifier where one class is normal gets others."""
    return kind_of_cell(cell) is own_kind(cell.options.task)


def kind_of_cell(cell: Cell) -> Kind:
    """Return the kind of table that a cell stands in."""
    kind = kind_of(cell.options.task, cell.data.normal)
    assert kind is not None  # the suite has refused what does not go together
    return kind


def other_options(cell: Cell) -> list[str]:
    """Return the names of the options in which a run that was begun differs from what the suite now asks for.

    Raises
    ------
    CorruptFile
        When the run's record is damaged.
    """
    config = cell.run.config()
    try:
        begun = TrainOptions.from_mapping(config["asked"])
    except (KeyError, TypeError, InvalidOption) as error:
        raise cell.run.odd_config(error) from error
    asked = cell.options.as_dict()
    before = begun.as_dict()
    from_scratch = {before["pretrained"], asked["pretrained"]} & {"0"}
    same = [name for name in ELSEWHERE if name != "pretrained" or not from_scratch]
    different = [name for name, value in asked.items() if name not in same and before[name] != value]
    images = read_record(cell).get("images", cell.images)
    return different + [f"{name} (of the dataset)" for name in cell.images if images.get(name) != cell.images[name]]


def require_same_options(cell: Cell) -> None:
    """Refuse a folder whose run was begun with another budget or method.

    Raises
    ------
    InvalidOption
        When it was.
    """
    if different := other_options(cell):
        raise _other(cell, different)


def _other(cell: Cell, different: list[str]) -> InvalidOption:
    return InvalidOption(
        f"{cell.folder} holds a run with another {', '.join(different)}",
        "the options that the suite gives it",
        "remove the folder to run it anew, or choose another --out",
    )


def read_record(cell: Cell) -> dict[str, Any]:
    """Return what was written beside the run: devices, speed, and why it could not be run; nothing if damaged."""
    try:
        record = read_json(cell.folder / RECORD)
    except DeepLenseError:
        return {}
    return record if isinstance(record, dict) else {}


def write_record(cell: Cell, record: Mapping[str, Any]) -> None:
    """Store devices, speed and reason."""
    write_json(cell.folder / RECORD, dict(record))


def one_line(error: BaseException) -> str:
    """Return what an error found, in one line."""
    found = error.found if isinstance(error, DeepLenseError) else f"{type(error).__name__}: {error}"
    return " ".join(found.split())[:300]


def _epochs_done(run: RunFolder) -> int:
    return len(run.history()) if (run.path / "history.json").is_file() else 0

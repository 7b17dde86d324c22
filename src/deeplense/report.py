"""`deeplense report`: runs → one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deeplense.core.config import Config
from deeplense.core.errors import InvalidDataset, InvalidOption
from deeplense.core.files import atomic
from deeplense.core.run_folder import RunFolder, find_run

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Int64

    from deeplense.data.dataset import Dataset
    from deeplense.pages.evaluated import EvaluatedRun
    from deeplense.pages.explained import Group
    from deeplense.simulation.truth import Truth
    from deeplense.training.trained import TrainedModel

EXPLAINED = 50  # images of a group: of one class, answered right or wrong
AT_ONCE = 10


@dataclass(frozen=True)
class ReportOptions(Config):
    """What `deeplense report` can be told.

    Parameters
    ----------
    runs
        Ids or folders of one or more runs.
    out
        Page to write; by default report.html in the first run's folder.
    attribution
        Show where each classifier looked, beside the true substructure of simulated images, and score it; takes the
        run's dataset, and a minute or more.
    """

    runs: tuple[str, ...]
    _: KW_ONLY
    out: Path | None = None
    attribution: bool = False


def report(options: ReportOptions | None = None, /, **fields: Any) -> Path:
    """Return the path of the page: a table of all runs, then each run's figures, telling images and making.

    The page holds its pictures within itself, runs no script and loads nothing.

    Parameters
    ----------
    options
        What to report; or give the fields of `ReportOptions` as keywords.

    Raises
    ------
    MissingFile
        When there is no such run, or it has not been evaluated.
    CorruptFile
        When a file of the run folder is not what `train` and `evaluate` write.
    InvalidOption
        When runs are of different tasks, or attributions are asked for of anything but a classifier.
    InvalidDataset
        When attributions are asked for, and the run's dataset is no longer the one that it was judged on.
    """
    options = ReportOptions.given(options, fields)
    if not options.runs:
        raise InvalidOption("no run is named", "one or more ids or folders of runs", "deeplense report RUN…")
    found = list({run.path.resolve(): run for run in map(find_run, options.runs)}.values())
    page = PAGES[_common_task(found)](found, options.attribution)
    out = options.out or found[0].report
    with atomic(out) as temporary:
        # A file name may hold bytes that are no text; they become question marks.
        temporary.write_bytes(page.encode("utf-8", "replace"))
    return out


def _common_task(runs: Sequence[RunFolder]) -> str:
    """Return the task of all runs; before there were others, the record of a classifier named none."""
    tasks: dict[str, str] = {}
    for run in runs:
        task = run.config().get("task", "classify")
        if not isinstance(task, str) or task not in PAGES:
            raise run.odd_config(f"the task {task!r}")
        tasks.setdefault(task, str(run.path))
    if len(tasks) > 1:
        raise InvalidOption(
            f"runs of different tasks: {', '.join(f'{path} ({task})' for task, path in tasks.items())}",
            "runs of one task: others have other marks",
            "report them apart: " + ", ".join(f"`deeplense report {path}`" for path in tasks.values()),
        )
    return next(iter(tasks))


def _classifiers(runs: Sequence[RunFolder], attribution: bool) -> str:
    """Return the page of classifiers."""
    from deeplense.pages.evaluated import read_evaluated
    from deeplense.pages.sections import render, section

    sections = []
    for place, folder in enumerate(runs, 1):
        run = read_evaluated(folder)
        sections.append(section(run, f"run-{place}", _explained(run) if attribution else None))
    return render(sections)


def _detectors(runs: Sequence[RunFolder], attribution: bool) -> str:
    """Return the page of detectors of anomalies."""
    if attribution:
        raise _unexplained(
            runs[0], "a detector of anomalies", "where a detector finds its images strange, if it can say"
        )
    from deeplense.pages.anomalies import render, section
    from deeplense.pages.strange import read_detector_run

    return render([section(read_detector_run(folder), f"run-{place}") for place, folder in enumerate(runs, 1)])


def _finders(runs: Sequence[RunFolder], attribution: bool) -> str:
    """Return the page of finders of lenses."""
    if attribution:
        raise _unexplained(runs[0], "a finder of lenses", "which lenses are found, and which images it ranks highest")
    from deeplense.pages.found import read_finder_run
    from deeplense.pages.lenses import render

    return render([read_finder_run(folder) for folder in runs])


def _upscalers(runs: Sequence[RunFolder], attribution: bool) -> str:
    """Return the page of super-resolution."""
    if attribution:
        raise _unexplained(runs[0], "a run of super-resolution", "where the images differ from what was asked for")
    from deeplense.pages.resolution import render, section
    from deeplense.pages.resolved import read_resolved_run

    return render([section(read_resolved_run(folder), f"run-{place}") for place, folder in enumerate(runs, 1)])


def _unexplained(run: RunFolder, what: str, shown: str) -> InvalidOption:
    return InvalidOption(
        f"--attribution with {run.id}, {what}",
        "a classifier, whose answer can be explained",
        f"leave out --attribution: the page shows {shown}",
    )


PAGES: dict[str, Callable[[Sequence[RunFolder], bool], str]] = {
    "classify": _classifiers,
    "detect_anomalies": _detectors,
    "find_lenses": _finders,
    "super_resolve": _upscalers,
}


def _explained(run: EvaluatedRun) -> list[Group]:
    """Return test images of each class with substructure (of each class where nothing is known), with attributions."""
    import numpy as np

    from deeplense.simulation.truth import Truth
    from deeplense.training.trained import TrainedModel

    model, dataset = TrainedModel.load(run.folder, "cpu"), _own_dataset(run)
    rows = _judged_rows(run, dataset)
    truth, predicted = Truth.of(dataset), run.probabilities.argmax(axis=1)
    groups = []
    for label in truth.lumpy if truth and truth.lumpy else run.labels:
        own = run.targets == run.labels.index(label)
        for right in (True, False):
            chosen = np.flatnonzero(own & ((predicted == run.targets) == right))[:EXPLAINED]
            if len(chosen):
                groups.append(_group(run, model, (dataset, truth, rows), chosen, predicted[chosen]))
    return groups


def _own_dataset(run: EvaluatedRun) -> Dataset:
    """Return the dataset of a run, from where it was or drawn again."""
    from deeplense.data.dataset import open_dataset
    from deeplense.simulation.fresh import RecipeDataset

    try:
        own: dict[str, Any] = run.config["dataset"]
        layout, name, path = own["layout"], str(own["name"]), str(own["path"])
    except (KeyError, TypeError) as error:
        raise run.folder.odd_config(error) from error
    return RecipeDataset(name, compiled=False) if layout == RecipeDataset.layout else open_dataset(path)


def _judged_rows(run: EvaluatedRun, dataset: Dataset) -> Int64[np.ndarray, " N"]:
    """Return the rows of the dataset that the run was judged on."""
    import numpy as np

    places = {name: row for row, name in enumerate(dataset.catalogue["id"].to_pylist())}
    if missing := [name for name in run.ids if name not in places]:
        raise InvalidDataset(
            f"{dataset.path} has no image '{missing[0]}', which the run {run.folder.id} was judged on",
            "the dataset as it was",
            f"judge the run again: `deeplense evaluate {run.folder.path}`",
        )
    return np.array([places[name] for name in run.ids], dtype=np.int64)


def _group(
    run: EvaluatedRun,
    model: TrainedModel,
    where: tuple[Dataset, Truth | None, Int64[np.ndarray, " N"]],
    chosen: Int64[np.ndarray, " n"],
    predicted: Int64[np.ndarray, " n"],
) -> Group:
    """Return attributions of chosen test images for the classes that were predicted, and what is known of them."""
    import torch

    from deeplense.models.attribution import attribute
    from deeplense.models.network import Network
    from deeplense.pages.explained import CONVERGENCE, SIGNAL, Group

    dataset, truth, rows = where
    if not isinstance(model.network, Network):
        raise InvalidOption(
            f"{run.folder.id} is no backbone with a head", "a classifier to be explained", "leave out --attribution"
        )
    loader, classes = model.loader(dataset, rows[chosen]), torch.from_numpy(predicted)
    images = loader.in_memory()
    pieces = [slice(first, first + AT_ONCE) for first in range(0, len(chosen), AT_ONCE)]
    parts = [attribute(model.network, model.normalisation(images[some]), classes[some]) for some in pieces]
    attributions = {name: torch.cat([part[name] for part in parts])[:, 0].numpy() for name in parts[0]}
    truths = {}
    if truth is not None and truth.lumpy:
        maps = zip((CONVERGENCE, SIGNAL), truth.maps(rows[chosen], model.crop, loader.bands), strict=True)
        truths = {name: map_[:, 0].numpy() for name, map_ in maps if bool(map_.isfinite().all())}
    ids, answers = [run.ids[k] for k in chosen], [run.labels[k] for k in predicted]
    right = bool(predicted[0] == run.targets[chosen[0]])
    label = run.labels[run.targets[chosen[0]]]
    return Group(label, right, ids, answers, images.numpy(), attributions, truths)

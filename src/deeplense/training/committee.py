"""Several runs that answer as one."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64
from torch import Tensor

from deeplense.core.console import note
from deeplense.core.errors import InvalidOption
from deeplense.core.run_folder import RUNS, RunFolder
from deeplense.core.seeding import stable_key
from deeplense.data.dataset import Dataset
from deeplense.data.loader import Batch, Loader
from deeplense.data.splits import Fold
from deeplense.metrics.calibrated import pooled, read_calibration
from deeplense.tasks.task import Task
from deeplense.training.trained import MEMBERS, TrainedModel, locate_run


@dataclass(frozen=True)
class Committee:
    """Several runs that answer together: the mean of their logits, each calibrated by its own validation split.

    Parameters
    ----------
    members
        Two runs or more, of the same classes, that were trained on the same parts of a dataset.
    calibrations
        Of each, how its probabilities are made honest: see `read_calibration`.
    """

    members: tuple[TrainedModel, ...]
    calibrations: tuple[Mapping[str, Any], ...]

    @classmethod
    def of(cls, members: Sequence[TrainedModel]) -> Committee:
        """Return the committee of some runs, and say which of them are not calibrated.

        Raises
        ------
        InvalidOption
            When they do not answer one question, or one may have learnt from what another is judged on.
        CorruptFile
            When a calibration is damaged.
        """
        first = members[0]
        for member in members:
            if not member.task.has_temperature or set(member.labels) != set(first.labels):
                raise InvalidOption(
                    f"a committee of {first.run.id} and {member.run.id}: {_question(first)}, {_question(member)}",
                    "runs that give probabilities of the same classes",
                    "leave one out",
                )
            if _learnt_from(member) != _learnt_from(first):
                raise InvalidOption(
                    f"a committee of {first.run.path} and {member.run.path}, which have not learnt from the same "
                    "images: one may know those that the other is judged on",
                    "runs of one dataset, as it was, and of one fold or none",
                    "leave one out",
                )
        paths = [member.run.path.resolve() for member in members]
        if twice := [path for path in paths if paths.count(path) > 1]:
            raise InvalidOption(f"a committee with {twice[0]} twice", "each run once", "leave one out")
        calibrations = tuple(read_calibration(member.run) for member in members)
        for member, known in zip(members, calibrations, strict=True):
            if not known:
                note(f"{member.run.id} counts uncalibrated; calibrate it by: deeplense evaluate {member.run.path}")
        return cls(tuple(members), calibrations)

    @property
    def name(self) -> str:
        """The names of all, with a plus between them."""
        return "+".join(names_of([member.run for member in self.members]))

    def folder(self) -> RunFolder:
        """Return the folder that is its run: by its name, or a longer one where other runs of these names have it."""
        paths = self.config[MEMBERS]
        for name in (self.name, f"{self.name}-{stable_key(*paths) % 16**4:04x}"):
            run = RunFolder(RUNS / name)
            if not run.exists() or run.config().get(MEMBERS) == paths:
                return run
        raise InvalidOption(f"{run.path}, which holds another run", "a folder to be written", "rename it")

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names in the order of the answers."""
        return self.members[0].labels

    @property
    def task(self) -> Task:
        """What is asked."""
        return self.members[0].task

    @property
    def place(self) -> int | None:
        """Which answer is that of the class that is looked for; None of a task that looks for none."""
        return self.members[0].place

    @property
    def crop(self) -> int | None:
        """Central pixels that all of them see together; None for all."""
        crops = [member.crop for member in self.members]
        return None if None in crops else max(crop for crop in crops if crop is not None)

    @property
    def fold(self) -> Fold | None:
        """The fold of a cross-validation that judges it."""
        return self.members[0].fold

    @property
    def used_truth(self) -> bool:
        """Whether one of them could read what only a simulation or a model knows."""
        return any(member.used_truth for member in self.members)

    @property
    def config(self) -> dict[str, Any]:
        """What its folder says of it: the record of the first run, and who the members are."""
        first = self.members[0].config
        names = {name: None for member in self.members for name in member.feature_names}
        sizes = [member.config["model"].get("parameters", 0) for member in self.members]
        paths = [str(member.run.path.absolute()) for member in self.members]
        said = {name: value for name, value in first.items() if name not in ("asked", "audit")}
        return said | {
            "run_id": self.name,
            "command": shlex.join(["deeplense", "evaluate", paths[0], "--committee", *paths[1:]]),
            MEMBERS: paths,
            "model": {"source": "committee", "name": "committee", "parameters": sum(sizes)},
            "options": first["options"]
            | {"allow_truth_features": self.used_truth, "features": list(names), "tracker": "none"},
        }

    def write_record(self, run: RunFolder) -> None:
        """Make a folder a run's, without weights of its own."""
        run.write_config(self.config)
        run.write_history([])

    def loader(self, dataset: Dataset, rows: Int64[np.ndarray, " N"], workers: int = 0) -> Loader:
        """Return some images of a dataset, as the first of them takes them."""
        return self.members[0].loader(dataset, rows, workers)

    def answers(self, images: Loader, batch_size: int) -> Float32[np.ndarray, "N K"]:
        """Return one row per image; every member sees it as it did in training."""
        each = []
        for member in self.members:
            own = member.loader(images.dataset, images.rows, images.workers)
            places = [member.labels.index(label) for label in self.labels]
            each.append(member.answers(own, batch_size)[:, places])
        return pooled(each, self.calibrations).astype(np.float32)

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Return nothing: what one of them looks at is not what all answer by."""
        return {}


def members_of(run: RunFolder) -> list[RunFolder]:
    """Return the runs of a committee's folder; of any other, itself."""
    members = run.config().get(MEMBERS)
    if members is None:
        return [run]
    if not isinstance(members, list) or not all(isinstance(path, str) for path in members):
        raise run.odd_config(f"members {members!r}")
    return [locate_run(path) for path in members]


def names_of(runs: Sequence[RunFolder]) -> list[str]:
    """Return the id of each run, with its folder's name before it where another has the same id."""
    ids = [run.id for run in runs]
    parents = [run.path.absolute().parent.name for run in runs]
    return [name if ids.count(name) == 1 else f"{parent}-{name}" for name, parent in zip(ids, parents, strict=True)]


def _learnt_from(model: TrainedModel) -> tuple[Any, ...]:
    dataset = model.config["dataset"]
    return (str(dataset["path"]), dataset["n_train"], dataset["n_validation"], model.fold)


def _question(model: TrainedModel) -> str:
    return f"{model.config['task']} of {', '.join(model.labels) or 'no classes'}"

"""The record of one training run: everything needed to evaluate, resume or report it on another machine."""

from __future__ import annotations

import secrets
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deeplense.core.errors import CorruptFile, DeepLenseError, MissingFile, UnknownName, nearest
from deeplense.core.files import read_json, write_json

RUNS = Path("runs")
SHIPPED = Path(__file__).parents[1] / "weights"
SHIPPED_SUFFIX = "@deeplense"


@dataclass(frozen=True)
class RunFolder:
    """Paths and JSON documents of `runs/<run_id>/`.

    Parameters
    ----------
    path
        The folder; its name is the run's id.
    """

    path: Path

    @property
    def id(self) -> str:
        """The run's id: the folder's name."""
        return self.path.name

    @property
    def weights(self) -> Path:
        """Weights of the best epoch (chosen on validation), safetensors."""
        return self.path / "model.safetensors"

    @property
    def resume_state(self) -> Path:
        """Optimiser, weights and epoch to go on from; present while training is unfinished."""
        return self.path / "resume.pt"

    @property
    def predictions(self) -> Path:
        """Answers for every image of the test split: `id, label, split, prediction, p_<class>…`."""
        return self.path / "predictions.parquet"

    @property
    def calibration(self) -> Path:
        """The temperature that was fitted on the validation split: `temperature, split, n`."""
        return self.path / "calibration.json"

    @property
    def truth(self) -> Path:
        """What is known of the substructure of simulated test images: `id, label`, strengths."""
        return self.path / "truth.parquet"

    @property
    def sensitivity(self) -> Path:
        """Area under the ROC curve of each class against that without substructure, in bins of strength."""
        return self.path / "sensitivity.csv"

    @property
    def selection(self) -> Path:
        """Share of the simulated lenses that are found, in bins of what they are like."""
        return self.path / "selection.csv"

    @property
    def report(self) -> Path:
        """The HTML page."""
        return self.path / "report.html"

    def exists(self) -> bool:
        """Whether training has begun here."""
        return (self.path / "config.json").is_file()

    def is_finished(self) -> bool:
        """Whether training came to its end."""
        return (self.path / "history.json").is_file() and self.weights.is_file() and not self.resume_state.is_file()

    def config(self) -> dict[str, Any]:
        """Return the resolved configuration, with labels, image shape, normalisation and code version."""
        config = self._document("config.json")
        if not isinstance(config, dict):
            raise self.odd_config(f"it is a {type(config).__name__}")
        return config

    def odd_config(self, why: object) -> CorruptFile:
        """Return the error for a configuration that lacks what training writes, or holds something else."""
        found = why.found if isinstance(why, DeepLenseError) else str(why) if isinstance(why, str) else repr(why)
        return CorruptFile(
            self.path / "config.json",
            f"a field is missing or odd ({found})",
            "the record that `deeplense train` writes",
            "restore it from a copy, or train again into another folder",
        )

    def history(self) -> list[dict[str, float]]:
        """Return one record per finished epoch."""
        return list(self._document("history.json"))

    def metrics(self) -> dict[str, dict[str, float]]:
        """Return the marks on the test split: name → {value, low, high, n}."""
        return dict(self._document("metrics.json"))

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Store the resolved configuration."""
        write_json(self.path / "config.json", dict(config))

    def write_history(self, history: Sequence[Mapping[str, float]]) -> None:
        """Store the records of all epochs so far."""
        write_json(self.path / "history.json", list(history))

    def write_metrics(self, metrics: Mapping[str, Mapping[str, float]]) -> None:
        """Store the marks on the test split."""
        write_json(self.path / "metrics.json", dict(metrics))

    def forget_marks(self) -> None:
        """Remove what `evaluate` wrote of the run's own test split: it is of other weights than those to come."""
        tables = (self.path / name for name in ("metrics.json", "roc.csv", "purity.csv"))
        for path in (*tables, self.predictions, self.calibration, self.truth, self.sensitivity, self.selection):
            path.unlink(missing_ok=True)

    def _document(self, name: str) -> Any:
        path = self.path / name
        if not path.is_file():
            step = {"metrics.json": f"deeplense evaluate {self.path}"}.get(name, "deeplense train … to make a run anew")
            raise MissingFile(f"the run {self.id} has no {name}", f"the file {path}", f"run `{step}`")
        return read_json(path)


def new_run_id() -> str:
    """Return eight random letters and digits."""
    return "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(8))


def shipped_runs() -> list[str]:
    """Return the names of the trained models that are part of the package."""
    return sorted(folder.parent.name + SHIPPED_SUFFIX for folder in SHIPPED.glob("*/config.json"))


def find_run(name: str | Path, root: Path = RUNS) -> RunFolder:
    """Return the run called `name`: a folder, an id below `root`, or one that is part of the package (NAME@deeplense).

    Raises
    ------
    MissingFile
        When there is no such run; the message lists the nearest ids.
    UnknownName
        When the package has no run of that name.
    """
    if str(name).endswith(SHIPPED_SUFFIX) and not (Path(name) / "config.json").is_file():
        if name not in shipped_runs():
            raise UnknownName("shipped model", str(name), shipped_runs())
        return RunFolder(SHIPPED / str(name).removesuffix(SHIPPED_SUFFIX))
    for candidate in (Path(name).expanduser(), root / str(name)):
        if (candidate / "config.json").is_file():
            return RunFolder(candidate)
        if candidate.is_dir():
            raise MissingFile(
                f"{candidate} is not a run folder: it has no config.json",
                "a folder written by `deeplense train`",
                "name the run's folder itself, or its id",
            )
    ids = [folder.parent.name for folder in root.glob("*/config.json")]
    near = nearest(str(name), ids) or sorted(ids)[:8]
    raise MissingFile(
        f"no run is called '{name}'",
        f"a run folder or one of the ids in {root}/: {', '.join(near) or 'none yet'}",
        "check the id, or train first: `deeplense train --dataset model_ii`",
    )

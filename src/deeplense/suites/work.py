"""Running one cell: simulate, train, judge, time, report."""

from __future__ import annotations

import dataclasses
import gc
import io
import platform
import statistics
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from deeplense.core.console import note
from deeplense.core.errors import DeepLenseError, MissingFile
from deeplense.evaluate import evaluate
from deeplense.report import report
from deeplense.simulate import simulate
from deeplense.suites.cell import (
    Cell,
    has_own_marks,
    one_line,
    outcome,
    read_record,
    require_same_options,
    write_record,
)
from deeplense.suites.derived import recipe_for
from deeplense.suites.judged import marks_against
from deeplense.suites.kinds import own_kind
from deeplense.suites.runs import read_run
from deeplense.train import train

if TYPE_CHECKING:
    from deeplense.data.loader import Loader
    from deeplense.training.devices import Device
    from deeplense.training.trained import TrainedModel

TIMED_IMAGES, BATCH, TIMES = 256, 64, 3


@dataclasses.dataclass(frozen=True)
class Workshop:
    """Where the cells of one size of a suite are run.

    Parameters
    ----------
    folder
        The size's folder: data, recipes, and a folder per dataset.
    base
        Folder that a recipe's relative path starts from.
    device
        Where to compute.
    weights
        Folder of weights that are taken instead of the model hub's.
    images
        Folder of the datasets that are not simulated, in place of that in their path.
    made
        Where the datasets are that are known to be there, by name.
    """

    folder: Path
    base: Path
    device: Device
    weights: Path | None
    images: Path | None = None
    made: dict[str, Path] = dataclasses.field(default_factory=dict)

    def run(self, cell: Cell) -> None:
        """Run what is missing of a cell; what forbids it is written into its folder, in one line."""
        record = read_record(cell) | {"reason": None}
        if not cell.run.exists():
            record["images"] = cell.images
        here = device_name(self.device)
        record["devices"] = list(dict.fromkeys([*(record.get("devices") or ()), here]))
        write_record(cell, record)
        try:
            self._train(cell, self._dataset(cell))
            self._judge(cell)
            if not has_own_marks(cell):
                marks = marks_against(read_run(cell.run, cell.options.task), str(cell.data.normal))
                record["marks"] = {name: mark.as_dict() for name, mark in marks.items()}
            record["images_per_second"] = images_per_second(cell, self.device)
        except (DeepLenseError, RuntimeError, MemoryError) as error:  # torch: out of memory, an unsupported operation
            record["reason"] = one_line(error)
            note(f"{cell}: not run: {record['reason']}")
        write_record(cell, record)
        gc.collect()

    def _dataset(self, cell: Cell) -> Path:
        """Return where a cell's images are, simulated where need be; looked at once in the life of this process."""
        if cell.name not in self.made:
            self.made[cell.name] = self._given(cell) if cell.data.path else self._simulated(cell)
        return self.made[cell.name]

    def _simulated(self, cell: Cell) -> Path:
        recipe = recipe_for(cell.name, cell.data, self.base, self.folder / "recipes")
        return simulate(recipe=recipe, out=self.folder / "data" / cell.name, **cell.counts)

    def _given(self, cell: Cell) -> Path:
        named = Path(str(cell.data.path))
        path = self.base / named if self.images is None else self.images / named.name
        if not path.exists():
            raise MissingFile(
                f"there is nothing at {path}",
                f"the images of dataset {cell.name}",
                "fetch them, or name the folder that holds them: --data FOLDER",
            )
        return path

    def _train(self, cell: Cell, dataset: Path) -> None:
        if cell.run.exists():
            require_same_options(cell)
            if not cell.run.is_finished():
                train(resume=str(cell.folder))
            return
        options = dataclasses.replace(cell.options, dataset=str(dataset), device=self.device)
        file = self.weights and self.weights / f"{options.model_name}.safetensors"
        if file and options.pretrained == "1" and file.is_file():
            options = dataclasses.replace(options, pretrained=str(file))
        train(options)

    def _judge(self, cell: Cell) -> None:
        """Evaluate a trained cell and make its page, unless its marks are there and sound."""
        before = outcome(cell)
        if (cell.folder / "metrics.json").is_file() and before.run is None and "not judged" in before.reason:
            note(f"{cell}: {before.reason}; judged anew")
        with redirect_stdout(io.StringIO()):  # the table of all cells says it
            marks = evaluate(run_id=str(cell.folder), batch_size=BATCH, device=self.device)
        report(runs=[str(cell.folder)])
        name = own_kind(cell.options.task).primary(cell.options)
        note(f"{cell}: {name} {marks[name]}")


def images_per_second(cell: Cell, device: Device) -> float:
    """Return the test images a trained network sees in a second, in batches of 64, fp32: the median of three runs."""
    from deeplense.data.dataset import open_dataset
    from deeplense.training.trained import TrainedModel

    model = TrainedModel.load(cell.run, device)
    dataset = open_dataset(Path(model.config["dataset"]["path"]))
    rows = dataset.indices("test")[:TIMED_IMAGES]
    _see(model, model.loader(dataset, rows[:BATCH]))  # the first call also prepares
    images = model.loader(dataset, rows)
    images.in_memory()
    return len(rows) / statistics.median(_see(model, images) for _ in range(TIMES))


def _see(model: TrainedModel, images: Loader) -> float:
    begin = time.perf_counter()
    model.see(images, BATCH)
    return time.perf_counter() - begin


def device_name(device: Device) -> str:
    """Return the name of the processor or GPU that is computed on."""
    import torch

    if device in ("best", "cuda") and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    if device in ("best", "mps") and torch.backends.mps.is_available():
        return f"{platform.processor()} GPU"
    return f"{_processor()}, {torch.get_num_threads()} threads"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()

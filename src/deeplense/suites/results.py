"""The table of a suite, made from what lies on disk: CSV, terminal and page."""

from __future__ import annotations

import csv
import io
import shlex
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deeplense.core.console import table
from deeplense.core.files import alone, atomic
from deeplense.suites.cell import Cell, Outcome, State, cells_of, outcome
from deeplense.suites.suite import Data, Method, Suite

if TYPE_CHECKING:
    from deeplense.metrics.intervals import Interval
    from deeplense.metrics.ranking import RocCurve

CSV, PAGE = "results.csv", "index.html"
FIRST = ("suite", "size", "dataset", "method", "state", "reason")
LAST = (
    "n_test", "seeds", "shown", "parameters", "n_train", "n_validation", "epochs", "train_seconds",
    "images_per_second", "devices", "reference", "command", "created", "deeplense_version", "git_commit",
)  # fmt: skip
SHORT = 40  # letters of a reason in the terminal
SHOWN = {"normal": "normal images only", "simulated": "simulated anomalies", "labelled": "labels"}


@dataclass(frozen=True)
class Row:
    """A row of the table: one method on one dataset, over all its seeds.

    Parameters
    ----------
    outcomes
        What is known of each of its cells, one per seed.
    """

    outcomes: tuple[Outcome, ...]

    @property
    def name(self) -> str:
        """Name of the dataset."""
        return self.outcomes[0].cell.name

    @property
    def data(self) -> Data:
        """The dataset."""
        return self.outcomes[0].cell.data

    @property
    def method(self) -> Method:
        """The method."""
        return self.outcomes[0].cell.method

    @property
    def state(self) -> State:
        """That of all seeds; where they differ: not run if one of them could not be, else begun."""
        states = {one.state for one in self.outcomes}
        return states.pop() if len(states) == 1 else "not run" if "not run" in states else "begun"

    @property
    def reason(self) -> str:
        """Why, or how far."""
        if len(self.outcomes) == 1:
            return self.outcomes[0].reason
        if stuck := [one for one in self.outcomes if one.state == "not run"]:
            return f"seed {stuck[0].cell.seed}: {stuck[0].reason}"
        done = Counter(one.state for one in self.outcomes)["done"]
        return f"{done} of {len(self.outcomes)} seeds" if self.state == "begun" else ""

    @property
    def seeds(self) -> int:
        """Number of runs."""
        return len(self.outcomes)

    @property
    def place(self) -> str:
        """Folder of its first run, within that of the page."""
        cell = self.outcomes[0].cell
        return "/".join([self.name, self.method.name] + ([] if cell.seed is None else [cell.folder.name]))

    @property
    def primary(self) -> str:
        """Name of the mark that orders the rows."""
        return "auroc" if self.data.normal else "auroc_macro"

    @cached_property
    def marks(self) -> Mapping[str, Interval]:
        """Marks over all seeds; empty unless all are done."""
        from deeplense.suites.judged import over_seeds

        return over_seeds([one.marks for one in self.outcomes]) if self.state == "done" else {}

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Class names; empty unless all seeds are done."""
        return self.outcomes[0].run.labels if self.state == "done" and self.outcomes[0].run else ()

    def curves(self) -> dict[str, RocCurve]:
        """Return the ROC curve of each class; empty unless all seeds are done."""
        from deeplense.suites.judged import curves_of

        runs = [one.run for one in self.outcomes if one.run is not None]
        return curves_of(runs, self.data.normal) if self.state == "done" else {}

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What it cost and how it came about; numbers are means over the seeds, nothing unless all are done."""
        if self.state != "done":
            return {}
        found = [facts_of(one) for one in self.outcomes]
        means = {
            key: round(statistics.fmean(facts[key] for facts in found), 1)
            for key in ("train_seconds", "images_per_second")
        }
        counts = {"n_test": self.marks[self.primary].n, "seeds": self.seeds}
        return found[0] | means | counts | {"shown": SHOWN[category_of(self.method)]}


@dataclass(frozen=True)
class Results:
    """All cells of one size of a suite.

    Parameters
    ----------
    suite, asked
        The suite, and the name or file that the user typed for it.
    size
        Which size.
    folder
        The size's folder.
    """

    suite: Suite
    asked: str
    size: str
    folder: Path

    def cells(self) -> list[Cell]:
        """Return the cells that this size takes."""
        return cells_of(self.suite, self.size, self.folder)

    def rows(self) -> list[Row]:
        """Return what is known of every method: within a dataset the best first, those without marks last."""
        order = {name: place for place, name in enumerate(self.suite.datasets)}
        found: dict[tuple[str, str], list[Outcome]] = {}
        for cell in self.cells():
            found.setdefault((cell.name, cell.method.name), []).append(outcome(cell))
        rows = [Row(tuple(outcomes)) for outcomes in found.values()]
        return sorted(rows, key=lambda row: (order[row.name], -(row.marks[row.primary].value if row.marks else -1.0)))

    def left_out(self) -> dict[str, list[str]]:
        """Return the datasets that this size leaves out wholly or in part, with the methods it does not run there."""
        taken = {(cell.name, cell.method.name) for cell in self.cells()}
        return {
            name: gone
            for name in self.suite.datasets
            if (gone := [m.name for m in self.suite.methods_of(name) if (name, m.name) not in taken])
        }

    def write(self) -> list[Row]:
        """Make the CSV and the page anew, one process at a time; return what they show."""
        from deeplense.pages.benchmark import render

        with alone(self.folder):
            rows = self.rows()
            with atomic(self.folder / CSV) as temporary:
                temporary.write_text(self._csv(rows), encoding="utf-8")
            page = render(self._page(rows))
            with atomic(self.folder / PAGE) as temporary:
                temporary.write_bytes(page.encode("utf-8", "replace"))
        return rows

    def _csv(self, rows: Sequence[Row]) -> str:
        lines = [self._line(row) for row in rows]
        gone = f"size {self.size} does not take it"
        for name, methods in self.left_out().items():
            lines += [self._head(name, method) | {"state": "left out", "reason": gone} for method in methods]
        normal = [data.normal for data in self.suite.datasets.values()]
        names = ["auroc"] * any(normal) + ["auroc_macro", "accuracy"] * (not all(normal))
        always = [name + end for name in names for end in ("", "_low", "_high")]
        columns = dict.fromkeys([*FIRST, *always, *(key for row in lines for key in row if key not in LAST), *LAST])
        text = io.StringIO()
        writer = csv.DictWriter(text, list(columns), restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
        return text.getvalue()

    def _head(self, dataset: str, method: str) -> dict[str, Any]:
        words = ["deeplense", "benchmark", self.asked, "--size", self.size, "--only", dataset, "--only", method]
        reference = reference_of(self.suite.all_methods()[method])
        head = {"suite": self.suite.name, "size": self.size, "dataset": dataset, "method": method}
        return head | {"reference": reference, "command": shlex.join(words)}

    def _line(self, row: Row) -> dict[str, Any]:
        """Return the line of the CSV for a row."""
        from deeplense.suites.judged import scatter

        line = self._head(row.name, row.method.name) | {"state": row.state, "reason": row.reason}
        for name, mark in row.marks.items():
            line |= {name: mark.value, f"{name}_low": mark.low, f"{name}_high": mark.high}
            if row.seeds > 1:
                line[f"{name}_sd"] = scatter([one.marks for one in row.outcomes], name)
        return line | row.facts

    def _page(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Return what the page shows."""
        plan, left_out = self.suite.sizes[self.size], self.left_out()
        sections = []
        for name, data in self.suite.datasets.items():
            here = [row for row in rows if row.name == name]
            sections += [(name, data, here, left_out.get(name, []))] if here else []
        used = dict.fromkeys(row.method.name for row in rows)
        records = [one.record or {} for row in rows for one in row.outcomes]
        return {
            "suite": self.suite,
            "size": self.size,
            "plan": plan,
            "sections": sections,
            "absent": [name for name in self.suite.datasets if not any(row.name == name for row in rows)],
            "methods": [
                {"name": name, "reference": reference_of(method), "options": method.options}
                for name, method in self.suite.all_methods().items()
                if name in used
            ],
            "devices": sorted({device for record in records for device in record.get("devices", ())}),
        }


def reference_of(method: Method) -> str:
    """Return whom to cite: of a detector its own reference, unless the suite names another."""
    if method.reference:
        return method.reference
    from deeplense.detectors.detector import DETECTORS

    return str(getattr(DETECTORS[str(method.options["detector"])], "reference", ""))


def category_of(method: Method) -> str:
    """Return what a method was shown: "normal" images alone, also "simulated" anomalies, or "labelled" ones."""
    if method.task == "classify":
        return "labelled"
    from deeplense.detectors.detector import DETECTORS

    return str(getattr(DETECTORS[str(method.options["detector"])], "category", "normal"))


def facts_of(one: Outcome) -> dict[str, Any]:
    """Return what a judged cell cost and how it came about, from its run folder."""
    run, record = one.run, one.record or {}
    if run is None:
        return {}
    model, dataset = (part if isinstance(part := run.config.get(key), Mapping) else {} for key in ("model", "dataset"))
    seconds = [record.get("fit_seconds", record.get("seconds", 0.0)) for record in run.history]
    detects = one.cell.options.task != "classify"
    return {
        "parameters": _numbers_learnt(one.cell) if detects else model.get("parameters", ""),
        "n_train": dataset.get("n_train", ""),
        "n_validation": dataset.get("n_validation", ""),
        "epochs": _passes(one.cell) if detects else len(run.history),
        "train_seconds": round(float(sum(seconds)), 1),
        "images_per_second": round(float(record["images_per_second"]), 1),
        "devices": "; ".join(map(str, record.get("devices") or ())),
        **{key: run.config.get(key) or "" for key in ("created", "deeplense_version", "git_commit")},
    }


def _passes(cell: Cell) -> int:
    """Return how often a detector went through the images: once where it does not learn by steps."""
    from deeplense.detectors.detector import DETECTORS

    learns = getattr(DETECTORS[str(cell.method.options["detector"])], "learns", False)
    return cell.options.epochs if learns else 1


def _numbers_learnt(cell: Cell) -> int:
    """Return how many numbers a detector has stored, but for the scores that calibrate it."""
    import math

    from safetensors import safe_open

    with safe_open(cell.run.weights, "np") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys() if name != "null")  # noqa: SIM118


def print_results(rows: Iterable[Row], everything: bool = False) -> None:
    """Print a table per dataset, at most 80 columns wide: what has marks or a reason, or every row."""
    shown: dict[str, list[Row]] = {}
    for row in rows:
        if everything or row.state in ("done", "not run"):
            shown.setdefault(row.name, []).append(row)
    for name, many in shown.items():
        normal = many[0].data.normal
        titles = ("AUROC [95 %]", "TPR at 1 % FPR", "fit") if normal else ("macro AUROC [95 %]", "accuracy", "trained")
        table(name, ("method", *titles), [(row.method.name, *_columns(row)) for row in many])


def _columns(row: Row) -> tuple[str, str, str]:
    if not row.marks:
        reason = row.reason if len(row.reason) <= SHORT else row.reason[: SHORT - 1] + "…"
        return f"{row.state}: {reason}" if reason else row.state, "", ""
    other = row.marks["tpr_at_1pct_fpr" if row.data.normal else "accuracy"]
    seconds = f"{row.facts['train_seconds']:.0f} s"
    return str(row.marks[row.primary]), f"{other.value:.{other.decimals}f}", seconds

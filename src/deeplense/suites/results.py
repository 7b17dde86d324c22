"""The table of a suite, made from what lies on disk: CSV, terminal and page."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deeplense.core.console import table
from deeplense.core.files import alone, atomic
from deeplense.suites.cell import Cell, Outcome, cells_of, outcome
from deeplense.suites.suite import Suite

if TYPE_CHECKING:
    from deeplense.metrics.intervals import Interval

CSV, PAGE = "results.csv", "index.html"
FIRST = ("suite", "size", "dataset", "method", "state", "reason")
LAST = (
    "n_test", "parameters", "n_train", "n_validation", "epochs", "train_seconds", "images_per_second", "devices",
    "reference", "command", "created", "deeplense_version", "git_commit",
)  # fmt: skip
SHORT = 40  # letters of a reason in the terminal


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

    def outcomes(self) -> list[Outcome]:
        """Return what is known of every cell: within a dataset the best first, those without marks last."""
        order = {name: place for place, name in enumerate(self.suite.datasets)}
        found = [outcome(cell) for cell in self.cells()]
        return sorted(found, key=lambda one: (order[one.cell.name], -_macro(one)))

    def left_out(self) -> dict[str, list[str]]:
        """Return the datasets that this size leaves out wholly or in part, with the methods it does not run there."""
        taken = {(cell.name, cell.method.name) for cell in self.cells()}
        return {
            name: gone
            for name in self.suite.datasets
            if (gone := [m.name for m in self.suite.methods_of(name) if (name, m.name) not in taken])
        }

    def write(self) -> list[Outcome]:
        """Make the CSV and the page anew, one process at a time; return what they show."""
        from deeplense.pages.benchmark import render

        with alone(self.folder):
            outcomes = self.outcomes()
            with atomic(self.folder / CSV) as temporary:
                temporary.write_text(self._csv(outcomes), encoding="utf-8")
            page = render(self._page(outcomes))
            with atomic(self.folder / PAGE) as temporary:
                temporary.write_bytes(page.encode("utf-8", "replace"))
        return outcomes

    def _csv(self, outcomes: Sequence[Outcome]) -> str:
        rows = [self._row(one) for one in outcomes]
        gone = f"size {self.size} does not take it"
        for name, methods in self.left_out().items():
            rows += [self._head(name, method) | {"state": "left out", "reason": gone} for method in methods]
        always = [name + end for name in ("auroc_macro", "accuracy") for end in ("", "_low", "_high")]
        columns = dict.fromkeys([*FIRST, *always, *(key for row in rows for key in row if key not in LAST), *LAST])
        text = io.StringIO()
        writer = csv.DictWriter(text, list(columns), restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()

    def _head(self, dataset: str, method: str) -> dict[str, Any]:
        words = ["deeplense", "benchmark", self.asked, "--size", self.size, "--only", dataset, "--only", method]
        reference = self.suite.all_methods()[method].reference
        head = {"suite": self.suite.name, "size": self.size, "dataset": dataset, "method": method}
        return head | {"reference": reference, "command": shlex.join(words)}

    def _row(self, one: Outcome) -> dict[str, Any]:
        """Return the row of a cell."""
        row = self._head(one.cell.name, one.cell.method.name) | {"state": one.state, "reason": one.reason}
        if one.run is None:
            return row
        for name, mark in one.run.marks.items():
            row |= {name: mark.value, f"{name}_low": mark.low, f"{name}_high": mark.high}
        return row | facts_of(one) | {"n_test": one.run.marks["accuracy"].n}

    def _page(self, outcomes: Sequence[Outcome]) -> dict[str, Any]:
        """Return what the page shows."""
        plan, left_out = self.suite.sizes[self.size], self.left_out()
        sections = []
        for name, data in self.suite.datasets.items():
            here = [one for one in outcomes if one.cell.name == name]
            sections += [(name, data, here, left_out.get(name, []))] if here else []
        used = dict.fromkeys(one.cell.method.name for one in outcomes)
        return {
            "suite": self.suite,
            "size": self.size,
            "plan": plan,
            "sections": sections,
            "absent": [name for name in self.suite.datasets if not any(one.cell.name == name for one in outcomes)],
            "facts": {str(one.cell): facts_of(one) for one in outcomes if one.run is not None},
            "methods": [method for name, method in self.suite.all_methods().items() if name in used],
            "devices": sorted({device for one in outcomes for device in (one.record or {}).get("devices", ())}),
        }


def facts_of(one: Outcome) -> dict[str, Any]:
    """Return what a judged cell cost and how it came about, from its run folder."""
    run, record = one.run, one.record or {}
    if run is None:
        return {}
    model, dataset = (part if isinstance(part := run.config.get(key), Mapping) else {} for key in ("model", "dataset"))
    return {
        "parameters": model.get("parameters", ""),
        "n_train": dataset.get("n_train", ""),
        "n_validation": dataset.get("n_validation", ""),
        "epochs": len(run.history),
        "train_seconds": round(sum(record.get("seconds", 0.0) for record in run.history), 1),
        "images_per_second": round(float(record["images_per_second"]), 1),
        "devices": "; ".join(map(str, record.get("devices") or ())),
        **{key: run.config.get(key) or "" for key in ("created", "deeplense_version", "git_commit")},
    }


def print_results(outcomes: Iterable[Outcome], everything: bool = False) -> None:
    """Print a table per dataset, at most 80 columns wide: what has marks or a reason, or every cell."""
    shown: dict[str, list[Outcome]] = {}
    for one in outcomes:
        if everything or one.state in ("done", "not run"):
            shown.setdefault(one.cell.name, []).append(one)
    for name, many in shown.items():
        rows = [(one.cell.method.name, *_columns(one)) for one in many]
        table(name, ("method", "macro AUROC [95 %]", "accuracy", "trained"), rows)


def _columns(one: Outcome) -> tuple[str, str, str]:
    if one.run is None:
        reason = one.reason if len(one.reason) <= SHORT else one.reason[: SHORT - 1] + "…"
        return f"{one.state}: {reason}" if reason else one.state, "", ""
    marks: Mapping[str, Interval] = one.run.marks
    accuracy = marks["accuracy"]
    seconds = f"{facts_of(one)['train_seconds']:.0f} s"
    return str(marks["auroc_macro"]), f"{accuracy.value:.{accuracy.decimals}f}", seconds


def _macro(one: Outcome) -> float:
    return one.run.marks["auroc_macro"].value if one.run is not None else -1.0

"""The table of a suite, made from what lies on disk: CSV and page."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deeplense.core.files import alone, atomic
from deeplense.suites.cell import Cell, Outcome, cells_of, outcome
from deeplense.suites.kinds import KINDS, Column, Kind
from deeplense.suites.rows import Row
from deeplense.suites.runs import reference_of
from deeplense.suites.suite import Suite

CSV, PAGE = "results.csv", "index.html"
FIRST = ("suite", "size", "dataset", "method", "state", "reason")
LAST = (
    "n_test", "seeds", "shown", "parameters", "n_train", "n_validation", "epochs", "train_seconds",
    "images_per_second", "devices", "reference", "command", "created", "deeplense_version", "git_commit",
)  # fmt: skip


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
        """Return what is known of every method: dataset by dataset, within one as their `rank` says."""
        order = {name: place for place, name in enumerate(self.suite.datasets)}
        found: dict[tuple[str, str], list[Outcome]] = {}
        for cell in self.cells():
            found.setdefault((cell.name, cell.method.name), []).append(outcome(cell))
        rows = [Row(tuple(outcomes)) for outcomes in found.values()]
        return sorted(rows, key=lambda row: (order[row.name], row.rank))

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
        for name, data in self.suite.datasets.items():
            if data.published:
                head = {"suite": self.suite.name, "size": self.size, "dataset": name, "state": "published elsewhere"}
                lines.append(head | _published(data.published))
        used = {self.suite.kind_of(name).name for name in self.suite.datasets}
        names = [mark for name, kind in KINDS.items() if name in used for mark in kind.always]
        settings = [name for row in rows for name in row.settings]
        always = [name + end for name in names for end in ("", "_low", "_high")]
        found = (key for row in lines for key in row if key not in LAST)
        text = io.StringIO()
        columns = dict.fromkeys([*FIRST, *settings, *always, *found, *LAST])
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

        line = self._head(row.name, row.method.name) | {"state": row.state, "reason": row.reason} | row.settings
        for name, mark in row.marks.items():
            line |= {name: mark.value, f"{name}_low": mark.low, f"{name}_high": mark.high}
            if row.seeds > 1:
                line[f"{name}_sd"] = scatter([one.marks for one in row.outcomes], name)
        return line | _published(row.published) | row.facts

    def _page(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Return what the page shows."""
        plan, left_out = self.suite.sizes[self.size], self.left_out()
        sections: list[dict[str, Any]] = []
        for name, data in self.suite.datasets.items():
            here = [row for row in rows if row.name == name]
            shared = {"name": name, "data": data, "left_out": left_out.get(name, [])}
            sections += [shared | _section(here)] if here else []
        used = dict.fromkeys(row.method.name for row in rows)
        records = [one.record or {} for row in rows for one in row.outcomes]
        return {
            "suite": self.suite,
            "size": self.size,
            "plan": plan,
            "sections": sections,
            "kinds": list(dict.fromkeys(section["kind"].name for section in sections)),
            "absent": [name for name in self.suite.datasets if not any(row.name == name for row in rows)],
            "methods": [
                {
                    "name": name,
                    "reference": reference_of(method),
                    "options": method.options,
                    "published": method.published,
                }
                for name, method in self.suite.all_methods().items()
                if name in used
            ],
            "devices": sorted({device for record in records for device in record.get("devices", ())}),
        }


def _section(rows: Sequence[Row]) -> dict[str, Any]:
    """Return what the page shows of a dataset: columns, the best of each in every group, pictures."""
    kind = rows[0].kind
    done = [row for row in rows if row.marks]
    done = [row for row in done if row.labels == done[0].labels]
    columns = kind.columns(done or rows)
    groups = {row.group: [other for other in done if other.group == row.group] for row in rows}
    return {
        "kind": kind,
        "rows": rows,
        "columns": columns,
        "best": {group: _best(kind, columns, some) for group, some in groups.items()},
        "charts": kind.charts(done) if done else [],
        "published": [name for name in columns if any(name in row.published for row in done)],
    }


def _best(kind: Kind, columns: Mapping[str, Column], rows: Sequence[Row]) -> dict[str, float]:
    """Return the best value of each mark in a group of rows, where there is one."""
    found = {
        name: column.best_of([row.marks[name].value for row in rows if name in row.marks])
        for name, column in columns.items()
        if rows and kind.counts(name, rows[0].group)
    }
    return {name: value for name, value in found.items() if value is not None}


def _published(figures: Mapping[str, object]) -> dict[str, object]:
    """Return published figures as columns of the CSV."""
    return {f"published_{name}": figure for name, figure in figures.items()}

"""A row of a benchmark's table: one method on one dataset, over all its seeds."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from deeplense.suites.cell import Outcome, State, kind_of_cell
from deeplense.suites.declared import Data, Method
from deeplense.suites.kinds import Kind
from deeplense.suites.runs import SHOWN, TASKS, facts_of

if TYPE_CHECKING:
    from deeplense.metrics.intervals import Interval
    from deeplense.metrics.ranking import RocCurve


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
        return self.kind.primary(self.outcomes[0].cell.options)

    @property
    def kind(self) -> Kind:
        """The kind of table it stands in."""
        return kind_of_cell(self.outcomes[0].cell)

    @property
    def settings(self) -> dict[str, str]:
        """What else is said of it."""
        return self.kind.settings(self.outcomes[0].cell.options)

    @property
    def group(self) -> str:
        """With which others it is compared."""
        return self.kind.group(self.outcomes[0].cell.options)

    @property
    def rank(self) -> tuple[int, bool, float]:
        """What orders the rows of a table: group by group the best first, those without marks last."""
        value = self.marks[self.primary].value if self.marks else 0.0
        return list(self.kind.groups).index(self.group), not self.marks, -value

    @property
    def published(self) -> Mapping[str, object]:
        """What others have published of the method, if the dataset is like theirs."""
        return self.method.published if self.data.published else {}

    @cached_property
    def marks(self) -> Mapping[str, Interval]:
        """Marks over all seeds; empty unless all are done."""
        from deeplense.suites.judged import over_seeds

        if self.state != "done":
            return {}
        return over_seeds([one.marks for one in self.outcomes], self.kind.is_fraction)

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
        return found[0] | means | counts | {"shown": SHOWN[TASKS[self.method.task].category(self.method)]}

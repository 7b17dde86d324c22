"""The kinds of table that a benchmark has: which mark orders the rows, what else is shown. One entry per kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from deeplense.suites.runs import TASKS

if TYPE_CHECKING:
    from deeplense.metrics.intervals import Interval
    from deeplense.pages.benchmark import Chart
    from deeplense.suites.rows import Row
    from deeplense.train import TrainOptions


@dataclass(frozen=True)
class Column:
    """A mark in a table.

    Parameters
    ----------
    title
        What stands above it.
    best
        Which value of several is the best: "largest", "smallest", the "nearest" to a number, or "none".
    near
        That number, as it is stored.
    percent
        Whether a fraction is shown in per cent.
    """

    title: str
    best: Literal["largest", "smallest", "nearest", "none"] = "largest"
    near: float = 0.0
    percent: bool = False

    def best_of(self, values: Sequence[float]) -> float | None:
        """Return the best of two values or more; None of fewer, and where none is better than another."""
        if self.best == "none" or len(values) < 2:
            return None
        order = {"largest": lambda value: -value, "smallest": lambda value: value}
        return min(values, key=order.get(self.best, lambda value: abs(value - self.near)))

    def shown(self, mark: Interval) -> Interval:
        """Return a mark in the unit of its title."""
        if not self.percent:
            return mark
        return type(mark)(100 * mark.value, 100 * mark.low, 100 * mark.high, mark.n)


class Kind:
    """What a table shows of methods that are judged by the same marks; here of classes that are told apart.

    Attributes
    ----------
    name
        What it is called; its words on the page are in the template `benchmark_<name>`.
    heading, took, among
        What stands above the methods, above the time of training, and which of them the best are the best of.
    terminal
        Mark → its title in the terminal; the first is shown with its interval.
    always
        Marks that the CSV has even where nothing is done.
    groups
        What the rows of a table are asked for, where that differs: they are compared within a group, in this order.
    """

    name: ClassVar[str] = "classes"
    heading: ClassVar[str] = "method"
    took: ClassVar[str] = "training"
    among: ClassVar[str] = ""
    terminal: ClassVar[Mapping[str, str]] = {"auroc_macro": "macro AUROC [95 %]", "accuracy": "accuracy"}
    always: ClassVar[Sequence[str]] = ("auroc_macro", "accuracy")
    groups: ClassVar[Mapping[str, str]] = {"": ""}

    def primary(self, options: TrainOptions) -> str:
        """Return the name of the mark that orders the rows."""
        return self.always[0]

    def settings(self, options: TrainOptions) -> dict[str, str]:
        """Return what else the CSV says of a row; the first of it is its group."""
        return {}

    def group(self, options: TrainOptions) -> str:
        """Return which of the groups a row is in."""
        return next(iter(self.settings(options).values()), "")

    def detail(self, row: Row) -> str:
        """Return what stands below a method's name on the page."""
        return f"{row.seeds} seeds" if row.seeds > 1 else ""

    def is_fraction(self, name: str) -> bool:
        """Return whether a mark lies between 0 and 1."""
        return True

    def counts(self, name: str, group: str) -> bool:
        """Return whether the rows of a group are compared by a mark."""
        return True

    def columns(self, rows: Sequence[Row]) -> dict[str, Column]:
        """Return the columns of a page's table; rows are those with marks if there are any, one at least."""
        labels = rows[0].labels
        classes = {f"auroc_{label}": Column(f"AUROC, {label}") for label in labels}
        if len(labels) == 2:  # one against the other and the other against the one are the same
            return {"auroc_macro": Column("AUROC"), "accuracy": Column("accuracy")}
        return {"auroc_macro": Column("AUROC, macro")} | classes | {"accuracy": Column("accuracy")}

    def charts(self, rows: Sequence[Row]) -> list[Chart]:
        """Return the pictures of rows with marks, one at least."""
        return self._curves(rows, "ROC, each class against the rest")

    def _curves(self, rows: Sequence[Row], caption: str, title: str | None = None) -> list[Chart]:
        from deeplense.pages.benchmark import roc_chart

        curves = {row.method.name: row.curves() for row in rows}
        areas = {row.method.name: row.marks[row.primary] for row in rows}
        return [roc_chart(curves, areas, caption, f"ROC curves of every method on {rows[0].name}", title)]


class Anomalies(Kind):
    """One class is normal, and the others are to be found."""

    name = "anomalies"
    heading = "method, and what it was shown"
    took = "fit"
    among = ", with labels or without"
    terminal: ClassVar[Mapping[str, str]] = {"auroc": "AUROC [95 %]", "tpr_at_1pct_fpr": "TPR at 1 % FPR"}
    always = ("auroc",)

    def detail(self, row: Row) -> str:
        """Return what a method was shown, and how often it was run."""
        return ", ".join(filter(None, (str(row.facts["shown"]), super().detail(row))))

    def columns(self, rows: Sequence[Row]) -> dict[str, Column]:
        """Return the areas under the ROC curve, and the marks where anomalies are rare."""
        others = [label for label in rows[0].labels if label != rows[0].data.normal]
        classes = {f"auroc_{label}": Column(f"AUROC, {label}") for label in others} if len(others) > 1 else {}
        rare = {
            "auprc_at_1pct": "AUPRC at 1 %",
            "auprc_at_5pct": "AUPRC at 5 %",
            "tpr_at_1pct_fpr": "TPR at 1 % FPR",
            "tpr_at_0.1pct_fpr": "TPR at 0.1 % FPR",
        }
        return {"auroc": Column("AUROC")} | classes | {name: Column(title) for name, title in rare.items()}

    def charts(self, rows: Sequence[Row]) -> list[Chart]:
        """Return the ROC curves against the normal class."""
        mean = "; of several seeds the mean true positive rate" if any(row.seeds > 1 for row in rows) else ""
        return self._curves(rows, f"ROC, each class against {rows[0].data.normal}{mean}", "AUROC [95 % interval]")


class Lenses(Kind):
    """Lenses are found among what looks like them."""

    name = "lenses"
    terminal: ClassVar[Mapping[str, str]] = {"auroc_lens": "AUROC [95 %]", "tpr10": "TPR10"}
    always = ("auroc_lens",)

    def detail(self, row: Row) -> str:
        """Return what a method reads, and how often it was run."""
        return ", ".join(filter(None, (row.settings["reads"], super().detail(row))))

    def settings(self, options: TrainOptions) -> dict[str, str]:
        """Return what a method reads."""
        if (options.model_name or "").startswith("catalogue_"):
            return {"reads": "catalogue"}
        return {"reads": "image" if options.fusion in (None, "none") else "image and catalogue"}

    def group(self, options: TrainOptions) -> str:
        """Return that all rows are compared, whatever they read."""
        return ""

    def columns(self, rows: Sequence[Row]) -> dict[str, Column]:
        """Return the area under the ROC curve, what is found at few false positives, and the calibration."""
        return {
            "auroc_lens": Column("AUROC"),
            "tpr0": Column("TPR0"),
            "tpr10": Column("TPR10"),
            "completeness_at_1pct_fpr": Column("TPR at 1 % FPR"),
            "completeness_at_0.1pct_fpr": Column("TPR at 0.1 % FPR"),
            "ece_scaled": Column("ECE, calibrated", "smallest"),
        }

    def charts(self, rows: Sequence[Row]) -> list[Chart]:
        """Return the ROC curves of lenses."""
        return self._curves(rows, "ROC of lenses", "AUROC [95 % interval]")


class Pairs(Kind):
    """Fine images are made of coarse ones: the observed ones, or those without noise."""

    name = "pairs"
    among = " of those that are asked for the same"
    terminal: ClassVar[Mapping[str, str]] = {"psnr": "PSNR [95 %], dB", "gap": "gap", "psnr_truth": "truth"}
    always = ("psnr", "floor", "gap", "psnr_truth")
    groups: ClassVar[Mapping[str, str]] = {
        "fidelity": "asked for the observed image",
        "truth": "asked for the image without noise",
    }
    marks: ClassVar[Mapping[str, Column]] = {
        "psnr": Column("PSNR, observed [dB]"),
        "floor": Column("noise floor [dB]", "none"),
        "gap": Column("below it [dB]", "smallest"),
        "psnr_truth": Column("PSNR, truth [dB]"),
        "ssim": Column("SSIM, observed"),
        "ssim_truth": Column("SSIM, truth"),
        "flux_error": Column("flux error [%]", "nearest", percent=True),
        "centroid_offset": Column("centroid [pixels]", "smallest"),
        "theta_E_error": Column("θ_E error [%]", "nearest", percent=True),
        "chi2": Column("χ² per pixel", "none"),  # near 1 is right, but not the better the nearer
        "coverage_68": Column("within ± σ [%]", "nearest", 0.6827, percent=True),
        "coverage_95": Column("within ± 2 σ [%]", "nearest", 0.9545, percent=True),
    }

    def primary(self, options: TrainOptions) -> str:
        """Return the PSNR against what is asked for."""
        return "psnr" if self.group(options) == "fidelity" else "psnr_truth"

    def settings(self, options: TrainOptions) -> dict[str, str]:
        """Return what is asked for, and by which loss it is learnt."""
        return {"estimator": options.estimator or "truth", "loss": options.loss or "mse"}

    def is_fraction(self, name: str) -> bool:
        """Return whether a mark lies between 0 and 1: only these do."""
        return name.startswith(("ssim", "coverage"))

    def counts(self, name: str, group: str) -> bool:
        """Return whether the rows of a group are compared by a mark: not by one of what they were not asked for."""
        others = ("psnr_truth", "ssim_truth") if group == "fidelity" else ("psnr", "gap", "ssim")
        return name not in others

    def columns(self, rows: Sequence[Row]) -> dict[str, Column]:
        """Return the marks that some row has: without a truth there are fewer."""
        known = {name for row in rows for name in row.marks} or set(self.always)
        return {name: column for name, column in self.marks.items() if name in known}

    def charts(self, rows: Sequence[Row]) -> list[Chart]:
        """Return the PSNR against the observed images, of those who were asked for them, and against the truth."""
        from deeplense.pages.benchmark import interval_chart

        asked = [row for row in rows if row.group == "fidelity"]
        floors = [row.marks["floor"].value for row in rows if "floor" in row.marks]
        charts = []
        for name, some in (("psnr", asked), ("psnr_truth", rows)):
            marks = {row.method.name: row.marks[name] for row in some if name in row.marks}
            if marks:
                title = self.marks[name].title
                line = floors[0] if floors and name == "psnr" else None
                charts.append(interval_chart(marks, title, line, f"{title} of every method on {rows[0].name}"))
        return charts


KINDS: dict[str, Kind] = {kind.name: kind for kind in (Anomalies(), Kind(), Lenses(), Pairs())}


def kind_of(task: str, normal: str | None) -> Kind | None:
    """Return the table for a task on a dataset; None where the two do not go together."""
    asked = TASKS[task]
    name = asked.table if normal is None else asked.against_normal
    return None if name is None else KINDS[name]


def own_kind(task: str) -> Kind:
    """Return the table whose marks a run of a task has by itself."""
    asked = TASKS[task]
    return KINDS[str(asked.table or asked.against_normal)]

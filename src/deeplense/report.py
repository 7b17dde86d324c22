"""`deeplense report`: runs → one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deeplense.core.config import Config
from deeplense.core.errors import InvalidOption
from deeplense.core.files import atomic
from deeplense.core.run_folder import find_run

if TYPE_CHECKING:
    from deeplense.metrics.intervals import Interval
    from deeplense.pages.evaluated import EvaluatedRun, Mistake


@dataclass(frozen=True)
class ReportOptions(Config):
    """What `deeplense report` can be told.

    Parameters
    ----------
    runs
        Ids or folders of one or more runs.
    out
        Page to write; by default report.html in the first run's folder.
    """

    runs: tuple[str, ...]
    _: KW_ONLY
    out: Path | None = None


def report(options: ReportOptions | None = None, /, **fields: Any) -> Path:
    """Return the path of the page: a table of all runs, then each run's figures, mistakes and making.

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
    """
    options = options or ReportOptions.from_mapping(fields)
    if not options.runs:
        raise InvalidOption("no run is named", "one or more ids or folders of runs", "deeplense report RUN…")
    found = {run.path.resolve(): run for run in map(find_run, options.runs)}
    from deeplense.pages.evaluated import read_evaluated

    sections = [_section(read_evaluated(run), f"run-{place}") for place, run in enumerate(found.values(), 1)]
    page = _render(sections)
    out = options.out or next(iter(found.values())).report
    with atomic(out) as temporary:
        # A file name may hold bytes that are no text; they become question marks.
        temporary.write_bytes(page.encode("utf-8", "replace"))
    return out


def _render(sections: Sequence[Mapping[str, Any]]) -> str:
    from datetime import UTC, datetime
    from importlib.resources import files

    from jinja2 import Environment, StrictUndefined

    from deeplense.version import __version__

    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for section in sections:
        groups.setdefault(section["labels"], []).append(section)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files("deeplense.pages").joinpath("report.html.j2").read_text(encoding="utf-8"))
    return template.render(
        groups=[_group(labels, members) for labels, members in groups.items()],
        sections=sections,
        version=__version__,
        made=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
    )


def _group(labels: Sequence[str], sections: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the summary of runs with the same classes shows: rows, the best of each column, a comparison."""
    from deeplense.metrics.figures import comparison_figure, svg

    titles = {"auroc_macro": "AUROC, macro"} | {f"auroc_{label}": f"AUROC, {label}" for label in labels}
    if len(labels) == 2:  # one against the other and the other against the one are the same
        titles = {"auroc_macro": "AUROC"}
    titles |= {"accuracy": "accuracy", "ece": "ECE"}
    rows = [(section, where, marks) for section in sections for where, marks in section["evaluations"]]
    judged: dict[str, list[dict[str, Interval]]] = {}
    for section, where, marks in rows:
        judged.setdefault(where or section["dataset"], []).append(marks)
    best = {  # marks on different sets are not to be compared
        place: {name: (min if name == "ece" else max)(marks[name].value for marks in many) for name in titles}
        for place, many in judged.items()
        if len(many) > 1
    }
    compared = {
        f"{place}. {section['name']}{f' on {where}' if where else ''}": marks["auroc_macro"]
        for place, (section, where, marks) in enumerate(rows, 1)
    }
    return {
        "labels": labels,
        "columns": titles,
        "rows": rows,
        "best": best,
        "picture": _picture(svg(comparison_figure(compared, "macro AUROC, 95 % interval"))) if len(rows) > 1 else None,
    }


def _section(run: EvaluatedRun, anchor: str) -> dict[str, Any]:
    """Return all that the page shows of one run."""
    config = run.config
    model, dataset, options = (_table(config.get(key)) for key in ("model", "dataset", "options"))
    return {
        "anchor": anchor,
        "name": run.folder.id,
        "labels": run.labels,
        "marks": run.marks,
        "evaluations": [("", run.marks), *run.elsewhere.items()],
        "model": str(model.get("name") or "–"),
        "source": str(model.get("source") or ""),
        "parameters": _count(model.get("parameters")),
        "dataset": Path(str(dataset.get("name") or dataset.get("path") or "–")).name,
        "dataset_path": str(dataset.get("path") or "–"),
        "n_train": _count(dataset.get("n_train")),
        "n_validation": _count(dataset.get("n_validation")),
        "shape": str(config.get("image_shape") or "–").strip("[]").replace(", ", " × "),
        "epochs": len(run.history),
        "time": _duration(sum(record.get("seconds", 0.0) for record in run.history)),
        **{key: str(config.get(key) or "–") for key in ("command", "created", "deeplense_version", "git_commit")},
        "options": {name: "–" if value is None else str(value) for name, value in sorted(options.items())},
        "figures": _figures(run),
        "mistakes": run.mistakes and [(mistake, _thumbnail(mistake)) for mistake in run.mistakes],
    }


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _figures(run: EvaluatedRun) -> list[tuple[str, str]]:
    """Return title and picture of each figure of a run."""
    from deeplense.metrics import calibration, classification, figures, ranking

    values, targets, labels = run.probabilities, run.targets, run.labels
    curves = {label: ranking.roc_curve(values[:, k], targets == k) for k, label in enumerate(labels)}
    matrix = classification.confusion_matrix(values.argmax(axis=1), targets, len(labels))
    table = calibration.reliability_table(values, targets)
    areas = {label: run.marks[f"auroc_{label}"] for label in labels}
    drawn = [
        ("ROC, each class against the rest", figures.roc_figure(curves, areas)),
        ("Confusion", figures.confusion_figure(matrix, labels)),
        ("Reliability", figures.reliability_figure(table, run.marks["ece"])),
    ]
    if run.history:
        losses = {"train_loss": "training", "validation_loss": "validation"}
        ranks = {"validation_auroc_macro": "AUROC, macro", "validation_accuracy": "accuracy"}
        drawn += [
            ("Loss", figures.history_figure(run.history, losses, "loss")),
            ("Validation", figures.history_figure(run.history, ranks, "on the validation split")),
        ]
    return [(title, _picture(figures.svg(figure))) for title, figure in drawn]


def _picture(svg: str) -> str:
    return _data_uri("image/svg+xml", svg.encode())


def _data_uri(kind: str, content: bytes) -> str:
    from base64 import b64encode

    return f"data:{kind};base64,{b64encode(content).decode()}"


def _thumbnail(mistake: Mistake) -> str:
    from deeplense.metrics.figures import image_png

    return _data_uri("image/png", image_png(mistake.image))


def _count(number: Any) -> str:
    return f"{number:,}" if isinstance(number, int) else "–"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"

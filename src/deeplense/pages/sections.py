"""What the page of a report shows: a summary of runs with the same classes, and a section for each run."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from deeplense.metrics import calibration, classification, figures, panels, ranking
from deeplense.metrics.intervals import Interval
from deeplense.metrics.temperature import tempered
from deeplense.pages import explained
from deeplense.pages.evaluated import EvaluatedRun, Mistake
from deeplense.pages.explained import Group
from deeplense.version import __version__

CALIBRATION = {
    "ece": "ECE",
    "ece_scaled": "ECE, scaled",
    "nll": "negative log-likelihood [nat]",
    "nll_scaled": "the same, scaled",
}
QUANTITIES = {
    "substructure_snr": ("signal-to-noise ratio", "signal-to-noise ratio of the substructure"),
    "subhalo_mass": ("total subhalo mass", "total mass of the subhaloes [solar masses]"),
    "axion_mass": ("axion mass", "axion mass [eV]"),
}


def render(sections: Sequence[Mapping[str, Any]]) -> str:
    """Return the page of sections."""
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
        "picture": _picture(figures.comparison_figure(compared, "macro AUROC, 95 % interval"))
        if len(rows) > 1
        else None,
    }


def section(run: EvaluatedRun, anchor: str, groups: Sequence[Group] | None = None) -> dict[str, Any]:
    """Return all that the page shows of one run; with groups of explained images, what it looked at."""
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
        "temperature": run.temperature,
        "calibration": [(title, run.marks[name]) for name, title in CALIBRATION.items() if name in run.marks],
        "sensitivity": _sensitivity(run),
        "attribution": None if groups is None else _attribution(groups),
        "mistakes": run.mistakes and [(mistake, _thumbnail(mistake)) for mistake in run.mistakes],
    }


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _figures(run: EvaluatedRun) -> list[tuple[str, str]]:
    """Return title and picture of each figure of a run."""
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
    if run.temperature is not None and "ece_scaled" in run.marks:
        scaled = calibration.reliability_table(tempered(values, run.temperature), targets)
        title = f"Reliability after temperature scaling, T = {run.temperature:.3g}"
        drawn.append((title, figures.reliability_figure(scaled, run.marks["ece_scaled"])))
    if run.history:
        losses = {"train_loss": "training", "validation_loss": "validation"}
        ranks = {"validation_auroc_macro": "AUROC, macro", "validation_accuracy": "accuracy"}
        drawn += [
            ("Loss", figures.history_figure(run.history, losses, "loss")),
            ("Validation", figures.history_figure(run.history, ranks, "on the validation split")),
        ]
    return [(title, _picture(figure)) for title, figure in drawn]


def _sensitivity(run: EvaluatedRun) -> list[tuple[str, str]]:
    """Return title and picture of each curve: against classes without substructure first, then among the others."""
    with_some = {curve.label for curve in run.sensitivity}
    drawn = []
    for among in (False, True):
        for quantity in dict.fromkeys(curve.quantity for curve in run.sensitivity):
            curves = {
                f"{curve.label} against {curve.against}": curve.bins
                for curve in run.sensitivity
                if curve.quantity == quantity and (curve.against in with_some) == among
            }
            if curves:
                name, axis = QUANTITIES.get(quantity, (quantity, quantity))
                title = f"{'Told from other substructure' if among else 'Found'}, by {name}"
                drawn.append((title, _picture(panels.sensitivity_figure(curves, axis))))
    return drawn


def _attribution(groups: Sequence[Group]) -> dict[str, Any]:
    """Return the table of scores, and a sheet of panels for each group."""
    sheets = [
        (group.label, group.right, _picture(panels.attribution_figure(explained.panels(group)))) for group in groups
    ]
    return {
        "rows": explained.score_rows(groups),
        "sheets": sheets,
        "methods": list(dict.fromkeys(method for group in groups for method in group.attributions)),
        "known": any(group.truths for group in groups),
    }


def _picture(figure: figures.Figure) -> str:
    return _data_uri("image/svg+xml", figures.svg(figure).encode())


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{b64encode(content).decode()}"


def _thumbnail(mistake: Mistake) -> str:
    return _data_uri("image/png", figures.image_png(mistake.image))


def _count(number: Any) -> str:
    return f"{number:,}" if isinstance(number, int) else "–"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"

"""What the page of classifiers shows: a summary of runs with the same classes, and a section for each run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deeplense.metrics import calibration, classification, figures, panels, ranking
from deeplense.metrics.temperature import tempered
from deeplense.pages import explained
from deeplense.pages.evaluated import EvaluatedRun, Mistake
from deeplense.pages.explained import Group
from deeplense.pages.parts import common, count, data_uri, mapping_of, page, picture, summary

CALIBRATION = {
    "ece": "ECE",
    "ece_scaled": "ECE, scaled",
    "nll": "negative log-likelihood [nat]",
    "nll_scaled": "the same, scaled",
}


def render(sections: Sequence[Mapping[str, Any]]) -> str:
    """Return the page of sections."""
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for section in sections:
        groups.setdefault(section["labels"], []).append(section)
    content = {"groups": [_group(labels, members) for labels, members in groups.items()], "sections": sections}
    return page("report.html.j2", content)


def _group(labels: Sequence[str], sections: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the summary of runs with the same classes shows: rows, the best of each column, a comparison."""
    titles = {"auroc_macro": "AUROC, macro"} | {f"auroc_{label}": f"AUROC, {label}" for label in labels}
    if len(labels) == 2:  # one against the other and the other against the one are the same
        titles = {"auroc_macro": "AUROC"}
    titles |= {"accuracy": "accuracy", "ece": "ECE"}
    return {"labels": labels} | summary(sections, titles, "auroc_macro", smaller=("ece",))


def section(run: EvaluatedRun, anchor: str, groups: Sequence[Group] | None = None) -> dict[str, Any]:
    """Return all that the page shows of one run; with groups of explained images, what it looked at."""
    shared, model = common(run, anchor), mapping_of(run.config.get("model"))
    parameters, epochs = count(model.get("parameters")), len(run.history)
    return shared | {
        "source": str(model.get("source") or ""),
        "parameters": parameters,
        "epochs": epochs,
        "texts": [
            (shared["model"], f"{parameters} parameters"),
            (shared["dataset"], f"{shared['n_train']} images, {epochs} epochs"),
        ],
        "figures": _figures(run),
        "temperature": run.temperature,
        "calibration": [(title, run.marks[name]) for name, title in CALIBRATION.items() if name in run.marks],
        "attribution": None if groups is None else _attribution(groups),
        "mistakes": None if run.mistakes is None else [(mistake, _thumbnail(mistake)) for mistake in run.mistakes],
    }


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
    return [(title, picture(figure)) for title, figure in drawn]


def _attribution(groups: Sequence[Group]) -> dict[str, Any]:
    """Return the table of scores, and a sheet of panels for each group."""
    sheets = [
        (group.label, group.right, picture(panels.attribution_figure(explained.panels(group)))) for group in groups
    ]
    return {
        "rows": explained.score_rows(groups),
        "sheets": sheets,
        "methods": list(dict.fromkeys(method for group in groups for method in group.attributions)),
        "known": any(group.truths for group in groups),
    }


def _thumbnail(mistake: Mistake) -> str:
    return data_uri("image/png", figures.image_png(mistake.image))

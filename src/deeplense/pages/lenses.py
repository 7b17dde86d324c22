"""What the page of finders of lenses shows: runs beside each other, their differences, and a section for each run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deeplense.metrics import calibration, figures, ranking, survey_figures
from deeplense.metrics.survey import (
    CHALLENGE,
    FEWER_THAN,
    RATES,
    auroc_difference,
    false_positives_allowed,
    purity_table,
)
from deeplense.metrics.temperature import tempered
from deeplense.pages.found import LENS, FinderRun, FoundImage
from deeplense.pages.parts import common, count, data_uri, judged_on, mapping_of, page, picture, summary

AREA = f"auroc_{LENS}"
COLUMNS = {
    AREA: "AUROC",
    "tpr0": "TPR0",
    "tpr10": "TPR10",
    "completeness_at_1pct_fpr": "TPR, 1 % FPR",
    "completeness_at_0.1pct_fpr": "TPR, 0.1 % FPR",
    "ece": "ECE",
    "ece_isotonic": "ECE, isotonic",
}
CALIBRATION = {
    "ece": "as the network answers",
    "ece_scaled": "after the temperature",
    "ece_isotonic": "after isotonic regression",
}
PROPERTIES = {
    "theta_E": ("Einstein radius", "Einstein radius [arcsec]"),
    "source_magnitude": ("magnitude of the source", "unlensed magnitude of the source [AB mag]"),
    "arc_snr": ("signal-to-noise ratio of the arcs", "signal-to-noise ratio of the arcs, all else known"),
}
PURITIES = (0.5, 0.9)
GROUPS = {
    "top of the ranking": "The top of the ranking",
    "not a lens, ranked high": "Not a lens, ranked high",
    "a lens, ranked low": "A lens, ranked low",
}


def render(runs: Sequence[FinderRun]) -> str:
    """Return the page of runs."""
    sections = [section(run, f"run-{place}") for place, run in enumerate(runs, 1)]
    columns = {name: title for name, title in COLUMNS.items() if _in_all(name, sections)}
    if "ece_isotonic" in columns:
        del columns["ece"]  # each run's own section has both
    group = summary(sections, columns, AREA, smaller=("ece", "ece_isotonic"))
    return page("lenses.html.j2", {"group": group, "sections": sections, "differences": _differences(runs)})


def section(run: FinderRun, anchor: str) -> dict[str, Any]:
    """Return all that the page shows of one run."""
    shared, model, options = common(run, anchor), *(mapping_of(run.config.get(key)) for key in ("model", "options"))
    lenses = int(run.is_lens.sum())
    columns = [str(name) for name in options.get("features") or ()]
    parameters, epochs = count(model.get("parameters")), len(run.history)
    reads = _reads(shared["model"], columns)
    return shared | {
        "parameters": parameters,
        "epochs": epochs,
        "reads": reads,
        "columns": columns,
        "truth_used": bool(options.get("allow_truth_features")),
        "texts": [
            (shared["model"], f"reads {reads}"),
            (shared["dataset"], f"{shared['n_train']} images, {epochs} epochs"),
        ],
        "lenses": lenses,
        "others": len(run.targets) - lenses,
        "allowed": {name: false_positives_allowed(len(run.targets), most) for name, most in FEWER_THAN.items()},
        "challenge": CHALLENGE,
        "unmeasured": [f"{100 * rate:g} %" for name, rate in RATES.items() if name not in run.marks],
        "figures": _figures(run),
        "purities": _purities(run),
        "calibration": [(title, run.marks[name]) for name, title in CALIBRATION.items() if name in run.marks],
        "temperature": run.temperature,
        "prevalence": run.prevalence,
        "reliability": _reliability(run),
        "selection": _selection(run),
        "history": _history(run),
        "shown": None if run.shown is None else _shown(run.shown),
    }


def _in_all(name: str, sections: Sequence[Mapping[str, Any]]) -> bool:
    return all(name in marks for one in sections for _, marks in one["evaluations"])


def _reads(model: str, columns: Sequence[str]) -> str:
    """Return in words what a network reads."""
    if model.startswith("catalogue_"):
        return "the catalogue"
    return "image and catalogue" if columns else "the image"


def _differences(runs: Sequence[FinderRun]) -> dict[str, Any] | None:
    """Return by how much the others rank the images of the first run better than it does; None of other images."""
    first, *others = runs
    rows = []
    for place, run in enumerate(others, 2):
        if judged_on(run) != judged_on(first):  # names of simulated images are alike in all sets
            continue
        places = {name: k for k, name in enumerate(run.ids)}
        if len(places) != len(run.ids) or set(places) != set(first.ids):
            continue
        order = np.array([places[name] for name in first.ids])
        if (run.is_lens[order] == first.is_lens).all():
            rows.append((f"{place}. {run.folder.id}", auroc_difference(first.scores, run.scores[order], first.is_lens)))
    if not rows:
        return None
    drawn = survey_figures.difference_figure(dict(rows), "AUROC less that of the first run, 95 % interval")
    return {"first": first.folder.id, "rows": rows, "picture": picture(drawn), "images": len(first.ids)}


def _figures(run: FinderRun) -> list[tuple[str, str]]:
    """Return title and picture of how lenses are told from what is none."""
    curve = ranking.roc_curve(run.scores, run.is_lens)
    points = {rate: run.marks[name] for name, rate in RATES.items() if name in run.marks}
    negatives = int((~run.is_lens).sum())
    drawn = [
        ("ROC, few false positives", survey_figures.low_fpr_figure({"lens": curve}, points, negatives)),
        ("Purity where lenses are rare", survey_figures.purity_figure(_by_prevalence(run))),
        ("ROC", figures.roc_figure({LENS: curve}, {LENS: run.marks[AREA]})),
    ]
    return [(title, picture(figure)) for title, figure in drawn]


def _by_prevalence(run: FinderRun) -> dict[float, dict[str, Any]]:
    """Return the columns of the table of purity, apart for each prevalence."""
    table = purity_table(run.scores, run.is_lens)
    return {
        float(prevalence): {name: column[table["prevalence"] == prevalence] for name, column in table.items()}
        for prevalence in dict.fromkeys(table["prevalence"].tolist())
    }


def _purities(run: FinderRun) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return for each prevalence how complete a list of some purity is, as measured, and as its lower end allows."""
    rows = []
    for prevalence, columns in _by_prevalence(run).items():
        complete, seen = columns["completeness"], columns["false_positive_rate"] > 0
        cells = []
        for wanted in PURITIES:
            likely = complete[seen & (columns["purity"] >= wanted)].max(initial=0.0)
            sure = complete[columns["purity_low"] >= wanted].max(initial=0.0)
            cells.append((f"{100 * likely:.1f} %" if likely else "not measured", f"at least {100 * sure:.1f} %"))
        rows.append((survey_figures.one_in(prevalence), cells))
    return rows


def _reliability(run: FinderRun) -> list[tuple[str, str]]:
    """Return title and picture of calibration before and after."""
    answers = {"ece": np.asarray(run.probabilities, np.float64)}
    if run.temperature is not None:
        answers["ece_scaled"] = tempered(run.probabilities, run.temperature)
    if run.isotonic is not None:
        p = run.isotonic(run.scores)
        answers["ece_isotonic"] = np.stack([p if label == LENS else 1 - p for label in run.labels], axis=1)
    return [
        (
            f"Reliability, {CALIBRATION[name]}",
            picture(figures.reliability_figure(calibration.reliability_table(values, run.targets), run.marks[name])),
        )
        for name, values in answers.items()
        if name in run.marks
    ]


def _selection(run: FinderRun) -> list[tuple[str, str]]:
    """Return title and picture of the completeness by each property."""
    drawn = []
    for name in dict.fromkeys(row["property"] for row in run.selection):
        title, axis = PROPERTIES.get(name, (name, name))
        rows = [row for row in run.selection if row["property"] == name]
        drawn.append((f"Found, by {title}", picture(survey_figures.selection_figure(rows, axis))))
    return drawn


def _history(run: FinderRun) -> list[tuple[str, str]]:
    if not run.history:
        return []
    losses = {"train_loss": "training", "validation_loss": "validation"}
    ranks = {f"validation_{AREA}": "AUROC", "validation_accuracy": "accuracy"}
    drawn = [
        ("Loss", figures.history_figure(run.history, losses, "loss")),
        ("Validation", figures.history_figure(run.history, ranks, "on the validation split")),
    ]
    return [(title, picture(figure)) for title, figure in drawn]


def _shown(images: Sequence[FoundImage]) -> list[tuple[str, list[tuple[FoundImage, str]]]]:
    """Return title and images with their pictures for each reason to be shown."""
    return [
        (
            GROUPS.get(group, group),
            [
                (image, data_uri("image/png", figures.image_png(image.image)))
                for image in images
                if image.group == group
            ],
        )
        for group in dict.fromkeys(image.group for image in images)
    ]

"""What the page of detectors shows: a summary of runs with the same classes, and a section for each run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplense.detectors.detector import DETECTORS
from deeplense.metrics import anomaly_figures, figures, ranking
from deeplense.metrics.anomalies import LEVEL, uniformity
from deeplense.pages.parts import common, data_uri, mapping_of, number, page, picture, summary
from deeplense.pages.strange import DetectorRun, StrangeImage

KINDS = {
    "strangest": "The strangest images",
    "strangest normal": "The strangest of the normal images",
    "least strange anomaly": "The least strange of the anomalies",
}
CATEGORIES = {
    "normal": "normal images alone",
    "simulated": "simulated anomalies, too",
    "labelled": "labelled anomalies, too",
}
MARKS = {
    "auprc_at_1pct": "AUPRC, 1 %",
    "auprc_at_5pct": "AUPRC, 5 %",
    "tpr_at_1pct_fpr": "TPR, 1 % FPR",
    "tpr_at_0.1pct_fpr": "TPR, 0.1 % FPR",
}
DISCOVERED = 0.05  # false discovery rate
UNIFORM = 0.01  # probability of a larger distance, from which p-values count as uniform


def render(sections: Sequence[Mapping[str, Any]]) -> str:
    """Return the page of sections."""
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for section in sections:
        groups.setdefault((section["normal"], *section["strange"]), []).append(section)
    content = {"groups": [_group(members) for members in groups.values()], "sections": sections}
    return page("anomalies.html.j2", content)


def _group(sections: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the summary of runs with the same classes shows."""
    areas: Mapping[str, str] = sections[0]["areas"]
    several = {name: f"AUROC, {label}" for label, name in areas.items()} if len(areas) > 1 else {}
    titles = {"auroc": "AUROC, all" if several else "AUROC"} | several | MARKS
    names = {name: sections[0][name] for name in ("normal", "strange")}
    return names | summary(sections, titles, "auroc")


def section(run: DetectorRun, anchor: str) -> dict[str, Any]:
    """Return all that the page shows of one run."""
    shared = common(run, anchor)
    known, calibration = _known(shared["model"]), _calibration(run)
    discovered, is_normal = run.q_values <= DISCOVERED, run.is_normal
    return (
        shared
        | known
        | {
            "normal": run.normal,
            "strange": tuple(run.areas),
            "areas": run.areas,
            "texts": [
                (shared["model"], known["category"]),
                (shared["dataset"], f"{shared['n_train']} images"),
            ],
            "n_normal": int(is_normal.sum()),
            "smallest": None if calibration is None else 1 / (calibration + 1),
            "chi2": None if run.p_chi2 is None else _chi2(run.p_chi2[is_normal]),
            "discoveries": int(discovered.sum()),
            "false_discoveries": int((discovered & is_normal).sum()),
            "figures": _figures(run, calibration),
            "shown": None if run.shown is None else _shown(run.shown),
            "has_maps": any(image.map is not None for image in run.shown or ()),
        }
    )


def _known(name: str) -> dict[str, str]:
    """Return what is known of a detector: what it is, what it was shown, whom to cite; nothing of an unknown one."""
    if name not in DETECTORS:
        return {"about": "", "category": "", "reference": ""}
    detector = DETECTORS[name]
    about = (detector.__doc__ or "").strip().split("\n", 1)[0]
    category = str(getattr(detector, "category", ""))
    return {
        "about": about[:1].lower() + about[1:],
        "category": CATEGORIES.get(category, category),
        "reference": str(getattr(detector, "reference", "")),
    }


def _calibration(run: DetectorRun) -> int | None:
    """Return the number of normal images that p-values come from; None where it was not recorded."""
    number = mapping_of(run.config.get("dataset")).get("n_validation")
    return number if isinstance(number, int) and number > 0 else None


def _chi2(p_values: NDArray[np.float32]) -> dict[str, Any]:
    """Return how the p-values of χ² of normal images are distributed, and whether that is uniform."""
    distance, probability = uniformity(p_values)
    small = 100 * float((p_values <= LEVEL).mean())
    return {"distance": distance, "probability": probability, "small": small, "uniform": probability >= UNIFORM}


def _figures(run: DetectorRun, calibration: int | None) -> list[tuple[str, str]]:
    """Return title and picture of each figure of a run."""
    members = {label: run.targets == k for k, label in enumerate(run.labels)}
    curves = {}
    for label in run.areas:
        both = members[label] | run.is_normal
        curves[label] = ranking.roc_curve(run.scores[both], members[label][both])
    areas = {label: run.marks[name] for label, name in run.areas.items()}
    scores = {label: run.scores[chosen] for label, chosen in members.items()}
    drawn = [
        (f"ROC, each class against {run.normal}", figures.roc_figure(curves, areas)),
        ("Scores", anomaly_figures.score_figure(scores, run.normal)),
        ("p-values of normal images", anomaly_figures.p_value_figure(run.p_values[run.is_normal], calibration)),
    ]
    return [(title, picture(figure)) for title, figure in drawn]


def _shown(images: Sequence[StrangeImage]) -> list[tuple[str, dict[str, str] | None, list[tuple[Any, str, str]]]]:
    """Return title, colours of the maps, and images with their pictures and their maps' for each kind of image."""
    drawn = []
    for kind in dict.fromkeys(image.kind for image in images):
        members = [image for image in images if image.kind == kind]
        maps = [image.map for image in members if image.map is not None]
        # The maps of missed anomalies would be blank in the colours of found ones: every kind has its own.
        colours = anomaly_figures.MapColours.of(maps) if maps else None
        rows = [
            (
                image,
                _png(figures.image_png(image.image)),
                "" if colours is None or image.map is None else _png(colours.png(image.map)),
            )
            for image in members
        ]
        drawn.append((KINDS.get(kind, kind), None if colours is None else _scale(colours), rows))
    return drawn


def _scale(colours: anomaly_figures.MapColours) -> dict[str, str]:
    return {"low": number(colours.low, 2), "high": number(colours.high, 2), "picture": _png(colours.bar())}


def _png(content: bytes) -> str:
    return data_uri("image/png", content)

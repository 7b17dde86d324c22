"""The page of a benchmark: a table and ROC curves per dataset, every budget and every citation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deeplense.metrics.figures import roc_comparison_figure
from deeplense.metrics.ranking import roc_curve
from deeplense.pages.evaluated import EvaluatedRun
from deeplense.pages.parts import page, picture


def render(content: Mapping[str, Any]) -> str:
    """Return the page, self-contained: its pictures are within it, it runs no script and loads nothing.

    Parameters
    ----------
    content
        `suite`, `size`, `plan` (the budget); `sections`: name, declaration, outcomes and left-out methods of each
        dataset; `facts` of each judged cell; `methods` with their references; `devices`; `absent` datasets.
    """
    sections = [
        {"name": name, "data": data, "outcomes": outcomes, "left_out": left_out} | _comparison(outcomes)
        for name, data, outcomes, left_out in content["sections"]
    ]
    return page("benchmark.html.j2", dict(content) | {"sections": sections})


def _comparison(outcomes: Sequence[Any]) -> dict[str, Any]:
    """Return the columns of a dataset's table, the best of each, and the picture of its ROC curves."""
    runs: dict[str, EvaluatedRun] = {one.cell.method.name: one.run for one in outcomes if one.run is not None}
    labels = next((run.labels for run in runs.values()), ())
    runs = {name: run for name, run in runs.items() if run.labels == labels}
    columns = {"auroc_macro": "AUROC, macro"} | {f"auroc_{label}": f"AUROC, {label}" for label in labels}
    if len(labels) == 2:  # one against the other and the other against the one are the same
        columns = {"auroc_macro": "AUROC"}
    columns |= {"accuracy": "accuracy"}
    best = {mark: max(run.marks[mark].value for run in runs.values()) for mark in columns} if len(runs) > 1 else {}
    shown = labels[-1:] if len(labels) == 2 else labels
    return {"columns": columns, "best": best, "picture": _picture(runs, shown) if runs else None}


def _picture(runs: Mapping[str, EvaluatedRun], labels: Sequence[str]) -> str:
    curves = {
        label: {
            name: roc_curve(run.probabilities[:, place], run.targets == place)
            for name, run in runs.items()
            if (place := run.labels.index(label)) >= 0
        }
        for label in labels
    }
    areas = {name: run.marks["auroc_macro"] for name, run in runs.items()}
    return picture(roc_comparison_figure(curves, areas))

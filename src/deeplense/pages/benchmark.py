"""The page of a benchmark: a table and ROC curves per dataset, every budget and every citation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deeplense.metrics.figures import roc_comparison_figure
from deeplense.pages.parts import page, picture

AGAINST_NORMAL = {  # marks of anomalies, beside the areas of the classes
    "auprc_at_1pct": "AUPRC at 1 %",
    "auprc_at_5pct": "AUPRC at 5 %",
    "tpr_at_1pct_fpr": "TPR at 1 % FPR",
    "tpr_at_0.1pct_fpr": "TPR at 0.1 % FPR",
}


def render(content: Mapping[str, Any]) -> str:
    """Return the page, self-contained: its pictures are within it, it runs no script and loads nothing.

    Parameters
    ----------
    content
        `suite`, `size`, `plan` (the budget); `sections`: name, declaration, rows and left-out methods of each dataset;
        `methods` with their references; `devices`; `absent` datasets.
    """
    sections = [
        {"name": name, "data": data, "rows": rows, "left_out": left_out} | _comparison(rows, data.normal)
        for name, data, rows, left_out in content["sections"]
    ]
    strange = any(section["data"].normal for section in sections)
    return page("benchmark.html.j2", dict(content) | {"sections": sections, "strange": strange})


def _comparison(rows: Sequence[Any], normal: str | None) -> dict[str, Any]:
    """Return the columns of a dataset's table, the best of each, and the picture of its ROC curves."""
    done = [row for row in rows if row.marks]
    labels = next((row.labels for row in done), ())
    done = [row for row in done if row.labels == labels]
    columns = _columns(labels, normal)
    best = {mark: max(row.marks[mark].value for row in done) for mark in columns} if len(done) > 1 else {}
    return {"columns": columns, "best": best, "picture": _picture(done) if done else None}


def _columns(labels: Sequence[str], normal: str | None) -> dict[str, str]:
    """Return the marks of a table and their titles."""
    if normal is not None:
        others = [label for label in labels if label != normal]
        per_class = {f"auroc_{label}": f"AUROC, {label}" for label in others} if len(others) > 1 else {}
        return {"auroc": "AUROC"} | per_class | AGAINST_NORMAL
    columns = {"auroc_macro": "AUROC, macro"} | {f"auroc_{label}": f"AUROC, {label}" for label in labels}
    if len(labels) == 2:  # one against the other and the other against the one are the same
        columns = {"auroc_macro": "AUROC"}
    return columns | {"accuracy": "accuracy"}


def _picture(rows: Sequence[Any]) -> str:
    by_method = {row.method.name: row.curves() for row in rows}
    classes = next(iter(by_method.values()))
    curves = {label: {name: found[label] for name, found in by_method.items()} for label in classes}
    figure = roc_comparison_figure(curves, {row.method.name: row.marks[row.primary] for row in rows})
    if rows[0].data.normal is not None:
        figure.legends[0].set_title("AUROC [95 % interval]")
    return picture(figure)

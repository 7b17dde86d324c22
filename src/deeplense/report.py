"""`deeplense report`: runs → one self-contained HTML page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deeplense.core.config import Config
from deeplense.core.errors import CorruptFile, InvalidOption, MissingFile
from deeplense.core.files import atomic, read_json
from deeplense.core.run_folder import RunFolder, find_run

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

    from deeplense.metrics.intervals import Interval


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
    sections = [_section(run, f"run-{place}") for place, run in enumerate(found.values(), 1)]
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
    template = environment.from_string(files("deeplense").joinpath("report.html.j2").read_text(encoding="utf-8"))
    return template.render(
        groups=[_group(labels, members) for labels, members in groups.items()],
        sections=sections,
        version=__version__,
        made=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
    )


def _group(labels: Sequence[str], sections: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the summary of runs with the same classes shows: rows, the best of each column, a comparison."""
    from deeplense.metrics.figures import comparison_figure

    names = ["auroc_macro", *(f"auroc_{label}" for label in labels), "accuracy", "ece"]
    titles = ["AUROC, macro", *(f"AUROC, {label}" for label in labels), "accuracy", "ECE"]
    rows = [(section, where, marks) for section in sections for where, marks in section["evaluations"]]
    best = {
        name: (min if name == "ece" else max)(marks[name].value for _, _, marks in rows) if len(rows) > 1 else None
        for name in names
    }
    compared = {
        f"{place}. {section['name']}{f' on {where}' if where else ''}": marks["auroc_macro"]
        for place, (section, where, marks) in enumerate(rows, 1)
    }
    return {
        "labels": labels,
        "columns": list(zip(names, titles, strict=True)),
        "rows": rows,
        "best": best,
        "picture": _picture(comparison_figure(compared, "macro AUROC, 95 % interval")) if len(rows) > 1 else None,
    }


def _section(run: RunFolder, anchor: str) -> dict[str, Any]:
    """Return all that the page shows of one run."""
    config, history, marks = run.config(), run.history(), _marks(run)
    labels = config.get("labels")
    if not isinstance(labels, list) or len(labels) < 2 or not all(isinstance(label, str) for label in labels):
        raise CorruptFile(run.path / "config.json", "no class names", "'labels': a list of two names or more")
    _require(run, marks, labels)
    elsewhere = [RunFolder(path.parent) for path in sorted(run.path.glob("*/metrics.json"))]
    evaluations = [("", marks)] + [(other.id, _require(other, _marks(other), labels)) for other in elsewhere]
    model, dataset = (part if isinstance(part := config.get(key), dict) else {} for key in ("model", "dataset"))
    return {
        "anchor": anchor,
        "name": run.id,
        "labels": tuple(labels),
        "marks": marks,
        "evaluations": evaluations,
        "model": model.get("name", "–"),
        "source": model.get("source", ""),
        "parameters": _count(model.get("parameters")),
        "dataset": Path(str(dataset.get("name") or dataset.get("path") or "–")).name,
        "n_train": _count(dataset.get("n_train")),
        "n_validation": _count(dataset.get("n_validation")),
        "shape": " × ".join(map(str, config.get("image_shape", []))) or "–",
        "epochs": len(history),
        "time": _duration(sum(record.get("seconds", 0.0) for record in history)),
        "config": config,
        "options": config.get("options") or {},
        "figures": _figures(run, labels, marks, history),
        "mistakes": _mistakes(run),
    }


def _marks(run: RunFolder) -> dict[str, Interval]:
    from deeplense.metrics.intervals import Interval

    try:
        marks = {
            name: Interval(mark["value"], mark["low"], mark["high"], int(mark["n"]))
            for name, mark in run.metrics().items()
        }
        sound = all(math.isfinite(number) for mark in marks.values() for number in mark.as_dict().values())
    except (TypeError, ValueError, KeyError):
        sound = False
    if not sound:
        raise _unsound(run.path / "metrics.json", "not a table of marks", "for each mark: value, low, high and n")
    return marks


def _require(run: RunFolder, marks: dict[str, Interval], labels: Sequence[str]) -> dict[str, Interval]:
    needed = ["accuracy", "auroc_macro", "ece", *(f"auroc_{label}" for label in labels)]
    if missing := [name for name in needed if name not in marks]:
        raise _unsound(run.path / "metrics.json", f"no mark '{missing[0]}'", f"the marks {', '.join(needed)}")
    return marks


def _unsound(path: Path, found: str, expected: str) -> CorruptFile:
    return CorruptFile(path, found, expected, f"write it anew: `deeplense evaluate {path.parent}`")


def _predictions(run: RunFolder, labels: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities [N, K] and targets [N] of the images the run was judged on."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    path, columns = run.predictions, [f"p_{label}" for label in labels]
    if not path.is_file():
        raise MissingFile(
            f"the run {run.id} has no {path.name}", f"the file {path}", f"run `deeplense evaluate {run.path}`"
        )
    try:
        table = pq.read_table(path)
        probabilities = np.stack([table[name].to_numpy().astype(np.float32) for name in columns], axis=1)
        targets = np.array([labels.index(label) for label in table["label"].to_pylist()], np.int64)
    except (OSError, KeyError, ValueError, TypeError, pa.ArrowException) as error:
        raise _unsound(path, str(error).splitlines()[0][:200], f"the columns label, {', '.join(columns)}") from error
    return probabilities, targets


def _figures(
    run: RunFolder, labels: Sequence[str], marks: Mapping[str, Interval], history: Sequence[Mapping[str, float]]
) -> list[tuple[str, str]]:
    """Return title and picture of each figure of a run."""
    from deeplense.metrics import calibration, classification, figures, ranking

    probabilities, targets = classification.checked(*_predictions(run, labels))
    curves = {label: ranking.roc_curve(probabilities[:, k], targets == k) for k, label in enumerate(labels)}
    matrix = classification.confusion_matrix(probabilities.argmax(axis=1), targets, len(labels))
    table = calibration.reliability_table(probabilities, targets)
    drawn = {
        "ROC, each class against the rest": figures.roc_figure(
            curves, {label: marks[f"auroc_{label}"] for label in labels}
        ),
        "Confusion": figures.confusion_figure(matrix, labels),
        "Reliability": figures.reliability_figure(table, marks["ece"]),
    }
    if history:
        losses = {"train_loss": "training", "validation_loss": "validation"}
        ranks = {"validation_auroc_macro": "AUROC, macro", "validation_accuracy": "accuracy"}
        drawn["Loss"] = figures.history_figure(history, losses, "loss")
        drawn["Validation"] = figures.history_figure(history, ranks, "on the validation split")
    return [(title, _picture(figure)) for title, figure in drawn.items()]


def _picture(figure: Figure) -> str:
    from deeplense.metrics.figures import svg

    return _data_uri("image/svg+xml", svg(figure).encode())


def _data_uri(kind: str, content: bytes) -> str:
    from base64 import b64encode

    return f"data:{kind};base64,{b64encode(content).decode()}"


def _mistakes(run: RunFolder) -> list[dict[str, Any]] | None:
    """Return the most confident mistakes with their pictures; None where `evaluate` stored nothing about them."""
    listing, images = run.path / "mistakes.json", run.path / "mistakes.safetensors"
    if not listing.is_file():
        return None
    rows = read_json(listing)
    if not rows:
        return []
    if not images.is_file():
        return None
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    from deeplense.metrics.figures import image_png

    try:
        pixels = load_file(images)["images"]
        return [
            {
                "id": str(row["id"]),
                "label": str(row["label"]),
                "prediction": str(row["prediction"]),
                "probability": f"{float(row['probability']):.3f}",
                "picture": _data_uri("image/png", image_png(image)),
            }
            for row, image in zip(rows, pixels, strict=True)
        ]
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise _unsound(images, f"not the images of {listing.name} ({error})", "one image per row") from error


def _count(number: Any) -> str:
    return f"{number:,}" if isinstance(number, int) else "–"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"

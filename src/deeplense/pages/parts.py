"""What the pages have in common: their look, the summary of runs, pictures, and how a run was made."""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FunctionLoader, StrictUndefined

from deeplense.metrics import figures, panels
from deeplense.metrics.intervals import Interval
from deeplense.pages.judged import JudgedRun
from deeplense.version import __version__

QUANTITIES = {
    "substructure_snr": ("signal-to-noise ratio", "signal-to-noise ratio of the substructure"),
    "subhalo_mass": ("total subhalo mass", "total mass of the subhaloes [solar masses]"),
    "axion_mass": ("axion mass", "axion mass [eV]"),
}


def page(template: str, content: Mapping[str, Any]) -> str:
    """Return a page: a template of this folder, filled."""
    environment = Environment(
        loader=FunctionLoader(_text),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"url": quote, "number": number}
    made = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    return environment.get_template(template).render(dict(content) | {"version": __version__, "made": made})


def _text(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def summary(
    sections: Sequence[Mapping[str, Any]], columns: Mapping[str, str], primary: str, smaller: Sequence[str] = ()
) -> dict[str, Any]:
    """Return what the table of comparable runs shows: rows, the best of each column, a picture of one mark.

    Parameters
    ----------
    sections
        What the page shows of each run.
    columns
        Name of a mark → its title.
    primary
        The mark that is drawn.
    smaller
        Marks that are the better the smaller they are.
    """
    rows = [(section, where, marks) for section in sections for where, marks in section["evaluations"]]
    judged: dict[str, list[dict[str, Interval]]] = {}
    for section, where, marks in rows:
        judged.setdefault(where or section["judged_on"], []).append(marks)
    best = {  # marks on different sets are not to be compared
        place: {name: (min if name in smaller else max)(marks[name].value for marks in many) for name in columns}
        for place, many in judged.items()
        if len(many) > 1
    }
    compared = {
        f"{place}. {section['name']}{f' on {where}' if where else ''}": marks[primary]
        for place, (section, where, marks) in enumerate(rows, 1)
    }
    title = columns[primary].replace("AUROC, macro", "macro AUROC")
    drawn = figures.comparison_figure(compared, f"{title}, 95 % interval") if len(rows) > 1 else None
    return {
        "columns": columns,
        "rows": rows,
        "best": best,
        "primary": primary,
        "title": title[:1].upper() + title[1:],
        "picture": None if drawn is None else picture(drawn),
    }


def common(run: JudgedRun, anchor: str) -> dict[str, Any]:
    """Return what the page shows of a run, whatever its task."""
    config = run.config
    model, dataset, options = (mapping_of(config.get(key)) for key in ("model", "dataset", "options"))
    return {
        "anchor": anchor,
        "name": run.folder.id,
        "labels": run.labels,
        "marks": run.marks,
        "judged_on": judged_on(run),
        "evaluations": [("", run.marks), *run.elsewhere.items()],
        "model": str(model.get("name") or "–"),
        "dataset": Path(str(dataset.get("name") or dataset.get("path") or "–")).name,
        "dataset_path": str(dataset.get("path") or "–"),
        "n_train": count(dataset.get("n_train")),
        "n_validation": count(dataset.get("n_validation")),
        "shape": str(config.get("image_shape") or "–").strip("[]").replace(", ", " × "),
        "time": duration(sum(record.get("seconds", 0.0) for record in run.history)),
        **{key: str(config.get(key) or "–") for key in ("command", "created", "deeplense_version", "git_commit")},
        "options": {name: _setting(value) for name, value in sorted(options.items())},
        "sensitivity": _sensitivity(run),
    }


def judged_on(run: JudgedRun) -> tuple[str, str]:
    """Return which images a run was judged on: those of one dataset and fold."""
    dataset, options = (mapping_of(run.config.get(key)) for key in ("dataset", "options"))
    fold = f"{options.get('fold')} of {options['folds']}" if options.get("folds") else ""
    return str(dataset.get("path")), fold


def mapping_of(value: Any) -> dict[str, Any]:
    """Return a table of a configuration; an empty one where there is something else."""
    return value if isinstance(value, dict) else {}


def count(number: Any) -> str:
    """Return a number of things in words of a page."""
    return f"{number:,}" if isinstance(number, int) else "–"


def number(value: float, digits: int = 4) -> str:
    """Return a number to be read: so many digits or a few more, with a true minus and groups of three."""
    if math.isinf(value):
        words = "∞"
    else:
        words = f"{abs(value):,.0f}" if 10**digits <= abs(value) < 1e9 else f"{abs(value):.{digits}g}"
    return "\N{MINUS SIGN}" + words if value < 0 else words


def duration(seconds: float) -> str:
    """Return a time as hours, minutes and seconds."""
    if 0 < seconds < 0.5:
        return "< 1 s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def picture(figure: figures.Figure) -> str:
    """Return a figure as the address of an image that the page itself holds."""
    return data_uri("image/svg+xml", figures.svg(figure).encode())


def data_uri(kind: str, content: bytes) -> str:
    """Return content as an address that holds it."""
    return f"data:{kind};base64,{b64encode(content).decode()}"


def _setting(value: Any) -> str:
    """Return the value of an option; of a whole recipe, its name."""
    if isinstance(value, dict):
        return str(value.get("name") or "a table")
    return "–" if value is None else str(value)


def _sensitivity(run: JudgedRun) -> list[tuple[str, str]]:
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
                drawn.append((title, picture(panels.sensitivity_figure(curves, axis))))
    return drawn

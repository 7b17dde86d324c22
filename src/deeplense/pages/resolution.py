"""What the page of super-resolution shows: a table of runs judged on the same pairs, and a section for each run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from deeplense.core.degradation import Degradation
from deeplense.metrics import anomaly_figures, figures, resolution_figures
from deeplense.metrics.classification import Floats
from deeplense.metrics.intervals import Interval
from deeplense.metrics.resolution import nominal_coverage
from deeplense.metrics.spectra import power_spectrum
from deeplense.pages.parts import common, count, data_uri, mapping_of, number, page, picture
from deeplense.pages.resolved import ResolvedImage, ResolvedRun
from deeplense.upscalers.bicubic import Bicubic
from deeplense.upscalers.upscaler import UPSCALERS

HEADS = {  # of the table: what is above → mark → what is above it alone
    "PSNR [dB]": {"psnr": "observed", "floor": "noise floor", "gap": "below it", "psnr_truth": "truth"},
    "SSIM": {"ssim": "observed", "ssim_truth": "truth"},
    "": {"flux_error": "flux error [%]", "centroid_offset": "centroid [pixels]", "theta_E_error": "θ_E error [%]"},
    " ": {"chi2": "χ² per pixel", "checkerboard": "grid power"},
    "coverage [%]": {"coverage_68": "± σ", "coverage_95": "± 2 σ"},
}
NAMES = {
    "psnr": "PSNR, observed [dB]",
    "floor": "noise floor [dB]",
    "gap": "below the floor [dB]",
    "psnr_truth": "PSNR, truth [dB]",
    "ssim": "SSIM, observed",
    "ssim_truth": "SSIM, truth",
    "flux_error": "flux error [%]",
    "centroid_offset": "centroid [pixels]",
    "theta_E_error": "θ_E error [%]",
    "chi2": "χ² per coarse pixel",
    "coverage_68": "within ± σ [%]",
    "checkerboard": "power at the coarse grid, relative to what was asked for",
}
PERCENT = ("flux_error", "theta_E_error", "coverage_68", "coverage_95")
NOMINAL = {"coverage_68": 100 * nominal_coverage(1), "coverage_95": 100 * nominal_coverage(2)}
ASKED = {
    "truth": "the image without noise",
    "fidelity": "the observed fine image, noise and all",
}
TITLES = {
    "truth": ("psnr_truth", "ssim_truth", "flux_error", "centroid_offset", "chi2", "coverage_68"),
    "fidelity": ("psnr", "floor", "gap", "ssim", "flux_error", "coverage_68"),
}
# By which marks an estimator is judged. χ² and the floor are none: to be nearest to 1 is no merit among many near it.
MERITS = {
    "truth": ("psnr_truth", "ssim_truth", "flux_error", "centroid_offset", "theta_E_error", *NOMINAL),
    "fidelity": ("psnr", "gap", "ssim", "flux_error", "centroid_offset", "theta_E_error", *NOMINAL),
}
HOW = {"bicubic": "bicubic resizing", "area": "means of blocks", "gaussian": "a Gaussian blur and means of blocks"}
RESIDUALS = anomaly_figures.MapColours(-4.0, 4.0)  # σ


def render(sections: Sequence[Mapping[str, Any]]) -> str:
    """Return the page of sections."""
    sets: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for section in sections:
        for where, marks in section["evaluations"]:
            # The data range is the run's own: a PSNR of another one, or of another factor, is another mark.
            key = (where or section["dataset"], section["enlarged"], section["data_range"])
            sets.setdefault(key, []).append({"run": section, "marks": {k: _scaled(k, m) for k, m in marks.items()}})
    groups = [_group(*item) for item in sets.items()]
    return page("resolution.html.j2", {"heads": HEADS, "groups": groups, "sections": sections})


def _group(key: tuple[str, ...], rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what the table of one set shows: rows by estimator, the best of each, a picture of what counts."""
    blocks = []
    for estimator, asked in ASKED.items():
        members = [row for row in rows if row["run"]["estimator"] == estimator]
        if members:
            content = {"estimator": estimator, "asked": asked, "rows": members, "best": _best(members, estimator)}
            blocks.append(content | _compared(members, estimator))
    return {"set": key[0], "enlarged": key[1], "data_range": key[2], "blocks": blocks}


def _best(rows: Sequence[Mapping[str, Any]], estimator: str) -> dict[str, float]:
    """Return the best value of each mark that the estimator is judged by; nothing of a single run."""
    best = {}
    for name in MERITS[estimator] if len(rows) > 1 else ():
        if values := [row["marks"][name].value for row in rows if name in row["marks"]]:
            best[name] = min(values, key=_worse(name))
    return best


def _worse(name: str) -> Callable[[float], float]:
    """Return by what function a mark is the worse the larger it is."""
    if name.startswith(("psnr", "ssim")):
        return lambda value: -value
    return (lambda value: value) if name == "gap" else (lambda value: abs(value - NOMINAL.get(name, 0.0)))


def _compared(rows: Sequence[Mapping[str, Any]], estimator: str) -> dict[str, Any]:
    primary = TITLES[estimator][0]
    marks = {f"{k}. {row['run']['name']}": row["marks"].get(primary) for k, row in enumerate(rows, 1)}
    known = {name: mark for name, mark in marks.items() if mark is not None}
    title = NAMES[primary]
    drawn = picture(figures.comparison_figure(known, f"{title}, 95 % interval")) if len(known) > 1 else None
    return {"title": title, "picture": drawn}


def _scaled(name: str, mark: Interval) -> Interval:
    """Return a mark in the unit in which it is read."""
    return Interval(100 * mark.value, 100 * mark.low, 100 * mark.high, mark.n) if name in PERCENT else mark


def section(run: ResolvedRun, anchor: str) -> dict[str, Any]:
    """Return all that the page shows of one run."""
    shared, task = common(run, anchor), run.task
    marks = {name: _scaled(name, mark) for name, mark in run.marks.items()}
    blur = f" of σ = {number(task.degradation.blur)} fine pixels" if task.degradation.blur else ""
    return (
        shared
        | _known(shared["model"])
        | {
            "marks": marks,
            "tiles": [(NAMES[name], marks[name]) for name in TITLES[task.estimator] if name in marks],
            "estimator": task.estimator,
            "asked": ASKED[task.estimator],
            "parameters": count(mapping_of(run.config.get("model")).get("parameters")),
            "epochs": len(run.history),
            "enlarged": f"{task.degradation.factor}",
            "degradation": f"{HOW[task.degradation.method]}{blur}, {'as known' if task.is_known else 'assumed'}",
            "data_range": number(task.data_range),
            "figures": [(title, picture(figure)) for title, figure in _figures(run)],
            "shown": None if run.shown is None else [_shown(image, task.estimator) for image in run.shown],
        }
    )


def _known(name: str) -> dict[str, Any]:
    """Return what is known of an upscaler: whether it learns by gradients, and whom to cite."""
    if name not in UPSCALERS:
        return {"learnt": True, "reference": ""}
    upscaler = UPSCALERS[name]
    return {"learnt": bool(getattr(upscaler, "trained", True)), "reference": str(getattr(upscaler, "reference", ""))}


def _figures(run: ResolvedRun) -> list[tuple[str, figures.Figure]]:
    """Return title and figure of what is known of a run."""
    compared = {"against observed": run.answers["psnr"]}
    if "psnr_truth" in run.answers:
        compared["against the truth"] = run.answers["psnr_truth"]
    drawn = [("PSNR of the test images", resolution_figures.psnr_figure(compared, run.answers.get("floor")))]
    if len(run.history) > 1:
        losses = {"train_loss": "training", "validation_loss": "validation"}
        names = {"psnr": "against observed", "psnr_truth": "against the truth", "floor": "noise floor"}
        curves = {f"validation_{name}": title for name, title in names.items()}
        drawn += [
            ("Loss", figures.history_figure(run.history, losses, "loss")),
            ("Validation", figures.history_figure(run.history, curves, "PSNR on the validation split [dB]")),
        ]
    if run.shown:
        drawn.append(("Power spectra of the images below", _spectra(run.shown)))
    return drawn


def _spectra(images: Sequence[ResolvedImage]) -> figures.Figure:
    """Return the mean power spectra of the images that are shown."""
    kinds = {
        "estimate": [image.estimate for image in images],
        "bicubic": [_bicubic(image) for image in images],
        "observed": [image.fine for image in images],
        "truth": [image.truth for image in images if image.truth is not None],
    }
    spectra = {
        name: power_spectrum(torch.from_numpy(np.stack(some).astype(np.float32)))
        for name, some in kinds.items()
        if some
    }
    frequencies = spectra["estimate"][0].numpy()
    powers = {name: power.mean(0).numpy() for name, (_, power) in spectra.items()}
    return resolution_figures.spectrum_figure(frequencies, powers, _factor(images[0]))


def _factor(image: ResolvedImage) -> int:
    return int(image.estimate.shape[-1] // image.coarse.shape[-1])


def _bicubic(image: ResolvedImage) -> Floats:
    """Return the coarse image, interpolated: what any estimate has to be better than."""
    coarse: Float32[Tensor, "1 C h w"] = torch.from_numpy(np.asarray(image.coarse, np.float32))[None]
    return np.asarray(Bicubic(len(image.coarse), Degradation(_factor(image)))(coarse)[0].numpy())


def _shown(image: ResolvedImage, estimator: str) -> dict[str, Any]:
    """Return the pictures of one pair, each with its name and its colours, if they are its own."""
    wanted = image.truth if estimator == "truth" and image.truth is not None else image.fine
    looks = {"coarse": image.coarse, "bicubic": _bicubic(image), "estimate": image.estimate}
    looks |= {} if wanted is image.truth else {"observed": image.fine}
    looks |= {} if image.truth is None else {"truth": image.truth}
    greys = resolution_figures.SharedGreys.of(list(looks.values()))
    bands = len(image.estimate)
    sigma = np.sqrt(np.square(image.sigma).sum(axis=0)) / bands  # of the mean of the bands, their errors independent
    residual = (image.estimate - wanted).mean(axis=0) / sigma
    colours = anomaly_figures.MapColours.of([sigma])
    panels: list[tuple[str, str, dict[str, str] | None]] = [
        (name, _png(content), None) for name, content in zip(looks, greys.pngs(), strict=True)
    ]
    minus = "truth" if wanted is image.truth else "observed"
    panels.append((f"estimate − {minus}", _png(RESIDUALS.png(residual)), _scale(RESIDUALS, " σ")))
    panels.append(("σ", _png(colours.png(sigma)), _scale(colours)))
    names = ("black", "middle", "white")
    return {
        "id": image.id,
        "kind": image.kind,
        "psnr": f"{image.psnr:.2f}" if math.isfinite(image.psnr) else "∞",
        "greys": {name: number(getattr(greys, name), 2) for name in names},
        "bar": _png(resolution_figures.grey_png(np.linspace(0, 1, 256)[None])),
        "panels": panels,
    }


def _scale(colours: anomaly_figures.MapColours, unit: str = "") -> dict[str, str]:
    ends = {name: number(getattr(colours, name), 2) + unit for name in ("low", "high")}
    return ends | {"picture": _png(colours.bar())}


def _png(content: bytes) -> str:
    return data_uri("image/png", content)

"""A coarse image beside what was made of it: what that shows beyond interpolation, and where it is sure."""

from __future__ import annotations

import numpy as np

from deeplense.metrics.classification import Floats
from deeplense.metrics.figures import Figure, blank, styled
from deeplense.metrics.stretch import stretched
from deeplense.metrics.style import short

INCHES = 2.2
TITLE = 90  # letters


@styled
def upscaled_figure(title: str, coarse: Floats, bicubic: Floats, estimate: Floats, sigma: Floats) -> Figure:
    """Return the coarse image, bicubic interpolation and the estimate in one stretch, and σ in its own.

    Parameters
    ----------
    title
        What it is.
    coarse
        [C, h, w], a whole number of times smaller than the others; masked pixels are NaN.
    bicubic, estimate, sigma
        [C, H, W], in the unit of the coarse image.
    """
    factor = estimate.shape[1] // coarse.shape[1]
    large = np.repeat(np.repeat(coarse, factor, axis=1), factor, axis=2)
    # side by side, so that all get the stretch of the same sky and noise
    alike = np.split(stretched(np.concatenate([large, bicubic, estimate], axis=2)), 3, axis=1)
    sizes = [f"{image.shape[2]} x {image.shape[1]}" for image in (coarse, estimate)]
    figure = blank((4 * INCHES + 0.6, INCHES * estimate.shape[1] / estimate.shape[2] + 0.55))
    grid = figure.subplots(1, 4)
    names = [f"coarse, {sizes[0]}", "bicubic", f"super-resolved, {sizes[1]}"]
    for axes, picture, name in zip(grid, alike, names, strict=False):
        axes.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest", origin="lower")
        axes.set_title(name, fontsize=7, pad=3)
    shown = grid[3].imshow(sigma.mean(axis=0), cmap="magma", vmin=0, interpolation="nearest", origin="lower")
    grid[3].set_title("σ", fontsize=7, pad=3)
    figure.colorbar(shown, ax=grid[3], shrink=0.8).ax.tick_params(labelsize=6)
    for axes in grid:
        axes.set_axis_off()
    figure.suptitle(short(title, TITLE), fontsize=7.5, x=0.01, ha="left")
    return figure

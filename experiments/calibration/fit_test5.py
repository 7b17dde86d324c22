"""Estimate the constants of recipe `test5`: fit one lens and its light, and a source each, to published no_sub images.

Run as `python experiments/calibration/fit_test5.py FOLDER [--images 40] [--steps 500]`; FOLDER holds the JPEGs.
The pixel scale is not known: 0.06 arcsec is taken, and the PSF of the instrument of the recipe.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from deeplense.instruments.optics import pixel_grid
from deeplense.sky.light import Sersic
from deeplense.sky.mass import SIE, Shear
from deeplense.sky.scene import Scene

PIXEL, SIGMA, SIDE, CROP = 0.06, 0.17 / 2.3548, 150, 120
SHARED = {  # name: first guess
    "theta_E": 1.18,
    "lens_e1": -0.02,
    "lens_e2": 0.0,
    "gamma1": 0.15,
    "gamma2": 0.0,
    "log_light_R": math.log(0.42),
    "light_n": 2.0,
    "light_e1": 0.15,
    "light_e2": 0.0,
}
RADIUS = 4  # pixels that the blur reaches


def main() -> None:
    """Fit, and print the shared constants and the spread of the others."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--steps", type=int, default=500)
    options = parser.parse_args()
    files = sorted(options.folder.glob("*.jpg"))[: options.images]
    data = torch.from_numpy(np.stack([np.asarray(Image.open(file)) for file in files])).float()[:, None]
    margin = (SIDE - CROP) // 2
    data = data[:, :, margin:-margin, margin:-margin] / 255
    shared, own = fit(data, options.steps)
    for name, value in shared.items():
        print(f"{name:12s} {value.item():.4f}" + (f" = log {math.exp(value.item()):.4f}" if "log" in name else ""))
    for name, value in own.items():
        value = value.detach().exp() if "log" in name else value.detach()
        low, middle, high = np.percentile(value.numpy(), [5, 50, 95])
        print(
            f"{name:12s} mean {value.mean():.4f} std {value.std():.4f}; 5, 50, 95 %: {low:.4f} {middle:.4f} {high:.4f}"
        )


def fit(data: Tensor, steps: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the shared and the single parameters that minimise the squared residuals of the square roots."""
    n = len(data)
    axis = (torch.arange(CROP) - (CROP - 1) / 2) * PIXEL
    arcs = (data[:, 0] - 0.005) * ((axis[None] ** 2 + axis[:, None] ** 2) > 0.6**2)
    centroid = [(arcs * a).sum((1, 2)) / arcs.sum((1, 2)) for a in (axis[None, None, :], axis[None, :, None])]
    shared = {name: torch.tensor(value, requires_grad=True) for name, value in SHARED.items()}
    own = {
        "x": centroid[0] * 0.5,
        "y": centroid[1] * 0.5,
        "log_R": torch.full((n,), math.log(0.45)),
        "n": torch.full((n,), 1.5),
        "e1": torch.zeros(n),
        "e2": torch.zeros(n),
        "log_amp": torch.full((n,), math.log(0.5)),  # at R, over the light of the lens at its R
        "log_scale": torch.full((n,), math.log(0.13)),
        "background": torch.full((n,), 0.0044),
    }
    own = {name: value.clone().requires_grad_() for name, value in own.items()}
    optimiser = torch.optim.Adam(
        [{"params": list(shared.values()), "lr": 0.01}, {"params": list(own.values()), "lr": 0.02}]
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, [0.01, 0.03], steps)
    for step in range(steps):
        loss = (model(shared, own).clamp(min=1e-5).sqrt() - data.clamp(min=1e-5).sqrt()).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            own["n"].clamp_(0.5, 6)
            for name in ("e1", "e2"):
                own[name].clamp_(-0.6, 0.6)
        if step % 50 == 0 or step == steps - 1:
            print(f"step {step}: rms of the square roots {loss.item() ** 0.5:.5f}", flush=True)
    return shared, own


def model(shared: dict[str, Tensor], own: dict[str, Tensor]) -> Tensor:
    """Return the images, [B, 1, H, W]."""
    x, y = pixel_grid(CROP, PIXEL, torch.empty(0))
    one = {name: value[:, None, None, None] for name, value in own.items()}
    source = Sersic(one["log_amp"].exp(), one["log_R"].exp(), one["n"], one["e1"], one["e2"], one["x"], one["y"])
    light = Sersic(1.0, shared["log_light_R"].exp(), shared["light_n"], shared["light_e1"], shared["light_e2"])
    lens = SIE(shared["theta_E"], shared["lens_e1"], shared["lens_e2"])
    scene = Scene((lens, Shear(shared["gamma1"], shared["gamma2"])), (source,), 1.0, (light,))
    flux = scene.surface_brightness(x, y)
    offsets = torch.arange(-RADIUS, RADIUS + 1) * PIXEL
    taps = torch.exp(-((offsets / SIGMA) ** 2) / 2)
    taps = taps / taps.sum()
    flux = torch.nn.functional.pad(flux, (RADIUS,) * 4, mode="replicate")
    flux = torch.nn.functional.conv2d(
        torch.nn.functional.conv2d(flux, taps[None, None, None]), taps[None, None, :, None]
    )
    return one["log_scale"].exp() * flux + one["background"]


if __name__ == "__main__":
    main()

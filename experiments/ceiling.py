"""How well can anything tell an axion vortex from a smooth lens? The Bayes-optimal AUROC, from the likelihood.

    python experiments/ceiling.py model_ii --images 1000
    python experiments/ceiling.py model_i --images 1000 --crop 100

The score is the ratio of evidences, p(image | axion) / p(image | no_sub), with the recipe's own priors: no function of
the image has a larger AUROC. Both evidences integrate over source position and exposure by Laplace's approximation
around the best fit (these are known to a percent of their priors); that of the vortex also over its angle and the
logarithm of its length, on a grid that is refined twice around its largest values. The likelihood is the noise law
itself: normal for Models II and III; for Model I a Poisson count of a clipped normal rate, integrated over the
logarithm of the rate by Gauss–Hermite quadrature around the maximum of each pixel's integrand.

Each image has one evidence per level of refinement; the change of the AUROC over the last level is the error of the
integration. Rows are appended to benchmarks/results/ceiling.csv, evidences go to --out.
"""

from __future__ import annotations

import argparse
import copy
import csv
import dataclasses
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.func import jvp

from deeplense.core.compiled import Runner, can_compile
from deeplense.core.errors import InvalidOption
from deeplense.core.files import atomic
from deeplense.data.transforms import centre_crop
from deeplense.inverse.fit import Bank
from deeplense.inverse.smooth_lens import EXPOSURE, SmoothLens
from deeplense.metrics.marks import auroc_mark
from deeplense.recipes.draw import draw_images
from deeplense.recipes.recipe import Recipe, Sample, load_recipe
from deeplense.sky.mass import Tabulated

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "ceiling.csv"
ANGLES, LENGTHS = 24, 12  # of the first grid
REFINED, LEVELS = 6, 2  # nodes a side of a refined cell's neighbourhood, and how often
AT_ONCE = 50  # images
NODES = 12  # of the Gauss–Hermite quadrature: its logarithm is right to 0.001
LAWS = ("background_and_shot", "double_shot_counts")
STEPS = 3  # Gauss–Newton steps to the best smooth lens; a vortex gets two from there


class Likelihood:
    """log p(image | lens) and its Laplace integral over the free parameters of a lens model."""

    def __init__(self, recipe: Recipe, lens: SmoothLens) -> None:
        self.lens, self.law = lens, recipe.observation.noise
        if self.law not in LAWS or recipe.observation.rescale != "none" or len(lens.instruments) > 1:
            raise InvalidOption(
                f"a likelihood of recipe {recipe.name}: noise {self.law}, rescale {recipe.observation.rescale}",
                f"one band of noise {' or '.join(LAWS)}, not rescaled",
                "choose model_i, model_ii or model_iii",
            )
        nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
        self.nodes = [float(node) for node in nodes]
        self.log_weights = [float(w) for w in np.log(weights) + nodes**2 / 2]
        self.sigma = lens.instruments[0].background_sigma()

    def pixel(self, image: Tensor, rate: Tensor, seconds: Tensor) -> Tensor:
        """Return log p of every pixel, up to what only the image decides."""
        if self.law == "background_and_shot":
            variance = self.sigma**2 + rate.clamp(min=0) / seconds
            return -((image - rate) ** 2) / (2 * variance) - torch.log(variance) / 2
        mean, spread = seconds * rate, torch.sqrt(seconds * rate.abs() + (seconds * self.sigma) ** 2)
        return self.counts(image, mean, spread)

    def counts(self, k: Tensor, mean: Tensor, spread: Tensor) -> Tensor:
        """Return log of k! p(k) for k ~ Poisson(max(0, x)), x normal.

        In u = log x the integrand e^{(k + 1) u − x − (x − mean)² / (2 spread²)} has one maximum, the positive root of
        x² − (mean − spread²) x − (k + 1) spread², and the curvature k + 1 + x² / spread² there. Rates at 0 give k = 0.
        """
        linear, constant = mean - spread**2, (k + 1) * spread**2
        root = torch.sqrt(linear**2 + 4 * constant)
        top = torch.log((root + linear.abs()) / 2)
        top = torch.where(linear > 0, top, torch.log(constant) - top)  # no difference of large numbers
        width = torch.rsqrt(k + 1 + (torch.exp(top) / spread) ** 2)
        terms = []
        for node, weight in zip(self.nodes, self.log_weights, strict=True):
            u = top + node * width
            x = torch.exp(u)
            terms.append((k + 1) * u - x - ((x - mean) / spread) ** 2 / 2 + weight)
        integral = torch.logsumexp(torch.stack(terms), 0) + torch.log(width / spread) - math.log(2 * math.pi) / 2
        clipped = torch.special.log_ndtr(-mean / spread)
        return torch.where(k > 0, integral, torch.logaddexp(integral, clipped))

    def slope(self, image: Tensor, theta: Tensor, rates: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return log L [B], its gradient [B, P] and the Fisher information [B, P, P]."""
        lens, rate = self.lens, rates[:, 0]
        seconds = lens._seconds(theta)
        value = self.pixel(image, rate, seconds)
        by_rate = jvp(lambda r: self.pixel(image, r, seconds), (rate,), (torch.ones_like(rate),))[1]
        pull = [(by_rate * rates[:, k]).sum((1, 2, 3)) for k in range(1, rates.shape[1])]
        if EXPOSURE in lens.names:
            by_time = jvp(lambda t: self.pixel(image, rate, t), (seconds,), (seconds,))[1]
            pull.append(by_time.sum((1, 2, 3)))
        _, variance, jacobian = lens._observed(theta, rates, True)
        information = [
            torch.stack([(one * other / variance).sum((1, 2, 3)) for other in jacobian], 1) for one in jacobian
        ]
        return value.sum((1, 2, 3), dtype=torch.float64), torch.stack(pull, 1), torch.stack(information, 1)

    def evidence(self, image: Tensor, start: Tensor, steps: int, lens: SmoothLens) -> tuple[Tensor, Tensor]:
        """Return log of the integral of L over flat priors, and the best parameters.

        After the last evaluation the quadratic form says how much higher the maximum is.
        """
        theta = start
        for _ in range(steps):
            rates = lens.rates(theta, True)
            found = self.lens.run(Likelihood.slope)(self, image, theta, rates)
            value, gradient, information = found
            step = torch.linalg.solve(information, gradient)
            last, theta = theta, (theta + step).clamp(self.lens.low, self.lens.high)
        gain = (gradient * (theta - last)).sum(1) / 2
        return value + gain - torch.linalg.slogdet(information)[1] / 2, theta


def vortices(recipe: Recipe, lens: SmoothLens, angle: Tensor, log_mass: Tensor) -> SmoothLens:
    """Return the lens model with a vortex of its own for every image."""
    parameters = {
        "axion_mass": np.exp(log_mass.double().numpy()),
        "vortex_half_length": recipe.classes["axion"]["length_times_mass"] / np.exp(log_mass.double().numpy()),
        "vortex_angle": angle.double().numpy(),
    }
    (vortex,) = recipe.population("axion").profiles(parameters, recipe.lens.plane, torch.empty(0))
    smooth = lens._fixed.deflection(lens.x, lens.y)
    more = lens.run(_vortex)(vortex, lens.x, lens.y)
    lumpy = copy.copy(lens)
    lumpy._fixed = dataclasses.replace(
        lens._fixed, mass=(Tabulated(*(a + b for a, b in zip(smooth, more, strict=True))),)
    )
    return lumpy


def _vortex(vortex, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[no-untyped-def]
    return vortex.deflection(x, y)


def log_ratios(recipe: Recipe, lens: SmoothLens, image: Tensor, bank: Bank) -> Tensor:
    """Return log evidence ratios of axion against no_sub, [B, LEVELS + 1]."""
    likelihood = Likelihood(recipe, lens)
    smooth, theta = likelihood.evidence(image, bank.start(image), STEPS + 2, lens)
    low, high = (math.log(mass) for mass in recipe.classes["axion"]["axion_mass"])  # type: ignore[attr-defined]
    angle_step, mass_step = math.pi / ANGLES, (high - low) / LENGTHS
    cells = [
        ((i + 0.5) * angle_step, low + (j + 0.5) * mass_step, angle_step, mass_step)
        for i in range(ANGLES)
        for j in range(LENGTHS)
    ]
    n = len(image)
    nodes = [(torch.full((n,), a), torch.full((n,), m)) for a, m, _, _ in cells]
    value = torch.stack([_at(recipe, likelihood, image, theta, *node) for node in nodes], 1)
    log_volume = torch.full_like(value, -math.log(len(cells)))
    centre = torch.tensor(cells)[None].expand(n, -1, -1).clone()
    levels = [torch.logsumexp(value + log_volume, 1) - smooth]
    for _ in range(LEVELS):
        value, log_volume, centre = _refined(recipe, likelihood, image, theta, value, log_volume, centre)
        levels.append(torch.logsumexp(value + log_volume, 1) - smooth)
    return torch.stack(levels, 1)


def _at(recipe: Recipe, likelihood: Likelihood, image: Tensor, theta: Tensor, angle: Tensor, mass: Tensor) -> Tensor:
    lumpy = vortices(recipe, likelihood.lens, angle, mass)
    return likelihood.evidence(image, theta, 2, lumpy)[0]


def _refined(
    recipe: Recipe,
    likelihood: Likelihood,
    image: Tensor,
    theta: Tensor,
    value: Tensor,
    log_volume: Tensor,
    centre: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Cut the REFINED cells of each image that hold most of its evidence into four each."""
    largest = (value + log_volume).topk(REFINED, 1).indices
    kept = torch.ones_like(value, dtype=torch.bool).scatter(1, largest, False)
    values, volumes, centres = [value[kept].reshape(len(value), -1)], [log_volume[kept].reshape(len(value), -1)], []
    centres = [centre[kept].reshape(len(value), -1, 4)]
    for k in range(REFINED):
        rows = largest[:, k]
        cell = centre.gather(1, rows[:, None, None].expand(-1, 1, 4))[:, 0]
        for up, right in ((-0.25, -0.25), (-0.25, 0.25), (0.25, -0.25), (0.25, 0.25)):
            angle, mass = cell[:, 0] + up * cell[:, 2], cell[:, 1] + right * cell[:, 3]
            values.append(_at(recipe, likelihood, image, theta, angle, mass)[:, None])
            volumes.append(log_volume.gather(1, rows[:, None]) - math.log(4))
            centres.append(torch.stack([angle, mass, cell[:, 2] / 2, cell[:, 3] / 2], 1)[:, None])
    return torch.cat(values, 1), torch.cat(volumes, 1), torch.cat(centres, 1)


def main() -> None:
    """Draw test images, integrate, and write one row per level."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--images", type=int, default=1000, help="of each class")
    parser.add_argument("--crop", type=int, help="central pixels a side; by default all")
    parser.add_argument("--out", type=Path, default=Path("runs/ceiling"))
    options = parser.parse_args()
    recipe = load_recipe(options.recipe)
    lens = SmoothLens(recipe, options.crop or recipe.n_pixels, Runner(can_compile()))
    bank, begin, ratios = Bank(lens, 512), time.monotonic(), {}
    for label in ("no_sub", "axion"):
        parts = []
        for first in range(0, options.images, AT_ONCE):
            samples = [Sample("ceiling", label, k) for k in range(first, first + AT_ONCE)]
            image = centre_crop(draw_images(recipe, 0, samples)["image"], lens.recipe.n_pixels).contiguous()
            parts.append(log_ratios(recipe, lens, image, bank).numpy())
            done = min(first + AT_ONCE, options.images)
            print(f"{label}: {done:,} of {options.images:,}, {time.monotonic() - begin:.0f} s", flush=True)
        ratios[label] = np.concatenate(parts)[: options.images]  # the last group is a whole one, too
    options.out.mkdir(parents=True, exist_ok=True)
    np.savez(options.out / f"{recipe.name}.npz", **ratios)
    append([row(recipe, options, ratios, level) for level in range(LEVELS + 1)])


def row(recipe: Recipe, options: argparse.Namespace, ratios: dict[str, np.ndarray], level: int) -> dict[str, object]:
    """Return the AUROC of one level with its interval."""
    smooth, axion = ratios["no_sub"][:, level], ratios["axion"][:, level]
    scores = np.concatenate([smooth, axion])
    area = auroc_mark(scores, np.arange(len(scores)) >= len(smooth))
    return {
        "recipe": f"{recipe.name} v{recipe.version}",
        "positive": "axion",
        "negative": "no_sub",
        "crop": options.crop or recipe.n_pixels,
        "images": 2 * len(smooth),
        "level": level,
        "auroc": round(area.value, 6),
        "low": round(area.low, 6),
        "high": round(area.high, 6),
        "median_log_ratio_no_sub": round(float(np.median(smooth)), 2),
        "median_log_ratio_axion": round(float(np.median(axion)), 2),
        "accuracy": round(float(((smooth < 0).mean() + (axion > 0).mean()) / 2), 5),
    }


def append(rows: list[dict[str, object]]) -> None:
    """Replace the rows of this recipe in the table of results."""
    old: list[dict[str, object]] = []
    if RESULTS.is_file():
        with RESULTS.open(newline="", encoding="utf-8") as file:
            old = [one for one in csv.DictReader(file) if one["recipe"] != rows[0]["recipe"]]
    with atomic(RESULTS) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(old + rows)
    for one in rows:
        print(one)


if __name__ == "__main__":
    main()

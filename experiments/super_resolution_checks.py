"""What an astronomer demands of a super-resolution run, measured: nothing invented, and the same Einstein radius.

    python experiments/super_resolution_checks.py runs/super_resolution_truth --images 200 --blank 1000
    python experiments/super_resolution_checks.py super_resolution@deeplense --dataset data/super_resolution_2000

- Blank fields: the sky of the run's dataset and its noise, nothing else. An image is searched for pixels that stand out
  of the sky by more of the run's own σ than noise in all pixels of all images allows at a 5 σ false-alarm probability;
  σ itself is checked by its coverage.
- Einstein radius: scenes of the dataset's recipe whose θ_E varies by 5 %, without substructure; the smooth lens is
  fitted to the fine images as observed and to the super-resolved ones, with the same code.
- The observed image from an estimate of the truth: what the coarse image says beyond that estimate is noise, and of
  independent noise the pseudo-inverse of the degradation is the best guess. How far below the floor is that?

Rows go to benchmarks/results/super_resolution_checks.csv.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deeplense.core.console import table
from deeplense.core.files import atomic
from deeplense.data.dataset import Dataset, open_dataset
from deeplense.data.loader import Batch, PairLoader
from deeplense.metrics.image import mse
from deeplense.metrics.intervals import Interval, mean_interval, wilson
from deeplense.metrics.resolution import noise_floor
from deeplense.recipes.recipe import Recipe
from deeplense.simulation.einstein_radius import einstein_radius_errors
from deeplense.training.trained import TrainedModel, locate_run

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "super_resolution_checks.csv"
FAINTEST = 0.05  # of an image's pixels: the sky
CHANCE = 1 - NormalDist().cdf(5.0)  # of one false source in the whole search
SEED = 20_261  # of the noise of blank fields
AT_ONCE = 50


def main() -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("run")
    parser.add_argument("--images", type=int, default=200, help="scenes whose Einstein radius is fitted")
    parser.add_argument("--blank", type=int, default=1000, help="blank fields")
    parser.add_argument("--dataset", help="pairs; by default those that the run was trained on")
    given = parser.parse_args()
    model = TrainedModel.load(locate_run(given.run), "cpu")
    dataset = open_dataset(given.dataset or model.config["dataset"]["path"])
    found = blank_fields(model, dataset, given.blank) | einstein_radius(model, dataset, given.images)
    if model.task.primary_metric == "psnr_truth":
        found |= with_the_noise_that_is_known(model, dataset)
    rows = [
        (name, f"{mark.value:.5g}", f"{mark.low:.5g} – {mark.high:.5g}", str(mark.n)) for name, mark in found.items()
    ]
    table(f"{model.run.id}: what an astronomer demands", ("mark", "value", "95 % interval", "n"), rows)
    record(model.run.id, found)


def blank_fields(model: TrainedModel, dataset: Dataset, n: int) -> dict[str, Interval]:
    """Return false sources per field, the largest excess [σ], and coverage, on fields with nothing but sky."""
    pairs = PairLoader(dataset, dataset.indices("validation")).sample_batch(256)
    assert pairs.truth is not None and pairs.fine is not None
    cut = torch.quantile(pairs.truth.flatten(1), FAINTEST, dim=1)[:, None, None, None]
    faint = pairs.truth <= cut
    sky = float(pairs.truth[faint].mean())
    sigma = float((pairs.fine - pairs.truth)[faint].std())
    task: Any = model.task
    generator = torch.Generator().manual_seed(SEED)
    shape = pairs.fine.shape[1:]
    limit = NormalDist().inv_cdf(1 - CHANCE / (n * int(np.prod(shape))))
    sources, excess, within = [], [], []
    for first in range(0, n, AT_ONCE):
        fine = sky + sigma * torch.randn((min(AT_ONCE, n - first), *shape), generator=generator)
        estimate, spread = answer(model, task.degradation(fine))
        z = (estimate - sky) / spread
        sources += [float(count) for count in (z > limit).sum((1, 2, 3))]
        excess += z.amax((1, 2, 3)).tolist()
        within += [(z.abs() <= k).float().mean((1, 2, 3)) for k in (1, 2)]
    covered = {k: torch.cat(within[k - 1 :: 2]).numpy() for k in (1, 2)}
    with_some = sum(count > 0 for count in sources)
    return {
        "blank_fields_with_a_false_source": Interval(with_some / n, *wilson(with_some / n, n), n),
        "blank_largest_excess_in_sigma": mean_interval(np.array(excess)),
        "blank_limit_in_sigma": Interval(limit, limit, limit, n),
        "blank_coverage_68": mean_interval(covered[1]),
        "blank_coverage_95": mean_interval(covered[2]),
    }


def einstein_radius(model: TrainedModel, dataset: Any, n: int) -> dict[str, Interval]:
    """Return the relative error of the Einstein radius fitted to observed and to super-resolved images."""
    recipe = Recipe.from_mapping(dataset.manifest["recipe"])
    error = einstein_radius_errors(recipe, n, lambda low: answer(model, low)[0])
    return {f"theta_E_error_{name}": mean_interval(values) for name, values in error.items()} | {
        f"theta_E_scatter_{name}": mean_interval(np.abs(values)) for name, values in error.items()
    }


@torch.inference_mode()
def with_the_noise_that_is_known(model: TrainedModel, dataset: Dataset) -> dict[str, Interval]:
    """Return how near to the observed test images an estimate of the truth comes, once known noise is added to it."""
    task: Any = model.task
    along = task.degradation.along(dataset.array_shapes["low"][1]).double()
    back = torch.linalg.pinv(along)
    errors, floors, hidden = [], [], []
    for pairs in PairLoader(dataset, dataset.indices("test")).in_order(AT_ONCE):
        assert pairs.fine is not None and pairs.truth is not None
        estimate = answer(model, pairs.image)[0].double()
        observed = estimate + back @ (pairs.image - along @ estimate @ along.T) @ back.T
        errors.append(mse(observed, pairs.fine.double()))
        floors.append(noise_floor((pairs.fine - pairs.truth).square(), along.float(), along.float()).double())
        wrong = estimate - pairs.truth
        hidden.append((wrong - back @ (along @ wrong @ along.T) @ back.T).square().mean((1, 2, 3)))
    error, floor, unseen = (torch.cat(parts) for parts in (errors, floors, hidden))
    found = {
        "psnr_with_known_noise": -10 * error.log10(),  # images are scaled to [0, 1]
        "gap_with_known_noise": 10 * (error / floor).log10(),
        "gap_of_truth_that_is_not_seen": 10 * (1 + unseen / floor).log10(),
    }
    return {name: mean_interval(values.numpy()) for name, values in found.items()}


def answer(model: TrainedModel, low: Tensor) -> tuple[Tensor, Tensor]:
    """Return estimate and σ."""
    n = len(low)
    known = Batch(low, torch.full((n,), -1), torch.arange(n))
    pictures = model.pictures(known)
    return pictures["estimate"], pictures["sigma"]


def record(run: str, found: dict[str, Interval]) -> None:
    """Write the rows of a run, in place of its earlier ones."""
    head = ("run", "mark", "value", "low", "high", "n")
    rows = []
    if RESULTS.is_file():
        with RESULTS.open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["run"] != run]
    rows += [{"run": run, "mark": name, **mark.as_dict()} for name, mark in found.items()]
    with atomic(RESULTS) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, head, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()

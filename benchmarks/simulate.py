"""How fast images are simulated, noise included: ours against lenstronomy 1.13.6 and caustics, on the same cores.

    pip install -e '.[oracle]'
    python benchmarks/simulate.py

Everything runs in one go, each number is the median of five repetitions of the same work: scenes of Models I–III drawn
as the published generator draws them, expected images, noise, float32 in memory. lenstronomy is driven as the published
generator drives it; on N cores N processes of it run at once. caustics evaluates batches by torch.vmap. Results go to
benchmarks/results/simulate.csv; `--exact-noise` adds what Model I takes with NumPy's exact Poisson sampler.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import os
import platform
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "simulate.csv"
RECIPES, LABELS = ("model_i", "model_ii", "model_iii"), ("no_sub", "cdm", "axion")
SECONDS = 2.0  # of one repetition, about
REPEATS = 5


def timed(work: Callable[[int], Any], first_guess: int) -> tuple[float, float, float, int]:
    """Return images per second, median, lowest and highest of the repetitions, and the images of each."""
    work(first_guess)  # what is paid once: imports, compilation, caches
    begin = time.perf_counter()
    work(first_guess)
    n = max(first_guess, int(first_guess * SECONDS / (time.perf_counter() - begin)) // first_guess * first_guess)
    rates = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        work(n)
        rates.append(n / (time.perf_counter() - begin))
    return median(rates), min(rates), max(rates), n


def ours(recipe_name: str, label: str, threads: int, device: str = "cpu") -> tuple[float, float, float, int]:
    """Return the speed of this package, compiled; label "mix" is the balanced set."""
    import torch

    from deeplense.core.compiled import Runner
    from deeplense.recipes.draw import TOGETHER, draw_images
    from deeplense.recipes.recipe import Sample, load_recipe

    torch.set_num_threads(threads)
    recipe, run = load_recipe(recipe_name), Runner(compiled=True)
    labels = recipe.labels if label == "mix" else (label,)

    def work(n: int) -> None:
        samples = [Sample("train", labels[i % len(labels)], i // len(labels)) for i in range(n)]
        for first in range(0, n, TOGETHER):
            draw_images(recipe, 0, samples[first : first + TOGETHER], run)

    return timed(work, TOGETHER)


def exact_noise(threads: int) -> tuple[float, float, float, int]:
    """Return the speed of Model I without substructure when NumPy's exact Poisson sampler makes the counts."""
    import numpy as np
    import torch

    from deeplense.core.compiled import Runner
    from deeplense.recipes.draw import draw_parameters, expected_images, streams_of
    from deeplense.recipes.recipe import Sample, load_recipe

    torch.set_num_threads(threads)
    recipe, run, size = load_recipe("model_i"), Runner(compiled=True), 23

    def work(n: int) -> None:
        for first in range(0, n, size):
            streams = streams_of(0, [Sample("train", "no_sub", k) for k in range(first, first + size)])
            parameters = draw_parameters(recipe, "no_sub", streams)
            rate = expected_images(recipe, "no_sub", parameters, torch.float32, run).numpy()
            generator = np.random.default_rng(first)
            counts = parameters["exposure_time"][:, None, None, None] * rate
            time_sigma = 0.01 * parameters["exposure_time"][:, None, None, None]
            noise = generator.standard_normal(counts.shape, np.float32)
            generator.poisson(np.clip(counts + np.sqrt(np.abs(counts) + time_sigma**2) * noise, 0, None))

    return timed(work, size)


def lenstronomy_images(recipe: str, label: str, n: int, seed: int) -> None:
    """Make n images as the published generator does, noise included."""
    import numpy as np

    oracle = _oracle()
    rng = np.random.default_rng(seed)
    for _ in range(n):
        parameters, points = oracle.draw(LABELS[rng.integers(3)] if label == "mix" else label, rng)
        source = oracle.SOURCE_SHAPE | {axis: parameters[f"source_{axis}"] for axis in ("center_x", "center_y")}
        expected = oracle.image(recipe, oracle.MACRO + points, source)
        if recipe == "model_i":
            exposure = 10 ** rng.uniform(3, 3.5)
            rate = expected + rng.normal(size=expected.shape) * np.sqrt(np.abs(expected) / exposure)
            rate += 0.01 * rng.normal(size=expected.shape)
            rng.poisson(np.clip(rate * exposure, 0, None)).astype(np.float32)
        else:
            band = oracle.BANDS[recipe]
            exposure = band["exposure_time"] * band["num_exposures"]
            shot = np.sqrt(np.maximum(expected, 0) / exposure) * rng.normal(size=expected.shape)
            (expected + shot + 0.0059 * rng.normal(size=expected.shape)).astype(np.float32)


def lenstronomy(recipe: str, label: str, cores: int, pool: ProcessPoolExecutor) -> tuple[float, float, float, int]:
    """Return the speed of as many processes of lenstronomy as there are cores."""

    def work(n: int) -> None:
        parts = [pool.submit(lenstronomy_images, recipe, label, n // cores, core) for core in range(cores)]
        for part in parts:
            part.result()

    return timed(work, 4 * cores)


def caustics(recipe_name: str, label: str, threads: int) -> tuple[float, float, float, int]:
    """Return the speed of caustics, the same scenes in batches by torch.vmap, with Gaussian noise of the same cost."""
    import caustics as peer
    import torch

    from deeplense.recipes.recipe import load_recipe

    torch.set_num_threads(threads)
    recipe = load_recipe(recipe_name)
    instrument, lens, n_points = recipe.instruments()[0], recipe.lens, {"no_sub": 0, "cdm": 25, "axion": 100}[label]
    warnings.simplefilter("ignore")  # that a redshift is given twice
    at = {"cosmology": peer.FlatLambdaCDM(name="cosmology"), "z_l": 0.5, "z_s": 1.0}
    shear = lens.gamma1 * lens.deflection_scale
    theta_E = lens.theta_E * lens.deflection_scale
    parts = [
        peer.SIE(**at, name="macro", x0=0.0, y0=0.0, q=0.818, phi=0.0, Rein=theta_E),
        peer.ExternalShear(**at, name="shear", x0=0.0, y0=0.0, gamma_1=shear, gamma_2=0.0),
    ]
    parts += [peer.Point(**at, name=f"point_{k}") for k in range(n_points)]
    plane = peer.SinglePlane(**at, lenses=parts, name="plane")
    source = peer.Sersic(name="source", q=0.75, phi=1.2, n=1.0, Re=0.25, Ie=20.0)
    psf = peer.utils.gaussian(instrument.pixel_scale, 7, 7, instrument.psf_fwhm / 2.355, upsample=1)
    simulate = peer.LensSource(
        lens=plane,
        source=source,
        pixelscale=instrument.pixel_scale,
        pixels_x=recipe.n_pixels,
        upsample_factor=1,
        psf=psf,
    )
    batch = 8

    def work(n: int) -> None:
        for _ in range(0, n, batch):
            points = torch.rand(batch, n_points, 3) * 0.02
            numbers = torch.cat([points.flatten(1), torch.rand(batch, 2)], dim=1)
            images = torch.vmap(simulate)(numbers)
            images + torch.randn_like(images) * torch.sqrt(images.clamp(min=0) / 1000 + 1e-4)

    return timed(work, batch)


def _oracle() -> Any:
    """Return the script that drives lenstronomy for the tests."""
    path = HERE.parent / "tests" / "oracles" / "make_lenstronomy_oracle.py"
    if "oracle_of_lenstronomy" not in sys.modules:
        spec = importlib.util.spec_from_file_location("oracle_of_lenstronomy", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["oracle_of_lenstronomy"] = module
        spec.loader.exec_module(module)
    return sys.modules["oracle_of_lenstronomy"]


def _processor() -> str:
    for line in (
        Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else ()
    ):
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES))
    parser.add_argument("--exact-noise", action="store_true")
    parser.add_argument("--peers", nargs="*", default=["lenstronomy", "caustics"])
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # of the peer's processes
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    facts = {"processor": _processor(), "git_commit": commit.stdout.strip()}
    rows: list[dict[str, Any]] = []

    def add(recipe: str, label: str, who: str, cores: int, marks: tuple[float, float, float, int]) -> None:
        speed, low, high, n = marks
        peer = next(
            (
                r
                for r in rows
                if (r["recipe"], r["class"], r["cores"], r["simulator"]) == (recipe, label, cores, "lenstronomy 1.13.6")
            ),
            None,
        )
        ratio = f"{speed / peer['images_per_second']:.1f}" if peer else ""
        rows.append(
            {"recipe": recipe, "class": label, "simulator": who, "cores": cores, "images_per_second": round(speed, 1),
             "lowest": round(low, 1), "highest": round(high, 1), "images": n, "ratio": ratio} | facts
        )  # fmt: skip
        print(f"{recipe:9} {label:7} {who:20} {cores} cores {speed:10.1f} images/s {ratio:>8}", flush=True)

    with ProcessPoolExecutor(max_workers=max(options.threads), mp_context=get_context("spawn")) as pool:
        for recipe in options.recipes:
            for label in (*LABELS, "mix"):
                for cores in options.threads:
                    if "lenstronomy" in options.peers:
                        add(recipe, label, "lenstronomy 1.13.6", cores, lenstronomy(recipe, label, cores, pool))
                    if "caustics" in options.peers and label != "mix":
                        add(recipe, label, "caustics", cores, caustics(recipe, label, cores))
                    add(recipe, label, "deeplense", cores, ours(recipe, label, cores))
    if options.exact_noise:
        for cores in options.threads:
            add("model_i", "no_sub", "deeplense, exact Poisson", cores, exact_noise(cores))
    with RESULTS.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()

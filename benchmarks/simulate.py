"""How fast images are simulated, noise included: ours against lenstronomy 1.13.6 and caustics, on the same cores.

    pip install -e '.[oracle]'
    python benchmarks/simulate.py

Everything runs in one go, each number is the median of five repetitions of the same work: scenes of Models I–III drawn
as the published generator draws them, expected images, noise, float32 in memory. lenstronomy is driven as the published
generator drives it; on N cores N processes of it run at once. caustics evaluates batches by torch.vmap. Results go to
benchmarks/results/simulate.csv; `--exact-noise` adds what Model I takes with NumPy's exact Poisson sampler, and
`--training` what the baseline CNN takes to learn from an image.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import itertools
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

from deeplense.core.files import atomic

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "simulate.csv"
README = HERE.parent / "README.md"
BEGIN, END = "<!-- speed: made by benchmarks/simulate.py -->", "<!-- end of speed -->"
RECIPES, LABELS = ("model_i", "model_ii", "model_iii"), ("no_sub", "cdm", "axion")
PEER = "lenstronomy 1.13.6"
SECONDS = 0.7  # of one repetition, about
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

    memory: dict[str, Any] | None = None

    def work(n: int) -> None:
        nonlocal memory
        samples = [Sample("train", labels[i % len(labels)], i // len(labels)) for i in range(n)]
        for first in range(0, n, TOGETHER):
            memory = draw_images(recipe, 0, samples[first : first + TOGETHER], run, memory)

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


def step_of_baseline(recipe_name: str, threads: int) -> tuple[float, float, float, int]:
    """Return how many images a second the baseline CNN learns from, forward, backward and optimiser."""
    import torch

    from deeplense.models.network import ModelChoice, build_network
    from deeplense.recipes.recipe import load_recipe

    torch.set_num_threads(threads)
    shape = load_recipe(recipe_name).image_shape
    network = build_network(ModelChoice("baseline", "baseline_cnn"), shape, 3).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters())
    images, targets = torch.rand(64, *shape), torch.arange(64) % 3

    def work(n: int) -> None:
        for _ in range(0, n, 64):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(images), targets).backward()
            optimizer.step()

    return timed(work, 64)


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


def table(rows: list[dict[str, Any]]) -> str:
    """Return the README's table: a line per recipe and class, a column per simulator and number of cores."""
    names = list(
        dict.fromkeys(
            (row["simulator"], str(row["cores"])) for row in rows if row["simulator"] in (PEER, "caustics", "deeplense")
        )
    )
    cells = {(row["recipe"], row["class"], row["simulator"], str(row["cores"])): row for row in rows}
    heads = [f"{name}, {cores} core{'s' if cores != '1' else ''}" for name, cores in names]
    lines = ["| recipe | class | " + " | ".join(heads) + " |", "| --- " * (len(heads) + 2) + "|"]
    for recipe, label in dict.fromkeys((row["recipe"], row["class"]) for row in rows):
        line = [f"`{recipe}`", f"`{label}`" if label != "mix" else "balanced mix"]
        for name, cores in names:
            row = cells.get((recipe, label, name, cores))
            ratio = f" ({float(row['ratio']):,.0f} ×)" if row and row["ratio"] and not name.startswith("lens") else ""
            line.append(f"{float(row['images_per_second']):,.0f}{ratio}" if row else "")
        lines.append("| " + " | ".join(line) + " |")
    return "\n".join(lines)


def publish() -> None:
    """Put the table of the CSV into the README."""
    with RESULTS.open(newline="", encoding="utf-8") as file:
        text = table(list(csv.DictReader(file)))
    before, rest = README.read_text(encoding="utf-8").split(BEGIN)
    with atomic(README) as temporary:
        temporary.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}", encoding="utf-8")


class Table:
    """The rows measured so far."""

    def __init__(self) -> None:
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
        self.facts = {"processor": _processor(), "git_commit": commit.stdout.strip()}
        self.rows: list[dict[str, Any]] = []

    def add(self, recipe: str, label: str, simulator: str, cores: int, marks: tuple[float, float, float, int]) -> None:
        """Add a row and print it."""
        speed, low, high, n = marks
        same = {"recipe": recipe, "class": label, "cores": cores}
        peers = [row for row in self.rows if row["simulator"] == PEER and same.items() <= row.items()]
        ratio = f"{speed / peers[0]['images_per_second']:.1f}" if peers else ""
        marks_ = {"images_per_second": speed, "lowest": low, "highest": high}
        numbers = {name: round(value, 1) for name, value in marks_.items()}
        self.rows.append(same | {"simulator": simulator} | numbers | {"images": n, "ratio": ratio} | self.facts)
        print(f"{recipe:9} {label:7} {simulator:28} {cores} cores {speed:10.1f} images/s {ratio:>8}", flush=True)

    def write(self) -> None:
        """Write the CSV."""
        with RESULTS.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(self.rows[0]))
            writer.writeheader()
            writer.writerows(self.rows)


def measure(measured: Table, recipe: str, label: str, cores: int, peers: list[str], pool: ProcessPoolExecutor) -> None:
    """Measure every simulator on one class with so many cores."""
    if "lenstronomy" in peers:
        measured.add(recipe, label, PEER, cores, lenstronomy(recipe, label, cores, pool))
    if "caustics" in peers and label != "mix":
        measured.add(recipe, label, "caustics", cores, caustics(recipe, label, cores))
    measured.add(recipe, label, "deeplense", cores, ours(recipe, label, cores))


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES))
    parser.add_argument("--exact-noise", action="store_true")
    parser.add_argument("--training", action="store_true")
    parser.add_argument("--peers", nargs="*", default=["lenstronomy", "caustics"])
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # of the peer's processes
    measured = Table()
    with ProcessPoolExecutor(max_workers=max(options.threads), mp_context=get_context("spawn")) as pool:
        for recipe, label, cores in itertools.product(options.recipes, (*LABELS, "mix"), options.threads):
            measure(measured, recipe, label, cores, options.peers, pool)
    for cores in options.threads:
        if options.exact_noise:
            measured.add("model_i", "no_sub", "deeplense, exact Poisson", cores, exact_noise(cores))
        if options.training:
            measured.add("model_ii", "mix", "training step, baseline_cnn", cores, step_of_baseline("model_ii", cores))
    measured.write()
    publish()


if __name__ == "__main__":
    main()

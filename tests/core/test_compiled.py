"""Compiled formulas: the numbers of the eager ones, whoever is computed beside whom."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch

from deeplense.core.compiled import EAGER, Runner, can_compile

# Sums of blocks of haloes (with padding), light, PSF and noise; an odd number of pixels, so that the last numbers of
# every tensor fill no vector of the processor. In a process of its own: here annotated shapes are checked at every
# call, which torch cannot compile.
SCRIPT = """
import json
import torch
from deeplense.core.compiled import Runner
from deeplense.recipes import draw as drawing
from deeplense.recipes.recipe import Recipe, Sample

recipe = Recipe.from_mapping({
    "name": "mine", "version": 1, "description": "d", "reference": "r", "instrument": "published_ii", "n_pixels": 17,
    "lens": {"theta_E": 1.0}, "observation": {"noise": "poisson_and_background"},
    "source": {"R_sersic": 0.2, "magnitude": 20.0, "center_x": {"uniform": [-0.3, 0.3]}},
    "classes": {"cdm": {"kind": "subhaloes", "profile": "point_mass", "mass": [1e8, 1e10], "radius": 1.8}},
})
drawing.GROUP_PIXELS = 16 * 17**2  # groups of sixteen images
samples, run = [Sample("train", "cdm", k) for k in range(20)], Runner(compiled=True)
whole, eager = drawing.draw(recipe, 0, samples, run=run), drawing.draw(recipe, 0, samples)
peak = eager.expected.amax((1, 2, 3), keepdim=True)
orders = [[3], [7, 1, 2], list(range(19, -1, -1)), [0, 0, 5, 0, 1], [19, 16, 2]]
same = {}
for rows in orders:
    some = drawing.draw(recipe, 0, [samples[row] for row in rows], run=run)
    same[str(rows)] = all(torch.equal(getattr(some, f), getattr(whole, f)[rows]) for f in ("image", "expected"))
print(json.dumps({
    "haloes": [sum(x == x for x in row["halo_mass"]) for row in whole.parameters],
    "compiled": len(run._functions),
    "expected": ((whole.expected - eager.expected).abs() / peak).max().item(),
    "other_noise": ((whole.image - eager.image).abs() / peak > 1e-5).float().mean().item(),
    "same": same,
}))
"""


@pytest.mark.skipif(not can_compile(), reason="no C++ compiler")
def test_compiled_images_are_the_eager_ones_and_depend_on_nothing_else() -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TORCHINDUCTOR_COMPILE_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert min(seen["haloes"]) < max(seen["haloes"])
    assert max(seen["haloes"]) > 5, "one block is no sum of blocks"
    assert seen["compiled"] >= 4
    assert seen["expected"] < 1e-5, "compiled formulas differ by more than rounding"
    assert seen["other_noise"] < 2e-3, "compiled noise is another noise"
    assert all(seen["same"].values()), f"bits depend on the company: {seen['same']}"


def twice(x: torch.Tensor) -> torch.Tensor:
    """Return 2 x."""
    return 2 * x


def test_an_eager_runner_runs_the_function_itself() -> None:
    assert EAGER(twice) is twice
    assert not EAGER.compiled


def test_a_compiled_runner_compiles_each_kind_of_input_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def compile_(function: object, **options: object) -> object:
        made.append(options)
        return function

    monkeypatch.setattr(torch, "compile", compile_)
    run = Runner(compiled=True)
    first, again, other = run(twice, "a"), run(twice, "a"), run(twice, "b")
    assert first is again
    assert first is not other
    assert first.__code__ is not other.__code__ is not twice.__code__, "torch keeps few variants of one code object"
    assert len(made) == 2
    assert all(options["fullgraph"] and options["dynamic"] is False for options in made)
    assert torch.equal(first(torch.ones(2)), torch.full((2,), 2.0))
    assert run(first) is not EAGER(first)


def test_a_compiler_is_looked_for_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("g++", "clang++", "c++"):
        monkeypatch.setattr("shutil.which", lambda asked, name=name: f"/usr/bin/{name}" if asked == name else None)
        assert can_compile()
    monkeypatch.setattr("shutil.which", lambda asked: None)
    assert not can_compile()

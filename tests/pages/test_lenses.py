"""The page of finders of lenses: marks, curves, differences and images of the runs that are named."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from deeplense.core.errors import InvalidOption
from deeplense.core.run_folder import RunFolder
from deeplense.metrics.survey import auroc_difference
from deeplense.report import report

Maker = Callable[..., Path]


def words(page: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", page[page.index("<main") :]).split())


def pictures(page: str) -> str:
    return " ".join(base64.b64decode(code).decode() for code in re.findall(r"svg\+xml;base64,([^\"]+)", page))


def bare(folder: Path) -> Path:
    """Take away what has pictures that a test does not look at."""
    for name in ("calibration.json", "selection.csv", "mistakes.json"):
        (folder / name).unlink()
    (folder / "history.json").write_text("[]")
    return folder


def test_one_run(finder: Maker) -> None:
    folder = finder()
    page = report(runs=[str(folder)]).read_text()
    marks = json.loads((folder / "metrics.json").read_text())
    shown, drawn = words(page), pictures(page)
    for expected in (
        f"{marks['auroc_lens']['value']:.3f}", "TPR0", "TPR10", "TPR at 1 % FPR", "600", "300 of them lenses",
        "reads the image", "An FPR of 0.1 % or 0.01 % cannot be measured", "TPR10 with at most 0", "1 in 2,000",
        "The top of the ranking", "A lens, ranked low", "rank 1,", "Found, by Einstein radius",
        "of which 50 % are lenses",
    ):  # fmt: skip
        assert expected in shown, expected
    for expected in (
        "purity",
        "false positive rate",
        "Einstein radius [arcsec]",
        "confidence",
        "at 1 % false positives",
    ):
        assert expected in drawn, expected
    assert "What the others add" not in shown and "read the truth" not in shown
    assert "&lt;i&gt;image-" in page and "<i>" not in page
    assert page.count("data:image/png") == 18


def test_differences_are_paired_by_the_names_of_the_images(finder: Maker) -> None:
    first, second = bare(finder("a")), bare(finder("b", separation=1.0, seed=1))
    third = bare(finder("c", images=400))
    tables = [pq.read_table(folder / "predictions.parquet") for folder in (first, second)]
    shuffled = np.random.default_rng(0).permutation(600)
    pq.write_table(tables[1].take(shuffled), second / "predictions.parquet")
    page = report(runs=[str(first), str(second), str(third)]).read_text()
    scores = [table["p_lens"].to_numpy() for table in tables]
    mark = auroc_difference(*scores, np.arange(600) % 2 == 1)
    assert f"2. b {mark.value:+.{mark.decimals}f}" in words(page)
    assert "What the others add to a" in words(page) and "3. c +" not in words(page), "c saw other images"
    config = RunFolder(second).config()
    config["dataset"]["path"] = "/another"  # whose simulated images are called alike
    RunFolder(second).write_config(config)
    assert "What the others add" not in words(report(runs=[str(first), str(second)]).read_text())


def test_a_run_that_read_the_truth_is_named(finder: Maker) -> None:
    folder = bare(finder(features=["mag_r", "theta_E"], allow_truth_features=True))
    shown = words(report(runs=[str(folder)]).read_text())
    assert "allowed to read the truth" in shown and "image and catalogue (mag_r, theta_E)" in shown


def test_little_is_enough(finder: Maker) -> None:
    folder = bare(finder(images=40))
    shown = words(report(runs=[str(folder)]).read_text())
    assert "ranking" not in shown.lower().split("how complete")[1] and "Which lenses" not in shown


def test_what_is_not_explained_is_refused(finder: Maker) -> None:
    with pytest.raises(InvalidOption, match="finder of lenses"):
        report(runs=[str(finder())], attribution=True)


@pytest.mark.parametrize("separation", [0.0, 40.0])
def test_guesses_and_perfect_answers_are_drawn(finder: Maker, separation: float) -> None:
    assert "purity" in pictures(report(runs=[str(bare(finder(separation=separation)))]).read_text())

"""Finders of lenses: read as they were written, refused by name where they were not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from deeplense.core.errors import CorruptFile, MissingFile
from deeplense.core.files import write_json
from deeplense.core.run_folder import RunFolder
from deeplense.pages.found import read_finder_run

Maker = Callable[..., Path]


def test_a_run_is_read_whole(finder: Maker) -> None:
    folder = finder()
    run = read_finder_run(RunFolder(folder))
    table = pq.read_table(folder / "predictions.parquet")
    assert np.array_equal(run.scores, table["p_lens"].to_numpy())
    assert run.is_lens.tolist() == [label == "lens" for label in table["label"].to_pylist()]
    assert run.temperature == 1.5 and run.prevalence == 0.5
    assert (
        run.isotonic is not None
        and list(run.isotonic.x) == json.loads(run.folder.calibration.read_text())["isotonic"]["x"]
    )
    assert len(run.selection) == len(run.folder.selection.read_text().splitlines()) - 1 > 5
    assert {row["property"] for row in run.selection} == {"theta_E"}
    assert run.shown is not None and [image.rank for image in run.shown[:6]] == [1, 2, 3, 4, 5, 6]
    assert run.shown[0].image.shape == (1, 16, 16)


def test_what_is_not_known_is_none(finder: Maker) -> None:
    folder = finder()
    for name in ("calibration.json", "selection.csv", "mistakes.json"):
        (folder / name).unlink()
    run = read_finder_run(RunFolder(folder))
    assert (run.temperature, run.isotonic, run.prevalence, run.selection, run.shown) == (None, None, None, [], None)


def test_a_run_that_was_not_judged_is_refused(finder: Maker) -> None:
    folder = finder()
    (folder / "predictions.parquet").unlink()
    with pytest.raises(MissingFile, match="deeplense evaluate"):
        read_finder_run(RunFolder(folder))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("selection.csv", b"property,lenses\ntheta_E,3\n"),
        ("selection.csv", b""),
        ("calibration.json", b'{"temperature": 1.0, "isotonic": {"x": [0.1]}, "prevalence": 0.5}'),
        ("calibration.json", b'{"temperature": -1.0}'),
        ("mistakes.json", b'[{"id": "a"}]'),
        ("metrics.json", b"{}"),
        ("predictions.parquet", b"PAR1"),
    ],
)
def test_a_damaged_file_is_named(finder: Maker, name: str, content: bytes) -> None:
    folder = finder()
    (folder / name).write_bytes(content)
    with pytest.raises(CorruptFile) as caught:
        read_finder_run(RunFolder(folder))
    assert Path(name).stem in str(caught.value)


@pytest.mark.parametrize("change", [{"rank": "first"}, {"p_lens": 2}, {"label": "galaxy"}])
def test_an_odd_image_is_refused(finder: Maker, change: dict[str, Any]) -> None:
    folder = finder()
    rows = json.loads((folder / "mistakes.json").read_text())
    write_json(folder / "mistakes.json", [rows[0] | change, *rows[1:]])
    with pytest.raises(CorruptFile, match="ranked images"):
        read_finder_run(RunFolder(folder))


@pytest.mark.parametrize("labels", [["no_sub", "cdm"], ["nonlens", "lens", "spiral"]])
def test_other_classes_are_refused(finder: Maker, labels: list[str]) -> None:
    folder = RunFolder(finder())
    folder.write_config(folder.config() | {"labels": labels})
    with pytest.raises(CorruptFile, match=labels[-1]):
        read_finder_run(folder)

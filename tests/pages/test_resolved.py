"""Runs of super-resolution: read as they were written, refused by name where they were not."""

from __future__ import annotations

import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file, save_file

from deeplense.core.errors import CorruptFile, MissingFile
from deeplense.core.run_folder import RunFolder
from deeplense.pages.resolved import read_resolved_run


def test_a_simulated_run_is_read_whole(resolved):
    folder = resolved()
    run = read_resolved_run(RunFolder(folder))
    table = pq.read_table(folder / "predictions.parquet")
    assert list(run.answers) == table.column_names[3:]
    assert (run.answers["psnr_truth"] == table["psnr_truth"].to_numpy()).all()
    assert run.task.primary_metric == "psnr_truth" and run.task.degradation.blur == 1.25
    assert set(run.targets) == {0} and run.labels == ("lens",)
    arrays = load_file(folder / "panels.safetensors")
    assert [image.kind for image in run.shown] == ["best", "median", "worst"]
    assert (run.shown[1].coarse == arrays["images"][1]).all() and (run.shown[2].truth == arrays["truth"][2]).all()


def test_real_pairs_have_neither_labels_nor_truth(resolved):
    run = read_resolved_run(RunFolder(resolved(estimator="fidelity", real=True)))
    assert run.labels == () and set(run.targets) == {-1}
    assert "psnr_truth" not in run.answers and "psnr_truth" not in run.marks
    assert all(image.truth is None for image in run.shown)


def test_a_mark_may_be_unknown_of_some_images(resolved):
    folder = resolved()
    table = pq.read_table(folder / "predictions.parquet")
    place = table.column_names.index("flux_error")
    column = np.where(np.arange(len(table)) < 5, np.nan, 0.1).astype(np.float32)
    pq.write_table(table.set_column(place, "flux_error", pa.array(column)), folder / "predictions.parquet")
    assert np.isnan(read_resolved_run(RunFolder(folder)).answers["flux_error"]).sum() == 5


def test_without_panels(resolved):
    folder = resolved()
    (folder / "panels.json").write_text("[]")
    assert read_resolved_run(RunFolder(folder)).shown == []
    (folder / "panels.json").unlink()
    assert read_resolved_run(RunFolder(folder)).shown is None


@pytest.mark.parametrize("name", ["metrics.json", "predictions.parquet", "history.json"])
def test_a_file_that_is_gone(resolved, name):
    folder = resolved()
    (folder / name).unlink()
    with pytest.raises(MissingFile, match=re.escape(name)):
        read_resolved_run(RunFolder(folder))


MARK = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 10}
ROW = {"id": "x", "kind": "best", "psnr": 40.0}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.json", [1]),
        ("metrics.json", {}),
        ("metrics.json", {"psnr": MARK, "ssim": MARK}),  # asked for the truth, but not judged by it
        ("history.json", [1, 2]),
        ("panels.json", [{}, {}, {}]),
        ("panels.json", [ROW, ROW]),
        ("panels.json", [ROW, ROW, ROW | {"psnr": float("nan")}]),
        ("panels.json", [ROW, ROW, ROW | {"psnr": None}]),
    ],
)
def test_damaged_files_are_named(resolved, name, content):
    folder = resolved()
    (folder / name).write_text(json.dumps(content))
    with pytest.raises(CorruptFile, match=r"metrics|history|panels"):
        read_resolved_run(RunFolder(folder))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("estimator", "beauty"),
        ("data_range", 0),
        ("data_range", -1.0),
        ("data_range", "wide"),
        ("degradation_is_known", None),
        ("degradation", {"factor": 1}),
        ("degradation", 3),
        ("noise", {"per_value": 1.0}),
        ("loss", ...),
    ],
)
def test_odd_options_are_refused(resolved, key, value):
    folder = resolved()
    config = RunFolder(folder).config()
    config["options"].pop(key)
    RunFolder(folder).write_config(config | {"options": config["options"] | ({} if value is ... else {key: value})})
    with pytest.raises(CorruptFile, match=r"config\.json"):
        read_resolved_run(RunFolder(folder))


@pytest.mark.parametrize("labels", [None, "lens", [1]])
def test_labels_must_be_a_list_of_names(resolved, labels):
    folder = resolved()
    RunFolder(folder).write_config(RunFolder(folder).config() | {"labels": labels})
    with pytest.raises(CorruptFile, match=r"config\.json"):
        read_resolved_run(RunFolder(folder))


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("sigma", np.zeros((3, 1, 16, 16))),
        ("sigma", np.full((3, 1, 16, 16), np.nan)),
        ("estimate", np.ones((3, 1, 24, 24))),
        ("truth", np.ones((3, 1, 16, 15))),
        ("fine", None),
    ],
)
def test_panels_that_do_not_fit_are_refused(resolved, name, array):
    folder = resolved()
    arrays = load_file(folder / "panels.safetensors")
    del arrays[name]
    if array is not None:
        arrays[name] = array.astype(np.float32)
    save_file(arrays, folder / "panels.safetensors")
    with pytest.raises(CorruptFile, match=r"panels\.safetensors"):
        read_resolved_run(RunFolder(folder))


def test_predictions_of_something_else_are_refused(resolved):
    folder = resolved()
    table = pq.read_table(folder / "predictions.parquet")
    pq.write_table(table.drop_columns(["floor"]), folder / "predictions.parquet")
    with pytest.raises(CorruptFile, match=r"predictions\.parquet"):
        read_resolved_run(RunFolder(folder))
    lost = pa.array(np.full(len(table), np.nan, np.float32))
    for name in table.column_names[3:]:
        table = table.set_column(table.column_names.index(name), name, lost)
    pq.write_table(table, folder / "predictions.parquet")
    with pytest.raises(CorruptFile, match="40 images without any mark"):
        read_resolved_run(RunFolder(folder))

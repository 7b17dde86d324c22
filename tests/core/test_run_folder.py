"""Run folders: found by name or path, documents kept, what is missing explained."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deeplense.core.errors import CorruptFile, MissingFile
from deeplense.core.run_folder import RunFolder, find_run, new_run_id


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Return a run with a configuration, in a folder of runs."""
    folder = RunFolder(tmp_path / "runs" / "abcd1234")
    folder.write_config({"model": "resnet18", "labels": ["no_sub", "cdm"]})
    return folder


def test_documents_come_back_as_they_were_written(run: RunFolder) -> None:
    run.write_history([{"epoch": 1.0, "loss": 0.5}])
    run.write_metrics({"auroc": {"value": 0.9, "low": 0.8, "high": 0.95, "n": 100.0}})
    again = RunFolder(run.path)
    assert again.config() == {"model": "resnet18", "labels": ["no_sub", "cdm"]}
    assert again.history() == [{"epoch": 1.0, "loss": 0.5}]
    assert again.metrics()["auroc"]["low"] == 0.8


def test_every_path_lies_in_the_folder_under_another_name(run: RunFolder) -> None:
    paths = [run.weights, run.resume_state, run.predictions, run.report]
    assert {path.parent for path in paths} == {run.path}
    assert len(set(paths)) == len(paths)


def test_metrics_that_are_not_there_name_the_command_that_makes_them(run: RunFolder) -> None:
    with pytest.raises(MissingFile, match=r"no metrics\.json") as caught:
        run.metrics()
    assert f"deeplense evaluate {run.path}" in caught.value.remedy


def test_a_broken_document_is_named(run: RunFolder) -> None:
    (run.path / "config.json").write_text("{")
    with pytest.raises(CorruptFile, match=r"config\.json"):
        run.config()


def test_a_run_is_found_by_id_and_by_path(run: RunFolder) -> None:
    assert find_run("abcd1234", run.path.parent).path == run.path
    assert find_run(run.path).id == "abcd1234"
    assert find_run(str(run.path)).id == "abcd1234"


def test_a_wrong_id_lists_the_nearest(run: RunFolder) -> None:
    with pytest.raises(MissingFile, match="abcd1243") as caught:
        find_run("abcd1243", run.path.parent)
    assert "abcd1234" in caught.value.expected


def test_a_folder_that_is_no_run_is_said_to_be_none(run: RunFolder) -> None:
    with pytest.raises(MissingFile, match=re.escape("has no config.json")):
        find_run(run.path.parent)


def test_new_ids_are_short_and_differ() -> None:
    ids = {new_run_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(re.fullmatch("[a-z0-9]{8}", name) for name in ids)

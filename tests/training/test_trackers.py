"""Trackers mirror what training does, and never get in its way."""

from __future__ import annotations

import io
import os
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from deeplense.core.errors import InvalidOption, UnknownName
from deeplense.core.run_folder import RunFolder
from deeplense.metrics.marks import classification_marks, point_marks
from deeplense.train import TrainOptions
from deeplense.training.trackers import log_evaluation, require_tracker, start_tracker
from deeplense.training.trackers.service import TRACKERS, Service

LABELS = ["no_sub", "cdm", "a $strange$ name"]
TARGETS = np.arange(60) % 3


@pytest.fixture(autouse=True)
def _nobody_is_logged_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith(("WANDB", "MLFLOW", "NETRC"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))  # which is not there
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB__SERVICE_WAIT", "120")  # seconds, on a busy machine
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Return the folder of a run with weights and without history."""
    run = RunFolder(tmp_path / "runs" / "abc12345")
    run.write_config(config("none"))
    save_file({"weight": np.ones(3, np.float32)}, run.weights)
    return run


def config(tracker: str) -> dict[str, Any]:
    return {
        "run_id": "abc12345",
        "task": "classify",
        "labels": LABELS,
        "model": {"source": "deeplense", "name": "residual_cnn", "parameters": 7},
        "dataset": {"path": "/there", "name": "model_ii"},
        "options": {"tracker": tracker, "model_name": "residual_cnn", "lr": 0.001, "crop": None},
    }


def answers(skill: float) -> np.ndarray:
    logits = np.random.default_rng(0).normal(size=(len(TARGETS), 3)) + skill * np.eye(3)[TARGETS]
    return (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).astype(np.float32)


def record(epoch: int, skill: float) -> dict[str, float]:
    marks = point_marks(answers(skill), TARGETS, LABELS)
    return {"epoch": epoch, "lr": 0.1, "train_loss": 1 / epoch} | {f"validation_{k}": v for k, v in marks.items()}


def train(name: str, run: RunFolder, skills: Mapping[int, float]) -> None:
    """Mirror as many epochs as there are skills, keeping the history as the training loop does."""
    history = run.history() if (run.path / "history.json").is_file() else []
    with start_tracker(name, run, config(name)) as tracker:
        for epoch, skill in skills.items():
            history.append(record(epoch, skill))
            run.write_history(history)
            tracker.log_epoch(history[-1], answers(skill), TARGETS, LABELS)


def evaluate(name: str, run: RunFolder, skill: float) -> None:
    marks = classification_marks(answers(skill), TARGETS, LABELS)
    run.write_metrics({key: mark.as_dict() for key, mark in marks.items()})
    log_evaluation(run, config(name), marks, answers(skill), TARGETS)


class Recorder(Service):
    """Remembers what it was given; what `broken` names fails."""

    title, package, extra = "The recorder", "json", "recorder"
    sent: list[Any]
    broken: set[str]

    def __init__(self, run: RunFolder, config: Mapping[str, Any], first_epoch: int | None) -> None:
        self._take("start", first_epoch)

    def numbers(self, values: Mapping[str, float], epoch: int) -> None:
        self._take("numbers", epoch, dict(values))

    def pictures(self, images: Mapping[str, Image.Image], epoch: int) -> None:
        self._take("pictures", epoch, sorted(images))

    def file(self, path: Path) -> None:
        self._take("file", path.name)

    def close(self, finished: bool) -> None:
        self._take("close", finished)

    def _take(self, kind: str, *what: Any) -> None:
        if kind in self.broken:
            raise ConnectionError(f"no {kind}\nand so on")
        self.sent.append((kind, *what))

    @classmethod
    def kinds(cls) -> list[tuple[Any, ...]]:
        return [entry[:2] for entry in cls.sent]


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> type[Recorder]:
    Recorder.sent, Recorder.broken = [], set()
    assert "wandb" in TRACKERS  # which fills the registry
    monkeypatch.setitem(TRACKERS._entries, "recorder", Recorder)
    return Recorder


def test_the_command_line_offers_every_tracker() -> None:
    offered = get_args(get_type_hints(TrainOptions)["tracker"])
    assert sorted(offered) == sorted(["none", *TRACKERS])


def test_no_tracker_does_nothing(run: RunFolder) -> None:
    before = sorted(run.path.iterdir())
    with start_tracker("none", run, config("none")) as tracker:
        tracker.log_epoch(record(1, 1.0), answers(1.0), TARGETS, LABELS)
    log_evaluation(run, config("none"), {}, answers(1.0), TARGETS)
    assert sorted(run.path.iterdir()) == before


def test_an_unknown_tracker_is_refused() -> None:
    with pytest.raises(UnknownName, match="wandb"):
        require_tracker("wanbd")


@pytest.mark.parametrize("name", ["wandb", "mlflow", "tensorboard"])
@pytest.mark.parametrize("there", ["nothing", "a folder"])
def test_a_missing_package_names_the_command_that_installs_it(
    name: str, there: str, run: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = types.ModuleType(name)  # a folder ./wandb makes `import wandb` succeed, without a file
    folder.__file__ = None
    monkeypatch.setitem(sys.modules, name, None if there == "nothing" else folder)
    with pytest.raises(InvalidOption, match=rf"pip install 'deeplense\[{name}\]'"), start_tracker(name, run, {}):
        pytest.fail("training must not begin")
    evaluate(name, run, 1.0)
    assert "not mirrored" in capsys.readouterr().err


def test_numbers_pictures_and_files_are_sent(run: RunFolder, recorder: type[Recorder]) -> None:
    train("recorder", run, {1: 1.0, 2: 0.5, 3: 2.0})
    validation = ["validation/confusion", "validation/roc"]
    assert recorder.kinds() == [
        ("start", 1),
        *[("numbers", 1), ("pictures", 1), ("numbers", 2), ("numbers", 3), ("pictures", 3)],
        *[("file", "config.json"), ("file", "model.safetensors"), ("file", "history.json"), ("close", True)],
    ]
    assert [what[2] for what in recorder.sent if what[0] == "pictures"] == [validation, validation]
    first = record(1, 1.0)
    assert recorder.sent[1][2] == {
        "lr": 0.1,
        "train/loss": 1.0,
        **{key.replace("validation_", "validation/"): value for key, value in first.items() if "validation" in key},
    }


def test_marks_are_sent_with_their_intervals(run: RunFolder, recorder: type[Recorder]) -> None:
    train("recorder", run, {1: 1.0, 2: 2.0})
    recorder.sent.clear()
    evaluate("recorder", run, 2.0)
    assert recorder.kinds() == [
        ("start", None),
        *[("numbers", 2), ("pictures", 2), ("file", "metrics.json"), ("close", True)],
    ]
    values, mark = recorder.sent[1][2], run.metrics()["auroc_macro"]
    ends = ("test/auroc_macro_low", "test/auroc_macro", "test/auroc_macro_high")
    assert [values[end] for end in ends] == [mark["low"], mark["value"], mark["high"]]
    assert set(LABELS) <= {name.removeprefix("test/auroc_") for name in values}


def test_what_could_not_be_sent_goes_with_the_next_epoch(
    run: RunFolder, recorder: type[Recorder], capsys: pytest.CaptureFixture[str]
) -> None:
    with start_tracker("recorder", run, config("recorder")) as tracker:
        for epoch in (1, 2, 3):
            recorder.broken = {"numbers", "pictures"} if epoch < 3 else set()
            tracker.log_epoch(record(epoch, epoch), answers(epoch), TARGETS, LABELS)
    assert [what[1] for what in recorder.sent if what[0] == "numbers"] == [1, 2, 3]
    assert capsys.readouterr().err.count("The recorder did not take everything (no numbers and so on)") == 1


@pytest.mark.parametrize("broken", ["start", "numbers", "pictures", "file", "close"])
def test_a_tracker_that_fails_stops_nothing(
    broken: str, run: RunFolder, recorder: type[Recorder], capsys: pytest.CaptureFixture[str]
) -> None:
    recorder.broken = {broken}
    train("recorder", run, {1: 1.0, 2: 2.0})
    assert len(run.history()) == 2
    assert capsys.readouterr().err.count(f"no {broken} and so on") == 1
    evaluate("recorder", run, 2.0)


def test_an_interrupted_training_is_not_finished(run: RunFolder, recorder: type[Recorder]) -> None:
    with pytest.raises(KeyboardInterrupt), start_tracker("recorder", run, config("recorder")) as tracker:
        tracker.log_epoch(record(1, 1.0), answers(1.0), TARGETS, LABELS)
        raise KeyboardInterrupt
    assert recorder.kinds()[-2:] == [("pictures", 1), ("close", False)]


def test_a_resumed_training_goes_on(run: RunFolder, recorder: type[Recorder]) -> None:
    train("recorder", run, {1: 1.0, 2: 2.0})
    run.resume_state.touch()
    recorder.sent.clear()
    train("recorder", run, {3: 1.5, 4: 3.0})
    assert recorder.kinds()[:4] == [("start", 3), ("numbers", 3), ("numbers", 4), ("pictures", 4)]


def test_a_session_that_cannot_resume_sends_the_past_again(
    run: RunFolder, recorder: type[Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Recorder, "resumes", False)
    train("recorder", run, {1: 1.0, 2: 2.0})
    recorder.sent.clear()
    evaluate("recorder", run, 2.0)
    assert recorder.kinds()[:4] == [("start", None), ("numbers", 1), ("numbers", 2), ("numbers", 2)]
    assert [what[1] for what in recorder.sent if what[0] == "file"][-1] == "metrics.json"
    assert len([what for what in recorder.sent if what[0] == "file"]) == 4


def test_only_the_main_process_tracks(
    run: RunFolder, recorder: type[Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("accelerate.PartialState", lambda: types.SimpleNamespace(is_main_process=False))
    train("recorder", run, {1: 1.0})
    assert recorder.sent == []


def events(run: RunFolder) -> EventAccumulator:
    found = EventAccumulator(str(run.path / "tensorboard"), size_guidance={"images": 0, "scalars": 0})
    return found.Reload()


def test_tensorboard_holds_scalars_and_pictures(run: RunFolder) -> None:
    train("tensorboard", run, {1: 1.0, 2: 0.5, 3: 2.0})
    evaluate("tensorboard", run, 2.0)
    found = events(run)
    assert [(event.step, pytest.approx(event.value)) for event in found.Scalars("validation/auroc_macro")] == [
        (past["epoch"], past["validation_auroc_macro"]) for past in run.history()
    ]
    assert found.Scalars("test/accuracy_low")[0].value == pytest.approx(run.metrics()["accuracy"]["low"])
    assert [event.step for event in found.Images("validation/roc")] == [1, 3]
    picture = Image.open(io.BytesIO(found.Images("test/confusion")[0].encoded_image_string))
    assert min(picture.size) > 300
    assert len(np.unique(np.asarray(picture))) > 50, "the picture is empty"


def test_tensorboard_hides_epochs_that_are_trained_anew(run: RunFolder) -> None:
    train("tensorboard", run, {1: 1.0, 2: 2.0})
    run.write_history(run.history()[:1])
    run.resume_state.touch()
    train("tensorboard", run, {2: 1.5})
    assert [event.step for event in events(run).Scalars("train/loss")] == [1, 2]


def test_training_and_evaluation_are_mirrored(small_set: Path) -> None:
    import deeplense

    folder = deeplense.train(dataset=str(small_set), epochs=1, batch_size=24, device="cpu", tracker="tensorboard")
    deeplense.evaluate(run_id=str(folder), device="cpu")
    run = RunFolder(folder)
    marks = len(events(run).Scalars("test/accuracy"))
    deeplense.evaluate(run_id=str(folder), device="cpu", split="train")
    assert len(events(run).Scalars("test/accuracy")) == marks, "marks of training images are no marks of the test"
    tags = events(run).Tags()
    assert {"train/loss", "validation/accuracy", "validation/auroc_cdm", "test/auroc_macro_high"} <= set(
        tags["scalars"]
    )
    assert {"validation/roc", "validation/confusion", "test/roc", "test/confusion"} <= set(tags["images"])


def test_wandb_works_offline_without_login(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    wandb = pytest.importorskip("wandb")
    train("wandb", run, {1: 1.0, 2: 2.0})
    evaluate("wandb", run, 2.0)
    wandb.teardown()  # which waits until its background process has written everything
    assert capsys.readouterr().err.count("W&B: offline (not logged in); to send it later: wandb sync") == 2
    trained, evaluated = sorted((run.path / "wandb").glob("offline-run-*-abc12345"))
    log = (trained / "run-abc12345.wandb").read_bytes()
    for text in ("validation/auroc_macro", "validation/roc", "model_ii", "residual_cnn", "model.safetensors"):
        assert text.encode() in log
    for name in ("config.json", "model.safetensors", "history.json"):
        assert (trained / "files" / name).read_bytes() == (run.path / name).read_bytes()
    assert len(list((trained / "files").rglob("roc_*.png"))) == 2
    again = (evaluated / "run-abc12345.wandb").read_bytes()
    assert b"validation/auroc_macro" in again
    assert b"test/auroc_macro_low" in again


def test_wandb_goes_offline_where_nothing_answers(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    train("wandb", run, {1: 1.0})
    assert "W&B: offline (no answer from http://127.0.0.1:9" in capsys.readouterr().err
    assert len(list((run.path / "wandb").glob("offline-run-*-abc12345"))) == 1


def test_mlflow_keeps_one_run(run: RunFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    train("mlflow", run, {1: 1.0, 2: 2.0})
    run.resume_state.touch()
    train("mlflow", run, {3: 3.0})
    evaluate("mlflow", run, 3.0)
    client = mlflow.MlflowClient()
    (found,) = client.search_runs([client.get_experiment_by_name("deeplense").experiment_id])
    assert found.info.run_name == "abc12345"
    assert found.info.status == "FINISHED"
    assert found.data.params["lr"] == "0.001"
    steps = client.get_metric_history(found.info.run_id, "validation/auroc_a _strange_ name")
    assert [metric.step for metric in steps] == [1, 2, 3]
    assert found.data.metrics["test/auroc_macro_low"] == pytest.approx(run.metrics()["auroc_macro"]["low"])
    files = {file.path for file in client.list_artifacts(found.info.run_id)}
    assert {"config.json", "model.safetensors", "history.json", "metrics.json", "images"} <= files

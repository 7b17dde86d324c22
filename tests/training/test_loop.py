"""The loop: exact after a kill at any moment, the same in one process and in two, honest about what went wrong."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from deeplense.cli import main
from deeplense.core.errors import CorruptFile, DeepLenseError, Diverged
from deeplense.core.files import sha256
from deeplense.core.run_folder import RunFolder
from deeplense.evaluate import evaluate
from deeplense.train import train
from deeplense.training.loop import Trainer

CLOCKS = ("seconds", "images_per_second")
OPTIONS: dict[str, Any] = {"epochs": 3, "batch_size": 24, "dropout": 0.3, "crop": 32, "device": "cpu"}
FLAGS = [f"--{name.replace('_', '-')}={value}" for name, value in OPTIONS.items()]
MOMENTS = {
    "before anything": ("config.json", 1, "before"),
    "at the start": ("config.json", 1, "after"),
    "weights of epoch 1 without their state": ("model.safetensors", 1, "after"),
    "while the state of epoch 1 is written": ("resume.pt", 1, "before"),
    "after epoch 1": ("history.json", 1, "after"),
    "state of epoch 2 without its history": ("resume.pt", 2, "after"),
    "while the state of epoch 3 is written": ("resume.pt", 3, "before"),
    "after the last epoch": ("history.json", 3, "after"),
}


def record(run: Path) -> list[dict[str, float]]:
    """Return the history without what the clock says."""
    return [{k: v for k, v in epoch.items() if k not in CLOCKS} for epoch in RunFolder(run).history()]


# ---- killed and gone on with

KILLED = """
import json, os, signal, sys
from pathlib import Path
from deeplense.cli import main
from deeplense.models.backbone import MODELS
from deeplense.training import devices, loop, trackers  # imported once, for all the children

assert "residual_cnn" in MODELS

root, flags, moments = Path(sys.argv[1]), json.loads(sys.argv[2]), json.loads(sys.argv[3])


def child(run, moment=None):
    if (process := os.fork()) == 0:
        if moment:
            die_at(*moment)
        try:
            os._exit(main(["train", *flags, "--out", str(run)]))
        except BaseException as error:
            print(f"Traceback of {error!r}", file=sys.stderr, flush=True)
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def die_at(name, count, when):
    replace, seen = Path.replace, 0

    def hooked(self, target):
        nonlocal seen
        seen += target.name == name
        now = target.name == name and seen == count
        if now and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        replace(self, target)
        if now:
            os.kill(os.getpid(), signal.SIGKILL)

    Path.replace = hooked


assert child(root / "uninterrupted") == 0
for name, moment in moments.items():
    assert child(root / name, moment) == -signal.SIGKILL, name
    assert child(root / name) == 0, name
assert child(root / "twice", ["history.json", 1, "after"]) == -signal.SIGKILL
assert child(root / "twice", ["history.json", 1, "after"]) == -signal.SIGKILL
assert child(root / "twice") == 0
"""


@pytest.fixture(scope="module")
def killed(small_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of runs: one uninterrupted, the others killed at the moment of their name and gone on with."""
    root = tmp_path_factory.mktemp("killed")
    flags = json.dumps(["--dataset", str(small_set), *FLAGS])
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(root), flags, json.dumps(MOMENTS)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.findall(r"resuming after epoch (\d)", done.stderr) == ["1", "2", "2", "3", "1", "2"], done.stderr
    return root


@pytest.mark.parametrize("moment", [*MOMENTS, "twice"])
def test_a_killed_run_ends_as_if_nothing_had_happened(killed: Path, moment: str) -> None:
    files = {path.name: sha256(path) for path in (killed / "uninterrupted").iterdir()}
    assert set(files) == {"config.json", "history.json", "model.safetensors"}
    found = {path.name for path in (killed / moment).iterdir() if not path.name.endswith(".part")}
    assert found == set(files)
    assert sha256(killed / moment / "model.safetensors") == files["model.safetensors"], "the weights differ"
    assert record(killed / moment) == record(killed / "uninterrupted")


def test_a_run_that_is_killed_leaves_no_rubbish(killed: Path) -> None:
    for moment in MOMENTS:
        left = [path.name for path in (killed / moment).iterdir() if path.name.endswith(".part")]
        assert not left, f"{left} after: {moment}"


# ---- what can be wrong with the state


@pytest.fixture
def interrupted(small_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a run that was interrupted after its first epoch."""
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("deeplense.training.loop.Trainer._report", interrupt)
        train(dataset=str(small_set), out=tmp_path / "run", **OPTIONS)
    return tmp_path / "run"


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


class Evil:
    """Does something when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "of another network", "without an entry", "evil"])
def test_a_damaged_state_is_named_and_nothing_is_executed(interrupted: Path, damage: str) -> None:
    path = interrupted / "resume.pt"
    content = torch.load(path, weights_only=True)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-1000])
    elif damage == "of another network":
        torch.save(content | {"network": {"weight": torch.zeros(1)}}, path)
    elif damage == "without an entry":
        torch.save({"network": content["network"]}, path)
    elif damage == "evil":
        torch.save(content | {"state": Evil(interrupted / "executed")}, path)
    else:
        path.write_bytes(b"" if damage == "empty" else b"not a state")
    with pytest.raises(CorruptFile, match=r"resume\.pt") as caught:
        train(resume=str(interrupted))
    assert "remove it" in caught.value.remedy
    assert not (interrupted / "executed").exists(), "code from the file was executed"


def test_without_its_state_a_run_begins_again(interrupted: Path, killed: Path) -> None:
    (interrupted / "resume.pt").unlink()
    (interrupted / "model.safetensors").unlink()
    train(resume=str(interrupted))
    assert [epoch["epoch"] for epoch in record(interrupted)] == [1, 2, 3]


def test_resume_by_name_is_the_same_as_the_same_command_again(interrupted: Path, small_set: Path) -> None:
    copy = interrupted.with_name("copy")
    shutil.copytree(interrupted, copy)
    config = json.loads((copy / "config.json").read_text())
    config["asked"]["out"] = str(copy)
    (copy / "config.json").write_text(json.dumps(config))
    assert train(resume=str(interrupted)) == interrupted
    assert train(dataset=str(small_set), out=copy, **OPTIONS) == copy
    assert sha256(interrupted / "model.safetensors") == sha256(copy / "model.safetensors")
    assert record(interrupted) == record(copy)


# ---- ends


@pytest.mark.parametrize("batch_size", [24, 72])
def test_a_loss_that_is_no_number_ends_the_run_with_advice(
    small_set: Path, tmp_path: Path, batch_size: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """With one step per epoch the loss is still finite when the weights no longer are."""
    options = {"dataset": str(small_set), "epochs": 2, "batch_size": batch_size, "device": "cpu", "optimizer": "sgd"}
    with pytest.raises(DeepLenseError, match=r"nan|inf|not finite") as caught:
        train(out=tmp_path / "run", lr=1e30, **options)
    assert isinstance(caught.value, Diverged) == (batch_size == 24)
    assert "--lr" in caught.value.remedy
    assert not (tmp_path / "run" / "model.safetensors").exists(), "broken weights were kept"
    flags = [f"--{name}={value}" for name, value in options.items()]
    assert main(["train", *flags, "--lr=1e30", "--out", str(tmp_path / "other")]) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("patience", [1, 2])
def test_patience_stops_after_so_many_epochs_without_improvement(
    small_set: Path, tmp_path: Path, patience: int
) -> None:
    frozen: dict[str, Any] = {"dataset": str(small_set), "tune": False, "lr": 1e-30, "batch_size": 24, "device": "cpu"}
    run = RunFolder(train(epochs=5, patience=patience, out=tmp_path / "run", **frozen))
    assert len(run.history()) == 1 + patience
    assert run.is_finished()


def test_the_kept_weights_are_those_of_the_best_epoch(
    small_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted = iter([0.5, 0.9, 0.7, 0.9])
    monkeypatch.setattr("deeplense.tasks.classify.Classify.marks", lambda *_: {"auroc_macro": next(scripted)})
    options = OPTIONS | {"epochs": 4, "batch_size": 12}
    run = RunFolder(train(dataset=str(small_set), out=tmp_path / "run", **options))
    batches = load_file(run.weights)["backbone.stages.0.1.num_batches_tracked"]
    assert int(batches) == 2 * 6, "the batches counted belong to another epoch than the second, of six steps each"


def test_the_record_of_an_epoch(small_run: Path) -> None:
    history = RunFolder(small_run).history()
    assert [record["epoch"] for record in history] == [1, 2]
    names = {"accuracy", "auroc_macro", "auroc_micro", "auroc_no_sub", "auroc_cdm", "auroc_axion", "ece", "loss"}
    assert set(history[0]) == {"epoch", "lr", "train_loss", *CLOCKS} | {f"validation_{name}" for name in names}
    assert all(isinstance(value, int | float) for record in history for value in record.values())


# ---- several processes


def test_two_processes_learn_what_one_does(small_set: Path, tmp_path: Path) -> None:
    arguments = ["train", "--dataset", str(small_set), "--model_source", "timm", "--model_name", "convnext_atto"]
    arguments += ["--device", "cpu", "--dropout", "0", "--epochs", "2"]
    arguments += ["--batch_size", "24", "--random_zoom", "1.1", "--crop", "32"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*torchrun, "-m", "deeplense", *arguments, "--out", str(tmp_path / "two")],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("best epoch") == 1, "only one process should speak"
    assert main([*arguments, "--out", str(tmp_path / "one")]) == 0
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    difference = {name: float((one[name] - two[name]).abs().max()) for name in one}
    assert max(difference.values()) < 1e-5, max(difference.items(), key=lambda item: item[1])
    for single, double in zip(record(tmp_path / "one"), record(tmp_path / "two"), strict=True):
        assert double == pytest.approx(single, abs=1e-4)


# ---- marks of a run that goes on


def test_what_was_said_of_a_run_is_forgotten_when_its_training_goes_on(
    small_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Stopped(Exception):
        pass

    save = Trainer._save

    def save_and_stop(self: Trainer, *args: Any) -> None:
        save(self, *args)
        raise Stopped

    with monkeypatch.context() as patched, pytest.raises(Stopped):
        patched.setattr(Trainer, "_save", save_and_stop)
        train(dataset=str(small_set), out=tmp_path / "run", **OPTIONS | {"epochs": 2})
    run = RunFolder(tmp_path / "run")
    evaluate(run_id=str(run.path), device="cpu")
    assert "has not come to its end" in capsys.readouterr().err
    assert run.predictions.is_file() and run.calibration.is_file()
    train(resume=str(run.path))
    assert not run.predictions.exists() and not run.calibration.exists()
    assert not (run.path / "metrics.json").exists() and not (run.path / "roc.csv").exists()


@pytest.mark.parametrize("what", ["mark", "weights"])
def test_numbers_that_are_none_end_the_run_before_they_are_stored(
    small_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    if what == "mark":
        monkeypatch.setattr("deeplense.tasks.classify.Classify.marks", lambda *_: {"auroc_macro": math.inf})
    else:
        epoch = Trainer._epoch

        def broken(self: Trainer, *args: Any) -> Any:
            record = epoch(self, *args)
            next(self.network.parameters()).data.fill_(math.nan)
            return record

        monkeypatch.setattr(Trainer, "_epoch", broken)
    with pytest.raises(Diverged, match=r"inf in epoch 1|no numbers in epoch 1"):
        train(dataset=str(small_set), out=tmp_path / "run", **OPTIONS)
    assert not (tmp_path / "run" / "resume.pt").exists() and not (tmp_path / "run" / "history.json").exists()

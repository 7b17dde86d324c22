"""A run that is on W&B and not here is fetched whole, or the error says why not. W&B itself is played by a stand-in."""

from __future__ import annotations

import io
import os
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from deeplense.core.errors import MissingFile
from deeplense.core.files import CannotWrite
from deeplense.training.trackers import fetch_from_wandb
from deeplense.training.trackers.wandb import is_logged_in
from deeplense.training.trained import locate_run

CONTENT = {"config.json": b'{"task": "classify"}', "model.safetensors": b"weights", "history.json": b"[]"}


class StoredFile:
    """A file of a run on the stand-in; `sent` is what arrives of it."""

    def __init__(self, name: str, content: bytes, sent: bytes | Exception | None = None) -> None:
        self.name, self.size, self.sent = name, len(content), content if sent is None else sent

    def download(self, root: str, replace: bool, api: Any) -> io.BytesIO:
        if isinstance(self.sent, Exception):
            raise self.sent
        (Path(root) / self.name).write_bytes(self.sent)
        return io.BytesIO(self.sent)


class Wandb(types.ModuleType):
    """The stand-in."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.__file__ = "wandb.py"
        self.asked: list[str] = []
        self.files = [StoredFile(name, content) for name, content in CONTENT.items()]
        self.error: Exception | None = None

    def setup(self) -> Any:
        return types.SimpleNamespace(settings=types.SimpleNamespace(base_url="https://api.new.example"))

    def Api(self, timeout: float) -> Any:
        return types.SimpleNamespace(run=self._run)

    def _run(self, path: str) -> Any:
        self.asked.append(path)
        if self.error is not None:
            raise self.error
        return types.SimpleNamespace(files=lambda: self.files)


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Wandb:
    for name in [name for name in os.environ if name.startswith(("WANDB", "NETRC"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))  # which is not there
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.setattr("deeplense.training.trackers.fetch.require_network", lambda wandb: None)
    here = Path("runs/1g9hi3nn")
    here.mkdir(parents=True)
    (here / "config.json").write_text("{}")
    stand_in = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", stand_in)
    return stand_in


def left_behind() -> list[str]:
    return sorted(path.name for path in Path("runs").iterdir())


def test_a_run_is_fetched_whole(wandb: Wandb) -> None:
    run = locate_run("1g9hi3n6")
    assert run.path == Path("runs/1g9hi3n6")
    assert {path.name: path.read_bytes() for path in run.path.iterdir()} == CONTENT
    assert wandb.asked == ["deeplense/1g9hi3n6"]
    assert left_behind() == ["1g9hi3n6", "1g9hi3nn"]
    assert run.path.stat().st_mode == Path("runs/1g9hi3nn").stat().st_mode
    assert locate_run("1g9hi3n6") == run
    assert len(wandb.asked) == 1, "a run that is here is not asked for again"


def test_entity_and_project_come_from_the_environment(wandb: Wandb, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_ENTITY", "somebody")
    monkeypatch.setenv("WANDB_PROJECT", "lenses")
    assert fetch_from_wandb("1g9hi3n6") is not None
    assert wandb.asked == ["somebody/lenses/1g9hi3n6"]


def test_nobody_is_asked_without_login(wandb: Wandb, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY")
    with pytest.raises(MissingFile, match="1g9hi3nn"):
        locate_run("1g9hi3n6")
    assert wandb.asked == []


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_nobody_is_asked_in_offline_mode(mode: str, wandb: Wandb, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", mode)
    assert fetch_from_wandb("1g9hi3n6") is None
    assert wandb.asked == []


@pytest.mark.parametrize("name", ["runs/other", "../1g9hi3n6", "/tmp", "", ".hidden", "a b", "demo@deeplense"])
def test_a_path_is_no_id(name: str, wandb: Wandb) -> None:
    assert fetch_from_wandb(name) is None
    assert wandb.asked == []


def test_without_the_package_nothing_is_fetched(wandb: Wandb, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert fetch_from_wandb("1g9hi3n6") is None


def test_the_error_keeps_the_nearest_ids_and_says_why(wandb: Wandb) -> None:
    wandb.error = ValueError("Could not find run <Run deeplense/1g9hi3n6 (not found)>")
    with pytest.raises(
        MissingFile, match=r"(?s)no run is called '1g9hi3n6', and W&B .*Could not find.*1g9hi3nn.*ENTITY"
    ):
        locate_run("1g9hi3n6")
    assert left_behind() == ["1g9hi3nn"]


def test_an_unreachable_server_is_an_error_at_once(wandb: Wandb, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    with pytest.raises(MissingFile, match=r"no answer from http://127\.0\.0\.1:9"):
        locate_run("1g9hi3n6")


def test_pickled_weights_are_not_fetched(wandb: Wandb) -> None:
    wandb.files = [StoredFile("config.yaml", b"x"), StoredFile("best_model.pt", b"x")]
    with pytest.raises(
        MissingFile, match=r"(?s)has no config\.json; it has best_model\.pt, config\.yaml.*can carry code"
    ):
        locate_run("1g9hi3n6")
    wandb.files = [StoredFile(name, b"" if "model" in name else content) for name, content in CONTENT.items()]
    with pytest.raises(MissingFile, match=r"has no model\.safetensors"):
        locate_run("1g9hi3n6")


@pytest.mark.parametrize("sent", [b"weig", ConnectionError("gone"), ValueError("gone"), OSError(28, "no space")])
def test_a_download_that_breaks_leaves_nothing(sent: bytes | Exception, wandb: Wandb) -> None:
    wandb.files[1] = StoredFile("model.safetensors", CONTENT["model.safetensors"], sent)
    with pytest.raises((MissingFile, CannotWrite)):
        locate_run("1g9hi3n6")
    assert left_behind() == ["1g9hi3nn"]


def test_a_folder_in_the_way_is_kept(wandb: Wandb) -> None:
    theirs = Path("runs/1g9hi3n6/notes.txt")
    theirs.parent.mkdir()
    theirs.write_text("mine")
    with pytest.raises(CannotWrite):
        fetch_from_wandb("1g9hi3n6")
    assert theirs.read_text() == "mine"
    assert left_behind() == ["1g9hi3n6", "1g9hi3nn"]


@pytest.mark.parametrize(
    ("host", "expected"),
    [("api.wandb.ai", True), ("api.new.example", True), ("github.com", False), (None, False)],
)
def test_a_login_is_found_in_netrc(
    host: str | None, expected: bool, wandb: Wandb, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("WANDB_API_KEY")
    text = "machine" if host is None else f"machine {host} login user password secret\n"  # None: not a sound file
    (tmp_path / "netrc").write_text(text)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert is_logged_in(wandb) is expected

"""Files: whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from deeplense.core.errors import CorruptFile, MissingFile
from deeplense.core.files import (
    CannotWrite,
    alone,
    atomic,
    claimed,
    read_json,
    remove_leftovers,
    sha256,
    shown,
    write_json,
)

OLD = '{"old": true}\n'


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Return a file that is there already, in a folder of its own."""
    path = tmp_path / "file.json"
    path.write_text(OLD)
    return path


def assert_only_the_old_file_is_there(path: Path) -> None:
    assert path.read_text() == OLD
    assert list(path.parent.iterdir()) == [path], "a failed write left something behind"


def in_another_process(code: str, path: Path) -> subprocess.CompletedProcess[str]:
    program = f"from pathlib import Path\nfrom deeplense.core.files import *\npath = Path({str(path)!r})\n{code}"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)


def test_a_disk_that_fills_while_writing_leaves_the_old_file(old: Path) -> None:
    # the kernel refuses the write after 4 kB, as a full disk does
    code = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    write_json(path, list(range(100_000)))
except CannotWrite as error:
    print(error)
"""
    done = in_another_process(code, old)
    assert done.returncode == 0, done.stderr
    assert str(old) in done.stdout
    assert "free some space" in done.stdout
    assert_only_the_old_file_is_there(old)


@pytest.mark.parametrize("call", ["fsync", "replace", "mkstemp"])
def test_a_disk_that_is_full_at_the_last_step_leaves_the_old_file(
    old: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(
        {"fsync": "os.fsync", "replace": "pathlib.Path.replace", "mkstemp": "tempfile.mkstemp"}[call], refuse
    )
    with pytest.raises(CannotWrite, match="No space left") as caught:
        write_json(old, {"new": True})
    assert isinstance(caught.value.__cause__, OSError)
    monkeypatch.undo()
    assert_only_the_old_file_is_there(old)


def test_any_other_failure_passes_through_and_leaves_the_old_file(old: Path) -> None:
    with pytest.raises(KeyboardInterrupt), atomic(old) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert_only_the_old_file_is_there(old)


def test_a_killed_writer_leaves_the_old_file_and_its_leftover_can_be_removed(old: Path) -> None:
    code = """
import os, signal
with atomic(path) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert in_another_process(code, old).returncode == -signal.SIGKILL
    assert old.read_text() == OLD
    assert len(list(old.parent.iterdir())) == 2, "the killed writer should have left its temporary file"
    remove_leftovers(old.parent)
    assert_only_the_old_file_is_there(old)


def test_a_living_writer_keeps_its_temporary_file(old: Path) -> None:
    with atomic(old) as temporary:
        temporary.write_text("new")
        remove_leftovers(old.parent)
        assert temporary.exists()
    assert old.read_text() == "new"


def test_two_writers_at_once_leave_one_whole_file(old: Path) -> None:
    with atomic(old) as first, atomic(old) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert old.read_text() == "first", "the writer that ended last should have won"
    assert list(old.parent.iterdir()) == [old]


def test_a_new_file_is_in_its_place_only_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file.bin"
    with atomic(path) as temporary:
        temporary.write_bytes(b"whole")
        assert not path.exists()
    assert path.read_bytes() == b"whole"


def test_a_new_file_has_the_permissions_of_any_other(tmp_path: Path) -> None:
    mask = os.umask(0o027)
    try:
        write_json(tmp_path / "file.json", 1)
    finally:
        os.umask(mask)
    assert (tmp_path / "file.json").stat().st_mode & 0o777 == 0o640


def test_a_file_in_place_of_the_folder_is_an_error_for_people(old: Path) -> None:
    with pytest.raises(CannotWrite, match="could not be written"):
        write_json(old / "below.json", 1)
    assert_only_the_old_file_is_there(old)


def test_json_round_trip_keeps_letters(tmp_path: Path) -> None:
    value = {"name": "Sérsic θ_E", "list": [1, 2.5, None, True]}
    write_json(tmp_path / "file.json", value)
    assert read_json(tmp_path / "file.json") == value
    assert "Sérsic θ_E" in (tmp_path / "file.json").read_text(encoding="utf-8")


def test_json_refuses_what_is_not_json(old: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(old, {"loss": float("nan")})
    assert_only_the_old_file_is_there(old)


def test_reading_what_is_not_there_or_not_json(tmp_path: Path) -> None:
    with pytest.raises(MissingFile, match=r"nothing\.json"):
        read_json(tmp_path / "nothing.json")
    for name, content in (("half.json", b'{"a": 1'), ("binary.json", b"\xff\xfe\x00")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CorruptFile, match=name) as caught:
            read_json(tmp_path / name)
        assert caught.value.path == tmp_path / name


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000
    (tmp_path / "file").write_bytes(content)
    assert sha256(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_names_with_stray_bytes_can_be_shown() -> None:
    odd, sound = Path(os.fsdecode(b"in/caf\xe9.npy")), Path("in/café.npy")
    assert shown(odd) == "in/caf\ufffd.npy" and shown(sound) == str(sound)
    assert shown(f"{odd}: no image of {sound}") == "in/caf\ufffd.npy: no image of in/café.npy"


def test_a_folder_is_held_by_one_process_at_a_time(tmp_path: Path) -> None:
    program = (
        f"from pathlib import Path\nfrom deeplense.core.files import alone\nwith alone(Path({str(tmp_path)!r})): pass"
    )
    with alone(tmp_path):
        other = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
        assert other.stderr is not None and "waiting for another process" in other.stderr.readline()
        assert other.poll() is None, "the second process went in while the first was there"
    assert other.communicate(timeout=60) is not None and other.returncode == 0
    assert list(tmp_path.iterdir()) == [], "the lock left something behind"


def test_a_claimed_folder_is_nobody_elses_until_the_block_ends(tmp_path: Path) -> None:
    code = "with claimed(path) as mine: print(mine)"
    with claimed(tmp_path / "new") as mine:
        assert mine
        assert in_another_process(code, tmp_path / "new").stdout.strip() == "False"
    assert in_another_process(code, tmp_path / "new").stdout.strip() == "True"


def test_a_killed_holder_lets_go(tmp_path: Path) -> None:
    code = """
import os, signal
with alone(path):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert in_another_process(code, tmp_path / "new").returncode == -signal.SIGKILL
    with alone(tmp_path / "new"):
        assert (tmp_path / "new").is_dir()


def test_a_file_system_without_locks_is_used_without_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", refuse)
    with alone(tmp_path / "new"):
        assert (tmp_path / "new").is_dir()

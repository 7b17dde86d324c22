"""A dataset made in parts, by processes that know nothing of each other: the files of one process."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from deeplense.cli import main
from deeplense.core.errors import InvalidDataset, InvalidOption
from deeplense.core.files import atomic, sha256
from deeplense.data.dataset import open_dataset
from deeplense.simulate import simulate

ORDERS = [("1/2", "2/2"), ("2/2", "1/2"), ("3/3", "1/3", "2/3"), tuple(f"{i}/7" for i in (7, 2, 5, 1, 3, 6, 4))]


def digests(folder: Path) -> dict[str, str]:
    return {path.name: sha256(path) for path in folder.iterdir()}


@pytest.mark.parametrize("parts", ORDERS, ids=" ".join)
def test_parts_in_any_order_make_the_files_of_one_process(
    parts: tuple[str, ...], tiny: str, whole: dict[str, str], small_shards: None, tmp_path: Path
) -> None:
    for part in parts:
        assert set(digests(tmp_path)) != set(whole), "a part too many"
        assert simulate(recipe=tiny, out=tmp_path, shard=part) == tmp_path
    assert digests(tmp_path) == whole


def test_a_part_makes_its_shards_and_no_other(
    tiny: str, small_shards: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    simulate(recipe=tiny, out=tmp_path, shard="2/3")
    assert set(digests(tmp_path)) == {"unfinished.json", "catalogue.parquet", "shard-00001.h5"}
    said = capsys.readouterr().err
    assert "part 2 of 3 is done; 3 of 4 shards are missing" in said
    with pytest.raises(InvalidDataset, match="unfinished"):
        open_dataset(tmp_path)


def test_one_process_finishes_what_parts_began(
    tiny: str, whole: dict[str, str], small_shards: None, tmp_path: Path
) -> None:
    simulate(recipe=tiny, out=tmp_path, shard="2/3")
    made = (tmp_path / "shard-00001.h5").stat().st_mtime_ns
    simulate(recipe=tiny, out=tmp_path)
    assert digests(tmp_path) == whole and (tmp_path / "shard-00001.h5").stat().st_mtime_ns == made


def test_a_part_of_a_complete_set_has_nothing_to_do(
    tiny: str, whole: dict[str, str], small_shards: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    simulate(recipe=tiny, out=tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    simulate(recipe=tiny, out=tmp_path, shard="2/3")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
    assert "is complete" in capsys.readouterr().err


def test_parts_mend_a_damaged_set(tiny: str, whole: dict[str, str], small_shards: None, tmp_path: Path) -> None:
    simulate(recipe=tiny, out=tmp_path)
    for name in ("shard-00000.h5", "shard-00003.h5", "catalogue.parquet"):
        (tmp_path / name).write_bytes(b"")
    simulate(recipe=tiny, out=tmp_path, shard="2/2")
    assert "manifest.json" not in digests(tmp_path), "damaged files are vouched for"
    simulate(recipe=tiny, out=tmp_path, shard="1/2")
    assert digests(tmp_path) == whole


def test_another_set_is_refused(tiny: str, small_shards: None, tmp_path: Path) -> None:
    simulate(recipe=tiny, out=tmp_path, shard="1/2")
    before = digests(tmp_path)
    with pytest.raises(InvalidDataset, match="seed"):
        simulate(recipe=tiny, out=tmp_path, shard="2/2", seed=1)
    assert digests(tmp_path) == before


def test_a_part_leaves_the_temporary_files_of_others_alone(
    tiny: str, whole: dict[str, str], small_shards: None, tmp_path: Path
) -> None:
    simulate(recipe=tiny, out=tmp_path, shard="3/3")
    dead = tmp_path / ".shard-00001.h5.abcd1234.part"
    dead.write_bytes(b"")
    with suppress(KeyError), atomic(tmp_path / "shard-00000.h5") as growing:
        simulate(recipe=tiny, out=tmp_path, shard="2/3")
        assert growing.exists() and not dead.exists()
        raise KeyError
    simulate(recipe=tiny, out=tmp_path, shard="1/3")
    assert digests(tmp_path) == whole


@pytest.mark.parametrize("shard", ["0/3", "4/3", "0/0", "x", "3", "1/", "-1/3", "1/3/5", "1.0/3", "1 / 3", ""])
def test_what_is_no_part_is_an_error(shard: str, tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InvalidOption) as caught:
        simulate(recipe=tiny, out=tmp_path / "set", shard=shard)
    assert f"'{shard}'" in caught.value.found and "i/N" in caught.value.expected
    assert not (tmp_path / "set").exists()
    assert main(["simulate", tiny, "--out", str(tmp_path / "set"), f"--shard={shard}"]) == 2
    assert "--shard 1/8" in capsys.readouterr().err


PROCESSES = """
import os, signal, sys
from pathlib import Path
from deeplense.cli import main
from deeplense.data import shards
from deeplense.recipes import draw  # imported once, for all the children

root, recipe = Path(sys.argv[1]), sys.argv[2]
shards.ROWS_PER_SHARD = 8


def child(name, part, accident=lambda: None):
    if (process := os.fork()) == 0:
        accident()
        try:
            os._exit(main(["simulate", recipe, f"--out={root / name}", f"--shard={part}"]))
        except BaseException as error:
            print(f"Traceback of {error!r}", file=sys.stderr, flush=True)
            os._exit(1)
    return process


def die_at(name):
    replace = Path.replace

    def hooked(self, target):
        if target.name == name:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(self, target)

    Path.replace = hooked


def ended(process):
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


for number in range(4):
    processes = [child(f"together-{number}", part) for part in ("3/3", "1/3", "2/3")]
    assert [ended(process) for process in processes] == [0, 0, 0]
processes = [child("twice", part) for part in ("1/2", "2/2", "1/2", "2/2")]
assert [ended(process) for process in processes] == [0, 0, 0, 0]
for name in ("unfinished.json", "catalogue.parquet", "shard-00001.h5", "manifest.json"):
    if name == "manifest.json":
        assert ended(child(name, "1/2")) == 0
    assert ended(child(name, "2/2", lambda: die_at(name))) == -signal.SIGKILL, name
"""


@pytest.fixture(scope="module")
def processes(tiny: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of sets: `together-*` by three processes at once, `FILE` with a part killed as it wrote that."""
    root = tmp_path_factory.mktemp("processes")
    command = [sys.executable, "-c", PROCESSES, str(root), tiny]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=200, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False
    )
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    return root


@pytest.mark.parametrize("name", ["together-0", "together-1", "together-2", "together-3", "twice"])
def test_processes_at_once_make_the_files_of_one(name: str, processes: Path, whole: dict[str, str]) -> None:
    assert digests(processes / name) == whole


@pytest.mark.parametrize("name", ["unfinished.json", "catalogue.parquet", "shard-00001.h5", "manifest.json"])
def test_a_killed_part_is_taken_up_again(
    name: str, processes: Path, tiny: str, whole: dict[str, str], small_shards: None
) -> None:
    left = [path.name for path in (processes / name).iterdir() if path.name.endswith(".part")]
    assert len(left) == 1 and left[0].startswith(f".{name}.")
    for part in ("1/2", "2/2"):
        simulate(recipe=tiny, out=processes / name, shard=part)
    assert digests(processes / name) == whole

"""A dataset made on a Ray cluster: the files of one process, whatever happens to its workers."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deeplense.cli import main
from deeplense.core.errors import InvalidOption
from deeplense.core.files import CannotWrite, sha256
from deeplense.data.shards import shard_name
from deeplense.simulate import simulate
from deeplense.simulation import cluster
from deeplense.simulation.order import Order


class Dying(Order):
    """The worker that first makes shard 1 dies of it."""

    def simulate(self, number: int, *rest: Any) -> Any:
        flag = self.folder.with_suffix(".died")
        if number == 1 and not flag.exists():
            flag.touch()
            os._exit(1)
        return super().simulate(number, *rest)


class Deadly(Order):
    """Every worker that makes shard 1 dies of it."""

    def simulate(self, number: int, *rest: Any) -> Any:
        return os._exit(1) if number == 1 else super().simulate(number, *rest)


class Full(Order):
    """The disk is full at shard 1."""

    def write(self, number: int, *rest: Any) -> int:
        if number == 1:
            raise CannotWrite(f"{shard_name(number)}: no space left", "space", "make some")
        return super().write(number, *rest)


class Wrong(Order):
    """A mistake of ours at shard 1."""

    def write(self, number: int, *rest: Any) -> int:
        return {0: 1}[number]


def digests(folder: Path) -> dict[str, str]:
    return {path.name: sha256(path) for path in folder.iterdir()}


def orders_are(kind: type[Order], patch: pytest.MonkeyPatch) -> None:
    """Let every order be of another kind; Order itself stays where workers look for it."""
    verb = sys.modules["deeplense.simulate"]
    plain = verb._order

    def order(*arguments: Any) -> Order:
        made = plain(*arguments)
        return kind(**{field.name: getattr(made, field.name) for field in dataclasses.fields(made)})

    patch.setattr(verb, "_order", order)


@pytest.fixture(scope="module")
def ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Return Ray, with a cluster of one worker that was started in another folder."""
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("elsewhere"))
        patch.setenv("RAY_AUTH_MODE", "disabled")  # else it writes a file into the home folder
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.delenv("RAY_ADDRESS", raising=False)
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers have no tests to import
        ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, object_store_memory=80 << 20)
    yield ray
    ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    ray.shutdown()


@pytest.fixture(scope="module")
def recipe(write_recipe: Callable[..., str]) -> str:
    """Return a recipe of three whole shards: workers know of no smaller ones."""
    return write_recipe(counts=(700, 10, 10), n_pixels=8)


@pytest.fixture(scope="module")
def whole(recipe: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return digests(simulate(recipe=recipe, out=tmp_path_factory.mktemp("whole") / "set"))


def test_a_cluster_makes_the_files_of_one_process(
    ray: Any, recipe: str, whole: dict[str, str], workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its workers have another current folder."""
    assert main(["simulate", recipe, "--out=set", "--engine=ray"]) == 0
    assert len([name for name in whole if name.startswith("shard")]) == 3
    assert digests(Path("set")) == whole
    assert "3 shards with Ray" in capsys.readouterr().err
    assert ray.is_initialized(), "a cluster that was there is left alone"


def test_a_part_is_made_on_a_cluster(ray: Any, recipe: str, whole: dict[str, str], tmp_path: Path) -> None:
    simulate(recipe=recipe, out=tmp_path, engine="ray", shard="2/2")
    assert set(digests(tmp_path)) == {"unfinished.json", "catalogue.parquet", "shard-00001.h5"}
    simulate(recipe=recipe, out=tmp_path, shard="1/2")
    assert digests(tmp_path) == whole


def test_more_shards_than_the_scheduler_is_told_of(
    ray: Any, recipe: str, whole: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "AT_ONCE", 2)
    assert digests(simulate(recipe=recipe, out=tmp_path / "set", engine="ray")) == whole


def test_a_shard_whose_worker_dies_is_made_by_another(
    ray: Any, recipe: str, whole: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders_are(Dying, monkeypatch)
    folder = simulate(recipe=recipe, out=tmp_path / "set", engine="ray")
    assert (tmp_path / "set.died").exists(), "nothing happened"
    assert digests(folder) == whole


def test_a_shard_whose_workers_always_die_is_one_clear_error(
    ray: Any, recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders_are(Deadly, monkeypatch)
    monkeypatch.setattr(cluster, "RETRIES", 0)
    with pytest.raises(cluster.LostWorker, match="lost 1 time"):
        simulate(recipe=recipe, out=tmp_path, engine="ray")
    assert not (tmp_path / "manifest.json").exists() and not (tmp_path / shard_name(1)).exists()


def test_an_error_in_a_worker_arrives_as_it_is(
    ray: Any,
    recipe: str,
    whole: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with monkeypatch.context() as patch:
        orders_are(Full, patch)
        with pytest.raises(CannotWrite) as caught:
            simulate(recipe=recipe, out=tmp_path, engine="ray")
        assert (caught.value.found, caught.value.remedy) == ("shard-00001.h5: no space left", "make some")
        assert main(["simulate", recipe, f"--out={tmp_path}", "--engine=ray"]) == 2
    said = capsys.readouterr().err
    assert "no space left" in said and "Traceback" not in said
    assert digests(simulate(recipe=recipe, out=tmp_path, engine="ray")) == whole


def test_a_mistake_in_a_worker_says_where(
    ray: Any, recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders_are(Wrong, monkeypatch)
    with pytest.raises(KeyError, match="in write"):
        simulate(recipe=recipe, out=tmp_path, engine="ray", shard="2/2")


def test_a_cluster_of_its_own_is_started_and_ended(
    ray: Any, recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    none_there = {
        "is_initialized": lambda: False,
        "init": lambda **settings: calls.append("init"),
        "shutdown": lambda: calls.append("shutdown"),
    }
    monkeypatch.setattr(cluster, "require_ray", lambda: SimpleNamespace(**vars(ray) | none_there))
    simulate(recipe=recipe, out=tmp_path, engine="ray", shard="3/3")
    assert calls == ["init", "shutdown"]
    simulate(recipe=recipe, out=tmp_path, engine="ray", shard="3/3")
    assert calls == ["init", "shutdown"], "a cluster was started for nothing"


def test_without_ray_the_package_to_install_is_named(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InvalidOption, match="Ray is not installed") as caught:
        simulate(recipe=recipe, out=tmp_path / "set", engine="ray")
    assert caught.value.remedy == "pip install 'deeplense[ray]'"
    assert not (tmp_path / "set").exists(), "something was written"

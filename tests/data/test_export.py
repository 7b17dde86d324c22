"""Export to the DeepLense tree: what comes back is what went out, whatever the source calls its images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deeplense.core.errors import CorruptFile, InvalidDataset, InvalidOption
from deeplense.data.dataset import Dataset, open_dataset
from deeplense.data.export import export_npy_tree


class InMemory(Dataset):
    layout = "in memory"

    def __init__(self, ids: Sequence[str], labels: Sequence[str | None], channels: int = 1) -> None:
        self.path, self.problems = Path("memory"), []
        self.labels = tuple(sorted({label for label in labels if label}))
        self.catalogue = pa.table({"id": ids, "label": labels, "split": pa.nulls(len(ids), pa.string())})
        self.image_shape = (channels, 5, 4)
        self.pixels = np.random.default_rng(0).random((len(ids), *self.image_shape)).astype(np.float32)

    @classmethod
    def recognises(cls, path: Path) -> bool:
        return False

    def images(self, indices: Sequence[int]) -> np.ndarray:
        return self.pixels[np.asarray(indices)]


def pixels_of(dataset: Dataset) -> set[tuple[str, str, bytes]]:
    images = dataset.images(range(len(dataset)))
    rows = zip(dataset.splits(), dataset.catalogue["label"].to_pylist(), images, strict=True)
    return {(split, str(label), image.tobytes()) for split, label, image in rows}


@pytest.mark.parametrize("channels", [1, 3])
def test_what_comes_back_is_what_went_out(tmp_path: Path, channels: int) -> None:
    source = InMemory([f"{n:03}" for n in range(700)], ["cdm", "axion"] * 350, channels)
    seen: list[int] = []
    out = export_npy_tree(source, tmp_path / "tree", seen.append)
    assert seen == [256, 512, 700]
    assert sorted(folder.name for folder in out.iterdir()) == ["test", "train", "validation"]
    first = next((out / "train" / "cdm").iterdir())
    assert np.load(first).shape == ((5, 4) if channels == 1 else (3, 5, 4))  # NumPy itself reads it without pickle
    assert pixels_of(open_dataset(out)) == pixels_of(source)
    assert [path.name for path in tmp_path.iterdir()] == ["tree"], "nothing half-written stays"


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ids=st.lists(st.text(min_size=1, max_size=200), min_size=1, max_size=12, unique=True))
def test_any_id_becomes_a_file_inside_the_tree(tmp_path_factory: pytest.TempPathFactory, ids: list[str]) -> None:
    safe = [identifier.encode("utf-8", "replace").decode() for identifier in ids]
    source = InMemory(sorted(set(safe)), ["../../../cdm"] * len(set(safe)))
    folder = tmp_path_factory.mktemp("export")
    export_npy_tree(source, folder / "tree")
    assert [path.name for path in folder.iterdir()] == ["tree"]
    assert len(list((folder / "tree").rglob("*.npy"))) == len(source)


def test_names_that_collide_stay_apart(tmp_path: Path) -> None:
    source = InMemory(["a/x", "b/x", "A/X", "x y", "x_y", "x" * 500, "."], ["cdm"] * 7)
    export_npy_tree(source, tmp_path / "tree")
    assert len(pixels_of(open_dataset(tmp_path / "tree"))) == 7


def test_an_existing_folder_is_left_alone(tmp_path: Path) -> None:
    source = InMemory(["a"], ["cdm"])
    (tmp_path / "tree").mkdir()
    export_npy_tree(source, tmp_path / "tree")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InvalidOption, match="exists already"):
        export_npy_tree(source, tmp_path / "tree")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidDataset, match="no label"):
        export_npy_tree(InMemory(["a", "b"], ["cdm", None]), tmp_path / "tree")

    def broken(self: InMemory, indices: Sequence[int]) -> np.ndarray:
        raise CorruptFile("x.npy", "junk", "an image")

    monkeypatch.setattr(InMemory, "images", broken)
    with pytest.raises(CorruptFile):
        export_npy_tree(InMemory(["a"], ["cdm"]), tmp_path / "tree")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(Exception, match="No space left on device") as raised:
        export_npy_tree(InMemory(["a"], ["cdm"]), tmp_path / "tree")
    assert type(raised.value).__name__ == "CannotWrite" and list(tmp_path.iterdir()) == []

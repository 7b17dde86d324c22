"""The short audit before training: quick, silent where all is well, and never an error."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from deeplense.auditing import before_training
from deeplense.core.errors import CorruptFile
from deeplense.data.dataset import Dataset, open_dataset


class Survey(Dataset):
    layout = "in memory"

    def __init__(self, n: int, path: Path, offset: float = 0.0, damaged: Sequence[int] = ()) -> None:
        generator = np.random.default_rng(1)
        self.path, self.problems, self.labels, self.image_shape = path, [], ("nonlens", "lens"), (1, 32, 32)
        lens = np.arange(n) % 2
        self.catalogue = pa.table(
            {
                "id": [f"{row}" for row in range(n)],
                "label": np.array(self.labels)[lens],
                "split": np.array(["train", "test", "train", "validation"])[np.arange(n) // 2 % 4],
                "mag_r": generator.normal(size=n) + 5 * lens,
                "mag_g": generator.normal(size=n),
                "theta_E": lens.astype(float),
            }
        )
        self.lens, self.offset, self.damaged = lens, offset, set(damaged)
        self.read = 0

    @classmethod
    def recognises(cls, path: Path) -> bool:
        return False

    def images(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        rows = np.asarray(indices)
        self.read += len(rows)
        if self.damaged & set(rows.tolist()):
            raise CorruptFile(self.path, "cut short", "an image")
        noise = [np.random.default_rng(int(row)).normal(size=self.image_shape) for row in rows]
        return np.stack(noise).astype(np.float32) + np.float32(self.offset) * self.lens[rows, None, None, None]


def subjects(dataset: Dataset, *inputs: str) -> dict[str, str]:
    return {one.subject: one.severity for one in before_training(dataset, inputs)}


def test_only_columns_that_are_read_matter(tmp_path: Path) -> None:
    dataset = Survey(800, tmp_path)
    assert subjects(dataset) == subjects(dataset, "mag_g") == {}
    assert subjects(dataset, "mag_r", "mag_g") == {"mag_r": "leak"}
    assert subjects(dataset, "theta_E") == {"theta_E": "leak"}


def test_a_background_that_tells_the_label(tmp_path: Path) -> None:
    assert subjects(Survey(800, tmp_path, offset=3.0))["background median"] == "leak"


def test_damaged_stamps_are_findings(tmp_path: Path) -> None:
    some = before_training(Survey(200, tmp_path, damaged=[3, 5]))
    assert [(one.kind, one.numbers["images"]) for one in some] == [("unreadable", 2)]
    every = before_training(Survey(200, tmp_path, damaged=range(200)))
    assert [one.kind for one in every] == ["unreadable"] and "cut short" in every[0].words


def test_it_takes_seconds_and_few_images(tmp_path: Path) -> None:
    dataset = Survey(20_000, tmp_path)
    begin = time.process_time()
    assert subjects(dataset, "mag_r", "mag_g") == {"mag_r": "leak"}
    assert time.process_time() - begin < 3
    assert dataset.read <= 256


def test_images_that_are_not_stored_are_not_drawn(tmp_path: Path) -> None:
    dataset = Survey(400, tmp_path / "nowhere")
    assert before_training(dataset) == [] and dataset.read == 0


def test_silent_on_a_simulated_set(small_set: Path) -> None:
    assert before_training(open_dataset(small_set)) == []


def test_silent_on_published_images(test_data: Path) -> None:
    folder = test_data / "test5"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    assert before_training(open_dataset(folder)) == []

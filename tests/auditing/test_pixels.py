"""What is remembered of images, and the findings: damage, background, shift; none on sound images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from deeplense.auditing import pixels
from deeplense.auditing.columns import Rows
from deeplense.core.errors import CorruptFile
from deeplense.data.dataset import Dataset

N = 160
SPLITS = np.array(["train", "train", "validation", "test"] * (N // 4), dtype=object)
ROWS = Rows(np.arange(N) // 4 % 2, ("nonlens", "lens"), SPLITS)


def images(bands: int = 1) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(N, bands, 24, 24)).astype(np.float32) * np.float32(1e-12)


class Some(Dataset):
    """Images in memory, some of which the reader refuses."""

    layout = "images in memory"

    def __init__(self, pixels: np.ndarray, refused: dict[int, str]) -> None:
        self.path, self.pixels, self.refused, self.problems = Path("memory"), pixels, refused, []
        self.image_shape = pixels.shape[1:]
        self.labels = ("nonlens", "lens")
        ids = [f"image {row}" for row in range(len(pixels))]
        labels = [self.labels[k] for k in ROWS.targets]
        self.catalogue = pa.table({"id": ids, "label": labels, "split": list(SPLITS)})

    @classmethod
    def recognises(cls, path: Path) -> bool:
        return False

    def images(self, indices: Sequence[int] | np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        for row in indices:
            if int(row) in self.refused:
                raise CorruptFile("file", self.refused[int(row)], "an image")
        return self.pixels[np.asarray(indices)]


def surveyed(found: np.ndarray, refused: dict[int, str] | None = None) -> pixels.Survey:
    return pixels.survey(Some(found, refused or {}), np.arange(N), lambda n: None)


def told(found: np.ndarray, refused: dict[int, str] | None = None) -> dict[str, int]:
    findings = pixels.damaged(surveyed(found, refused), [f"image {row}" for row in range(N)])
    return {one.kind: int(one.numbers["images"]) for one in findings}


def test_sound_images_are_not_damaged() -> None:
    assert told(images()) == {} and told(images(3)) == {}


def test_damage_of_every_kind_is_counted() -> None:
    broken = images(2)
    broken[3], broken[4, 1], broken[5, 0, 2, 2] = 0, 7, np.nan
    refused = {7: "a pixel is NaN or infinite", 8: "shape (1, 2, 2)", 9: "no image in it", 10: "shape (2, 2)"}
    assert told(broken, refused) == {"non_finite": 2, "unequal_shape": 2, "unreadable": 1, "constant_images": 2}


def test_where_no_image_can_be_read_the_first_error_is_raised() -> None:
    with pytest.raises(CorruptFile, match="broken 0"):
        surveyed(images(), {row: f"broken {row}" for row in range(N)})


@pytest.mark.parametrize("band", [0, 1])
def test_a_background_that_tells_the_label(band: int) -> None:
    sound = images(2)
    assert pixels.background(pixels.measure(sound), ROWS) == []
    lifted, noisy = images(2), images(2)
    lifted[ROWS.targets == 1, band] += np.float32(1e-12)
    noisy[ROWS.targets == 1, band] *= 2
    for changed, name in ((lifted, "median"), (noisy, "rms")):
        found = pixels.background(pixels.measure(changed), ROWS)
        assert [(one.subject, one.severity) for one in found] == [(f"background {name}, band {band + 1}", "leak")]


def test_a_lens_in_the_middle_is_no_background() -> None:
    lensed = images()
    lensed[ROWS.targets == 1, :, 10:14, 10:14] += np.float32(1e-10)
    assert pixels.background(pixels.measure(lensed), ROWS) == []


def test_pixels_of_another_split_that_are_otherwise() -> None:
    shifted = images()
    assert pixels.pixel_shift(pixels.measure(shifted), ROWS) == []
    shifted[SPLITS == "test"] *= 3
    found = pixels.pixel_shift(pixels.measure(shifted), ROWS)
    assert {"background rms", "pixel σ"} <= {one.subject for one in found}
    assert all("test" in one.words and one.severity == "warning" for one in found)


def test_thumbnails_are_those_of_multiples_and_turn_with_their_images() -> None:
    some = images()[:4]
    small = pixels.thumbnails(some)
    np.testing.assert_allclose(np.linalg.norm(small, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(pixels.thumbnails(3 * some + np.float32(1e-12)), small, atol=1e-4)
    turned = pixels.thumbnails(np.ascontiguousarray(np.rot90(some, axes=(2, 3))))
    np.testing.assert_allclose(turned.reshape(4, 16, 16), np.rot90(small.reshape(4, 16, 16), axes=(1, 2)), atol=1e-5)

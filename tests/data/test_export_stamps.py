"""Export in the challenge's layout: our own reader finds the same pixels, labels, splits and features."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from astropy.io import fits

from deeplense.core.errors import InvalidOption
from deeplense.data.dataset import Dataset, open_dataset
from deeplense.data.export_stamps import export_stamps
from deeplense.data.features import choose_features, roles_of

N = 24


class Survey(Dataset):
    layout = "in memory"

    def __init__(self, labels: list[str | None], channels: int) -> None:
        generator = np.random.default_rng(0)
        self.path, self.problems, self.image_shape = Path("memory"), [], (channels, 8, 9)
        self.labels = tuple(dict.fromkeys(label for label in labels if label))
        self.manifest = {
            "recipe": {"instrument": [f"kids_{band}" for band in "ugri"[:channels]], "observation": {"scale": 10.0}},
            "instruments": [{"zero_point": 24.0 + k} for k in range(channels)],
            "unit": "electron / s",
            "pixel_scale": 0.2,
        }
        self.catalogue = pa.table(
            {
                "id": [f"train/lens/{n:06d}" for n in range(N)],
                "label": pa.array(labels, pa.string()),
                "split": ["train", "validation", "test"] * (N // 3),
                "seed": [7] * N,
                "lens_theta_E": generator.random(N),
                "companion_magnitude": [[1.0, 2.0]] * N,
                "measured_mag_r": pa.array([None, *generator.random(N - 1)]),
                "measured_position_angle": generator.random(N),
            }
        )
        self.pixels = generator.normal(size=(N, *self.image_shape)).astype(np.float32)

    @classmethod
    def recognises(cls, path: Path) -> bool:
        return False

    def images(self, indices: object) -> np.ndarray:
        return self.pixels[np.asarray(indices)]


@pytest.mark.parametrize("channels", [1, 4])
def test_what_comes_back_is_what_went_out(channels: int, tmp_path: Path) -> None:
    source = Survey(["lens", "nonlens"] * (N // 2), channels)
    seen: list[int] = []
    found = open_dataset(export_stamps(source, tmp_path / "out", seen.append))
    assert seen == [N] and type(found).__name__ == "Stamps" and found.labels == ("nonlens", "lens")
    assert np.array_equal(found.images(range(N)), source.pixels)
    for name in ("label", "split", "measured_mag_r", "measured_position_angle"):
        assert found.catalogue[name].to_pylist() == source.catalogue[name].to_pylist(), name
    assert found.splits() == source.splits()
    assert choose_features(found, (), allow_truth=False) == ("measured_mag_r", "measured_position_angle")
    assert roles_of(found).of("truth") == ("true_lens_theta_E",)
    assert found.catalogue["true_lens_theta_E"].to_pylist() == source.catalogue["lens_theta_E"].to_pylist()
    assert len(found.files(3)) == channels and all(path.is_file() for path in found.files(3))
    assert [path.name for path in tmp_path.iterdir()] == ["out"], "nothing half-written stays"


def test_stamps_are_fits_files_with_a_header_that_tells_no_label(tmp_path: Path) -> None:
    source = Survey(["lens", "nonlens"] * (N // 2), 4)
    out = export_stamps(source, tmp_path / "out")
    path = out / "Public" / "Band3" / "imageKIDS_R-100005.fits"
    with fits.open(path) as units:
        units.verify("exception")
        header = units[0].header
        assert header["BITPIX"] == -32 and units[0].data.dtype == ">f4"
        assert np.array_equal(units[0].data, source.pixels[5, 2])
        assert (header["BAND"], header["BUNIT"], header["PIXSCALE"]) == ("KIDS_R", "electron / s", 0.2)
        assert header["MAGZERO"] == pytest.approx(26.0 + 2.5)
    begin = {file.read_bytes()[:2880] for file in (out / "Public" / "Band3").iterdir()}
    assert len(begin) == 1


def test_other_classes_and_rows_without_one(tmp_path: Path) -> None:
    source = Survey(["cdm", "axion", None] * (N // 3), 1)
    found = open_dataset(export_stamps(source, tmp_path / "out"))
    assert found.catalogue["label"].to_pylist() == source.catalogue["label"].to_pylist()
    source = Survey(["lens", "nonlens", None] * (N // 3), 1)
    found = open_dataset(export_stamps(source, tmp_path / "lenses"))
    assert found.catalogue["label"].to_pylist() == source.catalogue["label"].to_pylist()


def test_what_is_there_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("do not lose me")
    with pytest.raises(InvalidOption, match="exists already"):
        export_stamps(Survey(["lens", "nonlens"] * (N // 2), 1), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("damage", [OSError("full"), ValueError("odd")])
def test_nothing_half_written_stays(damage: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Callable[..., None]:
        raise damage

    source = Survey(["lens", "nonlens"] * (N // 2), 1)
    monkeypatch.setattr(source, "images", refuse)
    with pytest.raises(Exception, match=str(damage)):
        export_stamps(source, tmp_path / "out")
    assert not [*tmp_path.iterdir()]

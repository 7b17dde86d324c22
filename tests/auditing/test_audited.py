"""The whole audit: of tables, of the real catalogues, of datasets on disk."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from astropy.io import fits
from astropy.table import Table

from deeplense.auditing.audited import Audit, audit_dataset, audit_table
from deeplense.core.errors import CorruptFile, InvalidDataset
from deeplense.data.dataset import open_dataset
from deeplense.data.tables import is_table

N = 300
GENERATOR = np.random.default_rng(3)
LENS = GENERATOR.integers(0, 2, N)
COLUMNS = {
    "ID": np.arange(N) + 100_000,
    "is_lens": LENS,
    "mag_r": GENERATOR.normal(20, 1, N),
    "mag_i": GENERATOR.normal(20, 0.1, N) - LENS,
    "tile": np.arange(N) % 3,
}


def kinds(audit: Audit) -> dict[tuple[str, str], str]:
    return {(one.kind, one.subject): one.severity for one in audit.findings}


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".fits"])
def test_a_bare_table_in_any_format(suffix: str, tmp_path: Path) -> None:
    path, table = tmp_path / f"table{suffix}", pa.table(COLUMNS)
    if suffix == ".csv":
        pyarrow.csv.write_csv(table, path)
    elif suffix == ".parquet":
        pyarrow.parquet.write_table(table, path)
    else:
        Table(COLUMNS).write(path)
    assert is_table(path)
    audit = audit_table(path)
    assert audit.labels == ("nonlens", "lens") and audit.rows == N and audit.images == 0
    assert kinds(audit) == {("predictive_column", "mag_i"): "leak", ("shared_groups", "tile"): "leak"}
    assert audit.count("leak") == 2


def test_splits_of_the_table_are_kept(tmp_path: Path) -> None:
    split = np.where(np.arange(N) % 3 == 0, "test", "train")
    shifted = {"ID": COLUMNS["ID"], "is_lens": LENS, "mag_r": COLUMNS["mag_r"] + 9 * (split == "test"), "split": split}
    pyarrow.csv.write_csv(pa.table(shifted), tmp_path / "table.csv")
    assert kinds(audit_table(tmp_path / "table.csv")) == {("shift", "mag_r"): "warning"}


def test_a_table_without_label_or_rows(tmp_path: Path) -> None:
    pyarrow.csv.write_csv(pa.table({"ID": COLUMNS["ID"], "mag_r": COLUMNS["mag_r"]}), tmp_path / "table.csv")
    assert ("no_label", "label") in kinds(audit_table(tmp_path / "table.csv"))
    (tmp_path / "empty.csv").write_text("ID,is_lens\n")
    with pytest.raises((InvalidDataset, CorruptFile)):
        audit_table(tmp_path / "empty.csv")


def test_an_image_is_no_table(tmp_path: Path) -> None:
    fits.PrimaryHDU(np.zeros((4, 4), np.float32)).writeto(tmp_path / "image.fits")
    assert not is_table(tmp_path / "image.fits") and not is_table(tmp_path) and not is_table(tmp_path / "no.csv")


@pytest.mark.parametrize(("which", "area"), [("space", 0.987), ("ground", 0.967)])
def test_the_challenge_gives_its_labels_away(which: str, area: float, test_data: Path) -> None:
    path = test_data / "lens_finding" / which / "classifications.csv"
    if not path.is_file():
        pytest.skip(f"no {path}")
    found = {one.subject: one for one in audit_table(path).findings if one.kind == "truth_column"}
    for name in ("numb_pix_lensed_image", "flux_lensed_image_in_sigma"):
        assert "would give the label away" in found[name].words and found[name].severity == "note"
        assert found[name].numbers["auroc"] == pytest.approx(area, abs=5e-4)
    assert "says little" in found["Einstein_area"].words and found["Einstein_area"].numbers["auroc"] < 0.51


def test_a_simulated_set_is_clean_but_for_its_truth(small_set: Path) -> None:
    audit = audit_dataset(open_dataset(small_set), 1000, lambda n: None)
    assert audit.images == 120 and {one.kind for one in audit.findings} <= {"truth_column", "row_order"}
    assert {one.severity for one in audit.findings} == {"note"}
    assert "known, AUROC 1.000" in next(one.words for one in audit.findings if one.subject == "axion_mass")


def test_what_is_spoilt_in_a_tree_is_found(small_tree: Path, tmp_path: Path) -> None:
    tree = Path(shutil.copytree(small_tree, tmp_path / "tree"))
    train, test = (sorted((tree / split / "cdm").iterdir()) for split in ("train", "test"))
    shutil.copy(train[0], test[0])
    np.save(test[1], np.rot90(np.load(train[1]), axes=(-2, -1)))
    np.save(train[2], np.full_like(np.load(train[2]), np.nan))
    np.save(train[3], np.zeros_like(np.load(train[3])))
    for path in (tree / "train" / "axion").iterdir():
        np.save(path, np.load(path) + 10 * np.load(path).max())
    found = kinds(audit_dataset(open_dataset(tree), 1000, lambda n: None))
    assert found["exact_duplicates", "across splits"] == "leak"
    assert found["near_duplicates", "across splits"] == "warning"
    assert found["non_finite", "images"] == found["constant_images", "images"] == "warning"
    assert found["background", "background median"] in ("leak", "warning")


def test_of_a_large_set_a_sample_is_looked_at_and_said_so(small_set: Path) -> None:
    audit = audit_dataset(open_dataset(small_set), 30, lambda n: None)
    assert audit.images == 30
    assert next(one for one in audit.findings if one.kind == "sampled").numbers == {"images": 30, "of": 120}

"""Catalogues with stamps: the layouts of the challenge and others, masked pixels, what is left out and said."""

from __future__ import annotations

import io
import pickle
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from deeplense.auditing.audited import audit_table
from deeplense.core.errors import CorruptFile, InvalidDataset, UnknownName
from deeplense.data.dataset import open_dataset
from deeplense.data.readers.folders import ClassFolders
from deeplense.data.readers.stamp_files import _plain_fits
from deeplense.data.readers.stamps import Stamps
from deeplense.data.splits import Fold

IDS = (100002, 100003, 100004, 100008)
BANDS = ("R", "I", "G", "U")


def pixels(key: int, band: int = 0, side: int = 7) -> np.ndarray:
    """Return a stamp that no other object and band has."""
    return (np.random.default_rng((key, band)).normal(size=(side, side)) * 1e-11).astype(np.float32)


def put(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, image)
    elif path.suffix == ".png":
        Image.fromarray(image).save(path)
    else:
        fits.PrimaryHDU(image.astype(image.dtype.newbyteorder(">"))).writeto(path)


def catalogue(root: Path, ids: Sequence[object] = IDS, name: str = "classifications.csv", **columns: object) -> None:
    """Write a catalogue in which every second object is a lens."""
    content = {"ID": list(ids), "is_lens": [k % 2 for k in range(len(ids))], **columns}
    rows = zip(*content.values(), strict=True)  # type: ignore[arg-type]
    lines = [",".join(content), *(",".join("" if cell is None else str(cell) for cell in row) for row in rows)]
    root.mkdir(exist_ok=True)
    (root / name).write_text("\n".join(lines))


def space(root: Path, ids: Sequence[int] = IDS) -> None:
    catalogue(root, ids, Einstein_area=[1e-10] * len(ids), numb_pix_lensed_image=[0] * len(ids))
    for key in ids:
        put(root / "files" / f"imageEUC_VIS-{key}.fits", pixels(key))


def ground(root: Path, ids: Sequence[int] = IDS) -> None:
    catalogue(root, ids)
    for number, band in enumerate(BANDS):
        for key in ids:
            put(root / f"Band{number + 1}" / f"imageSDSS_{band}-{key}.fits", pixels(key, number))


def ids_of(dataset: Stamps) -> list[str]:
    return dataset.catalogue["id"].to_pylist()


def opened(root: Path) -> Stamps:
    dataset = open_dataset(root)
    assert isinstance(dataset, Stamps)
    return dataset


def test_the_space_layout(tmp_path: Path) -> None:
    space(tmp_path)
    dataset = opened(tmp_path)
    assert dataset.image_shape == (1, 7, 7) and dataset.labels == ("nonlens", "lens") and dataset.problems == []
    assert dataset.catalogue.select(["id", "label", "split"]).to_pydict() == {
        "id": [str(key) for key in IDS],
        "label": ["nonlens", "lens", "nonlens", "lens"],
        "split": [None] * 4,
    }
    images = dataset.images([2, 0])
    assert images.dtype == np.float32 and images.flags.writeable
    np.testing.assert_array_equal(images, np.stack([pixels(IDS[2]), pixels(IDS[0])])[:, None])
    assert dataset.roles.of("truth") == ("Einstein_area", "numb_pix_lensed_image") and not dataset.roles.of("feature")
    assert list(dataset.roles.columns) == dataset.catalogue.column_names
    assert pickle.loads(pickle.dumps(dataset)).images([1]).shape == (1, 1, 7, 7)  # workers of a loader get a copy


def test_the_ground_layout(tmp_path: Path) -> None:
    ground(tmp_path)
    dataset = opened(tmp_path)
    assert dataset.bands == tuple(f"Band{n + 1}/imageSDSS_{band}" for n, band in enumerate(BANDS))
    assert dataset.image_shape == (4, 7, 7) and dataset.problems == []
    np.testing.assert_array_equal(dataset.images([1])[0], [pixels(IDS[1], band) for band in range(4)])


def test_the_table_may_be_named_instead_of_its_folder(tmp_path: Path) -> None:
    space(tmp_path)
    (tmp_path / "other.csv").write_text("ID,is_lens\n100003,1\n")
    assert ids_of(opened(tmp_path / "other.csv")) == ["100003"]
    dataset = opened(tmp_path)
    assert len(dataset) == 4 and "other tables were left out: 1" in dataset.problems[0]


def test_what_has_no_partner_is_left_out_and_counted(tmp_path: Path) -> None:
    ground(tmp_path)
    catalogue(tmp_path, [*IDS, 999, 998, 997, IDS[0]])
    (tmp_path / "Band4" / "imageSDSS_U-100003.fits").unlink()
    put(tmp_path / "Band2" / "imageSDSS_I-555.fits", pixels(1))
    put(tmp_path / "thumbs" / "100002.fits", pixels(1))
    dataset = opened(tmp_path)
    assert ids_of(dataset) == ["100002", "100004", "100008"]
    said = "\n".join(dataset.problems)
    assert "1 rows of the catalogue repeat an id" in said
    assert "4 of 8 rows of the catalogue have no stamp" in said
    assert "1 objects lack a stamp in one of the 4 bands" in said
    assert "1 files that no row of the catalogue names" in said
    assert "1 files in folders that hold no band" in said


def test_masked_pixels_become_the_median_of_their_band(tmp_path: Path) -> None:
    ground(tmp_path)
    image = pixels(IDS[0], 3)
    flagged, holes = image.copy(), image.copy()
    flagged[:2, 0], holes[0, :3] = 100.0, (np.nan, np.inf, -np.inf)
    for key, damaged in ((IDS[0], flagged), (IDS[1], holes), (IDS[2], np.full_like(image, 100.0))):
        path = tmp_path / "Band4" / f"imageSDSS_U-{key}.fits"
        path.unlink()
        put(path, damaged)
    dataset = opened(tmp_path)
    images = dataset.images(range(4))
    assert (images[0, 3, :2, 0] == np.median(image.ravel()[np.r_[1:7, 8:49]])).all()
    assert (images[1, 3, 0, :3] == np.median(image.ravel()[3:])).all()
    assert (images[2, 3] == 0).all() and np.isfinite(images).all()
    np.testing.assert_array_equal(images[0, 3, :, 1:], image[:, 1:])
    np.testing.assert_array_equal(images[0, 0], pixels(IDS[0], 0))
    said = "Of 4 stamps that were looked at, 3 have masked pixels, 54 in all: they are filled with the median"
    assert any(said in sentence for sentence in dataset.problems)
    assert Stamps(tmp_path, flag=None).images([0])[0, 3, 0, 0] == 100.0


def test_a_value_of_100_among_the_like_is_no_flag(tmp_path: Path) -> None:
    catalogue(tmp_path)
    for key in IDS:
        put(tmp_path / "stamps" / f"{key}.fits", np.full((5, 5), 60.0, np.float32) + np.eye(5, dtype=np.float32) * 40)
    dataset = opened(tmp_path)
    assert (dataset.images([0])[0, 0].diagonal() == 100.0).all() and dataset.problems == []


def test_a_stamp_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    space(tmp_path)
    names = [tmp_path / "files" / f"imageEUC_VIS-{key}.fits" for key in IDS]
    for name in names[1:]:
        name.unlink()
    put(names[1], np.full((7, 7), np.nan, np.float32))
    put(names[2], pixels(1, side=9))
    names[3].write_bytes(names[0].read_bytes()[:3000])
    dataset = opened(tmp_path)
    assert "Of 4 stamps that were looked at, 3 cannot be read" in dataset.problems[0]
    for row, found in ((1, "every pixel is masked"), (2, "shape"), (3, "reshape")):
        with pytest.raises(CorruptFile, match=found) as caught:
            dataset.images([row])
        assert caught.value.path == names[row]


@pytest.mark.parametrize(
    "name",
    [
        "{}.fits",
        "stamp_{}.fits",
        "a-b.c-{}.fits",
        "deep/er/img{}.fits",
        "{}_cutout.fits",
        "img-000{}.FITS",
        "{}.fits.gz",
    ],
)
def test_names_that_hold_the_id(tmp_path: Path, name: str) -> None:
    catalogue(tmp_path)
    for key in IDS:
        put(tmp_path / "x" / name.format(key), pixels(key))
    dataset = opened(tmp_path)
    assert ids_of(dataset) == [str(key) for key in IDS] and dataset.problems == []
    np.testing.assert_array_equal(dataset.images([3])[0, 0], pixels(IDS[3]))


def test_ids_that_are_texts(tmp_path: Path) -> None:
    names = ["SDSSJ0946+1006", "J1_2-3", "007"]
    catalogue(tmp_path, names)
    for number, name in enumerate(names):
        put(tmp_path / "x" / f"cutout_{name}.fits", pixels(number))
    assert ids_of(opened(tmp_path)) == names


def test_bands_in_the_names_of_files(tmp_path: Path) -> None:
    catalogue(tmp_path)
    for number, band in enumerate("gri"):
        for key in IDS:
            put(tmp_path / "x" / f"{key}_{band}.fits", pixels(key, number))
    dataset = opened(tmp_path)
    assert dataset.bands == ("x/g", "x/i", "x/r") and dataset.image_shape == (3, 7, 7)
    np.testing.assert_array_equal(dataset.images([0])[0, 1], pixels(IDS[0], 2))


def test_folders_of_parts_and_of_splits_are_no_bands(tmp_path: Path) -> None:
    catalogue(tmp_path)
    for folder, keys in (("train/part_1", IDS[:2]), ("train/part_2", IDS[2:3]), ("test/part_1", IDS[3:])):
        for key in keys:
            put(tmp_path / folder / f"{key}.fits", pixels(key))
    dataset = opened(tmp_path)
    assert dataset.image_shape == (1, 7, 7) and ids_of(dataset) == [str(key) for key in IDS]
    assert dataset.catalogue["split"].to_pylist() == ["train", "train", "train", "test"]


def test_bands_in_extensions_and_cubes(tmp_path: Path) -> None:
    catalogue(tmp_path)
    for key in IDS[:2]:
        bands = [pixels(key, band) for band in range(3)]
        units = [fits.PrimaryHDU(), fits.ImageHDU(bands[0], name="G"), fits.ImageHDU(np.stack(bands[1:]), name="RI")]
        units += [fits.ImageHDU(bands[0], name="MASK"), fits.ImageHDU(pixels(key, 4, 3), name="NIR")]
        path = tmp_path / "x" / f"{key}.fits"
        path.parent.mkdir(exist_ok=True)
        fits.HDUList(units).writeto(path)
    for key in IDS[2:]:
        put(tmp_path / "x" / f"{key}.fits", np.stack([pixels(key, band) for band in range(3)]))
    dataset = opened(tmp_path)
    for row, key in enumerate(IDS):
        np.testing.assert_array_equal(dataset.images([row])[0], [pixels(key, band) for band in range(3)])


def test_bands_of_another_size_are_left_out(tmp_path: Path) -> None:
    catalogue(tmp_path)
    for key in IDS:
        put(tmp_path / "VIS" / f"{key}.fits", pixels(key, side=9))
        put(tmp_path / "NIR_H" / f"{key}.fits", pixels(key, side=3))
    dataset = opened(tmp_path)
    assert dataset.bands == ("VIS",) and "NIR_H" in dataset.problems[0]


@pytest.mark.parametrize("suffix", [".npy", ".png"])
def test_stamps_by_path(tmp_path: Path, suffix: str) -> None:
    paths = [f"a/one{suffix}", f"./b/two{suffix}", f"/elsewhere/three{suffix}", f"../four{suffix}", ""]
    catalogue(tmp_path / "set", range(5), name="data.csv", file_name=paths, comment=list("abcde"))
    images = [np.arange(12, dtype=np.uint8).reshape(3, 4) + number for number in range(4)]
    for folder, name, image in zip(("a", "b", "c", ".."), ("one", "two", "three", "four"), images, strict=True):
        put(tmp_path / "set" / folder / f"{name}{suffix}", image)
    dataset = opened(tmp_path / "set")
    assert ids_of(dataset) == ["0", "1", "2"]  # the fourth lies outside
    np.testing.assert_array_equal(dataset.images(range(3))[:, 0], images[:3])
    assert dataset.roles.first("path") == "file_name" and dataset.roles.columns["comment"].role == "ignored"


def test_pixels_of_arrays_may_be_masked_too(tmp_path: Path) -> None:
    catalogue(tmp_path, IDS[:1])
    image = pixels(1)
    image[0, 0] = np.nan
    put(tmp_path / "x" / f"{IDS[0]}.npy", image)
    assert opened(tmp_path).images([0])[0, 0, 0, 0] == np.nanmedian(image)


def test_pictures_beside_fits_files_are_previews(tmp_path: Path) -> None:
    space(tmp_path)
    for key in IDS:
        put(tmp_path / "files" / f"imageEUC_VIS-{key}.png", np.zeros((7, 7), np.uint8))
    assert opened(tmp_path).image_shape == (1, 7, 7)


def test_labels_splits_and_names_of_columns(tmp_path: Path) -> None:
    space(tmp_path)
    table = {"objid": list(IDS), "id": ["a", "a", "b", "b"], "class": ["Non-Lens", "strong_lens", None, "nolens"]}
    table |= {"split": ["train", "val", "test", "train"], "mag_g": [20.0, 21.0, 22.0, 20.5]}
    (tmp_path / "classifications.csv").unlink()
    pq.write_table(pa.table(table), tmp_path / "galaxies.parquet")
    dataset = opened(tmp_path)
    assert dataset.catalogue["label"].to_pylist() == ["nonlens", "lens", None, "nonlens"]
    assert dataset.catalogue["split"].to_pylist() == ["train", "validation", "test", "train"]
    assert dataset.catalogue.column_names == ["id", "label", "split", "id_of_catalogue", "mag_g"]
    assert ids_of(dataset) == [str(key) for key in IDS] and dataset.labels == ("nonlens", "lens")
    assert dataset.roles.of("feature") == ("mag_g",) and dataset.roles.of("id") == ("id",)
    assert "objid" in dataset.roles.columns["id"].reason
    assert any("Objects without a label: 1." in sentence for sentence in dataset.problems)


def test_the_user_says_which_column_is_the_label(tmp_path: Path) -> None:
    space(tmp_path)
    catalogue(tmp_path, verdict=[2, 0, 1, 0])
    dataset = Stamps(tmp_path, {"verdict": "label"})
    assert dataset.labels == ("0", "1", "2") and dataset.roles.columns["is_lens"].role == "truth"
    with pytest.raises(UnknownName, match="vredict"):
        Stamps(tmp_path, {"vredict": "label"})


def test_the_user_says_it_in_a_file_beside_the_catalogue(tmp_path: Path) -> None:
    space(tmp_path)
    catalogue(tmp_path, verdict=[2, 0, 1, 0], trust=[1, 2, 3, 4])
    (tmp_path / "roles.toml").write_text('verdict = "label"\ntrust = "weight"\n')
    dataset = opened(tmp_path)
    assert dataset.labels == ("0", "1", "2") and dataset.roles.of("weight") == ("trust",)
    assert audit_table(tmp_path / "classifications.csv").roles.of("weight") == ("trust",)
    for text, message in (("vredict = 'label'", "vredict"), ("verdict = 'lable'", "lable"), ("verdict = 3", "3")):
        (tmp_path / "roles.toml").write_text(text)
        with pytest.raises(CorruptFile, match=message) as caught:
            Stamps(tmp_path)
        assert "roles.toml" in str(caught.value)
    (tmp_path / "roles.toml").write_text("verdict = ")
    with pytest.raises(CorruptFile, match="not valid TOML"):
        Stamps(tmp_path)


def test_what_belongs_together_stays_in_one_split(tmp_path: Path) -> None:
    ids = [1000 + k for k in range(60)]
    space(tmp_path, ids)
    catalogue(tmp_path, ids, tile=[k // 3 for k in range(60)])
    dataset = opened(tmp_path)
    for splits in (dataset.splits(), dataset.splits_of(Fold(5, 2))):
        assert set(splits) == {"train", "validation", "test"}
        for first in range(0, 60, 3):
            assert len(set(splits[first : first + 3])) == 1
    catalogue(tmp_path, ids, tile=[k // 20 for k in range(60)])
    few = opened(tmp_path)
    catalogue(tmp_path, ids)
    assert few.splits() == opened(tmp_path).splits(), "three tiles are no sample of anything"


def test_unequal_classes_and_columns_of_unknown_meaning_are_told(tmp_path: Path) -> None:
    ids = [100 + k for k in range(8)]
    space(tmp_path, ids)
    lens = [0, 0, 0, 0, 0, 0, 1, 1]
    text = "\n".join(f"{key},{flag},{flag + key / 1e4}" for key, flag in zip(ids, lens, strict=True))
    (tmp_path / "classifications.csv").write_text(f"ID,is_lens,qzx\n{text}")
    said = "\n".join(opened(tmp_path).problems)
    assert "6 of nonlens, 2 of lens" in said and "say nothing" in said


def test_without_a_partner_there_is_no_dataset(tmp_path: Path) -> None:
    space(tmp_path)
    catalogue(tmp_path, [1, 2])
    with pytest.raises(InvalidDataset, match="not recognised"):
        open_dataset(tmp_path)
    with pytest.raises(InvalidDataset, match="no row"):
        Stamps(tmp_path)
    (tmp_path / "classifications.csv").write_text("a,a\n")
    with pytest.raises(CorruptFile, match=r"classifications\.csv"):
        open_dataset(tmp_path)


def test_class_folders_stay_what_they_are(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for label in ("lenses", "nonlenses"):
            for number in range(2):
                put(tmp_path / f"{split}_{label}" / f"{number}.npy", np.zeros((3, 6, 6)))
    (tmp_path / "notes.csv").write_text("ID,mag\n0,20\n1,21\n")
    dataset = open_dataset(tmp_path)  # the folders know the classes, the table does not
    assert isinstance(dataset, ClassFolders) and dataset.labels == ("nonlens", "lens")
    assert dataset.image_shape == (3, 6, 6) and sorted(dataset.splits()) == ["test"] * 4 + ["train"] * 4


@pytest.mark.parametrize("name", ["manifest.json", "catalogue.parquet"])
def test_a_dataset_folder_stays_what_it_is(tmp_path: Path, name: str) -> None:
    space(tmp_path)
    assert Stamps.recognises(tmp_path)
    (tmp_path / name).write_text("{}")
    assert not Stamps.recognises(tmp_path)


def stored(unit: fits.PrimaryHDU) -> bytes:
    stream = io.BytesIO()
    unit.writeto(stream)
    return stream.getvalue()


@settings(max_examples=15)
@given(
    st.sampled_from([np.uint8, np.int16, np.int32, np.int64, np.float32, np.float64]),
    st.lists(st.integers(1, 5), min_size=2, max_size=3),
    st.integers(0, 60),
)
def test_a_plain_file_is_read_as_astropy_reads_it(dtype: type, shape: list[int], cards: int) -> None:
    image = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    unit = fits.PrimaryHDU(image)
    for number in range(cards):
        unit.header[f"KEY{number}"] = "END / of it"
    found = _plain_fits(stored(unit))
    assert found is not None and found.ndim == 3
    np.testing.assert_array_equal(found.reshape(shape), fits.getdata(io.BytesIO(stored(unit))))


def test_a_file_that_is_not_plain_is_left_to_astropy() -> None:
    image = np.ones((4, 4), np.int16)
    scaled = fits.PrimaryHDU(image.astype(np.uint16))  # BZERO
    blank = fits.PrimaryHDU(image, fits.Header({"BLANK": 1}))
    many = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(image), fits.ImageHDU(image)]).writeto(many)
    whole = stored(fits.PrimaryHDU(image))
    others = [
        stored(scaled),
        stored(blank),
        many.getvalue(),
        whole[:-2860],
        whole + b"\0",
        b"",
        b"SIMPLE",
        whole[:2880],
    ]
    assert all(_plain_fits(content) is None for content in others)
    assert _plain_fits(whole) is not None and _plain_fits(whole[:-2848]) is not None  # zeros at the end may be left out


def test_a_file_that_is_another_rows_path_is_nobody_elses(tmp_path: Path) -> None:
    catalogue(tmp_path, range(4), path=[f"tile{tile}/{name}" for name in ("0.npy", "1.npy") for tile in "AB"])
    for name in ("0.npy", "1.npy"):
        put(tmp_path / "tileB" / name, pixels(int(name[0])))
    dataset = opened(tmp_path)
    assert ids_of(dataset) == ["1", "3"]
    np.testing.assert_array_equal(dataset.images([1])[0, 0], pixels(1))
    assert any("2 of 4 rows of the catalogue have no stamp" in sentence for sentence in dataset.problems)


def test_of_rows_that_claim_a_file_by_its_name_only_the_one_that_fits_better_gets_it(tmp_path: Path) -> None:
    paths = ["/old/tileA/0.npy", "/old/tileB/0.npy", "/old/tileA/1.npy", "/old/tileC/1.npy", "/old/tileA/2.npy"]
    catalogue(tmp_path, [10, 11, 12, 13, 14], path=paths)
    for name in ("0.npy", "1.npy", "2.npy"):
        put(tmp_path / "tileB" / name, pixels(int(name[0])))
    dataset = opened(tmp_path)
    assert ids_of(dataset) == ["11", "14"]  # 1.npy is as likely that of 12 as of 13
    np.testing.assert_array_equal(dataset.images([0, 1])[:, 0], [pixels(0), pixels(2)])


def test_an_id_repeated_does_not_hide_whose_path_a_file_is(tmp_path: Path) -> None:
    catalogue(tmp_path, [7, 7, *range(8, 18)], path=["tileA/0.npy", *(f"tileB/{k}.npy" for k in range(11))])
    for name in ("0.npy", "1.npy"):
        put(tmp_path / "tileB" / name, pixels(int(name[0])))
    assert ids_of(opened(tmp_path)) == ["8"]


@pytest.mark.parametrize("name", ["{key}_{band}.npy", "{band}_{key}.npy"])
def test_numbers_of_bands_are_no_ids(tmp_path: Path, name: str) -> None:
    catalogue(tmp_path, range(1, 31))
    for key in range(1, 31):
        for band in (1, 2):
            put(tmp_path / "x" / name.format(key=key, band=band), pixels(key, band))
    dataset = opened(tmp_path)
    assert dataset.image_shape == (2, 7, 7) and len(dataset) == 30 and len(dataset.bands) == 2
    np.testing.assert_array_equal(dataset.images([7])[0], [pixels(8, 1), pixels(8, 2)])


def test_the_size_in_a_name_is_no_id(tmp_path: Path) -> None:
    catalogue(tmp_path, range(60, 70))
    for key in range(60, 70):
        put(tmp_path / "x" / f"{key}_64.npy", pixels(key))
    dataset = opened(tmp_path)
    assert ids_of(dataset) == [str(key) for key in range(60, 70)] and dataset.problems == []
    np.testing.assert_array_equal(dataset.images([0])[0, 0], pixels(60))


def test_the_shape_is_that_of_most_stamps(tmp_path: Path) -> None:
    catalogue(tmp_path)
    for number, key in enumerate(IDS):
        put(tmp_path / "a" / f"{key}.npy", pixels(key, side=7))
        put(tmp_path / "b" / f"{key}.npy", pixels(key, 1, side=9 if number == 0 else 7))
    dataset = opened(tmp_path)
    assert dataset.image_shape == (2, 7, 7) and dataset.images([1, 2, 3]).shape == (3, 2, 7, 7)
    odd = tmp_path / "b" / f"{IDS[0]}.npy"
    with pytest.raises(CorruptFile, match=r"shape \(1, 9, 9\)") as caught:
        dataset.images([0])
    assert caught.value.path == odd and "(1, 7, 7)" in caught.value.expected
    odd.write_bytes(b"no image")
    assert opened(tmp_path).image_shape == (2, 7, 7)
    for key in IDS[1:]:
        (tmp_path / "b" / f"{key}.npy").write_bytes(b"no image either")
    with pytest.raises(CorruptFile) as caught:
        Stamps(tmp_path)
    assert caught.value.path == odd


@settings(max_examples=12)
@given(st.binary(max_size=200), st.integers(0, 5760))
def test_a_damaged_file_gives_an_image_or_one_error(junk: bytes, at: int) -> None:
    whole = stored(fits.PrimaryHDU(np.ones((6, 6), np.float32)))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        space(root, IDS[:2])
        path = root / "files" / f"imageEUC_VIS-{IDS[1]}.fits"
        path.write_bytes(whole[:at] + junk + whole[at + len(junk) :])
        dataset = Stamps(root)
        with pytest.raises(CorruptFile):  # its size is not that of the first one
            dataset.images([1])


@pytest.mark.parametrize(("survey", "shape", "n"), [("space", (1, 101, 101), 8), ("ground", (4, 101, 101), 6)])
def test_the_challenge_as_published(test_data: Path, survey: str, shape: tuple[int, ...], n: int) -> None:
    path = test_data / "lens_finding" / survey
    if not path.is_dir():
        pytest.skip(f"no {path}")
    dataset = opened(path)
    assert len(dataset) == n and dataset.image_shape == shape and dataset.labels == ("nonlens", "lens")
    assert f"{20_000 - n:,} of 20,000 rows" in dataset.problems[0]
    assert dataset.roles.of("feature") == () and len(dataset.roles.of("truth")) == 3
    images = dataset.images(range(n))
    assert np.abs(images).max() < 1e-8 and images.std() > 0
    if survey == "ground":
        assert "2 have masked pixels, 261 in all" in dataset.problems[1]

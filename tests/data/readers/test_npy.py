"""Plain `.npy` files: every numeric dtype and order is read, everything else is one CorruptFile."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tests.fuzz.seeds import npy

from deeplense.core.errors import CorruptFile, MissingFile
from deeplense.data.readers.files import read_image
from deeplense.data.readers.npy import read_npy

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def with_header(description: str, data: bytes = bytes(128)) -> bytes:
    header = description.encode("latin-1")
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


@pytest.mark.parametrize("dtype", ["?", "u1", "i1", "<u2", ">i2", "<i4", ">u4", "<i8", "<f2", ">f4", "<f8", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_numbers_of_every_type_come_back_as_stored(tmp_path: Path, dtype: str, order: str) -> None:
    array = np.asarray(np.arange(12).reshape(3, 4) % 5, dtype=dtype, order=order)
    (tmp_path / "a.npy").write_bytes(npy(array))
    content = read_npy(tmp_path / "a.npy")
    assert content.image.dtype == array.dtype and np.array_equal(content.image, array)
    assert content.mass is None


@QUICK
@given(
    array=hnp.arrays(
        np.float32, hnp.array_shapes(min_dims=2, max_dims=2, min_side=2), elements=st.floats(-9, 9, width=32)
    )
)
def test_any_finite_image_survives(tmp_path: Path, array: np.ndarray) -> None:
    (tmp_path / "a.npy").write_bytes(npy(array))
    assert np.array_equal(read_image(tmp_path / "a.npy"), array[None])


@QUICK
@given(content=st.binary(max_size=300))
def test_random_bytes_are_refused(tmp_path: Path, content: bytes) -> None:
    for start in (b"", b"\x93NUMPY\x01\x00"):
        (tmp_path / "a.npy").write_bytes(start + content)
        with pytest.raises(CorruptFile, match=r"a\.npy"):
            read_npy(tmp_path / "a.npy")


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    whole = npy(np.arange(9.0).reshape(3, 3))
    for length in range(len(whole)):
        (tmp_path / "a.npy").write_bytes(whole[:length])
        with pytest.raises(CorruptFile, match=r"a\.npy"):
            read_npy(tmp_path / "a.npy")
    (tmp_path / "a.npy").write_bytes(whole + b"\0")
    with pytest.raises(CorruptFile, match="73 bytes follow"):
        read_npy(tmp_path / "a.npy")


@pytest.mark.parametrize(
    "description",
    [
        "{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999, 99999999999), }",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (-4, -4), }",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (0, 4), }",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (1e9,), }",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (" + "1, " * 2000 + "16), }",
        "{'descr': '<c16', 'fortran_order': False, 'shape': (8,), }",
        "{'descr': '<M8[s]', 'fortran_order': False, 'shape': (16,), }",
        "{'descr': '|S8', 'fortran_order': False, 'shape': (16,), }",
        "{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (16,), }",
        "{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (16,), }",
        "{'descr': '<f8', 'fortran_order': 0, 'shape': (16,), }",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (16,), 'more': 1}",
        "{'descr': '|O', 'fortran_order': False, 'shape': (2,), }",
        "__import__('os').system('true')",
        "(" * 5000,
        "[" * 200 + "]" * 200,
        "{'descr': '<f8'",
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_headers_that_lie_are_refused(tmp_path: Path, description: str) -> None:
    (tmp_path / "a.npy").write_bytes(with_header(description))
    with pytest.raises(CorruptFile, match=r"a\.npy"):
        read_npy(tmp_path / "a.npy")


def test_the_header_helper_above_makes_sound_files(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(with_header("{'descr': '<f8', 'fortran_order': False, 'shape': (4, 4), }"))
    assert read_npy(tmp_path / "a.npy").image.shape == (4, 4)


def test_format_versions_2_and_3(tmp_path: Path) -> None:
    for version, sound in (((2, 0), True), ((3, 0), False)):
        stream = io.BytesIO()
        np.lib.format.write_array(stream, np.eye(3), version=version)
        (tmp_path / "a.npy").write_bytes(stream.getvalue())
        if sound:
            assert np.array_equal(read_npy(tmp_path / "a.npy").image, np.eye(3))
        else:
            with pytest.raises(CorruptFile, match=r"version 3\.0"):
                read_npy(tmp_path / "a.npy")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e39])
def test_values_that_are_no_numbers_are_refused_by_name(tmp_path: Path, bad: float) -> None:
    image = np.ones((4, 4))
    image[2, 1] = bad
    (tmp_path / "a.npy").write_bytes(npy(image))
    with pytest.raises(CorruptFile, match=r"a\.npy: 1 of 16 values"):
        read_image(tmp_path / "a.npy")


def test_files_that_cannot_be_read_are_missing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npy")
    (tmp_path / "folder.npy").mkdir()
    for name in ("none.npy", "folder.npy", "pipe.npy", "x" * 300 + ".npy"):
        with pytest.raises(MissingFile):
            read_npy(tmp_path / name)


def test_the_size_cap(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(npy(np.ones((40, 40))))
    with pytest.raises(CorruptFile, match="at most 1,000 bytes"):
        read_npy(tmp_path / "a.npy", max_bytes=1000)
    (tmp_path / "a.npy").write_bytes(b"")
    with pytest.raises(CorruptFile, match="empty"):
        read_npy(tmp_path / "a.npy")


def test_a_flat_image_gives_its_mass(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(npy(np.arange(4097.0)))
    content = read_npy(tmp_path / "a.npy")
    assert content.image.shape == (4096,) and content.mass == 4096.0
    assert read_image(tmp_path / "a.npy").shape == (1, 64, 64)


def test_the_published_samples(test_data: Path) -> None:
    shapes = {file.stem: read_image(file).shape for file in sorted((test_data / "samples").glob("*.npy"))}
    assert shapes["model_i_counts"] == (1, 150, 150)
    assert shapes["model_ii"] == (1, 64, 64)
    assert shapes["sr_pair_hr_128"] == (1, 128, 128)
    assert shapes["sr_pair_lr_64"] == (1, 64, 64)
    for file in (test_data / "samples").glob("*.npy"):
        assert np.array_equal(read_image(file), np.load(file).reshape(read_image(file).shape).astype(np.float32))

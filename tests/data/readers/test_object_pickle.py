"""Axion files: every variant that circulates is read, no pickle ever runs, every trick is one CorruptFile."""

from __future__ import annotations

import builtins
import io
import os
import pickle
import struct
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fuzz.seeds import as_numpy_1, object_array, object_npy

from deeplense.core.errors import CorruptFile
from deeplense.data.readers.files import read_image
from deeplense.data.readers.npy import NpyContent, read_npy

MASS = 3.7e-24
SIDE = 8
IMAGE = np.random.default_rng(0).random((SIDE, SIDE)) * 300
COLOUR = np.random.default_rng(0).random((SIDE, SIDE, 3))

VARIANTS = {
    "image and mass": (object_array(IMAGE, MASS), IMAGE, MASS),
    "float32 and a NumPy number": (object_array(IMAGE.astype("f4"), np.float64(MASS)), IMAGE, MASS),
    "big-endian": (object_array(IMAGE.astype(">f8"), np.array(MASS)), IMAGE, MASS),
    "counts": (object_array(IMAGE.astype("i4"), np.float32(2)), IMAGE.astype("i4"), 2.0),
    "mass as an array of one": (object_array(IMAGE, np.array([MASS])), IMAGE, MASS),
    "mass as an integer": (object_array(IMAGE, 10**12), IMAGE, 1e12),
    "one channel": (object_array(IMAGE[None], MASS), IMAGE, MASS),
    "channels last": (object_array(COLOUR, MASS), COLOUR.transpose(2, 0, 1), MASS),
    "one channel last": (object_array(IMAGE[..., None], MASS), IMAGE, MASS),
    "Fortran order": (object_array(np.asfortranarray(IMAGE), MASS), IMAGE, MASS),
    "transposed": (object_array(COLOUR.transpose(2, 0, 1), MASS), COLOUR.transpose(2, 0, 1), MASS),
    "a view with gaps": (object_array(np.repeat(IMAGE, 2, 1)[:, ::2], MASS), IMAGE, MASS),
    "flat": (object_array(IMAGE.ravel(), MASS), IMAGE, MASS),
    "flat with a row": (object_array(IMAGE.ravel(), np.full(SIDE, MASS)), IMAGE, MASS),
    "flat with a row of other numbers": (object_array(IMAGE.ravel(), np.arange(3.0)), IMAGE, None),
    "rows": (object_array(*IMAGE), IMAGE, None),
    "rows and mass": (object_array(*IMAGE, MASS), IMAGE, MASS),
    "rows and a row of masses": (object_array(*IMAGE, np.full(SIDE, MASS)), IMAGE, MASS),
    "two by H, as NumPy makes it": (object_array(*IMAGE, *[MASS] * SIDE, shape=(2, SIDE)), IMAGE, MASS),
    "two by one, as NumPy makes it": (object_array(IMAGE, MASS, shape=(2, 1)), IMAGE, MASS),
    "rows inside": (object_array(object_array(*IMAGE), MASS), IMAGE, MASS),
    "lists inside": (object_array(IMAGE.tolist(), MASS), IMAGE, MASS),
    "pixels": (IMAGE.astype(object), IMAGE, None),
    "NumPy pixels": (object_array(*IMAGE.ravel(), shape=(SIDE, SIDE)), IMAGE, None),
    "pixels in a row, then mass": (object_array(*IMAGE.ravel().tolist(), MASS), IMAGE, MASS),
    "image alone": (object_array(IMAGE), IMAGE, None),
    "mass first": (object_array(MASS, IMAGE), IMAGE, MASS),
    "Fortran outside": (np.asfortranarray(object_array(IMAGE, MASS, shape=(2, 1))), IMAGE, MASS),
}


def write(folder: Path, content: bytes) -> Path:
    path = folder / "axion_sim_1.npy"
    path.write_bytes(content)
    return path


def behind_a_header(pickled: bytes, shape: tuple[int, ...] = (2,)) -> bytes:
    array = np.empty(shape, dtype=object)
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, np.lib.format.header_data_from_array_1_0(array))
    return stream.getvalue() + pickled


@pytest.mark.parametrize("numpy_1", [False, True], ids=["NumPy 2", "NumPy 1"])
@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_is_read(tmp_path: Path, variant: str, protocol: int, numpy_1: bool) -> None:
    array, image, mass = VARIANTS[variant]
    path = write(tmp_path, object_npy(array, protocol, numpy_1))
    assert np.allclose(read_image(path), image.astype(np.float32), rtol=1e-7, atol=0)
    got = read_npy(path).mass
    assert got == mass if mass is None else got == pytest.approx(mass, rel=1e-12)


def test_what_numpy_itself_saves(tmp_path: Path) -> None:
    for number, items in enumerate(([IMAGE, MASS], [IMAGE, np.full(SIDE, MASS)], [IMAGE[None], np.array([MASS])])):
        path = tmp_path / f"{number}.npy"
        try:
            np.save(path, np.array(items, dtype=object), allow_pickle=True)
        except ValueError:  # this NumPy cannot make an array of them
            continue
        content = read_npy(path)
        assert content.mass == MASS and np.array_equal(np.squeeze(content.image), IMAGE)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_numpy_1_seeds_are_what_numpy_1_writes() -> None:
    for protocol in range(6):
        old = as_numpy_1(pickle.dumps(object_array(IMAGE, MASS), protocol))
        assert b"numpy.core" in old and b"_core." not in old
        again = pickle.loads(old)  # NumPy 2 still knows the old names: a frame or length put wrong would show
        assert np.array_equal(again[0], IMAGE) and again[1] == MASS


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, protocol: int) -> None:
    whole = object_npy(object_array(IMAGE[:3, :3], MASS), protocol)
    for length in range(len(whole)):
        with pytest.raises(CorruptFile, match="axion_sim_1"):
            read_npy(write(tmp_path, whole[:length]))
    with pytest.raises(CorruptFile, match="does not end"):
        read_npy(write(tmp_path, whole + b"."))


class Evil:
    def __init__(self, function: object, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.call


@pytest.mark.parametrize("protocol", range(6))
def test_no_code_runs(tmp_path: Path, protocol: int) -> None:
    marker = tmp_path / "ran"
    calls = [
        Evil(os.system, f"touch {marker}"),
        Evil(builtins.eval, f"open({str(marker)!r}, 'w')"),
        Evil(builtins.exec, f"open({str(marker)!r}, 'w')"),
        Evil(open, str(marker), "w"),
        Evil(os.mkdir, str(marker)),
        Evil(np.save, str(marker), 1),
        Evil(np.fromfile, str(marker)),
    ]
    for call in calls:
        for array in (object_array(IMAGE, call), object_array(call, MASS), object_array([call], MASS)):
            with pytest.raises(CorruptFile, match="axion_sim_1"):
                read_npy(write(tmp_path, object_npy(array, protocol)))
        with pytest.raises(CorruptFile, match="axion_sim_1"):
            read_npy(write(tmp_path, behind_a_header(pickle.dumps(call, protocol))))
    assert not marker.exists()


ATTACKS = {
    "a dictionary": pickle.dumps({"a": 1}),
    "a plain number": pickle.dumps(5),
    "an array that is not of objects": pickle.dumps(IMAGE),
    "the array class itself called": b"cnumpy\nndarray\n(I3\ntR.",
    "a global with a newline": b"\x80\x04\x8c\x05numpy\x8c\x07ndarray\x93\x8c\x05numpy\x8c\x03sin\x93.",
    "an attribute path": b"\x80\x04\x8c\x05numpy\x8c\x0dndarray.tofile\x93.",
    "extension registry": b"\x80\x02\x82\x01.",
    "persistent identifier": b"Ppid\n.",
    "instance": b"(ios\nsystem\n.",
    "object": b"(cos\nsystem\no.",
    "new object": b"\x80\x02cos\nsystem\n)\x81.",
    "next buffer": b"\x80\x05\x97.",
    "build without an array": b"I1\n(I1\ntb.",
    "append to a tuple": b")I1\na.",
    "appends without a mark": b"]e.",
    "more taken than there is": b"\x87.",
    "taken from below a mark": b"I1\n(\x85.",
    "unknown memo": b"h\x05.",
    "put without a value": b"q\x00.",
    "negative memo": b"I1\np-5\ng-6\n.",
    "endless digits": b"I" + b"9" * 100_000 + b"\n.",
    "LONG1 without its bytes": b"\x80\x02\x8a\xff\x01.",
    "LONG4 of two gigabytes": b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"\x01.",
    "LONG4 of negative length": b"\x80\x02\x8b" + struct.pack("<i", -1) + b"\x01.",
    "text of 2^63 bytes": b"\x80\x04\x8d" + struct.pack("<Q", 2**63) + b"a.",
    "bytes of 2^62 bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"a.",
    "a bytearray of 2^40 bytes": b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"a.",
    "text that is not UTF-8": b"X\x02\x00\x00\x00\xff\xff.",
    "text that is no latin-1": b"c_codecs\nencode\n(X\x03\x00\x00\x00\xe2\x82\xacX\x06\x00\x00\x00latin1tR.",
    "another codec": b"c_codecs\nencode\n(Vaa\nVhex\ntR.",
    "a float that is none": b"Fabc\n.",
    "nothing": b".",
    "two results": b"I1\nI2\n.",
    "an open mark": b"I1\n(.",
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_pickles_that_numpy_does_not_write(tmp_path: Path, attack: str) -> None:
    with pytest.raises(CorruptFile, match="axion_sim_1"):
        read_npy(write(tmp_path, behind_a_header(ATTACKS[attack])))


F8 = b"cnumpy\ndtype\n(Vf8\nI0\nI1\ntR(I3\nV<\nNNNI-1\nI-1\nI0\ntb"
O8 = b"cnumpy\ndtype\n(VO8\nI0\nI1\ntR(I3\nV|\nNNNI-1\nI-1\nI63\ntb"
NEW = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntC\x01btR"


def array_of(shape: bytes, dtype: bytes, values: bytes, order: bytes = b"I00\n") -> bytes:
    return NEW + b"(I1\n" + shape + dtype + order + values + b"tb"


def objects(items: bytes, count: int = 2) -> bytes:
    return array_of(b"(I%d\nt" % count, O8, b"(" + items + b"l")


def test_the_pieces_above_make_a_sound_pickle(tmp_path: Path) -> None:
    pixels = array_of(b"(I3\nI3\nt", F8, b"C\x48" + np.arange(9.0).tobytes())
    content = read_npy(write(tmp_path, behind_a_header(objects(pixels + b"F2.5\n") + b".")))
    assert content.mass == 2.5 and np.array_equal(content.image, np.arange(9.0).reshape(3, 3))


@pytest.mark.parametrize(
    "shape",
    [
        b"(I99999999999\nI99999999999\nt",
        b"(I-1\nI-9\nt",
        b"(I10\nt",
        b"(I01\nt",
        b"(VX\nt",
        b"(F9.0\nt",
        b"I9\n",
        b"(" + b"I1\n" * 60 + b"I9\nt",
        b"(L" + b"9" * 4000 + b"L\nt",
        b"(I0\nt",
        b"N",
        b"((I9\ntt",
        b"t",
    ],
)
def test_shapes_that_do_not_fit_are_refused(tmp_path: Path, shape: bytes) -> None:
    pixels = array_of(shape, F8, b"C\x48" + bytes(72))
    with pytest.raises(CorruptFile, match="axion_sim_1"):
        read_npy(write(tmp_path, behind_a_header(objects(pixels + b"F2.5\n") + b".")))


@pytest.mark.parametrize("code", [b"c16", b"O8", b"V8", b"S8", b"M8", b"f16", b"f8,f8", b"i3", b"f", b"", b"f8" * 999])
def test_dtypes_that_are_not_numeric_are_refused(tmp_path: Path, code: bytes) -> None:
    pixels = array_of(b"(I9\nt", F8.replace(b"Vf8", b"V" + code), b"C\x48" + bytes(72))
    with pytest.raises(CorruptFile, match="axion_sim_1"):
        read_npy(write(tmp_path, behind_a_header(objects(pixels + b"F2.5\n") + b".")))


def test_pieces_that_are_no_image_are_refused(tmp_path: Path) -> None:
    pixels = array_of(b"(I9\nt", F8, b"C\x48" + bytes(72))
    shorter = array_of(b"(I2\nt", F8, b"C\x10" + bytes(16))
    for items, count in (
        (pixels + b"Va\n", 2),
        (pixels + b"N", 2),
        (pixels + b"]", 3),
        (pixels + b"C\x01a", 2),
        (pixels + shorter + pixels, 3),
        (pixels + shorter + shorter, 3),
        (pixels + NEW, 2),
        (pixels + b"L" + b"9" * 400 + b"L\n", 2),
        (b"", 0),
    ):
        with pytest.raises(CorruptFile, match="axion_sim_1"):
            read_npy(write(tmp_path, behind_a_header(objects(items, count) + b".", (count,))))
    with pytest.raises(CorruptFile, match="the header says"):
        read_npy(write(tmp_path, behind_a_header(objects(pixels + b"F1\n") + b".", (1, 2))))


ENCODE = b"c_codecs\nencode\n(%sVlatin1\ntR"
PIXELS = array_of(b"(I9000\nt", F8, b"B" + struct.pack("<I", 72000) + bytes(72000))
BOMBS = {
    "a billion laughs": b"(" * 30 + b"]p0\n" + b"".join(b"g%d\n" % n * 39 + b"lp%d\n" % (n + 1) for n in range(30)),
    "a list in itself": b"]p1\ng1\na",
    "a long list again and again": b"((" + b"I1\n" * 100_000 + b"lp1\n" + b"g1\n" * 100_000 + b"l",
    "a text decoded again and again": b"("
    + ENCODE % (b"V" + b"a" * 99_999 + b"\np1\n")
    + ENCODE % b"g1\n" * 3000
    + b"l",
    "deep tuples": b"]" + b"\x85" * 300_000,
    "very deep tuples": b"]" + b"\x85" * 900_000,
    "an image again and again": b"(" + PIXELS + b"p1\n" + b"g1\n" * 200_000 + b"l",
    "too many opcodes": b"(" + b"N" * 1_500_000 + b"l",
}
REASONS = ("items", "items", "items", "decoded again", "nothing in it", "items", "same array", "opcodes")


@pytest.mark.parametrize(("bomb", "reason"), list(zip(BOMBS, REASONS, strict=True)))
def test_bombs_do_not_go_off(tmp_path: Path, bomb: str, reason: str) -> None:
    path, started = write(tmp_path, behind_a_header(objects(BOMBS[bomb], 1) + b".", (1,))), time.process_time()
    with pytest.raises(CorruptFile, match=f"axion_sim_1.*{reason}"):
        read_npy(path)
    assert time.process_time() - started < 30


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(protocol=st.integers(0, 5), data=st.data())
def test_a_changed_byte_is_refused_or_harmless(tmp_path: Path, protocol: int, data: st.DataObject) -> None:
    whole = bytearray(object_npy(object_array(IMAGE[:4, :4], MASS), protocol))
    whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert isinstance(read_npy(write(tmp_path, bytes(whole))), NpyContent)
    except CorruptFile as error:
        assert "axion_sim_1" in error.found

"""PNG and JPEG: values as stored, whatever the colour mode; damaged or monstrous pictures are one CorruptFile."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplense.core.errors import CorruptFile, InvalidOption, MissingFile
from deeplense.data.readers.files import channels_first, read_image
from deeplense.data.readers.pictures import read_picture

GREY = (np.arange(20 * 24).reshape(20, 24) % 251).astype(np.uint8)


def save(folder: Path, picture: Image.Image, name: str = "a.png") -> Path:
    picture.save(folder / name)
    return folder / name


def png(width: int, height: int, data: bytes = b"") -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def test_grey_values_stay_as_stored(tmp_path: Path) -> None:
    image = read_image(save(tmp_path, Image.fromarray(GREY)))
    assert image.dtype == np.float32 and np.array_equal(image, GREY[None])


def test_sixteen_bits_stay_sixteen_bits(tmp_path: Path) -> None:
    deep = GREY.astype(np.uint16) * 257
    assert np.array_equal(read_image(save(tmp_path, Image.fromarray(deep))), deep[None])


def test_colour_comes_as_three_channels_without_alpha(tmp_path: Path) -> None:
    colour = np.stack([GREY, GREY[::-1], GREY.T.reshape(GREY.shape)], -1)
    picture = Image.fromarray(colour)
    assert np.array_equal(read_image(save(tmp_path, picture)), colour.transpose(2, 0, 1))
    picture.putalpha(100)
    assert np.array_equal(read_image(save(tmp_path, picture)), colour.transpose(2, 0, 1))


def test_palettes_are_looked_up(tmp_path: Path) -> None:
    grey = Image.fromarray(GREY).convert("P")
    assert np.array_equal(read_image(save(tmp_path, grey)), GREY[None])
    red = Image.new("P", (4, 4))
    red.putpalette([200, 10, 0])
    assert np.array_equal(read_image(save(tmp_path, red))[:, 0, 0], [200, 10, 0])


def test_one_bit_pictures_are_zero_and_one(tmp_path: Path) -> None:
    assert np.array_equal(np.unique(read_image(save(tmp_path, Image.fromarray(GREY > 99)))), [0, 1])


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg(tmp_path: Path, mode: str) -> None:
    picture = Image.fromarray(np.tile(np.arange(32, dtype=np.uint8) * 4, (32, 1))).convert(mode)
    image = read_image(save(tmp_path, picture, "a.JPEG"))
    assert image.shape == (1 if mode == "L" else 3, 32, 32)
    assert np.abs(image - np.asarray(picture.convert("L"), dtype=np.float32)).max() < 6


def test_the_suffix_does_not_decide_the_format(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.fromarray(GREY).save(stream, "PNG")
    (tmp_path / "a.jpg").write_bytes(stream.getvalue())
    assert np.array_equal(read_image(tmp_path / "a.jpg"), GREY[None])


def refused_or_whole(path: Path, content: bytes, whole: np.ndarray) -> bool:
    """Whether damage was noticed; if not, it must lie behind the last pixel."""
    path.write_bytes(content)
    try:
        assert np.array_equal(read_picture(path), whole)
    except CorruptFile as error:
        assert path.name in error.found
        return True
    return False


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_picture_cut_short_is_refused(tmp_path: Path, kind: str) -> None:
    stream = io.BytesIO()
    Image.fromarray(GREY).save(stream, kind)
    content, path = stream.getvalue(), tmp_path / "a.png"
    path.write_bytes(content)
    whole = read_picture(path)
    unnoticed = [n for n in range(1, len(content)) if not refused_or_whole(path, content[:-n], whole)]
    assert unnoticed == list(range(1, len(unnoticed) + 1)) and len(unnoticed) <= 4


def test_a_png_with_a_changed_byte_is_refused(tmp_path: Path) -> None:
    content = bytearray(save(tmp_path, Image.fromarray(GREY)).read_bytes())
    for position in range(len(content)):
        content[position] ^= 4
        noticed = refused_or_whole(tmp_path / "a.png", bytes(content), GREY)
        assert noticed or position >= len(content) - 12, "only the end marker, which is empty, may go unchecked"
        content[position] ^= 4


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", [(9000, 9000), (12000, 12000), (60000, 60000), (2**31 - 1, 2**31 - 1), (0, 5)])
def test_a_small_file_of_a_huge_picture_is_refused_before_it_is_unpacked(tmp_path: Path, size: tuple[int, int]) -> None:
    (tmp_path / "a.png").write_bytes(png(*size))
    with pytest.raises(CorruptFile, match=r"a\.png"):
        read_picture(tmp_path / "a.png")


def test_other_formats_are_refused(tmp_path: Path) -> None:
    for kind in ("GIF", "TIFF", "BMP", "WEBP"):
        stream = io.BytesIO()
        Image.fromarray(GREY).save(stream, kind)
        (tmp_path / "a.png").write_bytes(stream.getvalue())
        with pytest.raises(CorruptFile, match=r"a\.png"):
            read_picture(tmp_path / "a.png")
    with pytest.raises(InvalidOption, match="suffix"):
        read_image(tmp_path / "a.gif")
    with pytest.raises(MissingFile):
        read_image(tmp_path / "none.png")


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((6, 7), (1, 6, 7)),
        ((3, 6, 7), (3, 6, 7)),
        ((6, 7, 3), (3, 6, 7)),
        ((1, 6, 7), (1, 6, 7)),
        ((6, 7, 1), (1, 6, 7)),
        ((1, 1, 6, 7), (1, 6, 7)),
        ((1, 6, 7, 3), (3, 6, 7)),
        ((4096,), (1, 64, 64)),
        ((1, 4096), (1, 64, 64)),
        ((64, 64, 3), (3, 64, 64)),
        ((32, 32, 3), (3, 32, 32)),
    ],
)
def test_axes_are_put_in_order(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    pixels = np.arange(np.prod(shape), dtype=float).reshape(shape)
    image = channels_first(Path("a.npy"), pixels)
    assert image.shape == expected and np.array_equal(np.sort(image.ravel()), pixels.ravel())
    if len(shape) == 3 and shape[0] == 6:
        assert np.array_equal(image[0], pixels[..., 0])


@pytest.mark.parametrize("shape", [(), (5,), (1,), (1, 7), (7, 1), (500, 64, 64), (2, 3, 6, 7), (0, 5), (6, 0, 7)])
def test_what_is_no_image_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(CorruptFile, match=r"a\.npy"):
        channels_first(Path("a.npy"), np.zeros(shape))

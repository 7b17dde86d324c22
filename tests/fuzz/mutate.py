"""Sound bytes → damaged bytes: bit flips, truncation, splices, insertions, edits of lengths and headers."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

HEADER = 512
"""Bytes at the front that half of all damage hits: there the structure lies."""

NUMBERS = (0, 1, 2, 127, 128, 255, 256, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1)
PICKLE = b"(.0123FIJKLMNPQRSTUVXabcdeghijlopqrstu]}\x80\x81\x82\x85\x86\x87\x88\x89\x8a\x8b\x8c\x8d\x8e\x93\x94\x95\x96"
WORDS = (
    b"'shape': (99999999999, 99999999999)",
    b"'descr': '|O', ",
    b"'descr': '<c16', ",
    b"'fortran_order': True, ",
    b"cos\nsystem\n(S'true'\ntR.",
    b"cbuiltins\neval\n(S'1'\ntR.",
    b"(-1, 4)",
    b"<f4",
    b">i8",
    b"((((((((((((((((((((",
    b"\x8a\xff" + b"\xff" * 64,
    b"PK\x05\x06",
    b"IEND",
)


def mutate(seeds: Sequence[bytes], rng: random.Random) -> bytes:
    """Return one seed with one to eight pieces of damage."""
    content = bytearray(rng.choice(seeds))
    for _ in range(rng.choice((1, 1, 1, 2, 4, 8))):
        rng.choice(_DAMAGE)(content, seeds, rng)
    return bytes(content)


def _position(content: bytearray, rng: random.Random) -> int:
    end = min(len(content), HEADER) if rng.random() < 0.5 else len(content)
    return rng.randrange(end + 1)


def _flip(content: bytearray, seeds: Sequence[bytes], rng: random.Random) -> None:
    at = _position(content, rng)
    if at < len(content):
        content[at] ^= 1 << rng.randrange(8)


def _set(content: bytearray, seeds: Sequence[bytes], rng: random.Random) -> None:
    at = _position(content, rng)
    content[at : at + 1] = bytes([rng.choice((0, 1, 255, rng.choice(PICKLE), rng.randrange(256)))])


def _number(content: bytearray, seeds: Sequence[bytes], rng: random.Random) -> None:
    at, size = _position(content, rng), rng.choice((1, 2, 4, 8))
    content[at : at + size] = (rng.choice(NUMBERS) % (1 << 8 * size)).to_bytes(size, rng.choice(("little", "big")))


def _digit(content: bytearray, seeds: Sequence[bytes], rng: random.Random) -> None:
    digits = [at for at, value in enumerate(content[:HEADER]) if 48 <= value < 58]
    if digits:
        content[rng.choice(digits)] = rng.choice(b"0123456789-,)")


def _truncate(content: bytearray, seeds: Sequence[bytes], rng: random.Random) -> None:
    del content[_position(content, rng) :]


def _delete(content: bytearray, seeds: Sequence[bytes], rng: random.Random) -> None:
    at = _position(content, rng)
    del content[at : at + rng.choice((1, 2, 8, 64))]


def _insert(content: bytearray, seeds: Sequence[bytes], rng: random.Random) -> None:
    at = _position(content, rng)
    content[at:at] = rng.randbytes(rng.choice((1, 2, 8, 64)))


def _word(content: bytearray, seeds: Sequence[bytes], rng: random.Random) -> None:
    at, word = _position(content, rng), rng.choice(WORDS)
    content[at : at + rng.choice((0, len(word)))] = word


def _splice(content: bytearray, seeds: Sequence[bytes], rng: random.Random) -> None:
    other = rng.choice(seeds)
    content[_position(content, rng) :] = other[rng.randrange(len(other) + 1) :]


def _repeat(content: bytearray, seeds: Sequence[bytes], rng: random.Random) -> None:
    start, at = _position(content, rng), _position(content, rng)
    content[at:at] = content[start : start + rng.choice((1, 4, 32, 256))] * rng.choice((1, 2, 16))


Damage = Callable[[bytearray, Sequence[bytes], random.Random], None]
_DAMAGE: tuple[Damage, ...] = (
    _flip,
    _set,
    _number,
    _digit,
    _truncate,
    _delete,
    _insert,
    _word,
    _splice,
    _repeat,
)

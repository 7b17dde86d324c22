"""Randomness that belongs to an image, not to a process: one counter-based stream per (seed, image, purpose)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, UInt64

MASK = (1 << 64) - 1


def stable_key(*words: str | int) -> int:
    """Return a 64-bit integer that depends on the words alone, in any process and on any machine."""
    text = "\x1f".join(str(word) for word in words)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def image_stream(seed: int, key: int, purpose: int = 0) -> np.random.Generator:
    """Return the generator of one image: a Philox counter stream (Salmon et al. 2011) keyed by seed and image.

    Parameters
    ----------
    seed
        Seed of the dataset.
    key
        64-bit key of the image, unique in its dataset.
    purpose
        Streams of different purposes (scene, noise) never overlap: it is the counter's most significant word.
    """
    counter = np.array([0, 0, 0, purpose], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=np.array([seed & MASK, key & MASK], np.uint64), counter=counter))


def uniforms(seed: int, keys: Sequence[int] | UInt64[np.ndarray, " B"], n: int) -> Float64[np.ndarray, "B n"]:
    """Return n uniform numbers in [0, 1) for each image; a row depends on the seed and that image's key alone."""
    return np.array([image_stream(seed, int(key)).random(n) for key in keys]).reshape(len(keys), n)

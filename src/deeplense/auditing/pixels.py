"""What an audit remembers of images: a hash, a thumbnail and a few numbers each; findings over the numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float32, Float64, Int64, UInt64
from numpy.typing import NDArray

from deeplense.auditing.columns import Rows, predictive, shifted
from deeplense.auditing.finding import Finding, some
from deeplense.core.errors import DeepLenseError
from deeplense.data.dataset import Dataset

SIDE = 16  # of a thumbnail
BYTES_PER_READ = 1 << 26
BORDER = 12  # the ring that counts as background is this part of the side wide
MANY_BANDS = 8  # of more, their mean is measured
SOFTENING = 0.1  # of the thumbnail's σ: the stretch that lets faint structure count beside a bright lens


@dataclass(frozen=True)
class Measured:
    """What is remembered of M images.

    Parameters
    ----------
    digest
        Of the pixels; equal pixels, equal digest.
    thumbnail
        Stretched, of mean 0 and length 1; the same for an image and its multiple; 0 for a constant one.
    constant, finite
        Whether all pixels of a band are one value, and whether none is NaN or infinite.
    numbers
        Statistics of the pixels, and of the border as `background …`, by name.
    """

    digest: UInt64[np.ndarray, " M"]
    thumbnail: Float32[np.ndarray, "M 256"]
    constant: Bool[np.ndarray, " M"]
    finite: Bool[np.ndarray, " M"]
    numbers: dict[str, Float64[np.ndarray, " M"]]


@dataclass(frozen=True)
class Survey:
    """Images of a dataset, measured.

    Parameters
    ----------
    rows
        [M] rows of the catalogue that were read.
    measured
        Of these.
    refused
        Rows that the reader refused, and its words.
    """

    rows: Int64[np.ndarray, " M"]
    measured: Measured
    refused: dict[int, str]


def measure(images: Float32[np.ndarray, "B C H W"]) -> Measured:
    """Return what is remembered of some images."""
    finite = np.isfinite(images).all((1, 2, 3))
    sound = np.where(finite[:, None, None, None], images, 0).astype(np.float32)
    constant = (sound.max((2, 3)) == sound.min((2, 3))).any(1) & finite
    digests = [hashlib.blake2b(image.tobytes(), digest_size=8).digest() for image in np.ascontiguousarray(images) + 0.0]
    return Measured(
        np.array([int.from_bytes(digest, "little") for digest in digests], dtype=np.uint64),
        thumbnails(sound),
        constant,
        finite,
        {name: np.where(finite, values, np.nan) for name, values in _numbers(sound).items()},
    )


def thumbnails(images: Float32[np.ndarray, "B C H W"]) -> Float32[np.ndarray, "B 256"]:
    """Return thumbnails of 16 × 16 pixels, bands averaged, of mean 0 and length 1; they turn with their images."""
    peak = np.maximum(np.abs(images).max((1, 2, 3), keepdims=True), np.finfo(np.float32).tiny)  # fluxes may be 1e-12
    small = F.adaptive_avg_pool2d(torch.from_numpy(images / peak).double().mean(1, keepdim=True), SIDE).flatten(1)
    centred = small - small.median(1, keepdim=True).values
    scale = SOFTENING * small.std(1, keepdim=True)
    stretched = torch.asinh(centred / scale.clamp(min=1e-9))
    stretched = stretched - stretched.mean(1, keepdim=True)
    unit = stretched / stretched.norm(dim=1, keepdim=True).clamp(min=1e-12)
    return torch.where(scale > 1e-9, unit, 0.0).float().numpy()


def _numbers(images: Float32[np.ndarray, "B C H W"]) -> dict[str, Float64[np.ndarray, " B"]]:
    """Return statistics of every band; of very many bands, of their mean."""
    pixels = images.astype(np.float64)
    if images.shape[1] > MANY_BANDS:
        pixels = pixels.mean(1, keepdims=True)
    height, width = pixels.shape[2:]
    ring = np.ones((height, width), bool)
    edge = max(1, min(height, width) // BORDER)
    ring[edge : height - edge, edge : width - edge] = False
    numbers: dict[str, Float64[np.ndarray, " B"]] = {}
    for band in range(pixels.shape[1]):
        suffix = f", band {band + 1}" if pixels.shape[1] > 1 else ""
        border, flat = pixels[:, band, ring], pixels[:, band].reshape(len(pixels), -1)
        numbers |= {
            f"background median{suffix}": np.median(border, 1),
            f"background rms{suffix}": border.std(1),
            f"pixel mean{suffix}": flat.mean(1),
            f"pixel σ{suffix}": flat.std(1),
            f"pixel maximum{suffix}": flat.max(1),
        }
    return numbers


def survey(dataset: Dataset, rows: Int64[np.ndarray, " M"], advance: Callable[[int], None]) -> Survey:
    """Return some images of a dataset, measured a few at a time; those that the reader refuses are remembered.

    Raises
    ------
    DeepLenseError
        When no image can be read: the words of the first.
    """
    step = max(1, min(256, BYTES_PER_READ // (4 * int(np.prod(dataset.image_shape)))))
    parts: list[Measured] = []
    refused: dict[int, DeepLenseError] = {}
    for first in range(0, len(rows), step):
        some_rows = rows[first : first + step]
        try:
            parts.append(measure(dataset.images(some_rows)))
        except DeepLenseError:  # one of them: ask for each alone
            for row in some_rows.tolist():
                try:
                    parts.append(measure(dataset.images([row])))
                except DeepLenseError as error:
                    refused[row] = error
        advance(len(some_rows))
    if not parts:
        raise next(iter(refused.values()))
    kept = rows[~np.isin(rows, list(refused))]
    return Survey(kept, _joined(parts), {row: error.found for row, error in refused.items()})


def _joined(parts: list[Measured]) -> Measured:
    return Measured(
        digest=np.concatenate([part.digest for part in parts]),
        thumbnail=np.concatenate([part.thumbnail for part in parts]),
        constant=np.concatenate([part.constant for part in parts]),
        finite=np.concatenate([part.finite for part in parts]),
        numbers={name: np.concatenate([part.numbers[name] for part in parts]) for name in parts[0].numbers},
    )


def background(measured: Measured, rows: Rows) -> list[Finding]:
    """Return findings where the level or the noise of the border tells the label."""
    columns: dict[str, NDArray[Any]] = {
        name: values for name, values in measured.numbers.items() if name.startswith("background")
    }
    return predictive(columns, rows, kind="background")


def pixel_shift(measured: Measured, rows: Rows) -> list[Finding]:
    """Return findings where statistics of the pixels differ between the splits."""
    return shifted(measured.numbers, rows, kind="pixel_shift")


def damaged(found: Survey, ids: list[str]) -> list[Finding]:
    """Return findings on images that are refused, not finite or constant.

    Parameters
    ----------
    found
        The images.
    ids
        Of every row of the catalogue.
    """
    refused = {"non_finite": "are not finite", "unequal_shape": "have another shape", "unreadable": "cannot be read"}
    members: dict[str, list[int]] = {kind: [] for kind in refused}
    for row, words in found.refused.items():
        plain = words.lower()
        finite, shape = "nan" in plain.split() or "finite" in plain, "shape" in plain
        members["non_finite" if finite else "unequal_shape" if shape else "unreadable"].append(row)
    members["non_finite"] += found.rows[~found.measured.finite].tolist()
    total = len(found.rows) + len(found.refused)
    findings = [
        Finding(kind, "warning", "images", _told(members[kind], total, words, ids), {"images": len(members[kind])})
        for kind, words in refused.items()
        if members[kind]
    ]
    constant = found.rows[found.measured.constant].tolist()
    if constant:
        words = _told(constant, total, "have one value everywhere, or in a band", ids)
        findings.append(Finding("constant_images", "warning", "images", words, {"images": len(constant)}))
    return findings


def _told(rows: list[int], total: int, words: str, ids: list[str]) -> str:
    return f"{len(rows):,} of {total:,} images {words}: {some(ids[row] for row in rows)}"

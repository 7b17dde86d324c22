"""Findings on images that are there twice: to the bit, or turned, mirrored, rescaled or recompressed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float32, Int64
from numpy.typing import NDArray
from torch import Tensor

from deeplense.auditing.columns import Rows
from deeplense.auditing.finding import Finding, Severity, some
from deeplense.auditing.pixels import SIDE, Measured

NEAR = 0.1
"""Largest distance of two near duplicates' thumbnails (of length 1): a correlation of 0.995."""
CLOSE = 0.2
"""The same, as a part of the usual distance to the twentieth neighbour: in a set of like images all are close."""
NEIGHBOUR, ASKED = 20, 256
BLOCK, PAIRS = 512, 8192  # rows and pairs in memory at a time
MOST_PAIRS = 2_000_000
Pairs = Int64[np.ndarray, "P 2"]
Thumbnails = Float32[np.ndarray, "M 256"]


def exact_pairs(measured: Measured) -> Pairs:
    """Return pairs of images with equal pixels, each with the first of its kind; constant ones are left out."""
    kept = np.flatnonzero(~measured.constant)
    _, first, inverse = np.unique(measured.digest[kept], return_index=True, return_inverse=True)
    earlier = kept[first[inverse]]
    pairs: Pairs = np.stack([earlier, kept], 1)[earlier != kept].astype(np.int64)
    return pairs


def near_pairs(thumbnails: Thumbnails) -> tuple[Pairs, bool]:
    """Return pairs of thumbnails that are alike up to a symmetry of the square, and whether all pairs were looked at.

    Parameters
    ----------
    thumbnails
        As by `pixels.thumbnails`; a constant image's, 0, is left out.
    """
    kept = np.flatnonzero(np.abs(thumbnails).any(1))
    if len(kept) < 2:
        return np.empty((0, 2), np.int64), True
    small = torch.from_numpy(thumbnails[kept])
    limit = min(NEAR, CLOSE * _usual_distance(small))
    found, looked = [torch.empty(0, 2, dtype=torch.int64)], 0
    for pairs in _candidates(_invariants(small), limit):
        looked += len(pairs)
        if looked > MOST_PAIRS:
            return kept[torch.cat(found).numpy()], False
        for some_pairs in torch.tensor_split(pairs, tuple(range(PAIRS, len(pairs), PAIRS))):
            found.append(some_pairs[_distance(small[some_pairs[:, 0]], small[some_pairs[:, 1]]) < limit])
    return kept[torch.cat(found).numpy()], True


def _turned(small: Tensor) -> Tensor:
    """Return [8, M, 256] the thumbnails under the symmetries of the square: four turns, then those of the mirrored."""
    square = small.reshape(-1, SIDE, SIDE)
    turns = [torch.rot90(one, k, (1, 2)) for one in (square, square.flip(2)) for k in range(4)]
    return torch.stack(turns).flatten(2)


def _distance(one: Tensor, other: Tensor) -> Tensor:
    """Return [P] the distance of each pair in the symmetry that brings them closest."""
    distances: Tensor = torch.linalg.vector_norm(_turned(one) - other, dim=2)
    return distances.amin(0)


def _usual_distance(small: Tensor) -> float:
    """Return the median distance of some thumbnails to their twentieth neighbour, symmetries included."""
    asked = small[torch.linspace(0, len(small) - 1, min(ASKED, len(small))).long()]
    rank = min(NEIGHBOUR + 1, len(small) - 1)  # the closest is the thumbnail itself
    distances = []
    for one in _turned(asked).unbind(1):
        closest = (one @ small.T).amax(0)  # of length 1: the larger the product, the closer
        distances.append((2 - 2 * closest.topk(rank + 1).values[-1]).clamp(min=0).sqrt())
    return float(torch.stack(distances).median())


def _invariants(small: Tensor) -> Tensor:
    """Return [M, 180] numbers that no symmetry changes, and that lie no further apart than the thumbnails do.

    A thumbnail is the sum of five parts, one per irreducible representation of the square's symmetries; of each, the
    length within every set of pixels that symmetries exchange stays. The first part is symmetric, and keeps its sign.
    """
    characters = torch.tensor(  # of 1, three turns, four mirrors, as in `_turned`
        [[1, 1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, -1, -1, -1, -1], [1, -1, 1, -1, 1, -1, 1, -1],
         [1, -1, 1, -1, -1, 1, -1, 1], [2, 0, -2, 0, 0, 0, 0, 0]], dtype=torch.float32,
    )  # fmt: skip
    weights = characters * torch.tensor([1, 1, 1, 1, 2])[:, None] / 8
    places = _turned(torch.arange(SIDE * SIDE)[None].float())[:, 0].long().amin(0)
    orbit = (places[:, None] == torch.tensor(sorted(set(places.tolist())))).float()
    numbers = []
    for block in torch.tensor_split(small, tuple(range(BLOCK, len(small), BLOCK))):
        parts = torch.einsum("rg,gmp->rmp", weights, _turned(block))
        numbers.append(torch.cat([parts[0] @ (orbit / orbit.sum(0).sqrt()), *(parts[1:] ** 2 @ orbit).sqrt()], 1))
    return torch.cat(numbers)


def _candidates(invariants: Tensor, limit: float) -> Iterator[Tensor]:
    """Yield pairs [P, 2], first before second, whose invariants are within `limit`: no near pair is missed."""
    lengths = (invariants**2).sum(1)
    for first in range(0, len(invariants), BLOCK):
        block, rest = invariants[first : first + BLOCK], invariants[first:]
        squared = lengths[first : first + BLOCK, None] + lengths[first:] - 2 * block @ rest.T
        pairs = (squared < limit**2 + 1e-5).triu(1).nonzero()
        yield pairs + first


def duplicates(measured: Measured, rows: Rows, ids: list[str]) -> list[Finding]:
    """Return findings on exact and near duplicates, across the splits and within.

    Parameters
    ----------
    measured
        Of the images.
    rows, ids
        Labels, splits and names of the same images.
    """
    exact = exact_pairs(measured)
    near, complete = near_pairs(measured.thumbnail * measured.finite[:, None])
    digest = measured.digest
    near = near[digest[near[:, 0]] != digest[near[:, 1]]]
    findings = [*_of_pairs("exact", exact, rows, ids), *_of_pairs("near", near, rows, ids)]
    if not complete:
        words = f"more than {MOST_PAIRS:,} pairs of images are alike; near duplicates among the rest are not counted"
        findings.append(Finding("near_duplicates", "warning", "images", words))
    return findings


def _of_pairs(how: str, pairs: Pairs, rows: Rows, ids: list[str]) -> list[Finding]:
    splits, targets = rows.splits[pairs], rows.targets[pairs]
    across: NDArray[np.bool_] = splits[:, 0] != splits[:, 1]
    odds = (targets[:, 0] != targets[:, 1]) & (targets >= 0).all(1)
    alike = "have the same pixels as" if how == "exact" else "are, turned, mirrored, rescaled or blurred, much like"
    kinds: list[tuple[str, Severity, NDArray[np.bool_], str]] = [
        (f"{how}_duplicates", "leak" if how == "exact" else "warning", across, f"{alike} one of another split"),
        (f"{how}_duplicates", "warning" if how == "exact" else "note", ~across, f"{alike} one of their own split"),
        (f"{how}_conflicts", "warning", odds, f"{alike} one of another class"),
    ]
    findings = []
    subjects = ("across splits", "within a split", "label")
    for (kind, severity, chosen, words), subject in zip(kinds, subjects, strict=True):
        if chosen.any():
            images = len(np.unique(pairs[chosen, 1]))
            example = some((f"{ids[i]} = {ids[j]}" for i, j in pairs[chosen].tolist()), 2)
            numbers = {"images": images, "pairs": int(chosen.sum()), "of": len(ids)}
            told = f"{images:,} of {len(ids):,} images {words}: {example}"
            findings.append(Finding(kind, severity, subject, told, numbers))
    return findings

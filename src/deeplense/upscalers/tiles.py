"""Images of any size through an upscaler: cut in tiles that know their surroundings, holes filled before."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from deeplense.core.errors import InvalidDataset, InvalidOption


def upscale_tiled(
    upscaler_call: Callable[[Float[Tensor, "1 C h w"]], Float[Tensor, "1 C H W"]],
    low: Float[Tensor | np.ndarray, "1 C h w"],
    factor: int,
    reach: int,
    alignment: int = 1,
    tile: int = 256,
    out: Float[Tensor | np.ndarray, "1 _ _ _"] | None = None,
) -> Float[Tensor, "1 C H W"]:
    """Return what the upscaler makes of the whole image, computed tile by tile; gradients are not kept.

    A tile is given with a margin of `reach` coarse pixels, rounded up to `alignment`, and less at the image's edges:
    there the upscaler does as it does with the whole image. Memory beyond `low` and `out` is that of one tile.

    Parameters
    ----------
    upscaler_call
        Image to image of `factor` times more pixels a side; on any device.
    low
        Coarse image; it is read one tile at a time, so that it may be a memory map, of any byte order.
    factor
        Fine pixels per coarse one, along each axis.
    reach
        How far the upscaler looks [coarse pixels].
    alignment
        Tiles start at multiples of it [coarse pixels].
    tile
        Side of a tile without its margins [coarse pixels], rounded down to `alignment`, if it is not less.
    out
        Where to write; a new tensor in memory if None. The result shares its memory.

    Raises
    ------
    InvalidOption
        When factor, alignment or tile are less than 1, reach is negative, or a fine image is not `factor` times the
        coarse one.
    """
    if min(factor, alignment, tile, reach + 1) < 1:
        raise InvalidOption(
            f"factor {factor}, alignment {alignment}, tile {tile}, reach {reach}",
            "positive whole numbers; a reach from 0",
            "change the one that is not",
        )
    _, channels, *sides = low.shape
    shape = (1, channels, *(factor * side for side in sides))
    if out is None:
        out = torch.empty(shape, dtype=low.dtype if isinstance(low, Tensor) else torch.float32)
    fine = torch.from_numpy(out) if isinstance(out, np.ndarray) else out
    _check_shape(fine, shape)
    margin = math.ceil(reach / alignment) * alignment
    rows, columns = (_spans(side, tile, alignment, margin) for side in sides)
    with torch.no_grad():
        for row, near_rows in rows:
            for column, near_columns in columns:
                window = _tensor(low[:, :, near_rows, near_columns])
                result = upscaler_call(window)
                _check_shape(result, (1, channels, *(factor * side for side in window.shape[2:])))
                inner = result[:, :, _finer(row, near_rows, factor), _finer(column, near_columns, factor)]
                fine[:, :, _finer(row, slice(0), factor), _finer(column, slice(0), factor)] = inner.to(fine)
    return fine


def _spans(side: int, tile: int, alignment: int, margin: int) -> list[tuple[slice, slice]]:
    """Return each tile along one axis, without and with its margins; tiles are as equal as alignment allows."""
    step = max(tile // alignment, 1) * alignment
    step = math.ceil(side / math.ceil(side / step) / alignment) * alignment
    starts = range(0, side, step)
    return [
        (slice(start, min(start + step, side)), slice(max(start - margin, 0), min(start + step + margin, side)))
        for start in starts
    ]


def _finer(part: slice, whole: slice, factor: int) -> slice:
    """Return where `part` of the coarse image lies in the fine image of `whole`."""
    origin = whole.start or 0
    return slice((part.start - origin) * factor, (part.stop - origin) * factor)


def _tensor(window: Tensor | np.ndarray) -> Tensor:
    return window if isinstance(window, Tensor) else torch.from_numpy(np.array(window, dtype=np.float32, order="C"))


def _check_shape(image: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(image.shape) != shape:
        raise InvalidOption(f"a fine image of shape {tuple(image.shape)}", f"{shape}", "change factor, or the upscaler")


def filled(
    pixels: Float[Tensor, "C h w"], mask: Bool[Tensor, "C h w"], factor: int
) -> tuple[Float[Tensor, "C h w"], Bool[Tensor, "C H W"]]:
    """Return the image without holes, and where the fine image is not to be trusted.

    A hole gets the mean of the sound pixels in the smallest square around it that holds any: its neighbours, else the
    neighbours of its 2 x 2 pixels in a grid of those, else of 4 x 4: a normalised convolution whose kernel grows.

    Parameters
    ----------
    pixels
        Coarse image; what is not finite counts as masked.
    mask
        True for pixels that are not to be used.
    factor
        Fine pixels per coarse one, along each axis.

    Returns
    -------
    image
        `pixels`, holes filled.
    mask
        True for every fine pixel in a masked coarse pixel or in one of its eight neighbours.

    Raises
    ------
    InvalidDataset
        When a band has no sound pixel at all.
    """
    mask = mask | ~pixels.isfinite()
    empty = mask.flatten(1).all(1).nonzero().flatten().tolist()
    if empty:
        raise InvalidDataset(
            f"every pixel of band {', '.join(map(str, empty))} is masked or not finite",
            "at least one sound pixel in each band",
            "leave the band out, or correct the mask",
        )
    image = torch.stack([_filled(band, holes) for band, holes in zip(pixels, mask, strict=True)])
    grown = F.max_pool2d(mask.to(torch.uint8).float(), 3, stride=1, padding=1) > 0
    return image, grown.repeat_interleave(factor, 1).repeat_interleave(factor, 2)


def _filled(band: Float[Tensor, "h w"], holes: Bool[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    if not holes.any():
        return band
    sums = torch.stack([torch.where(holes, 0.0, band.double()), (~holes).double()])
    return torch.where(holes, _mean_around(sums).to(band), band)


def _mean_around(sums: Float[Tensor, "2 h w"]) -> Float[Tensor, "h w"]:
    """Return the mean near each cell, of sums of values and numbers of values in it; a coarser grid's where none is."""
    total, count = F.avg_pool2d(sums, 3, stride=1, padding=1, divisor_override=1)
    mean: Tensor = total / count
    if (count > 0).all():
        return mean
    coarser = _mean_around(F.avg_pool2d(sums, 2, ceil_mode=True, divisor_override=1))
    h, w = count.shape
    return torch.where(count > 0, mean, coarser.repeat_interleave(2, 0).repeat_interleave(2, 1)[:h, :w])

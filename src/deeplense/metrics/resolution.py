"""What a coarse image can say of a finer one: the error no estimate beats, and whether one says what it knows.

The coarse image is A x Bᵀ of the fine one x: one matrix along each axis, as `core.degradation.Degradation.along` gives
them.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from deeplense.core.errors import InvalidOption
from deeplense.metrics.image import Images, PerImage, exact, require_alike

Matrix = Float[Tensor, "h H"]
LOST = 1e-6  # relative: what is damped more is not in a coarse image of single precision


def unseen(rows: Matrix, columns: Float[Tensor, "w W"]) -> Float64[Tensor, "H W"]:
    """Return which fraction of white noise in each fine pixel the coarse image does not hold: 1 − diag(A⁺A).

    Its mean is 1 − rank(A) / number of fine pixels: 1 − 1/f² if no coarse pixel repeats what others say.

    Parameters
    ----------
    rows
        Matrix along the columns of an image, from H fine to h coarse pixels.
    columns
        Matrix along its rows, from W to w.
    """
    seen_rows, seen_columns = (_seen(matrix) for matrix in (rows, columns))
    return 1 - seen_rows[:, None] * seen_columns


def noise_floor(variance: Images | float, rows: Matrix, columns: Float[Tensor, "w W"]) -> PerImage:
    """Return [B] the mean squared error [square of the unit] that a prediction of the noisy fine image cannot avoid.

    The fine image is the truth and independent noise of variance V; the coarse image is A (fine). Whoever sees the
    coarse image, and knows even the truth, predicts the noise by its conditional mean and is left with
    tr(V − V Aᵀ (A V Aᵀ)⁻¹ A V) / N: of Gaussian noise nobody, of other noise no linear estimator can do better. For
    one variance v in all pixels that is v (1 − rank(A) / N).

    Returned is tr(V − V A⁺A) / N, the mean of v_i `unseen`_i: exactly the error of truth + A⁺(coarse − A truth), which
    is the best for constant v and never below the least. As A reaches only few pixels, v need be constant over those
    alone: of bicubic pairs at factor 2 it is too large by 0.2 % where v grows by 10 % from pixel to pixel along both
    axes, by 1 % around a ring or a blob of σ = 2 or 3 pixels, by 7 % where neighbours are unrelated.

    An estimate that is scored against noisy images and comes near this floor has reproduced noise.

    Parameters
    ----------
    variance
        Of the noise in each fine pixel [square of the unit]; a number stands for one image.
    rows, columns
        See `unseen`.

    Raises
    ------
    InvalidOption
        When the map's size is not that of the matrices.
    """
    share = unseen(rows, columns)
    if isinstance(variance, int | float):
        return variance * share.mean()[None]
    if variance.shape[2:] != share.shape:
        raise InvalidOption(
            f"variances of shape {list(variance.shape)} for a degradation of {list(share.shape)} fine pixels",
            "a variance for each fine pixel",
            "make the matrices for the size of the images",
        )
    lost = exact(variance)
    return (lost * share.to(lost)).mean((1, 2, 3))


def redegradation_chi_square(
    low: Float[Tensor, "B C h w"],
    degraded: Float[Tensor, "B C h w"],
    variance: Float[Tensor, "B C h w"],
    mask: Bool[Tensor, "B C h w"] | None = None,
) -> PerImage:
    """Return [B] the mean of (low − degraded)² / variance over coarse pixels; NaN where the mask leaves none.

    About 1 where an estimate, made coarse again, agrees with what was observed to within its noise. Near 0 it has the
    noise of the observation in it.

    Parameters
    ----------
    low
        The coarse images as observed.
    degraded
        The estimates, made coarse by the same degradation.
    variance
        Of the noise in the coarse images.
    mask
        Pixels that count; None is all.

    Raises
    ------
    InvalidOption
        When shapes differ, or a variance that counts is not positive.
    """
    counted = torch.ones_like(low, dtype=torch.bool) if mask is None else mask
    require_alike(low=low, degraded=degraded, variance=variance, mask=counted)
    bad = int((counted & ~(variance > 0)).sum())
    if bad:
        raise InvalidOption(f"{bad} variances that are not positive", "positive ones", "mask the pixels without noise")
    squares = (exact(low) - exact(degraded)).square() / exact(variance)
    return torch.where(counted, squares, 0).sum((1, 2, 3)) / counted.sum((1, 2, 3))


def coverage(estimate: Images, truth: Images, sigma: Images, k: float = 1.0) -> PerImage:
    """Return [B] the fraction of pixels with |estimate − truth| ≤ k σ; a pixel that is NaN is not covered.

    Parameters
    ----------
    estimate, truth
        Images in one unit.
    sigma
        The error that the estimate claims for each pixel [that unit].
    k
        Half-width of the interval in σ; honest Gaussian errors are covered as `nominal_coverage` says.

    Raises
    ------
    InvalidOption
        When the shapes differ.
    """
    require_alike(estimate=estimate, truth=truth, sigma=sigma)
    covered = (exact(estimate) - exact(truth)).abs() <= k * exact(sigma)
    return covered.to(exact(sigma).dtype).mean((1, 2, 3))


def nominal_coverage(k: float) -> float:
    """Return the probability of a Gaussian error within ± k σ: 68.27 % for 1, 95.45 % for 2."""
    return math.erf(k / math.sqrt(2))


def _seen(matrix: Matrix) -> Float64[Tensor, " H"]:
    """Return the diagonal of the projector onto what the matrix passes on."""
    passed: Tensor = matrix.double()
    projector: Tensor = torch.linalg.pinv(passed, rtol=LOST) @ passed
    return projector.diagonal()

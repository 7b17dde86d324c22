"""Images made visible: faint arcs and bright cores in one picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deeplense.metrics.classification import Floats


def stretched(image: Floats) -> NDArray[np.float32]:
    """Return an image ready for display: [H, W, 3] for three channels, else [H, W] of their mean, from 0 to 1.

    The stretch is asinh, linear up to three times the noise and logarithmic above: faint arcs and bright cores show
    together. Noise is measured by the median absolute deviation, which a lens in the frame hardly disturbs.

    Parameters
    ----------
    image
        [C, H, W]; pixels that are not finite are shown as background.

    References
    ----------
    Lupton et al. 2004, PASP 116, 133 (the asinh stretch).
    """
    planes = image if len(image) == 3 else image.mean(axis=0, keepdims=True)
    shown = [_stretched_plane(np.asarray(plane, np.float64)) for plane in planes]
    return np.asarray(shown[0] if len(shown) == 1 else np.stack(shown, axis=-1), np.float32)


def _stretched_plane(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    finite = np.isfinite(plane)
    if not finite.any():
        return np.zeros_like(plane)
    sky = np.median(plane[finite])
    noise = 1.4826 * np.median(np.abs(plane[finite] - sky))
    excess = np.where(finite, plane, sky) - sky
    # A floor: in an image without noise the stretch would otherwise show nothing but rounding errors.
    softening = 3 * max(noise, 0.01 * np.quantile(np.abs(excess), 0.998))
    if softening == 0:
        softening = np.abs(excess).max() or 1.0
    curve = np.arcsinh(excess / softening)
    low, high = max(np.arcsinh(-1.0), curve.min()), max(float(np.quantile(curve, 0.998)), 1e-12)
    return np.asarray(np.clip((curve - low) / (high - low), 0, 1))

"""A detector together with the scores of normal images that it has not seen: what turns a score into a probability."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deeplense.data.transforms import Images
from deeplense.detectors.detector import DETECTORS, Detector, Scores, empty_buffer
from deeplense.metrics.anomalies import conformal_p_values

LARGEST = torch.finfo(torch.float32).max


class CalibratedDetector(nn.Module):
    """Images to scores and p-values.

    Parameters
    ----------
    detector
        What scores.

    Attributes
    ----------
    null
        Scores of held-out normal images, ascending, [N].
    """

    null: Tensor

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector
        self.register_buffer("null", empty_buffer().double())

    def calibrate(self, scores: Scores) -> None:
        """Take the scores of held-out normal images as what is normal."""
        self.null = scores.double().sort().values

    def forward(self, images: Images) -> Float[Tensor, "B K"]:
        """Return the score of each image, its conformal p-value, and that of its χ² where the detector has one."""
        scores, p_chi2 = self.detector.judge(images)
        scores = scores.double().cpu()
        scores = scores.nan_to_num(nan=LARGEST).clamp(-LARGEST, LARGEST)  # what has no score is as strange as can be
        p_values = conformal_p_values(scores.numpy(), self.null.cpu().numpy())
        answers = [scores, torch.from_numpy(p_values)]
        if p_chi2 is not None:
            answers.append(p_chi2.double().cpu().nan_to_num(nan=0.0))  # what has no χ² fits as badly as can be
        return torch.stack(answers, 1)

    def map(self, images: Images) -> Float[Tensor, "B 1 H W"] | None:
        """Return where each image is strange; None where the detector cannot say."""
        return self.detector.map(images)

    def expect(self, n_images: int) -> None:
        """Learn how many images will come: what is worth compiling depends on it."""
        self.detector.expect(n_images)

    def misfit(self, images: Images) -> Float[Tensor, " B"] | None:
        """Return how badly a physical detector's model fits each image; None of others."""
        return self.detector.misfit(images)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Take over parameters and buffers; a buffer takes the shape and type that it had when it was stored."""
        for name, buffer in list(self.named_buffers()):
            stored = state_dict.get(name)
            if stored is not None and stored.shape != buffer.shape:
                place, _, own = name.rpartition(".")
                setattr(self.get_submodule(place), own, torch.empty_like(stored, device=buffer.device))
        return super().load_state_dict(state_dict, strict, assign)


def build_detector(name: str, image_shape: tuple[int, int, int], recipe: Mapping[str, Any] | None) -> Detector:
    """Return a detector that has not been fitted.

    Parameters
    ----------
    name
        Which one.
    image_shape
        (C, H, W).
    recipe
        What the images are of, as `Recipe.as_dict` gives it: physical detectors are built on it.

    Raises
    ------
    UnknownName
        When there is no such detector.
    """
    if is_physical(name):
        return DETECTORS[name](image_shape, recipe)
    return DETECTORS[name](image_shape)


def is_physical(name: str) -> bool:
    """Whether a detector is built on the recipe of the images."""
    return bool(getattr(DETECTORS[name], "physical", False))


def has_p_chi2(name: str) -> bool:
    """Whether a detector's answers hold a p-value of χ²."""
    return bool(getattr(DETECTORS[name], "has_p_chi2", False))

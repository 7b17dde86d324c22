"""A masked autoencoder: what is hidden, foretold from what is not."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from deeplense.data.transforms import Images
from deeplense.detectors.coders import Reconstructing, sizes, widths
from deeplense.detectors.detector import DETECTORS, Effort, Normals
from deeplense.detectors.learning import learn, renew
from deeplense.models.blocks import ResidualBlock, conv_norm_act

PATCHES = 8  # along the shorter side: a patch spans a piece of the arc that cannot be guessed from its rim alone
PERIOD = 2  # of every 2 × 2 patches one is hidden, each in its turn


@DETECTORS.register("masked_autoencoder")
class MaskedAutoencoder(Reconstructing):
    """How badly the patches of an image are foretold from the others, learnt on normal images.

    Four masks hide a quarter of the patches each, one of every 2 × 2; together they hide every pixel once. What looks
    is a small convolutional network with shortcuts between equal sizes; it is told what is hidden.

    Parameters
    ----------
    image_shape
        (C, H, W).
    """

    reference: ClassVar[str] = "He et al. 2022, CVPR, arXiv:2111.06377"
    masks: Tensor

    def __init__(self, image_shape: tuple[int, int, int]) -> None:
        super().__init__(image_shape)
        self.register_buffer("masks", complementary_masks(*image_shape[1:]), persistent=False)
        channels = [image_shape[0] + 1, *widths(image_shape)]
        self.down = nn.ModuleList(conv_norm_act(n_in, n, stride=2) for n_in, n in pairwise(channels))
        self.mix = nn.Sequential(*(ResidualBlock(channels[-1], channels[-1]) for _ in range(2)))
        self.up = nn.ModuleList(conv_norm_act(n + n_out, n_out) for n_out, n in pairwise(channels[1:]))
        self.sizes = sizes(image_shape)
        self.image = nn.Conv2d(channels[1], image_shape[0], 3, padding=1)

    def fit(self, normals: Normals, effort: Effort) -> None:
        """Learn to foretell hidden patches, then how well that goes."""
        renew(self, effort.seed)
        learn(self, self.loss, normals, effort, "masked autoencoder")
        self.measure_errors(normals)

    def loss(self, images: Images) -> Tensor:
        """Return the mean squared error of hidden pixels; each image has one of the masks, at random."""
        hidden = self.masks[torch.randint(len(self.masks), (len(images),), device=images.device)]
        error = (self.foretell(images, hidden) - images).square() * hidden
        return error.sum() / (hidden.sum() * images.shape[1])

    def foretell(self, images: Images, hidden: Float[Tensor, "B 1 H W"]) -> Images:
        """Return whole images, seen only where nothing is hidden."""
        x = torch.cat([images * (1 - hidden), hidden.expand(len(images), -1, -1, -1)], 1)
        x = x.contiguous(memory_format=torch.channels_last)
        seen = []
        for block in self.down:
            x = block(x)
            seen.append(x)
        x = self.mix(x)
        for number in range(len(self.up) - 1, -1, -1):
            x = self.up[number](torch.cat([_resized(x, self.sizes[number + 1]), seen[number]], 1))
        images = self.image(_resized(x, self.sizes[0]))
        return images

    def reconstruct(self, images: Images) -> Images:
        """Return every pixel as it is foretold while it is hidden."""
        parts = [mask * self.foretell(images, mask[None]) for mask in self.masks]
        return torch.stack(parts).sum(0)


def complementary_masks(height: int, width: int) -> Float[Tensor, "K 1 H W"]:
    """Return masks, 1 where a pixel is hidden, that hide every pixel once and together."""
    patch = max(1, min(height, width) // PATCHES)
    rows, columns = (torch.arange(side) // patch % PERIOD for side in (height, width))
    kind = PERIOD * rows[:, None] + columns[None, :]
    return torch.stack([kind == k for k in range(PERIOD**2)])[:, None].float()


def _resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)

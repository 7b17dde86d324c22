"""What the autoencoders share: an encoder and a decoder of any image size, and what an error is worth."""

from __future__ import annotations

from abc import abstractmethod
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from deeplense.data.transforms import Images
from deeplense.detectors.detector import Detector, Normals, Scores
from deeplense.models.blocks import ResidualBlock, conv_norm_act

LATENT = 64  # numbers an image becomes: a smooth lens has about a dozen parameters, its noise has thousands
WIDTHS = (16, 32, 64, 64, 64)  # channels after each halving; the last one again where there are more
COARSEST = 12  # sides are halved while they are larger than this
KEPT_CHANNELS = 24  # of the coarsest map, before it becomes a vector
LOWEST_VARIANCE = 0.01  # of the mean over pixels: where normal images never err, an error must not be worth everything
TINY = 1e-12
BATCH = 256  # images at a time when nothing is learnt


def halvings(side: int) -> int:
    """Return how often a side is halved, rounded up, before it is at most `COARSEST`."""
    return 0 if side <= COARSEST else 1 + halvings(-(-side // 2))


def sizes(image_shape: tuple[int, int, int]) -> list[tuple[int, int]]:
    """Return the size of the map after each halving, that of the image first."""
    _, height, width = image_shape
    levels = max(1, halvings(max(height, width)))
    return [(-(-height // 2**level), -(-width // 2**level)) for level in range(levels + 1)]


def widths(image_shape: tuple[int, int, int]) -> list[int]:
    """Return the channels of the map after each halving."""
    return [WIDTHS[min(level, len(WIDTHS) - 1)] for level in range(len(sizes(image_shape)) - 1)]


class Encoder(nn.Module):
    """Image to vector: blocks of stride 2, then one linear layer, so that every place has its own weights.

    Parameters
    ----------
    image_shape
        (C, H, W).
    n_out
        Numbers of the vector.
    """

    def __init__(self, image_shape: tuple[int, int, int], n_out: int) -> None:
        super().__init__()
        channels = [image_shape[0], *widths(image_shape)]
        height, width = sizes(image_shape)[-1]
        self.blocks = nn.Sequential(*(conv_norm_act(n_in, n, stride=2) for n_in, n in pairwise(channels)))
        self.mix = ResidualBlock(channels[-1], channels[-1])
        self.reduce = nn.Conv2d(channels[-1], KEPT_CHANNELS, 1)
        self.vector = nn.Linear(KEPT_CHANNELS * height * width, n_out)

    def forward(self, images: Images) -> Float[Tensor, "B Z"]:
        """Return one vector per image."""
        vectors: Tensor = self.vector(self.reduce(self.mix(self.blocks(images))).flatten(1))
        return vectors


class Decoder(nn.Module):
    """Vector to image: the encoder backwards; a map grows by interpolation, to exactly the sizes it had.

    Parameters
    ----------
    image_shape
        (C, H, W).
    n_in
        Numbers of the vector.
    """

    def __init__(self, image_shape: tuple[int, int, int], n_in: int) -> None:
        super().__init__()
        channels = widths(image_shape)[::-1]
        *larger, self.coarsest = sizes(image_shape)
        self.larger = larger[::-1]
        self.map = nn.Linear(n_in, KEPT_CHANNELS * self.coarsest[0] * self.coarsest[1])
        self.expand = conv_norm_act(KEPT_CHANNELS, channels[0])
        self.mix = ResidualBlock(channels[0], channels[0])
        narrower = zip(channels, [*channels[1:], channels[-1]], strict=True)
        self.blocks = nn.ModuleList(conv_norm_act(n, n_out) for n, n_out in narrower)
        self.image = nn.Conv2d(channels[-1], image_shape[0], 3, padding=1)

    def forward(self, vectors: Float[Tensor, "B Z"]) -> Images:
        """Return one image per vector."""
        x = self.map(vectors).unflatten(1, (KEPT_CHANNELS, *self.coarsest))
        x = self.mix(self.expand(x.contiguous(memory_format=torch.channels_last)))
        for block, size in zip(self.blocks, self.larger, strict=True):
            x = F.interpolate(block(x), size=size, mode="bilinear", align_corners=False)
        images: Tensor = self.image(x)
        return images


class Reconstructing(Detector):
    """A detector that says what an image should look like: strange is where it does not.

    Errors are squared and in units of their variance over the normal images, pixel by pixel, so that the bright ring,
    where every reconstruction errs, counts no more than the sky.

    Parameters
    ----------
    image_shape
        (C, H, W).
    """

    learns: ClassVar[bool] = True
    variance: Tensor

    def __init__(self, image_shape: tuple[int, int, int]) -> None:
        super().__init__(image_shape)
        self.register_buffer("variance", torch.ones(image_shape))

    @abstractmethod
    def reconstruct(self, images: Images) -> Images:
        """Return what the images should look like; deterministic in evaluation mode."""

    def squared_errors(self, images: Images) -> Images:
        """Return the squared error of every pixel, as it is."""
        self.eval()
        images = images.contiguous(memory_format=torch.channels_last)
        return (images - self.reconstruct(images)).square()

    def measure_errors(self, normals: Normals) -> None:
        """Take the variance of every pixel's error from the normal images."""
        total = torch.zeros(self.image_shape, dtype=torch.float64, device=normals.device)
        with torch.no_grad():
            for images in normals.in_order(BATCH):
                total += self.squared_errors(images).double().sum(0)
        variance = total / len(normals)
        self.variance.copy_(variance.clamp(min=max(TINY, LOWEST_VARIANCE * float(variance.mean()))))

    @torch.no_grad()
    def standard_errors(self, images: Images) -> Images:
        """Return the squared error of every pixel in units of its variance: 1 is usual."""
        return self.squared_errors(images) / self.variance

    def score(self, images: Images) -> Scores:
        """Return the mean squared error in units of its usual variance."""
        return self.standard_errors(images).mean((1, 2, 3))

    def map(self, images: Images) -> Float[Tensor, "B 1 H W"]:
        """Return every pixel's squared error in units of its usual variance, the mean over channels."""
        return self.standard_errors(images).mean(1, keepdim=True)

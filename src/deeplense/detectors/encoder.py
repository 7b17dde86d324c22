"""Features of normal images, learnt without labels: what three detectors look at."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from sklearn.covariance import LedoitWolf
from torch import Tensor, nn

from deeplense.core.seeding import own_randomness
from deeplense.data.transforms import Images, symmetric_copies
from deeplense.detectors.detector import Effort, Normals
from deeplense.detectors.learning import learn, renew
from deeplense.models.residual_cnn import WIDTHS, ResidualCNN

MIDDLE = 4  # stages until the map of a quarter of the image's side
N_PATCH_FEATURES, N_POOLED = WIDTHS[1] + WIDTHS[2], 2 * WIDTHS[2]

# Views of an image: changes that are no anomaly, small because anomalies are small.
SHIFT = 3  # pixels
SIDE = 64  # of the part that is seen: smaller parts are faster, and features are local anyway
BRIGHTNESS = 0.1  # relative; of the zero point, in the normalised images' σ
NOISE = 1.0  # σ of additional noise, in those of the noise that is there
LEAST_NOISE = 0.01  # images without noise must not make a network that has never seen any
N_SAMPLE = 256  # images that the noise is measured on

CONSTANT = 1e-6  # the scatter of a feature that never changes

PROJECTED = 256
N_PLACES = 8  # per image: enough vectors for a covariance, without neighbours that say the same
INVARIANCE, VARIANCE, COVARIANCE = 25.0, 25.0, 1.0  # as published


class Encoder(nn.Module):
    """The stages of `residual_cnn`, trained by VICReg (Bardes et al. 2022) on places of images instead of images.

    Two views of the same place should have the same features, and the features of different places should fill their
    space: so they tell how the light around a place is shaped, and not how bright or noisy it is.

    Parameters
    ----------
    image_shape
        (C, H, W).
    """

    def __init__(self, image_shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.stages = ResidualCNN(image_shape).stages

    def fit(self, normals: Normals, effort: Effort, what: str) -> None:
        """Learn from images and their views.

        Parameters
        ----------
        normals
            The images.
        effort
            How long, and from which seed.
        what
            Name of the detector, for the notes.
        """
        width = WIDTHS[-1]
        with own_randomness(effort.seed, "projector"):  # layers draw when they are made, from whatever stream there is
            hidden = (nn.Linear(width, PROJECTED, bias=False), nn.BatchNorm1d(PROJECTED), nn.ReLU())
            projector = nn.Sequential(*hidden, nn.Linear(PROJECTED, PROJECTED))
        both = nn.ModuleList([self.stages, projector])
        renew(both, effort.seed)
        noise = NOISE * noise_level(normals.sample(N_SAMPLE))

        def loss(images: Images) -> Tensor:
            features = self.stages(torch.cat(two_views(images, noise)))
            place = torch.randint(features.shape[2] * features.shape[3], (len(images), 1, N_PLACES))
            place = place.expand(-1, width, -1).repeat(2, 1, 1).to(images.device)
            chosen = features.flatten(2).gather(2, place).transpose(1, 2).flatten(0, 1)
            one, other = projector(chosen).chunk(2)
            return vicreg(one, other)

        learn(both, loss, normals, effort, f"{what}: features")

    def patches(self, images: Images) -> Float[Tensor, "B D h w"]:
        """Return features of every place, on a map of a quarter of the image's side."""
        middle = self.stages[:MIDDLE](images)
        deep = self.stages[MIDDLE:](middle)
        smooth = F.avg_pool2d(middle, 3, stride=1, padding=1, count_include_pad=False)
        spread = F.interpolate(deep, middle.shape[2:], mode="bilinear", align_corners=False)
        return torch.cat([smooth, spread], 1)

    def pooled(self, images: Images) -> Float[Tensor, "B P"]:
        """Return the mean and the spread of every feature over the image."""
        deep = self.stages(images).flatten(2)
        return torch.cat([deep.mean(2), deep.std(2)], 1)


@torch.no_grad()
def pooled_of_all(encoder: Encoder, normals: Normals, batch_size: int) -> Float[Tensor, "N P"]:
    """Return the pooled features of all images and of what the symmetry makes of them."""
    return torch.cat(
        [
            encoder.pooled(copy)
            for images in normals.in_order(batch_size)
            for copy in symmetric_copies(images, normals.symmetry)
        ]
    )


def whitening(features: Float[Tensor, "N P"]) -> tuple[Float[Tensor, " P"], Float[Tensor, "P P"]]:
    """Return the mean of features, and the matrix that makes them uncorrelated and of unit variance.

    The covariance is shrunk (Ledoit & Wolf 2004) towards equal variances, which means something once every feature has
    the same unit. Few images move the directions of least scatter the most, and those show small anomalies best.
    """
    wide = features.double()
    mean, scale = wide.mean(0), wide.std(0).clamp(min=CONSTANT)
    covariance = LedoitWolf().fit(((wide - mean) / scale).cpu().numpy()).covariance_
    values, vectors = torch.linalg.eigh(torch.from_numpy(covariance))
    matrix = (vectors / values.clamp(min=CONSTANT).sqrt()).to(scale) / scale[:, None]
    # a stored matrix comes back contiguous, and the other way round products are rounded differently
    return mean.float(), matrix.float().contiguous()


def noise_level(images: Images) -> float:
    """Return σ of the pixel noise: from second differences, which smooth light hardly has, by their median."""
    difference = images[..., 1:, 1:] - images[..., 1:, :-1] - images[..., :-1, 1:] + images[..., :-1, :-1]
    return max(LEAST_NOISE, 1.4826 * float(difference.abs().median()) / 2)


def two_views(images: Images, noise: float) -> tuple[Images, Images]:
    """Return the same part of each image twice, shifted, brightened and noisier at random."""
    side = min(SIDE, *(length - 2 * SHIFT for length in images.shape[2:]))
    top, left = (int(torch.randint(SHIFT, length - SHIFT - side + 1, ())) for length in images.shape[2:])
    return _view(images, side, top, left, noise), _view(images, side, top, left, noise)


def _view(images: Images, side: int, top: int, left: int, noise: float) -> Images:
    down, right = torch.randint(-SHIFT, SHIFT + 1, (2,)).tolist()
    part = images[:, :, top + down : top + down + side, left + right : left + right + side]
    numbers = torch.rand(3, len(images), 1, 1, 1).to(images)
    contrast, level = 1 + BRIGHTNESS * (2 * numbers[0] - 1), BRIGHTNESS * (2 * numbers[1] - 1)
    return part * contrast + level + noise * numbers[2] * torch.randn(part.shape).to(images)


def vicreg(one: Float[Tensor, "N D"], other: Float[Tensor, "N D"]) -> Tensor:
    """Return the loss of Bardes et al. 2022: the same in both views, no feature constant, no two alike."""
    total = INVARIANCE * F.mse_loss(one, other)
    for features in (one, other):
        centred = features - features.mean(0)
        covariance = centred.T @ centred / (len(features) - 1)
        variance = covariance.diagonal()
        total = total + VARIANCE / 2 * F.relu(1 - (variance + 1e-4).sqrt()).mean()
        total = total + COVARIANCE * (covariance.square().sum() - variance.square().sum()) / features.shape[1]
    return total

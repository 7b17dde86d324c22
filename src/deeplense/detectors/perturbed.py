"""The self-made anomaly: a network learns to tell normal images from the same images seen through additional masses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, cast, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from deeplense.core.seeding import own_randomness
from deeplense.data.transforms import Images, Symmetry, symmetric_copies
from deeplense.detectors.detector import DETECTORS, Detector, Effort, Normals, Scores, empty_buffer
from deeplense.detectors.learning import learn, renew
from deeplense.models.heads import linear_head
from deeplense.models.network import Network
from deeplense.models.residual_cnn import ResidualCNN

SYMMETRIES: tuple[Symmetry, ...] = get_args(Symmetry)

# Smooth light: few enough components that they hold light and little noise, enough images for that to be so.
N_IMAGES, N_COMPONENTS, IMAGES_PER_COMPONENT = 1024, 64, 8
FAINTEST = 0.02  # a quantile instead of the minimum: one odd image must not decide what all have
CENTRE = 3  # pixels from the middle within which a lens's light peaks
N_STEPS = 32  # along the ray from the centre to a pixel

# Perturbers, in pixels: what they change is from a fifth of the noise of an image to twice as much as it. With weaker
# ones (up to 2 pixels) the network learnt the marks of JPEG; whether it does not with these is not measured (LOG.md).
N_MASSES = 20
VOIDS = 0.25  # this part of the blobs is less mass than the smooth lens has: else all that shrinks a ring seems normal
RADIUS = (0.5, 3.0)  # Einstein radius of one blob, log-uniform
LINE_RADIUS = (1.0, 6.0)  # of a whole line
LINE_LENGTH = (0.1, 0.6)  # of the image's side
LINES = 0.25  # this part of the anomalies has a line instead of blobs
SOFTENING = (0.5, 2.0)  # log-uniform
STEEPNESS = (0.6, 1.0)  # deflection falls as r^-steepness: 0 an isothermal halo, 1 a point mass
STRAY = 4.0  # σ of the distance from the bright pixel that a mass belongs to
TANGENTIAL = (1.0, 3.0)  # the lens magnifies along the arcs: the same deflection moves its light further there

# What normal images and anomalies get alike. Published images have 8 bits and the marks of JPEG, which any change
# breaks: a network that sees them whole in one class alone learns them (AUROC 0.97 on its own anomalies, 0.52 on real).
SHIFT = 0.2  # pixels, the largest
LINEAR = 0.004  # the largest change of scale, rotation and shear
DITHER = 0.05  # σ of additional noise, in σ of the pixel values

Field = tuple[Float[Tensor, "B H W"], Float[Tensor, "B H W"]]  # along x, along y; pixels


@dataclass(frozen=True)
class Masses:
    """Perturbers of a batch of images; all in pixels.

    Parameters
    ----------
    x, y
        Where they are.
    radius
        Einstein radii; 0 is none, a negative one that of missing mass.
    softening
        Radius within which the deflection no longer rises.
    steepness
        How fast the deflection falls with distance.
    """

    x: Float[Tensor, "B K"]
    y: Float[Tensor, "B K"]
    radius: Float[Tensor, "B K"]
    softening: Float[Tensor, "B K"]
    steepness: Float[Tensor, "B K"]

    def deflection(self, height: int, width: int) -> Field:
        """Return how far light is moved at every pixel."""
        columns = torch.arange(width, device=self.x.device)[None, None, :]
        rows = torch.arange(height, device=self.x.device)[None, :, None]
        along_x = along_y = torch.zeros(len(self.x), height, width, device=self.x.device)
        for mass in range(self.x.shape[1]):
            x, y, radius, softening, steepness = (
                value[:, mass, None, None] for value in (self.x, self.y, self.radius, self.softening, self.steepness)
            )
            dx, dy = columns - x, rows - y
            strength = (
                radius.sign()
                * radius.abs() ** (1 + steepness)
                * (dx**2 + dy**2 + softening**2) ** (-(1 + steepness) / 2)
            )
            along_x, along_y = along_x + strength * dx, along_y + strength * dy
        return along_x, along_y


@dataclass(frozen=True)
class SmoothLight:
    """The light of an image without its noise, as far as normal images have such light.

    Only this is warped. Noise that is resampled looks smoother, and a network would learn that instead of lensing; so
    the noise stays as it is, and an anomaly differs from its image by what the masses do to the light alone.

    Parameters
    ----------
    mean, axes
        The principal components of normal images.
    lens
        Light that all normal images have, as far as it does not rise outwards: the lens's own, which is not deflected.
    """

    mean: Float[Tensor, " D"]
    axes: Float[Tensor, "K D"]
    lens: Float[Tensor, "1 C H W"]

    @classmethod
    def of(cls, images: Images) -> SmoothLight:
        """Return the light of a sample of normal images."""
        mean = images.flatten(1).mean(0)
        centred = images.flatten(1) - mean
        n_components = min(N_COMPONENTS, max(1, len(images) // IMAGES_PER_COMPONENT))
        vectors = torch.linalg.eigh((centred @ centred.T).double().cpu())[1][:, -n_components:].to(centred)
        axes = F.normalize(vectors.T @ centred, dim=1)
        common = (centred @ axes.T @ axes + mean).kthvalue(max(1, int(FAINTEST * len(images))), dim=0).values
        return cls(mean, axes, lens_light(common.reshape(1, *images.shape[1:])))

    def deflected(self, images: Images) -> Images:
        """Return the light that masses deflect."""
        centred = images.flatten(1) - self.mean
        return (centred @ self.axes.T @ self.axes + self.mean).reshape(images.shape) - self.lens


def lens_light(common: Float[Tensor, "1 C H W"]) -> Float[Tensor, "1 C H W"]:
    """Return the part of what all images have that is the lens's own light; the level of the sky where it has none.

    There is such light when the brightest of it lies in the middle; elsewhere it is a ring that all images share.
    """
    height, width = common.shape[2:]
    middle = common[:, :, height // 2 - CENTRE : height // 2 + CENTRE, width // 2 - CENTRE : width // 2 + CENTRE]
    if float(middle.mean(1).amax()) < float(common.mean(1).amax()):
        return common.amin((2, 3), keepdim=True).expand_as(common)
    grid, falling = _identity_grid(common), common
    for step in torch.linspace(0, 1, N_STEPS).tolist():  # from the centre to each pixel: the smallest value on the way
        sampled = F.grid_sample(common, step * grid, mode="bilinear", padding_mode="border", align_corners=False)
        falling = torch.minimum(falling, sampled)
    return falling


def _identity_grid(images: Images) -> Float[Tensor, "1 H W 2"]:
    unit = torch.eye(2, 3, device=images.device, dtype=images.dtype)[None]
    return F.affine_grid(unit, [1, *images.shape[1:]], align_corners=False)


def draw_masses(light: Images) -> Masses:
    """Return random perturbers near where the light is bright, from torch's random stream on the CPU."""
    n = len(light)
    weight = light.mean(1).clamp(min=0).square().flatten(1).cpu().double() + 1e-12  # all alike where it is dark
    pixel = torch.multinomial(weight, N_MASSES, replacement=True)
    x = pixel % light.shape[3] + STRAY * torch.randn(n, N_MASSES)
    y = pixel // light.shape[3] + STRAY * torch.randn(n, N_MASSES)
    present = torch.arange(N_MASSES) < torch.randint(1, N_MASSES + 1, (n, 1))
    sign = 1.0 - 2.0 * (torch.rand(n, N_MASSES) < VOIDS)
    blobs = (x, y, present * sign * _log_uniform(RADIUS, n), _log_uniform(SOFTENING, n), _uniform(STEEPNESS, n))
    line = _draw_line(x[:, :1], y[:, :1], min(light.shape[2:]))
    is_line = torch.rand(n, 1) < LINES
    return Masses(*(torch.where(is_line, one, other).to(light) for one, other in zip(line, blobs, strict=True)))


def _draw_line(x: Float[Tensor, "B 1"], y: Float[Tensor, "B 1"], side: int) -> tuple[Tensor, ...]:
    """Return a row of point masses through a point, softened so that they are one line."""
    n = len(x)
    length, angle = side * _uniform(LINE_LENGTH, n, 1), torch.pi * torch.rand(n, 1)
    place = length * torch.linspace(-0.5, 0.5, N_MASSES)
    radius = (_uniform(LINE_RADIUS, n, 1) / N_MASSES**0.5).expand(n, N_MASSES)
    softening = (length / (N_MASSES - 1)).clamp(min=SOFTENING[0]).expand(n, N_MASSES)
    return x + place * angle.cos(), y + place * angle.sin(), radius, softening, torch.ones(n, N_MASSES)


def _uniform(bounds: tuple[float, float], n: int, k: int = N_MASSES) -> Float[Tensor, "n k"]:
    return bounds[0] + (bounds[1] - bounds[0]) * torch.rand(n, k)


def _log_uniform(bounds: tuple[float, float], n: int) -> Float[Tensor, "n k"]:
    return bounds[0] * (bounds[1] / bounds[0]) ** torch.rand(n, N_MASSES)


def stretched(field: Field, stretch: Float[Tensor, "B 1 1"]) -> Field:
    """Return a field that moves light further along the arcs around the centre than across them, by a factor."""
    along_x, along_y = field
    x, y = _from_centre(along_x)
    tangential = (stretch - 1) * (along_y * x - along_x * y) / (x**2 + y**2 + CENTRE**2)
    return along_x - tangential * y, along_y + tangential * x


def draw_innocent(like: Images) -> Field:
    """Return small shifts, rotations, shears and changes of scale, of random strength: no anomaly."""
    x, y = _from_centre(like)
    numbers = torch.rand(1, len(like), 1, 1) * (2 * torch.rand(6, len(like), 1, 1) - 1)
    numbers = numbers.to(like) * torch.tensor([SHIFT, LINEAR, LINEAR] * 2).to(like)[:, None, None, None]
    return numbers[0] + numbers[1] * x + numbers[2] * y, numbers[3] + numbers[4] * x + numbers[5] * y


def _from_centre(like: Tensor) -> tuple[Float[Tensor, "1 1 W"], Float[Tensor, "1 H 1"]]:
    """Return positions of pixels."""
    height, width = like.shape[-2:]
    x = torch.arange(width, device=like.device)[None, None, :] - (width - 1) / 2
    y = torch.arange(height, device=like.device)[None, :, None] - (height - 1) / 2
    return x, y


def warped(light: Images, field: Field) -> Images:
    """Return light moved by a field."""
    height, width = light.shape[2:]  # the grid runs from -1 to 1 along either side
    grid = _identity_grid(light) - torch.stack([2 * field[0] / width, 2 * field[1] / height], 3)
    return F.grid_sample(light, grid, mode="bicubic", padding_mode="border", align_corners=False)


def normal_and_strange(images: Images, smooth: SmoothLight) -> tuple[Images, Images]:
    """Return images with an innocent change, and with the same change seen through random additional masses."""
    light = smooth.deflected(images)
    masses = draw_masses(light)
    innocent = draw_innocent(images)
    stretch = _uniform(TANGENTIAL, len(images), 1)[:, :, None].to(images)
    through = stretched(masses.deflection(*images.shape[2:]), stretch)
    noisy = images - light + DITHER * torch.randn(images.shape).to(images)
    both = innocent[0] + through[0], innocent[1] + through[1]
    return noisy + warped(light, innocent), noisy + warped(light, both)


@DETECTORS.register("perturbed")
class Perturbed(Detector):
    """A network that has learnt to tell normal images from the same images with additional deflectors in front.

    Small masses near the bright pixels of a normal image warp its light; the network sees both, and its logit is the
    score. The idea of learning from self-made anomalies is that of CutPaste (Li et al. 2021) and DRÆM (Zavrtanik et
    al. 2021); here the anomaly is a thin deflector in front of an image that is already lensed.

    Parameters
    ----------
    image_shape
        (C, H, W).
    """

    learns: ClassVar[bool] = True
    category: ClassVar[str] = "simulated"
    reference: ClassVar[str] = "Li et al. 2021, CVPR (arXiv:2104.04015); self-made anomalies by deflection: ours"
    symmetry: Tensor
    dither: Tensor
    usual: Tensor

    def __init__(self, image_shape: tuple[int, int, int]) -> None:
        super().__init__(image_shape)
        backbone = ResidualCNN(image_shape)
        self.network = Network(backbone, linear_head(backbone.num_pooled, 1, dropout=0.0))
        self.register_buffer("symmetry", torch.tensor(0))
        self.register_buffer("dither", torch.zeros(1, *image_shape))
        self.register_buffer("usual", empty_buffer())

    def fit(self, normals: Normals, effort: Effort) -> None:
        """Learn to tell the images from their perturbed copies."""
        self.symmetry = torch.tensor(SYMMETRIES.index(normals.symmetry), device=normals.device)
        smooth = SmoothLight.of(_turned_sample(normals, effort))
        renew(self.network, effort.seed)
        with own_randomness(effort.seed, "dither"):
            self.dither = DITHER * torch.randn(self.dither.shape).to(normals.device)

        def loss(images: Images) -> Tensor:
            logits = self.network(torch.cat(normal_and_strange(images, smooth)))[:, 0]
            target = torch.arange(2, device=images.device).repeat_interleave(len(images))
            return F.binary_cross_entropy_with_logits(logits, target.to(logits))

        learn(self.network, loss, normals, effort, "perturbed")
        with torch.no_grad():
            total = sum(self._parts(images).sum(0, keepdim=True) for images in normals.in_order(effort.batch_size))
            self.usual = cast(Tensor, total) / len(normals)

    def score(self, images: Images) -> Scores:
        """Return the mean logit of an image and all that the symmetry makes of it."""
        copies = symmetric_copies(images, SYMMETRIES[int(self.symmetry)])
        logits = torch.stack([self.network(copy + self.dither)[:, 0] for copy in copies])
        return logits.mean(0)

    def map(self, images: Images) -> Float[Tensor, "B 1 H W"] | None:
        """Return what each place adds to the logit, less what it adds for normal images."""
        parts = self._parts(images) - self.usual
        return F.interpolate(parts, self.image_shape[1:], mode="bilinear", align_corners=False)

    def _parts(self, images: Images) -> Float[Tensor, "B 1 h w"]:
        """Return the logit as a sum over places: the network's last layer is linear."""
        backbone = cast(ResidualCNN, self.network.backbone)
        kept: Tensor = backbone.resize(backbone.keep(backbone.forward_features(images + self.dither)))
        linear = cast(nn.Linear, cast(nn.Sequential, self.network.head)[-1])
        return (kept * linear.weight.reshape(1, *kept.shape[1:])).sum(1, keepdim=True)


def _turned_sample(normals: Normals, effort: Effort) -> Images:
    """Return some of the images, turned at random."""
    batches: list[Images] = []
    turned: Iterator[Images] = normals.shuffled(effort.batch_size, effort.seed, epoch=-1)
    while sum(map(len, batches)) < N_IMAGES and (batch := next(turned, None)) is not None:
        batches.append(batch)
    return torch.cat(batches)

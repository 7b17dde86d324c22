"""How unlike all that was seen in normal images the strangest places of an image are."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from deeplense.core.seeding import stable_key
from deeplense.data.transforms import Images, symmetric_copies
from deeplense.detectors.detector import DETECTORS, Detector, Effort, Normals, Scores, empty_buffer
from deeplense.detectors.encoder import N_PATCH_FEATURES, Encoder, whitening

N_CANDIDATES, N_KEPT = 10_000, 3_000  # patches; a distance to each of those kept is taken for every place
N_DIRECTIONS = 24  # random ones, that patches are chosen by: distances hardly change, and choosing is much faster
STRANGEST = 0.03  # this part of the places makes the score: the single strangest one is too often noise


@DETECTORS.register("nearest_neighbours")
class NearestNeighbours(Detector):
    """PatchCore: the distance of each place's features to the nearest of a memory of normal ones.

    The memory holds patches that cover what normal images contain: each next one is the farthest from those chosen.

    Parameters
    ----------
    image_shape
        (C, H, W).
    """

    learns: ClassVar[bool] = True
    reference: ClassVar[str] = "Roth et al. 2022, CVPR (arXiv:2106.08265); features: Bardes et al. 2022 (VICReg)"
    mean: Tensor
    whitening: Tensor
    memory: Tensor

    def __init__(self, image_shape: tuple[int, int, int]) -> None:
        super().__init__(image_shape)
        self.encoder = Encoder(image_shape)
        self.register_buffer("mean", torch.zeros(N_PATCH_FEATURES))
        self.register_buffer("whitening", torch.eye(N_PATCH_FEATURES))
        self.register_buffer("memory", empty_buffer())

    def fit(self, normals: Normals, effort: Effort) -> None:
        """Learn features, then remember some."""
        self.encoder.fit(normals, effort, "nearest_neighbours")
        generator = torch.Generator().manual_seed(stable_key(effort.seed, "patches") % 2**63)
        candidates = self._candidates(normals, effort.batch_size, generator)
        self.mean, self.whitening = whitening(candidates)
        candidates = (candidates - self.mean) @ self.whitening
        directions = torch.randn(N_PATCH_FEATURES, N_DIRECTIONS, generator=generator).to(candidates)
        self.memory = candidates[spread_out(candidates @ directions, N_KEPT)]

    def score(self, images: Images) -> Scores:
        """Return the mean distance of the strangest places."""
        distances = self._distances(images).flatten(1)
        n_strangest = max(1, round(STRANGEST * distances.shape[1]))
        return distances.topk(n_strangest, dim=1).values.mean(1)

    def map(self, images: Images) -> Float[Tensor, "B 1 H W"] | None:
        """Return the distance of every place."""
        return F.interpolate(self._distances(images), self.image_shape[1:], mode="bilinear", align_corners=False)

    @torch.no_grad()
    def _candidates(self, normals: Normals, batch_size: int, generator: torch.Generator) -> Float[Tensor, "N D"]:
        """Return the features of random places: equally many of every image."""
        chosen: list[Tensor] = []
        for images in normals.in_order(batch_size):
            copies = symmetric_copies(images, normals.symmetry)
            n_places = -(-N_CANDIDATES // (len(normals) * len(copies)))
            for copy in copies:
                features = self.encoder.patches(copy).flatten(2)
                place = torch.rand(len(copy), features.shape[2], generator=generator).argsort(1)[:, None, :n_places]
                place = place.expand(-1, features.shape[1], -1).to(features.device)
                chosen.append(features.gather(2, place).transpose(1, 2).flatten(0, 1))
        return torch.cat(chosen)

    def _distances(self, images: Images) -> Float[Tensor, "B 1 h w"]:
        features = self.encoder.patches(images)
        places = (features.flatten(2).transpose(1, 2) - self.mean) @ self.whitening
        nearest = [torch.cdist(image, self.memory).amin(1) for image in places]
        return torch.stack(nearest).reshape(len(images), 1, *features.shape[2:])


def spread_out(points: Float[Tensor, "N D"], n_kept: int) -> Int64[Tensor, " K"]:
    """Return points that cover all: beginning with the first, always the farthest from those chosen."""
    n_kept = min(n_kept, len(points))
    chosen = torch.zeros(n_kept, dtype=torch.int64, device=points.device)
    distance = torch.full((len(points),), torch.inf, device=points.device)
    squares = points.square().sum(1)
    for number in range(1, n_kept):
        last = chosen[number - 1]
        distance = torch.minimum(distance, squares + squares[last] - 2 * points @ points[last])
        chosen[number] = distance.argmax()
    return chosen

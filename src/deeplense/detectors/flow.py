"""How unlikely an image's features are under a density that was fitted to those of normal images."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deeplense.core.seeding import stable_key
from deeplense.data.transforms import Images
from deeplense.detectors.detector import DETECTORS, Detector, Effort, Normals, Scores
from deeplense.detectors.encoder import N_POOLED, Encoder, pooled_of_all, whitening
from deeplense.detectors.learning import learn, renew

N_COUPLINGS, HIDDEN = 6, 64
MAX_LOG_SCALE = 0.5  # of one coupling: a flow that may stretch without bound finds a spike on every image
N_PASSES = 2  # over the features in one pass over the images: they cost nothing
JITTER = 0.3  # σ of what is added to the whitened features while learning; keeps the density from following images


class Coupling(nn.Module):
    """One half of the vector shifts and stretches the other half.

    Parameters
    ----------
    n_dimensions
        Length of the vector; even.
    first
        Whether the first half stays.
    """

    def __init__(self, n_dimensions: int, first: bool) -> None:
        super().__init__()
        self.first = first
        half = n_dimensions // 2
        self.inner = nn.Sequential(nn.Linear(half, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU())
        self.outer = nn.Linear(HIDDEN, 2 * half)

    def forward(self, x: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B D"], Float[Tensor, " B"]]:
        """Return the changed vector and the logarithm of the change of volume."""
        kept, changed = x.chunk(2, 1) if self.first else x.chunk(2, 1)[::-1]
        log_scale, shift = self.outer(self.inner(kept)).chunk(2, 1)
        log_scale = MAX_LOG_SCALE * torch.tanh(log_scale / MAX_LOG_SCALE)
        changed = changed * log_scale.exp() + shift
        return torch.cat([kept, changed] if self.first else [changed, kept], 1), log_scale.sum(1)


class RealNVP(nn.Module):
    """A chain of affine couplings from a vector to one that is normally distributed (Dinh et al. 2017).

    Parameters
    ----------
    n_dimensions
        Length of the vector; even.
    """

    def __init__(self, n_dimensions: int) -> None:
        super().__init__()
        self.couplings = nn.ModuleList(Coupling(n_dimensions, first=number % 2 == 0) for number in range(N_COUPLINGS))

    def become_identity(self) -> None:
        """Make the density the normal distribution: what whitened features have before anything is learnt."""
        for coupling in self.couplings:
            outer = cast(Coupling, coupling).outer
            nn.init.zeros_(outer.weight)
            nn.init.zeros_(outer.bias)

    def forward(self, x: Float[Tensor, "B D"]) -> Float[Tensor, " B"]:
        """Return −log likelihood."""
        total = x.new_zeros(len(x))
        for coupling in self.couplings:
            x, log_volume = coupling(x)
            total = total + log_volume
        return x.square().sum(1) / 2 + x.shape[1] / 2 * math.log(2 * math.pi) - total


@dataclass(frozen=True)
class Rows(Normals):
    """Features in place of the images they are of: what the loop over images learns a flow from.

    Parameters
    ----------
    features
        One row each.
    """

    features: Float[Tensor, "N D"]

    def __len__(self) -> int:
        return N_PASSES * len(self.features)

    def shuffled(self, batch_size: int, seed: int, epoch: int) -> Iterator[Images]:
        """Yield every row `N_PASSES` times, as images of one pixel."""
        generator = torch.Generator().manual_seed(stable_key(seed, "rows", epoch) % 2**63)
        order = torch.cat([torch.randperm(len(self.features), generator=generator) for _ in range(N_PASSES)])
        size = min(batch_size, len(self))
        for start in range(0, len(order) - size + 1, size):
            yield self.features[order[start : start + size].to(self.features.device)][:, :, None, None]


@DETECTORS.register("flow")
class Flow(Detector):
    """−log likelihood of an image's pooled features under a normalising flow.

    Parameters
    ----------
    image_shape
        (C, H, W).
    """

    learns: ClassVar[bool] = True
    reference: ClassVar[str] = (
        "Dinh et al. 2017, ICLR (RealNVP, arXiv:1605.08803); features: Bardes et al. 2022 (VICReg)"
    )
    mean: Tensor
    whitening: Tensor

    def __init__(self, image_shape: tuple[int, int, int]) -> None:
        super().__init__(image_shape)
        self.encoder = Encoder(image_shape)
        self.flow = RealNVP(N_POOLED)
        self.register_buffer("mean", torch.zeros(N_POOLED))
        self.register_buffer("whitening", torch.eye(N_POOLED))

    def fit(self, normals: Normals, effort: Effort) -> None:
        """Learn features, then their density."""
        self.encoder.fit(normals, effort, "flow")
        features = pooled_of_all(self.encoder, normals, effort.batch_size)
        mean, matrix = whitening(features)
        mixed = torch.cat([matrix[:, ::2], matrix[:, 1::2]], 1)  # either half of the vector: large and small components
        self.mean, self.whitening = mean, mixed
        renew(self.flow, effort.seed)
        self.flow.become_identity()
        rows = Rows(**vars(normals), features=(features - self.mean) @ self.whitening)

        def loss(features: Images) -> Tensor:
            clean = features[:, :, 0, 0]
            value: Tensor = self.flow(clean + JITTER * torch.randn(clean.shape).to(clean)).mean() / N_POOLED
            return value

        learn(self.flow, loss, rows, effort, "flow: density")

    def score(self, images: Images) -> Scores:
        """Return −log likelihood per feature."""
        scores: Tensor = self.flow((self.encoder.pooled(images) - self.mean) @ self.whitening)
        return scores / N_POOLED

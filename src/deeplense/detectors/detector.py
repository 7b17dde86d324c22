"""The contract of a detector, and the images that it is fitted to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deeplense.core.config import Config, Count, Positive
from deeplense.core.registry import Registry
from deeplense.core.seeding import stable_key
from deeplense.data.loader import Loader
from deeplense.data.transforms import Augmentation, Images, Normalisation, Symmetry

Scores = Float[Tensor, " B"]


@dataclass(frozen=True)
class Effort(Config):
    """How a detector that learns by steps does so.

    Parameters
    ----------
    epochs
        Passes over the images.
    batch_size
        Images at a time.
    lr
        Peak learning rate.
    seed
        Of everything random.
    """

    epochs: Count
    batch_size: Count
    lr: Positive
    seed: int = 0


@dataclass(frozen=True)
class Normals:
    """The images that are normal: what a detector is fitted to, normalised and on its device, as often as wanted.

    Parameters
    ----------
    loader
        Where they come from; it need not fit in memory.
    normalisation
        What is done to pixel values.
    symmetry
        What turns a normal image into another one.
    device
        Where they go.
    """

    loader: Loader
    normalisation: Normalisation
    symmetry: Symmetry
    device: torch.device

    def __len__(self) -> int:
        return len(self.loader)

    def in_order(self, batch_size: int) -> Iterator[Images]:
        """Yield every image once, in order."""
        for batch in self.loader.in_order(batch_size):
            yield self.normalisation(batch.image.to(self.device))

    def shuffled(self, batch_size: int, seed: int, epoch: int) -> Iterator[Images]:
        """Yield whole batches in random order, each image turned at random as the symmetry allows."""
        generator = torch.Generator().manual_seed(stable_key(seed, "normal images", epoch) % 2**63)
        order = torch.randperm(len(self), generator=generator).numpy()
        size = min(batch_size, len(self))
        augmentation = Augmentation(self.symmetry)
        self.loader.begin_epoch(epoch)
        for batch in self.loader.batches([order[i : i + size] for i in range(0, len(self) - size + 1, size)]):
            numbers = augmentation.draw(size, generator).to(self.device)
            yield augmentation.apply(self.normalisation(batch.image.to(self.device)), numbers)

    def sample(self, n: int) -> Images:
        """Return up to n images, evenly spaced."""
        return self.normalisation(self.loader.sample(n).to(self.device))


class Detector(nn.Module, ABC):
    """How strange an image is, learnt from normal images alone.

    What it has learnt is in its parameters and buffers: they are what is stored. A buffer whose shape depends on the
    images may be empty until `fit`.

    Parameters
    ----------
    image_shape
        (C, H, W).

    Attributes
    ----------
    raw
        Whether it takes pixel values as they are stored: no normalisation then.
    physical
        Whether it is built on the recipe of the images: the constructor takes it as a second argument.
    has_p_chi2
        Whether it has a model of every image, whose χ² has a p-value of its own.
    learns
        Whether it makes passes over the images: epochs, batch size and learning rate mean something.
    category
        What it was shown: "normal" images alone, also "simulated" anomalies of its own making, or "labelled" ones.
    reference
        Whom to cite.
    """

    raw: ClassVar[bool] = False
    physical: ClassVar[bool] = False
    has_p_chi2: ClassVar[bool] = False
    learns: ClassVar[bool] = False
    category: ClassVar[str] = "normal"
    reference: ClassVar[str]

    def __init__(self, image_shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.image_shape = image_shape

    @abstractmethod
    def fit(self, normals: Normals, effort: Effort) -> None:
        """Learn what is normal; the same seed gives the same detector."""

    @abstractmethod
    def score(self, images: Images) -> Scores:
        """Return one number per image: higher is stranger. It does not depend on the other images of the batch."""

    def judge(self, images: Images) -> tuple[Scores, Float[Tensor, " B"] | None]:
        """Return the scores, and how rarely χ² is as large where the model of an image is exact; None without a model.

        One answer, because both may need the same fit.
        """
        return self.score(images), None

    def map(self, images: Images) -> Float[Tensor, "B 1 H W"] | None:
        """Return where each image is strange; None where a detector cannot say."""
        return None

    def expect(self, n_images: int) -> None:
        """Learn how many images will come: what is worth compiling depends on it."""
        return None

    def misfit(self, images: Images) -> Float[Tensor, " B"] | None:
        """Return how badly the model of each image fits, as χ² per pixel; None where there is none."""
        return None


DETECTORS: Registry[Callable[..., Detector]] = Registry("detector", "deeplense.detectors")


def empty_buffer() -> Tensor:
    """Return what a buffer holds before its shape is known."""
    return torch.empty(0)

"""Physics inside: networks that see what the smooth lens leaves unexplained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deeplense.inverse.fit import Fit, coarse
from deeplense.inverse.lens_fitter import LensFitter, checked
from deeplense.models.backbone import MODELS, Backbone, ModelSource
from deeplense.models.residual_cnn import ResidualCNN

BRIGHT = 3.0  # σ at which the fitted image turns from linear to logarithmic
DENSE = 0.03  # convergence at which that of substructure does
HIDDEN = 128  # of the network that predicts the start
LEARN_STEPS, LEARN_BATCH, LEARN_RATE, LEARN_NOISE = 500, 256, 2e-3, 0.05


@MODELS.register("lens_inverse")
class LensInverse(Backbone):
    """A residual CNN sees the smooth lens fitted to each image, the residual in σ, and the convergence it asks for.

    What varies in the recipe (source position, exposure, macro lens, …) is fitted by robust Gauss–Newton steps through
    the simulator, from the best of many drawn lenses; substructure stays in the residual, whose noise is 1 everywhere.
    Gravitational imaging then turns the residual into a map of the mass that would explain it.

    Parameters
    ----------
    image_shape
        (C, H, W), H = W.
    recipe
        What the images are of, as `Recipe.as_dict` gives it.
    """

    source: ClassVar[ModelSource] = "deeplense"
    raw: ClassVar[bool] = True
    physical: ClassVar[bool] = True

    def __init__(self, image_shape: tuple[int, int, int], recipe: Mapping[str, Any] | None) -> None:
        super().__init__()
        channels, height, width = image_shape
        self.fitter = LensFitter(image_shape, recipe)
        self.trunk = ResidualCNN((2 * channels + 1, height, width))
        self.num_features, self.num_pooled = self.trunk.num_features, self.trunk.num_pooled

    def expect(self, n_images: int) -> None:
        """Learn how many images will come: compiling the fit is worth it for many."""
        self.fitter.expect(n_images)

    def forward_features(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        """Return the trunk's map of fit and residual."""
        return self.trunk.forward_features(self.channels(self.fit(images)))

    def pooled(self, features: Float[Tensor, "B D h w"]) -> Float[Tensor, "B P"]:
        """Return the trunk's pooled features."""
        return self.trunk.pooled(features)

    def fit(self, images: Float[Tensor, "B C H W"]) -> Fit:
        """Return the smooth lenses fitted to images, without gradients.

        Raises
        ------
        InvalidDataset
            When a pixel is NaN or infinite.
        """
        return self.fitter.fit(images)

    def misfit(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, " B"]:
        """Return χ² per pixel of the smooth lens: 1 where there is no substructure, and the recipe is right."""
        return self.fit(images).residual.square().mean((1, 2, 3))

    def imaged_convergence(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B 1 H W"]:
        """Return the convergence that would explain what the smooth lens leaves."""
        return self.fitter.convergence(self.fit(images))

    def channels(self, found: Fit) -> Float[Tensor, "B D H W"]:
        """Return what the trunk sees, stretched: the fitted image and the residual in σ, and the convergence."""
        kappa = self.fitter.convergence(found)
        seen = [found.mean / found.sigma / BRIGHT, found.residual, kappa / DENSE]
        return torch.cat([torch.asinh(channel) for channel in seen], dim=1)


@MODELS.register("lens_inverse_amortised")
class AmortisedLensInverse(LensInverse):
    """The same, but a network predicts the smooth lens, one step polishes it, and gradients flow through both.

    The network is first fitted to lenses drawn from the recipe; with the classifier it goes on learning.

    Parameters
    ----------
    image_shape, recipe
        As in `LensInverse`.
    """

    middle: Tensor
    spread: Tensor

    def __init__(self, image_shape: tuple[int, int, int], recipe: Mapping[str, Any] | None) -> None:
        super().__init__(image_shape, recipe)
        bank = self.fitter.bank
        goal = bank.relative(bank.theta, bank.coarse)
        self.register_buffer("middle", goal.mean(0))
        self.register_buffer("spread", goal.std(0).clamp(min=1e-6))
        self.predictor = nn.Sequential(
            nn.Linear(bank.coarse.shape[1], HIDDEN),
            nn.GELU(),
            nn.Linear(HIDDEN, HIDDEN),
            nn.GELU(),
            nn.Linear(HIDDEN, goal.shape[1]),
        )
        self._learn_to_predict(goal)

    def expect(self, n_images: int) -> None:
        """Never compile: gradients flow through the fit."""

    def fit(self, images: Float[Tensor, "B C H W"]) -> Fit:
        """Return the smooth lenses fitted to images; gradients reach the predicted parameters.

        Raises
        ------
        InvalidDataset
            When a pixel is NaN or infinite.
        """
        device, learning = images.device.type, self.training
        with torch.inference_mode(False), torch.autocast(device, enabled=False), torch.set_grad_enabled(learning):
            images = checked(images)
            return self.fitter.polish(images, self.start(images))

    def start(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B P"]:
        """Return the predicted parameters."""
        small = coarse(images, self.fitter.bank.factor)
        return self.fitter.bank.absolute(self.middle + self.spread * self.predictor(_shape(small)), small)

    def _learn_to_predict(self, goal: Float[Tensor, "N P"]) -> None:
        """Fit the predictor to the lenses of the bank, with noise on their images."""
        optimizer = torch.optim.Adam(self.predictor.parameters(), LEARN_RATE)
        shapes, goal = _shape(self.fitter.bank.coarse), (goal - self.middle) / self.spread
        with torch.inference_mode(False), torch.enable_grad():
            for _ in range(LEARN_STEPS):
                rows = torch.randint(len(goal), (LEARN_BATCH,))
                noisy = shapes[rows] + LEARN_NOISE * torch.randn_like(shapes[rows])
                optimizer.zero_grad()
                torch.autograd.backward(nn.functional.mse_loss(self.predictor(noisy), goal[rows]))
                optimizer.step()


def _shape(small: Float[Tensor, "B M"]) -> Float[Tensor, "B M"]:
    """Return coarse images without level and length, of pixels near 1."""
    centred = small - small.mean(1, keepdim=True)
    return centred / centred.std(1, keepdim=True).clamp(min=1e-30)

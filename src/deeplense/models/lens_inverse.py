"""Physics inside: networks that see what the smooth lens leaves unexplained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deeplense.core.compiled import EAGER, Runner, can_compile
from deeplense.core.errors import InvalidDataset, InvalidOption
from deeplense.inverse.convergence import ConvergenceMap
from deeplense.inverse.fit import Bank, Fit, coarse, fit
from deeplense.inverse.smooth_lens import SmoothLens
from deeplense.models.backbone import MODELS, Backbone, ModelSource
from deeplense.models.residual_cnn import ResidualCNN
from deeplense.recipes.recipe import Recipe

AT_ONCE, ON_GPU = 32, 256  # images worked on together, on the processor (whose cache they fit) and elsewhere
WORTH_COMPILING = 10_000  # images
FREE = 5  # parameters from which a lens model counts as free
BANK, BANK_FREE = 512, 4096  # lenses to start from
STEPS, STEPS_FREE = 2, 3  # more change χ² per pixel by less than 0.01
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

    def __init__(self, image_shape: tuple[int, int, int], recipe: Mapping[str, Any]) -> None:
        super().__init__()
        channels, height, width = image_shape
        if height != width:
            raise InvalidOption(
                f"a lens model of images of {height}×{width} pixels", "square images", "use another model"
            )
        known = Recipe.from_mapping(recipe, "the model's recipe")
        if channels != known.image_shape[0]:
            raise InvalidOption(
                f"images of {channels} bands and a lens model of recipe {known.name}, which has {known.image_shape[0]}",
                "as many bands as the recipe has",
                "name the recipe of these images with --lens-recipe, or use another model",
            )
        self.lens = SmoothLens(known, width)
        pixel_scale = self.lens.instruments[0].pixel_scale
        self.imaging = ConvergenceMap(width, pixel_scale, known.lens.deflection_scale)
        self.trunk = ResidualCNN((2 * channels + 1, height, width))
        self.num_features, self.num_pooled = self.trunk.num_features, self.trunk.num_pooled
        free = len(self.lens.names) >= FREE
        self.bank, self.steps = Bank(self.lens, BANK_FREE if free else BANK), STEPS_FREE if free else STEPS

    def expect(self, n_images: int) -> None:
        """Compile the fit where so many images are worth it; what is compiled stays so."""
        if not self.lens.run.compiled and n_images >= WORTH_COMPILING and can_compile():
            self.lens.run = Runner(True)

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
        _must_be_finite(images)
        if images.device.type != "cpu":
            self.lens.run = EAGER  # what is compiled here is the processor's
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            images = images.float().clone()  # an inference tensor cannot be differentiated
            parts = [self._fit_some(part) for part in torch.split(images, _at_once(images))]
            return Fit(*(torch.cat(field) for field in zip(*parts, strict=True)))

    def _fit_some(self, images: Float[Tensor, "B C H W"]) -> Fit:
        """Fit one group; compiled formulas get groups of one size."""
        n = len(images)
        if self.lens.run.compiled and n < AT_ONCE:
            images = torch.cat([images, images[-1:].expand(AT_ONCE - n, -1, -1, -1)])
        found = fit(self.lens, images, self.start(images), self.steps)
        return Fit(*(field[:n] for field in found))

    def misfit(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, " B"]:
        """Return χ² per pixel of the smooth lens: 1 where there is no substructure, and the recipe is right."""
        return self.fit(images).residual.square().mean((1, 2, 3))

    def imaged_convergence(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B 1 H W"]:
        """Return the convergence that would explain what the smooth lens leaves."""
        return self._convergence(self.fit(images))

    def start(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B P"]:
        """Return where the fit begins."""
        return self.bank.start(images)

    def channels(self, found: Fit) -> Float[Tensor, "B D H W"]:
        """Return what the trunk sees, stretched: the fitted image and the residual in σ, and the convergence."""
        kappa = self._convergence(found)
        seen = [found.mean / found.sigma / BRIGHT, found.residual, kappa / DENSE]
        return torch.cat([torch.asinh(channel) for channel in seen], dim=1)

    def _convergence(self, found: Fit) -> Float[Tensor, "B 1 H W"]:
        """Return the convergence at every pixel."""
        with torch.autocast(found.mean.device.type, enabled=False):
            groups = zip(*(torch.split(field, _at_once(field)) for field in found), strict=True)
            cells = torch.cat([self.imaging(Fit(*group)) for group in groups])[:, None]
            return nn.functional.interpolate(cells, size=found.mean.shape[-2:], mode="bilinear")


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

    def __init__(self, image_shape: tuple[int, int, int], recipe: Mapping[str, Any]) -> None:
        super().__init__(image_shape, recipe)
        self.steps = 1
        goal = self.bank.relative(self.bank.theta, self.bank.coarse)
        self.register_buffer("middle", goal.mean(0))
        self.register_buffer("spread", goal.std(0).clamp(min=1e-6))
        self.predictor = nn.Sequential(
            nn.Linear(self.bank.coarse.shape[1], HIDDEN),
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
        _must_be_finite(images)
        device, learning = images.device.type, self.training
        with torch.inference_mode(False), torch.autocast(device, enabled=False), torch.set_grad_enabled(learning):
            images = images.float().clone()
            return fit(self.lens, images, self.start(images), self.steps)

    def start(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B P"]:
        """Return the predicted parameters."""
        small = coarse(images, self.bank.factor)
        return self.bank.absolute(self.middle + self.spread * self.predictor(_shape(small)), small)

    def _learn_to_predict(self, goal: Float[Tensor, "N P"]) -> None:
        """Fit the predictor to the lenses of the bank, with noise on their images."""
        optimizer = torch.optim.Adam(self.predictor.parameters(), LEARN_RATE)
        shapes, goal = _shape(self.bank.coarse), (goal - self.middle) / self.spread
        with torch.inference_mode(False), torch.enable_grad():
            for _ in range(LEARN_STEPS):
                rows = torch.randint(len(goal), (LEARN_BATCH,))
                noisy = shapes[rows] + LEARN_NOISE * torch.randn_like(shapes[rows])
                optimizer.zero_grad()
                torch.autograd.backward(nn.functional.mse_loss(self.predictor(noisy), goal[rows]))
                optimizer.step()


def _at_once(images: Tensor) -> int:
    return AT_ONCE if images.device.type == "cpu" else ON_GPU


def _must_be_finite(images: Float[Tensor, "B C H W"]) -> None:
    if bad := int((~torch.isfinite(images)).flatten(1).any(1).sum()):
        raise InvalidDataset(
            f"{bad} of {len(images)} images hold pixels that are NaN or infinite",
            "finite pixels, to which a lens can be fitted",
            "leave these images out, or mend them",
        )


def _shape(small: Float[Tensor, "B M"]) -> Float[Tensor, "B M"]:
    """Return coarse images without level and length, of pixels near 1."""
    centred = small - small.mean(1, keepdim=True)
    return centred / centred.std(1, keepdim=True).clamp(min=1e-30)

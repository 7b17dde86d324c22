"""A recipe's smooth lens, fitted to any number of images, and the convergence that each asks for beyond it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deeplense.core.compiled import EAGER, Runner, can_compile
from deeplense.core.errors import InvalidDataset, InvalidOption
from deeplense.inverse.convergence import ConvergenceMap
from deeplense.inverse.fit import Bank, Fit, fit
from deeplense.inverse.smooth_lens import Images, SmoothLens, Theta
from deeplense.recipes.recipe import Recipe

AT_ONCE, ON_GPU = 32, 256  # images worked on together, on the processor (whose cache they fit) and elsewhere
FREE = 5  # parameters from which a lens model counts as free
WORTH_COMPILING, WORTH_COMPILING_FREE = 10_000, 1_000  # images: it takes a minute or two
BANK, BANK_FREE = 512, 4096  # lenses to start from
STEPS, STEPS_FREE = 2, 3  # more change χ² per pixel by less than 0.01


class LensFitter:
    """Fits what varies in a recipe, from the best of many drawn lenses; substructure stays in the residual.

    Parameters
    ----------
    image_shape
        (C, H, W), H = W.
    recipe
        What the images are of, as `Recipe.as_dict` gives it.

    Raises
    ------
    InvalidOption
        When there is no recipe, or the images are not square, or have not as many bands as the recipe.
    """

    def __init__(self, image_shape: tuple[int, int, int], recipe: Mapping[str, Any] | None) -> None:
        if recipe is None:
            raise InvalidOption(
                "a lens model without a recipe: this dataset does not say what it was simulated from",
                "the recipe whose smooth lens is fitted",
                "add --lens-recipe, e.g. --lens-recipe model_i",
            )
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
        free = len(self.lens.names) >= FREE
        self.bank, self.steps = Bank(self.lens, BANK_FREE if free else BANK), STEPS_FREE if free else STEPS
        self.worth_compiling = WORTH_COMPILING_FREE if free else WORTH_COMPILING

    def expect(self, n_images: int) -> None:
        """Compile the fit where so many images are worth it; what is compiled stays so."""
        if not self.lens.run.compiled and n_images >= self.worth_compiling and can_compile():
            self.lens.run = Runner(True)

    def fit(self, images: Images) -> Fit:
        """Return the smooth lenses fitted to images, without gradients.

        Raises
        ------
        InvalidDataset
            When a pixel is NaN or infinite.
        """
        if images.device.type != "cpu":
            self.lens.run = EAGER  # what is compiled here is the processor's
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            images = checked(images)
            parts = [self._fit_some(part) for part in torch.split(images, _at_once(images))]
            return Fit(*(torch.cat(field) for field in zip(*parts, strict=True)))

    def _fit_some(self, images: Images) -> Fit:
        """Fit one group; compiled formulas get groups of one size."""
        n = len(images)
        if self.lens.run.compiled and n < AT_ONCE:
            images = torch.cat([images, images[-1:].expand(AT_ONCE - n, -1, -1, -1)])
        found = fit(self.lens, images, self.bank.start(images), self.steps)
        return Fit(*(field[:n] for field in found))

    def polish(self, images: Images, start: Theta) -> Fit:
        """Return the smooth lens one step from where it is thought to be; differentiable."""
        return fit(self.lens, images, start, 1)

    def convergence(self, found: Fit) -> Float[Tensor, "B 1 H W"]:
        """Return the convergence at every pixel that would explain the residuals."""
        with torch.autocast(found.mean.device.type, enabled=False):
            groups = zip(*(torch.split(field, _at_once(field)) for field in found), strict=True)
            cells = torch.cat([self.imaging(Fit(*group)) for group in groups])[:, None]
            return nn.functional.interpolate(cells, size=found.mean.shape[-2:], mode="bilinear")


def checked(images: Images) -> Images:
    """Return a copy in single precision that can be differentiated, as an inference tensor cannot.

    Raises
    ------
    InvalidDataset
        When a pixel is NaN or infinite.
    """
    if bad := int((~torch.isfinite(images)).flatten(1).any(1).sum()):
        raise InvalidDataset(
            f"{bad} of {len(images)} images hold pixels that are NaN or infinite",
            "finite pixels, to which a lens can be fitted",
            "leave these images out, or mend them",
        )
    return images.float().clone()


def _at_once(images: Tensor) -> int:
    return AT_ONCE if images.device.type == "cpu" else ON_GPU

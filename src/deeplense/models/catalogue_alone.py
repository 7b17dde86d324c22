"""Models that do not look at the image: what the catalogue alone is worth."""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from deeplense.models.backbone import MODELS, Backbone, ModelSource
from deeplense.models.boosted_trees import BoostedTrees
from deeplense.models.fusion import Fusion, Late


@MODELS.register("catalogue_mlp")
class CatalogueMLP(Backbone):
    """The features of the catalogue through two linear layers; the image is not looked at.

    Parameters
    ----------
    image_shape
        (C, H, W).
    """

    source: ClassVar[ModelSource] = "deeplense"
    fusion: ClassVar[type[Fusion] | None] = Late
    num_features = num_pooled = 0

    def __init__(self, image_shape: tuple[int, int, int]) -> None:
        super().__init__()

    def forward_features(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B 0"]:
        """Return nothing of each image."""
        return images.flatten(1)[:, :0]

    def pooled(self, features: Float[Tensor, "B 0"]) -> Float[Tensor, "B 0"]:
        """Return nothing, again."""
        return features


@MODELS.register("catalogue_trees")
class CatalogueTrees(CatalogueMLP):
    """Gradient-boosted trees on the features of the catalogue; the image is not looked at.

    Histogram gradient boosting: Ke et al. 2017, NeurIPS, as in scikit-learn. Scale and offset of its log-odds learn by
    gradients.
    """

    fusion: ClassVar[type[Fusion] | None] = BoostedTrees

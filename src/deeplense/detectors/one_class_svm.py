"""The region of feature space that holds most normal images, by a one-class support vector machine."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from deeplense.core.errors import InvalidDataset
from deeplense.data.transforms import Images
from deeplense.detectors.detector import DETECTORS, Detector, Effort, Normals, Scores, empty_buffer
from deeplense.detectors.pca import pooled, pooled_sample, pooling, principal_components

FEATURES = 32  # more of them, and all distances between normal images are alike
NU = 0.1  # the fraction of normal images that may lie outside: training images are noisy, but all of them normal
BUFFERS = ("centre", "projection", "support", "weight", "offset", "gamma")


@DETECTORS.register("one_class_svm")
class OneClassSVM(Detector):
    """Minus the decision function of a one-class support vector machine on whitened principal components.

    Its kernel is exp(−γ d²) with 1 / γ the number of features times their variance. Far from all normal images the
    score levels off at the offset: very strange images are hardly told apart.

    Parameters
    ----------
    image_shape
        (C, H, W).
    """

    reference = "Schölkopf, Platt, Shawe-Taylor, Smola & Williamson 2001, Neural Computation 13, 1443"
    centre: Tensor
    projection: Tensor
    support: Tensor
    weight: Tensor
    offset: Tensor
    gamma: Tensor

    def __init__(self, image_shape: tuple[int, int, int]) -> None:
        super().__init__(image_shape)
        self.factor = pooling(image_shape)
        for name in BUFFERS:
            self.register_buffer(name, empty_buffer())

    def fit(self, normals: Normals, effort: Effort) -> None:
        """Take up to 32 principal components of up to 4,000 images, and the machine's support vectors among these.

        Raises
        ------
        InvalidDataset
            When the images do not differ.
        """
        from sklearn import svm

        values = pooled_sample(normals, self.factor).flatten(1)
        self.centre, components, variance = principal_components(values, FEATURES)
        if not len(components):
            raise InvalidDataset(
                f"{len(values)} normal images that are all the same",
                "images that differ: there is no region to draw around one point",
                "add normal images, or look at what the normalisation makes of them",
            )
        self.projection = components.T / variance.sqrt()
        features = self._features(values).double().cpu().numpy()
        machine = svm.OneClassSVM(kernel="rbf", gamma="scale", nu=NU).fit(features)
        learnt = {
            "support": machine.support_vectors_,
            "weight": machine.dual_coef_[0],
            "offset": -machine.intercept_,
            "gamma": [1 / (features.shape[1] * features.var())],  # what "scale" means
        }
        for name, numbers in learnt.items():
            setattr(self, name, torch.as_tensor(numbers).to(values.device, torch.float32))

    def score(self, images: Images) -> Scores:
        """Return the offset minus the weighted sum of the kernel between an image and the support vectors."""
        features = self._features(pooled(images, self.factor).flatten(1))
        # By differences, not by products: these would lose digits, and more of them in other batches.
        distance = torch.cdist(features, self.support, compute_mode="donot_use_mm_for_euclid_dist")
        return self.offset - torch.exp(-self.gamma * distance.square()) @ self.weight

    def _features(self, values: Float[Tensor, "B D"]) -> Float[Tensor, "B K"]:
        return (values - self.centre) @ self.projection

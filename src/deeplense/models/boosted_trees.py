"""Gradient-boosted trees on the catalogue: fitted by scikit-learn, kept and read as plain tensors."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from deeplense.models.fusion import Features, Fusion, Targets, Weights

TREES = 200
LEAVES = 31
NODES = 2 * LEAVES - 1
LEARNING_RATE = 0.05
FEWEST = 20  # objects in a leaf


class BoostedTrees(Fusion):
    """The log-odds that a sum of trees gives an object by its features; the image is not looked at.

    Histogram gradient boosting (Ke et al. 2017, NeurIPS; scikit-learn's): 200 trees of at most 31 leaves, fewer where
    a tenth of the training images, kept back, does not gain. A missing value goes the way that was better in training.

    Parameters
    ----------
    num_pooled
        Length of the image's vector, which is not looked at.
    num_features
        F.
    """

    num_out = 1
    gives_logit: ClassVar[bool] = True

    def __init__(self, num_pooled: int, num_features: int) -> None:
        super().__init__()
        self.feature: Tensor
        self.threshold: Tensor
        self.missing_left: Tensor
        self.left: Tensor
        self.right: Tensor
        self.value: Tensor
        self.baseline: Tensor
        for name in ("feature", "left", "right"):
            self.register_buffer(name, torch.zeros(TREES, NODES, dtype=torch.int64))
        self.register_buffer("missing_left", torch.zeros(TREES, NODES, dtype=torch.bool))
        for name in ("threshold", "value"):
            self.register_buffer(name, torch.zeros(TREES, NODES, dtype=torch.float64))
        self.register_buffer("baseline", torch.zeros(1, dtype=torch.float64))
        self.depth: Tensor
        self.register_buffer("depth", torch.zeros(1, dtype=torch.int64))

    @torch.no_grad()
    def fit(self, features: Features, targets: Targets, seed: int, weights: Weights = None) -> None:
        """Grow the trees."""
        from sklearn.ensemble import HistGradientBoostingClassifier

        booster = HistGradientBoostingClassifier(
            learning_rate=LEARNING_RATE,
            max_iter=TREES,
            max_leaf_nodes=LEAVES,
            min_samples_leaf=FEWEST,
            early_stopping=True,
            random_state=seed,
        )
        booster.fit(features.numpy(), targets.numpy(), None if weights is None else weights.numpy())
        self.baseline.fill_(float(np.ravel(booster._baseline_prediction)[0]))
        self.value.zero_()
        deepest = 0
        for number, (tree,) in enumerate(booster._predictors):
            nodes = tree.nodes
            within, leaf = slice(0, len(nodes)), nodes["is_leaf"].astype(bool)
            here = np.arange(len(nodes))
            # from a leaf one stays where one is
            for name, key in (("left", "left"), ("right", "right")):
                child = np.where(leaf, here, nodes[key].astype(np.int64))
                getattr(self, name)[number, within] = torch.from_numpy(child)
            self.feature[number, within] = torch.from_numpy(np.where(leaf, 0, nodes["feature_idx"]).astype(np.int64))
            self.threshold[number, within] = torch.from_numpy(np.where(leaf, 0.0, nodes["num_threshold"]))
            self.missing_left[number, within] = torch.from_numpy(nodes["missing_go_to_left"].astype(bool))
            self.value[number, within] = torch.from_numpy(np.where(leaf, nodes["value"], 0.0))
            deepest = max(deepest, int(nodes["depth"].max()))
        self.depth.fill_(deepest)

    def forward(self, pooled: Float[Tensor, "B P"], features: Float32[Tensor, "B F"]) -> Float[Tensor, "B 1"]:
        """Return the log-odds of the second class."""
        values = features.double()
        node = torch.zeros(len(values), TREES, dtype=torch.int64, device=values.device)
        tree = torch.arange(TREES, device=values.device).expand_as(node)
        for _ in range(int(self.depth)):
            here = values.gather(1, self.feature[tree, node])
            goes_left = torch.where(here.isnan(), self.missing_left[tree, node], here <= self.threshold[tree, node])
            node = torch.where(goes_left, self.left[tree, node], self.right[tree, node])
        return (self.baseline + self.value[tree, node].sum(1)).float()[:, None]

"""Heads: pooled features to class logits."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

HIDDEN = 256


class TwoOfOne(nn.Module):
    """One logit z as the logits −z/2 and z/2 of two classes: their softmax is (1 − p, p) with p = sigmoid(z).

    The cross-entropy of the two is then the binary cross-entropy of the one, and what is asked of a class (its
    probability, what it looks at) is asked in the same way as of one of many.
    """

    def forward(self, logit: Float[Tensor, "B 1"]) -> Float[Tensor, "B 2"]:
        """Return both logits."""
        return torch.cat([-logit / 2, logit / 2], 1)


def linear_head(num_pooled: int, n_out: int, dropout: float) -> nn.Sequential:
    """Return dropout and one linear layer."""
    return nn.Sequential(nn.Dropout(dropout), nn.Linear(num_pooled, n_out))


def complex_head(num_pooled: int, n_out: int, dropout: float) -> nn.Sequential:
    """Return a perceptron of two hidden layers with layer norm: the seed's `--complex 1`."""
    layers: list[nn.Module] = [nn.LayerNorm(num_pooled)]
    for n_in, n_hidden in ((num_pooled, HIDDEN), (HIDDEN, HIDDEN // 2)):
        layers += [nn.Linear(n_in, n_hidden), nn.GELU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(HIDDEN // 2, n_out))

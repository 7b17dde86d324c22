"""Heads: pooled features to class logits."""

from __future__ import annotations

from torch import nn

HIDDEN = 256


def linear_head(num_pooled: int, n_out: int, dropout: float) -> nn.Sequential:
    """Return dropout and one linear layer."""
    return nn.Sequential(nn.Dropout(dropout), nn.Linear(num_pooled, n_out))


def complex_head(num_pooled: int, n_out: int, dropout: float) -> nn.Sequential:
    """Return a perceptron of two hidden layers with layer norm: the seed's `--complex 1`."""
    layers: list[nn.Module] = [nn.LayerNorm(num_pooled)]
    for n_in, n_hidden in ((num_pooled, HIDDEN), (HIDDEN, HIDDEN // 2)):
        layers += [nn.Linear(n_in, n_hidden), nn.GELU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(HIDDEN // 2, n_out))

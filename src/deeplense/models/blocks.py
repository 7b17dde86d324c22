"""Building blocks that more than one architecture uses."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn


def conv_norm_act(n_in: int, n_out: int, stride: int = 1) -> nn.Sequential:
    """Return a 3×3 convolution, batch norm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, 3, stride, padding=1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU(inplace=True)
    )


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions with a shortcut (He et al. 2016).

    Parameters
    ----------
    n_in, n_out
        Channels.
    stride
        Of the first convolution; the shortcut is a 1×1 convolution where shapes differ.
    """

    def __init__(self, n_in: int, n_out: int, stride: int = 1) -> None:
        super().__init__()
        self.first = conv_norm_act(n_in, n_out, stride)
        self.second = nn.Sequential(nn.Conv2d(n_out, n_out, 3, padding=1, bias=False), nn.BatchNorm2d(n_out))
        same = n_in == n_out and stride == 1
        self.shortcut = (
            nn.Identity()
            if same
            else nn.Sequential(nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out))
        )
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        """Return [B, n_out, H / stride, W / stride]."""
        result: Tensor = self.activation(self.second(self.first(x)) + self.shortcut(x))
        return result

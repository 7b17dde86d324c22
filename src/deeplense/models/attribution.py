"""Where in an image a network finds its reasons: activation maps, input gradients, and what the model itself maps.

A network is a backbone with a head (`models.network.Network`) in evaluation mode; images are normalised as it was
trained. Every map is [B, 1, H, W], not negative, larger where a pixel speaks more for the asked class.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from deeplense.models.network import Network

Map = Float[Tensor, "B 1 H W"]
Images = Float[Tensor, "B C H W"]
Classes = Int64[Tensor, " B"]
SMOOTHING, SPREAD = 16, 0.1  # noisy copies of an image, and their noise in units of its range (Smilkov et al. 2017)


def grad_cam(network: Network, images: Images, classes: Classes) -> Map | None:
    """Return Grad-CAM: channels of the last map weighted by the mean gradient of the class's logit, positive part.

    None where the backbone has no map. (Selvaraju et al. 2017, eqs. 1, 2, arXiv:1610.02391.)
    """
    return _class_activation(network, images, classes, lambda gradient: gradient.mean((2, 3), keepdim=True))


def hires_cam(network: Network, images: Images, classes: Classes) -> Map | None:
    """Return HiResCAM: each place of the last map weighted by its own gradient of the class's logit, positive part.

    It is Grad-CAM where the map is averaged before a linear head. Where the head knows places apart, the mean gradient
    of Grad-CAM may highlight what the logit does not depend on; this cannot, if the head is linear. None where the
    backbone has no map. (Draelos & Carin 2020, eq. 4, arXiv:2011.08891.)
    """
    return _class_activation(network, images, classes, lambda gradient: gradient)


def smooth_gradient(network: Network, images: Images, classes: Classes, seed: int = 0) -> Map | None:
    """Return |input × gradient of the class's logit|, the gradient averaged over noisy copies, channels summed.

    For any network through which gradients flow to the image; None for others. (Smilkov et al. 2017, arXiv:1706.03825;
    input × gradient: Shrikumar et al. 2017, arXiv:1704.02685.)
    """
    generator = torch.Generator(device="cpu").manual_seed(seed)
    width = SPREAD * (images.amax((1, 2, 3), keepdim=True) - images.amin((1, 2, 3), keepdim=True))
    total = torch.zeros_like(images)
    for _ in range(SMOOTHING):
        noise = torch.randn(images.shape, generator=generator).to(images)
        noisy = (images + width * noise).requires_grad_()
        with torch.enable_grad():
            logit = _logit(network(noisy), classes)
            (gradient,) = torch.autograd.grad(logit, noisy, allow_unused=True) if logit.requires_grad else (None,)
        if gradient is None:
            return None
        total += gradient
    return (images * total / SMOOTHING).sum(1, keepdim=True).abs()


def imaged_convergence(network: Network, images: Images, classes: Classes) -> Map | None:
    """Return the positive part of the convergence that a physical model finds, whatever the class; None for others."""
    with torch.no_grad():
        found = network.backbone.imaged_convergence(images)
    return None if found is None else F.relu(found)


METHODS: dict[str, Callable[[Network, Images, Classes], Map | None]] = {
    "Grad-CAM": grad_cam,
    "HiResCAM": hires_cam,
    "SmoothGrad × input": smooth_gradient,
    "imaged convergence": imaged_convergence,
}


def attribute(network: Network, images: Images, classes: Classes) -> dict[str, Map]:
    """Return the maps of every method that the network allows, by the method's name.

    Parameters
    ----------
    network
        In evaluation mode.
    images
        Normalised as in training.
    classes
        Index of the class to be explained, for each image.
    """
    found = {name: method(network, images, classes) for name, method in METHODS.items()}
    return {name: map_ for name, map_ in found.items() if map_ is not None}


def _class_activation(
    network: Network, images: Images, classes: Classes, weights: Callable[[Tensor], Tensor]
) -> Map | None:
    """Return the positive part of Σ_channels weights(gradient) × map, brought to the size of the images."""
    with torch.no_grad():
        features = network.backbone.forward_features(images)
    channels = _channel_axis(features, network.backbone.num_features)
    if channels is None:
        return None
    features.requires_grad_()
    with torch.enable_grad():
        # a copy: some heads change what they are given in place
        logits = network.head(network.backbone.pooled(features.clone()))
        (gradient,) = torch.autograd.grad(_logit(logits, classes), features)
    with torch.no_grad():
        map_, slope = features.movedim(channels, 1), gradient.movedim(channels, 1)
        activation = F.relu((weights(slope) * map_).sum(1, keepdim=True))
        return F.interpolate(activation, images.shape[-2:], mode="bilinear", align_corners=False)


def _channel_axis(features: Tensor, channels: int) -> int | None:
    """Return the axis of the channels in a map [B, D, h, w] or [B, h, w, D]; None where it is no map."""
    if features.ndim != 4 or min(features.shape[2:]) < 1:
        return None
    return next((axis for axis in (1, 3) if features.shape[axis] == channels), None)


def _logit(logits: Float[Tensor, "B K"], classes: Classes) -> Tensor:
    return logits.gather(1, classes[:, None].to(logits.device)).sum()

"""Attribution: it points to what the answer depends on, and to nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from deeplense.models.attribution import METHODS, attribute, grad_cam, hires_cam, smooth_gradient
from deeplense.models.backbone import Backbone
from deeplense.models.network import ModelChoice, Network, build_network

CLASSES = torch.tensor([0, 1])


class Pixels(Backbone):
    """The image itself, in the means of 4×4 pixels: a map of one channel per band, or tokens of it."""

    source = "deeplense"

    def __init__(self, form: str = "map") -> None:
        super().__init__()
        self.form, self.num_features, self.num_pooled = form, 2, 2 * 16

    def forward_features(self, images: Tensor) -> Tensor:
        map_ = nn.functional.avg_pool2d(images, 4)
        return {"map": map_, "last": map_.movedim(1, -1), "tokens": map_.flatten(2).mT}[self.form]

    def pooled(self, features: Tensor) -> Tensor:
        map_ = {"map": lambda f: f, "last": lambda f: f.movedim(-1, 1), "tokens": lambda f: f.mT}[self.form](features)
        return map_.flatten(1)


class Averaged(Pixels):
    """The same, averaged over all places."""

    def __init__(self) -> None:
        super().__init__()
        self.num_pooled = 2

    def pooled(self, features: Tensor) -> Tensor:
        return features.mean((2, 3))


def linear(weights: Tensor) -> nn.Linear:
    head = nn.Linear(weights.shape[1], weights.shape[0])
    nn.init.zeros_(head.bias)
    head.weight.data = weights
    return head


def corner_network(form: str = "map") -> Network:
    """Return a network whose logit 0 is the upper left corner, and logit 1 the lower right one."""
    weights = torch.zeros(2, 2, 4, 4)
    weights[0, :, 0, 0] = weights[1, :, 3, 3] = 1
    return Network(Pixels(form), linear(weights.flatten(1))).eval()


def bright() -> Tensor:
    return 0.5 + torch.rand(2, 2, 16, 16, generator=torch.Generator().manual_seed(0))


def share(map_: Tensor, rows: slice, columns: slice) -> float:
    return float(map_[rows, columns].sum() / map_.sum())


UPPER_LEFT, LOWER_RIGHT = (slice(0, 6),) * 2, (slice(10, 16),) * 2  # with what bilinear interpolation spreads


@pytest.mark.parametrize("form", ["map", "last"])
@pytest.mark.parametrize("method", [hires_cam, smooth_gradient])
def test_it_points_to_the_corner_that_the_answer_depends_on(method: object, form: str) -> None:
    maps = method(corner_network(form), bright(), CLASSES)  # type: ignore[operator]
    assert maps.shape == (2, 1, 16, 16)
    assert share(maps[0, 0], *UPPER_LEFT) > 0.999
    assert share(maps[1, 0], *LOWER_RIGHT) > 0.999
    assert float(maps.min()) >= 0


def test_grad_cam_points_to_the_corner_where_the_channel_that_matters_lights_up() -> None:
    network = Network(Averaged(), linear(torch.tensor([[1.0, -1.0], [-1.0, 1.0]]))).eval()
    images = torch.zeros(2, 2, 16, 16)
    images[:, 0, :4, :4] = images[:, 1, 12:, 12:] = 1
    maps = grad_cam(network, images, CLASSES)
    assert maps is not None
    assert share(maps[0, 0], *UPPER_LEFT) > 0.999
    assert share(maps[1, 0], *LOWER_RIGHT) > 0.999


def test_with_an_average_before_a_linear_head_both_activation_maps_agree() -> None:
    network = Network(Averaged(), linear(torch.randn(3, 2, generator=torch.Generator().manual_seed(1)))).eval()
    for classes in (CLASSES, torch.tensor([2, 2])):
        torch.testing.assert_close(grad_cam(network, bright(), classes), hires_cam(network, bright(), classes))


def test_an_activation_map_of_a_linear_head_adds_up_to_the_logit() -> None:
    network = build_network(ModelChoice("deeplense", "residual_cnn"), (1, 64, 64), 3).eval()
    images = torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    wanted = corner_network()
    logits = wanted(bright())
    maps = hires_cam(wanted, bright(), CLASSES)
    assert maps is not None
    torch.testing.assert_close(maps.sum((1, 2, 3)) / 16, logits.gather(1, CLASSES[:, None])[:, 0], rtol=0.05, atol=0)
    for name, map_ in attribute(network, images, CLASSES).items():
        assert map_.shape == (2, 1, 64, 64) and bool(map_.isfinite().all()) and bool((map_ >= 0).all()), name
        assert bool(map_.any()), name


def test_tokens_have_gradients_only() -> None:
    assert list(attribute(corner_network("tokens"), bright(), CLASSES)) == ["SmoothGrad × input"]
    expected = [name for name in METHODS if name != "imaged convergence"]
    assert list(attribute(corner_network(), bright(), CLASSES)) == expected


@pytest.mark.parametrize("model", ["resnet18", "mobilenetv3_small_050"])
def test_timm_models_and_frozen_ones_are_explained_too(model: str) -> None:
    network = build_network(ModelChoice("timm", model, tune=False), (1, 64, 64), 2).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    maps = attribute(network, torch.randn(2, 1, 64, 64), CLASSES)
    assert "Grad-CAM" in maps and all(bool(map_.isfinite().all()) for map_ in maps.values())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_where_no_gradient_reaches_the_image_the_maps_remain() -> None:
    class Cut(Pixels):
        def forward_features(self, images: Tensor) -> Tensor:
            return super().forward_features(images.detach())

    network = Network(Cut(), corner_network().head).eval()
    assert list(attribute(network, bright(), CLASSES)) == ["Grad-CAM", "HiResCAM"]


def test_an_image_is_explained_alike_alone_and_in_company() -> None:
    network = build_network(ModelChoice("deeplense", "residual_cnn"), (1, 32, 32), 2).eval()
    images = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    for method in (grad_cam, hires_cam):
        together, alone = method(network, images, CLASSES), method(network, images[:1], CLASSES[:1])
        assert together is not None
        torch.testing.assert_close(together[:1], alone, rtol=1e-3, atol=1e-6)

"""A timm network's features read by convolutions with squeeze-and-excitation: sizes, names, weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from deeplense.core.errors import InvalidOption, UnknownName
from deeplense.models.mobilevit_se import SqueezeExcite
from deeplense.models.network import ModelChoice, Network, build_network, resolve_extractor
from deeplense.models.timm_backbone import TimmBackbone

SHAPE = (1, 64, 64)
SMALL = "mobilenetv3_small_050"


def network(name: str = "mobilevit_se", shape: tuple[int, int, int] = SHAPE, n_out: int = 2, **choice: Any) -> Network:
    torch.manual_seed(0)
    return build_network(ModelChoice("deeplense", name, **choice), shape, n_out)


def images(shape: tuple[int, int, int] = SHAPE, n: int = 3) -> torch.Tensor:
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(1))


def size(net: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def test_the_small_one_is_small() -> None:
    small = network("mobilevit_se_xxs", (1, 100, 100), single_logit=True)
    assert 250_000 < size(small) <= 350_000
    assert size(network("mobilevit_se")) > 30 * size(small)
    assert any("attn" in name for name, _ in small.named_modules()), "a MobileViT without attention is none"


def test_between_features_and_head_stand_two_convolutions_with_squeeze_and_excitation() -> None:
    net = network("mobilevit_se_xxs")
    kinds = [type(module).__name__ for block in net.backbone.blocks for module in (block, *block.children())]  # type: ignore[operator,union-attr]
    block = ["Sequential", "Conv2d", "BatchNorm2d", "PReLU", "SqueezeExcite"]
    assert kinds == [*block, "Dropout", *block]


def test_squeeze_and_excitation_weights_each_channel_by_a_number_of_the_image() -> None:
    block, x = SqueezeExcite(8), images((8, 5, 7))
    weights = block(x) / x
    assert torch.allclose(weights, weights[:, :, :1, :1].expand_as(weights), atol=1e-4)
    assert bool(((weights > 0) & (weights < 1)).all())
    assert not torch.allclose(weights[0], weights[1], atol=1e-4), "the weights do not depend on the image"


NAMES = ["resnet18", SMALL, "convnext_atto", "convit_tiny", "swin_tiny_patch4_window7_224", "levit_128s"]


@pytest.mark.parametrize("extractor", NAMES)
def test_any_timm_network_can_be_the_extractor(extractor: str) -> None:
    """Maps with channels first and last, tokens with and without one for the class."""
    net = network("mobilevit_se_xxs", extractor=extractor).eval()
    batch = images()
    with torch.no_grad():
        features = net.backbone.forward_features(batch)
        assert features.ndim == 4 and features.shape[1] == net.backbone.num_features
        assert torch.allclose(net(batch)[1:2], net(batch[1:2]), atol=1e-5), "an answer depends on the batch"


def test_tokens_keep_their_places() -> None:
    torch.manual_seed(0)
    backbone = TimmBackbone("vit_tiny_patch16_224", (1, 224, 224)).eval()
    with torch.no_grad():
        tokens, found = (
            backbone.forward_features(images((1, 224, 224), 1)),
            backbone.feature_map(images((1, 224, 224), 1)),
        )
    assert found.shape == (1, 192, 14, 14)
    assert torch.equal(found[0, :, 3, 5], tokens[0, 1 + 3 * 14 + 5])


def test_features_that_are_no_map_are_refused() -> None:
    with pytest.raises(InvalidOption, match="coat_tiny") as caught:
        network(extractor="coat_tiny")
    assert "--extractor" in caught.value.remedy


def test_a_network_that_timm_cannot_cut_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(timm.models.mobilenetv3.MobileNetV3, "prune_intermediate_layers")
    with pytest.raises(InvalidOption, match="cut after 3 levels"):
        network("mobilevit_se_xxs", extractor=SMALL)
    assert network("mobilevit_se", extractor=SMALL)(images()).shape == (3, 2)


def test_the_extractor_is_a_name_of_timm_and_its_default_is_told() -> None:
    assert resolve_extractor("deeplense", "mobilevit_se", None) == "mobilevitv2_150"
    assert resolve_extractor("deeplense", "mobilevit_se", "resnet18") == "resnet18"
    assert resolve_extractor("deeplense", "residual_cnn", None) is None
    with pytest.raises(UnknownName, match="resnet_18"):
        network(extractor="resnet_18")


@pytest.mark.parametrize("model", [("deeplense", "residual_cnn"), ("timm", "resnet18"), ("baseline", "baseline_cnn")])
def test_an_extractor_that_nobody_asks_is_refused(model: tuple[Any, str]) -> None:
    with pytest.raises(InvalidOption, match="--extractor with " + model[1]):
        build_network(ModelChoice(*model, extractor="resnet18"), SHAPE, 2)


def test_published_weights_fill_the_extractor(tmp_path: Path) -> None:
    torch.manual_seed(7)
    file = tmp_path / f"{SMALL}.safetensors"
    save_file(timm.create_model(SMALL).state_dict(), file)
    state = load_file(file)
    for name in ("mobilevit_se", "mobilevit_se_xxs"):
        own = network(name, (3, 64, 64), extractor=SMALL, pretrained=str(file)).backbone.extract.state_dict()  # type: ignore[operator,union-attr]
        assert own and all(torch.equal(value, state[key.removeprefix("model.")]) for key, value in own.items())  # type: ignore[union-attr]


def test_dropout_stands_still_in_evaluation() -> None:
    net = network("mobilevit_se_xxs").eval()
    assert torch.equal(net(images()), net(images()))

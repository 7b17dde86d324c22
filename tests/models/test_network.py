"""Every architecture by name: features, head, freezing, and where the first weights come from."""

from __future__ import annotations

import dataclasses
import re
import socket
import time
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from torch import nn

from deeplense.core.errors import CorruptFile, InvalidOption, MissingFile, UnknownName
from deeplense.models.backbone import MODELS
from deeplense.models.network import (
    ModelChoice,
    Network,
    build_network,
    is_physical,
    load_weights,
    reads_catalogue,
    resolve_name,
)
from deeplense.models.timm_backbone import Unreachable
from deeplense.recipes.recipe import load_recipe

OURS = [  # those of the catalogue alone are in test_fusion.py
    (MODELS[name].source, name) for name in MODELS if not reads_catalogue(MODELS[name].source, name)
]
PHYSICAL = [(source, name) for source, name in OURS if is_physical(name)]
TIMM = [("timm", name) for name in ("resnet18", "convnext_atto", "convit_tiny", "vit_tiny_patch16_224")]
FIXED_SIZE = ("convit_tiny", "vit_tiny_patch16_224")
SHAPES = [(1, 64, 64), (3, 75, 75), (4, 150, 150)]
ATTO = ("timm", "convnext_atto")


def network(
    model: tuple[str, str] = ("deeplense", "residual_cnn"),
    shape: tuple[int, int, int] = (1, 64, 64),
    n_out: int = 3,
    **choice: Any,
) -> Network:
    torch.manual_seed(0)
    return build_network(ModelChoice(*model, **origin(model, shape), **choice), shape, n_out)


def origin(model: tuple[str, str], shape: tuple[int, int, int]) -> dict[str, Any]:
    """Return what a physical model is told of images of that shape."""
    if model not in PHYSICAL:
        return {}
    bands = ("published_ii",) * shape[0]
    return {"recipe": dataclasses.replace(load_recipe("model_ii"), n_pixels=shape[-1], instrument=bands).as_dict()}


def images(shape: tuple[int, int, int], n: int = 2) -> torch.Tensor:
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(1))


def same(first: nn.Module, second: nn.Module) -> bool:
    one, other = first.state_dict(), second.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


# ---- the contract of a backbone


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("model", OURS + TIMM, ids=lambda model: model[1])
def test_contract(model: tuple[str, str], shape: tuple[int, int, int]) -> None:
    net = network(model, shape)
    backbone = net.backbone
    for parameter in net.parameters():  # some start at zero and let no gradient through at first
        parameter.data.add_(0.01)
    features = backbone.forward_features(images(shape))
    assert bool(features.isfinite().all())
    assert backbone.num_features in features.shape[1:], "neither a map [B, D, h, w] nor tokens [B, N, D]"
    pooled = backbone.pooled(features)
    assert pooled.shape == (2, backbone.num_pooled)
    logits = net.head(pooled)
    assert logits.shape == (2, 3)
    # a plain sum of logits has no gradient below a layer norm
    nn.functional.cross_entropy(logits, torch.tensor([0, 2])).backward()
    without = [name for name, p in net.named_parameters() if p.grad is None or not bool(p.grad.isfinite().all())]
    assert not without, f"no finite gradient reaches {without}"
    dead = [name for name, p in net.named_parameters() if p.ndim > 1 and not bool(p.grad.any())]  # type: ignore[union-attr]
    assert not dead, f"the gradient of {dead} is zero everywhere"


@pytest.mark.parametrize("model", OURS + TIMM, ids=lambda model: model[1])
def test_a_resize_is_told_where_the_architecture_demands_it_and_nowhere_else(model: tuple[str, str]) -> None:
    for size in (64, 150):
        notes = network(model, (1, size, size)).backbone.notes
        if model[1] in FIXED_SIZE:
            assert len(notes) == 1 and f"{size}×{size}" in notes[0] and "224×224" in notes[0], notes
        else:
            assert notes == []
    assert network(model, (1, 224, 224)).backbone.notes == []


@pytest.mark.parametrize("model", [*OURS, ("timm", "resnet18"), ATTO], ids=lambda model: model[1])
def test_images_need_not_be_square(model: tuple[str, str]) -> None:
    if model in PHYSICAL:
        with pytest.raises(InvalidOption, match="64×80"):
            network(model, (1, 64, 80))
        return
    assert network(model, (1, 64, 80))(images((1, 64, 80))).shape == (2, 3)


@pytest.mark.parametrize("model", OURS, ids=lambda model: model[1])
@pytest.mark.parametrize("size", [16, 33, 224])
def test_ours_take_any_size(model: tuple[str, str], size: int) -> None:
    assert bool(network(model, (2, size, size))(images((2, size, size))).isfinite().all())


def test_every_image_is_answered_by_itself() -> None:
    for model in [*(model for model in OURS if model not in PHYSICAL), ATTO]:
        net = network(model).eval()
        batch = images((1, 64, 64), 4)
        with torch.no_grad():
            assert torch.allclose(net(batch)[2:3], net(batch[2:3]), atol=1e-5), model


@pytest.mark.parametrize("model", [*OURS, ATTO], ids=lambda model: model[1])
def test_the_seed_decides_the_first_weights(model: tuple[str, str]) -> None:
    assert same(network(model), network(model))
    torch.manual_seed(1)
    other = ModelChoice(*model, **origin(model, (1, 64, 64)))
    assert not same(network(model), build_network(other, (1, 64, 64), 3))


# ---- names


def test_the_default_names() -> None:
    assert resolve_name("deeplense", None) == "residual_cnn"
    assert resolve_name("baseline", None) == "baseline_cnn"
    assert resolve_name("timm", "resnet18") == "resnet18"


@pytest.mark.parametrize(
    ("source", "name", "nearest"),
    [
        ("timm", "resnet_18", "resnet18"),
        ("timm", "convit_smal", "convit_small"),
        ("deeplense", "residual", "residual_cnn"),
        ("baseline", "baseline-cmn", "baseline_cnn"),
    ],
)
def test_an_unknown_name_lists_the_nearest(source: Any, name: str, nearest: str) -> None:
    with pytest.raises(UnknownName, match=name) as caught:
        resolve_name(source, name)
    assert nearest in caught.value.expected


def test_a_name_of_another_source_is_unknown_and_says_where_to_look() -> None:
    for source, name in (("deeplense", "resnet18"), ("baseline", "residual_cnn")):
        with pytest.raises(UnknownName) as caught:
            resolve_name(source, name)
        assert "--model-source timm" in caught.value.remedy
    with pytest.raises(InvalidOption, match="without a name"):
        resolve_name("timm", None)


@pytest.mark.skipif("csatv2" not in timm.list_models(), reason="an older timm, without this architecture")
@pytest.mark.filterwarnings("ignore:CSATv2")
def test_what_computes_on_colours_only_says_so() -> None:
    with pytest.raises(InvalidOption, match="csatv2 takes no images of 1 channel") as caught, torch.device("meta"):
        network(("timm", "csatv2"))
    assert "--model-name" in caught.value.remedy


def test_what_is_no_classifier_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """As timm's encoders for language models do."""
    net = network(("timm", "resnet18"))

    def refuse(*_: object, **__: object) -> None:
        raise NotImplementedError("does not support classification")

    monkeypatch.setattr(net.backbone.model, "forward_head", refuse)
    with pytest.raises(InvalidOption, match="does not support classification"):
        net(images((1, 64, 64)))


# ---- head


def test_the_complex_head_has_hidden_layers_on_the_same_backbone() -> None:
    plain, complicated = network(), network(complex=True)
    assert same(plain.backbone, complicated.backbone)
    linear = [[m.out_features for m in net.head.modules() if isinstance(m, nn.Linear)] for net in (plain, complicated)]
    assert linear[0] == [3] and len(linear[1]) >= 3 and linear[1][-1] == 3
    assert any(isinstance(m, nn.GELU | nn.ReLU) for m in complicated.head.modules()), "without them it is one layer"


@pytest.mark.parametrize("complex_", [False, True])
def test_dropout_is_in_the_head_and_only_there(complex_: bool) -> None:
    net = network(complex=complex_, dropout=0.5)
    assert {m.p for m in net.head.modules() if isinstance(m, nn.Dropout)} == {0.5}
    assert not any(isinstance(m, nn.Dropout) for m in net.backbone.modules())
    batch = images((1, 64, 64))
    net.eval()
    pooled = net.backbone.pooled(net.backbone.forward_features(batch))
    assert torch.equal(net.head(pooled), net.head(pooled))
    net.head.train()
    assert not torch.equal(net.head(pooled), net.head(pooled)), "the dropout drops nothing"


# ---- freezing


@pytest.mark.parametrize("model", [*OURS, ("timm", "resnet18")], ids=lambda model: model[1])
def test_without_tune_only_the_head_learns_and_batch_statistics_stay(model: tuple[str, str]) -> None:
    net = network(model, tune=False)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    net.train()
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1)
    nn.functional.cross_entropy(net(images((1, 64, 64), 8)), torch.arange(8) % 3).backward()
    optimizer.step()
    changed = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if name.startswith("head.")}
    tuned = network(model).train()
    tuned(images((1, 64, 64), 8))
    statistics = [name for name in before if name.endswith("running_mean")]
    assert statistics and not torch.equal(tuned.state_dict()[statistics[0]], before[statistics[0]])


# ---- pretrained weights


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a network, which never was on one."""

    def unknown(*_: object, **__: object) -> None:
        raise OSError("Temporary failure in name resolution")

    monkeypatch.setattr("socket.getaddrinfo", unknown)
    monkeypatch.setattr("socket.create_connection", unknown)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        for variable in (name, name.upper()):
            monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """Return a file as the hub has it: timm's own names, three channels, a thousand classes."""
    torch.manual_seed(7)
    path = tmp_path / "convnext_atto.safetensors"
    save_file(timm.create_model("convnext_atto").state_dict(), path)
    return path


def test_the_hub_offline_is_a_quick_error_with_a_way_out(offline: None) -> None:
    begin = time.monotonic()
    with pytest.raises(Unreachable, match="resnet18") as caught:
        network(("timm", "resnet18"), pretrained="1")
    assert time.monotonic() - begin < 10
    assert "--pretrained 0" in caught.value.remedy and "--weights FILE" in caught.value.remedy
    assert not constants.HF_HUB_OFFLINE, "the next attempt would not try the network"


def test_a_hub_that_does_not_answer_costs_seconds_not_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A firewall: names are known, connections are not taken."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    begin = time.monotonic()
    with pytest.raises(Unreachable, match="resnet18"):
        network(("timm", "resnet18"), pretrained="1")
    assert time.monotonic() - begin < 10


def test_behind_a_proxy_the_request_itself_is_made(offline: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """There the hub's name may be unknown although the hub can be reached."""
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    asked: list[bool] = []

    def ask(*_: object, **__: object) -> None:
        asked.append(constants.HF_HUB_OFFLINE)
        raise OSError("the proxy says no")

    monkeypatch.setattr(timm, "create_model", ask)
    with pytest.raises(Unreachable, match="the proxy says no"):
        network(("timm", "resnet18"), pretrained="1")
    assert asked == [False], "the network was not tried"


def test_what_nobody_published_says_so(offline: None) -> None:
    with pytest.raises(InvalidOption, match="published for residual_cnn") as caught:
        network(("deeplense", "residual_cnn"), pretrained="1")
    assert "--pretrained 0" in caught.value.remedy


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_published_weights_are_loaded_whatever_the_channels(published: Path, channels: int) -> None:
    net = network(ATTO, (channels, 64, 64), pretrained=str(published))
    state, loaded = load_file(published), net.backbone.state_dict()
    stem = "stem.0.weight"
    for key, value in loaded.items():
        name = key.removeprefix("model.")
        if name != stem:
            assert torch.equal(value, state[name]), f"{name} is not the published one"
    assert loaded[f"model.{stem}"].shape[1] == channels
    if channels == 1:
        assert torch.allclose(loaded[f"model.{stem}"], state[stem].sum(1, keepdim=True), atol=1e-6), (
            "a grey image in three equal channels should give the same features"
        )
    elif channels == 3:
        assert torch.equal(loaded[f"model.{stem}"], state[stem])


@pytest.mark.parametrize("model", [*OURS, ATTO], ids=lambda model: model[1])
@pytest.mark.parametrize("n_out", [2, 3])
def test_weights_of_a_run_start_another_whatever_its_classes(
    model: tuple[str, str], n_out: int, tmp_path: Path
) -> None:
    trained = network(model)
    for parameter in trained.parameters():
        parameter.data.add_(0.5)
    save_file(trained.state_dict(), tmp_path / "model.safetensors")
    started = network(model, n_out=n_out, pretrained=str(tmp_path / "model.safetensors"))
    assert same(started.backbone, trained.backbone)
    assert same(started.head, trained.head) == (n_out == 3), "the head of the same classes is kept, no other"


def test_a_finished_run_is_loaded_whole(small_run: Path) -> None:
    net = network(dropout=0.1)
    load_weights(net, small_run / "model.safetensors")
    stored = load_file(small_run / "model.safetensors")
    assert all(torch.equal(value, stored[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".ckpt", ""])
def test_formats_that_can_carry_code_are_refused_unread(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    torch.save({"weight": torch.zeros(1)}, path)
    path.chmod(0)
    with pytest.raises(InvalidOption, match=re.escape(path.name)) as caught:
        network(pretrained=str(path))
    assert "safetensors" in caught.value.expected


@pytest.mark.parametrize("model", [("deeplense", "residual_cnn"), ATTO], ids=lambda model: model[1])
@pytest.mark.parametrize("content", [b"", b"\x00" * 7, b"\xff" * 200, b"PK\x03\x04" + bytes(300), "half"])
def test_a_damaged_file_is_named(model: tuple[str, str], content: bytes | str, published: Path, tmp_path: Path) -> None:
    path = tmp_path / "damaged.safetensors"
    sound = published.read_bytes()
    path.write_bytes(sound[: len(sound) // 2] if isinstance(content, str) else content)
    with pytest.raises(CorruptFile, match=r"damaged\.safetensors"):
        network(model, pretrained=str(path))


@pytest.mark.parametrize("model", [("deeplense", "residual_cnn"), ("timm", "resnet18"), ("baseline", "baseline_cnn")])
def test_weights_of_another_architecture_are_named(model: tuple[str, str], published: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_file(network(ATTO).state_dict(), other)
    for path in (published, other):
        with pytest.raises(CorruptFile, match=path.name):
            network(model, pretrained=str(path))
    with pytest.raises(CorruptFile, match="other"):
        load_weights(network(model), other)


def test_a_file_that_is_not_there_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingFile, match="nowhere"):
        network(pretrained=str(tmp_path / "nowhere.safetensors"))

"""Any timm architecture as a backbone, for any number of channels and any image size: timm's one door."""

from __future__ import annotations

import math
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import timm
import torch
import torch.nn.functional as F
from huggingface_hub import constants
from jaxtyping import Float
from torch import Tensor, nn

from deeplense.core.errors import CorruptFile, DeepLenseError, InvalidOption, UnknownName
from deeplense.models.backbone import Backbone, ModelSource

MOST_PREFIX_TOKENS = 5  # of a class, of a distillation, registers


class Unreachable(DeepLenseError):
    """The model hub cannot be reached."""


class TimmBackbone(Backbone):
    """A timm model without its classifier.

    Parameters
    ----------
    name
        timm's name, with or without a pretrained tag.
    image_shape
        (C, H, W) of the images; they are resized where the architecture takes one size only.
    pretrained
        False: random weights. True: from the hub. A path: a safetensors file in timm's naming.
    stages
        Keep so many of timm's feature levels, from the image on; None keeps the whole network.

    Raises
    ------
    UnknownName
        When timm has no such model.
    InvalidOption
        When timm does not know how to cut it there.
    Unreachable
        When the hub cannot be reached.
    """

    source: ClassVar[ModelSource] = "timm"

    def __init__(
        self,
        name: str,
        image_shape: tuple[int, int, int],
        pretrained: bool | Path = False,
        stages: int | None = None,
    ) -> None:
        super().__init__()
        check_timm_name(name)
        self.name = name
        channels, *size = image_shape
        self.model: Any = _create(name, channels, pretrained)
        if stages is not None:
            _cut(self.model, name, stages)
        self.resize_to = _required_size(self.model, channels, (size[0], size[1]))
        if self.resize_to is not None:
            self.notes.append(
                f"{name} takes images of {self.resize_to[0]}×{self.resize_to[1]} pixels only: "
                f"{size[0]}×{size[1]} are resized (bilinear)"
            )
        self.num_features = int(self.model.num_features)
        self.num_pooled = int(getattr(self.model, "head_hidden_size", None) or self.num_features)

    def forward_features(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, " *features"]:
        """Return timm's unpooled features."""
        if self.resize_to is not None:
            images = F.interpolate(images, self.resize_to, mode="bilinear", align_corners=False)
        features: Tensor = self.model.forward_features(images)
        return features

    def feature_map(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        """Return the unpooled features as a map, channels first, whatever timm's order; tokens on the image's grid.

        Raises
        ------
        InvalidOption
            When the features are no map.
        """
        features: Any = self.forward_features(images)
        shape = tuple(getattr(features, "shape", ()))  # some give a list
        if len(shape) == 4:
            channels_last = self.num_features == shape[3] != shape[1]
            found: Tensor = features.movedim(3, 1) if channels_last else features
            return found
        grid = self._grid(shape[1], images) if len(shape) == 3 else None
        if grid is None:
            raise InvalidOption(
                f"{self.name} gives features of shape {shape}, which are no map",
                "a timm model whose features are a map",
                "choose another --extractor, e.g. resnet18",
            )
        tokens: Tensor = features[:, -grid[0] * grid[1] :]  # those before them stand for no place
        return tokens.transpose(1, 2).reshape(len(tokens), -1, *grid)

    def _grid(self, n_tokens: int, images: Float[Tensor, "B C H W"]) -> tuple[int, int] | None:
        """Return rows and columns of the tokens; None where they are not known."""
        height, width = self.resize_to or images.shape[2:]
        known = getattr(getattr(self.model, "patch_embed", None), "grid_size", None)
        side = math.isqrt(n_tokens)
        if known is None and height != width:
            return None
        rows, columns = known or (side, side)
        return (rows, columns) if 0 <= n_tokens - rows * columns <= MOST_PREFIX_TOKENS else None

    @torch.no_grad()
    def map_channels(self, image_shape: tuple[int, int, int]) -> int:
        """Return the channels of `feature_map`: timm's own number is another for some architectures."""
        training = self.training
        channels = int(self.eval().feature_map(torch.zeros(1, *image_shape)).shape[1])
        self.train(training)
        return channels

    def pooled(self, features: Float[Tensor, " *features"]) -> Float[Tensor, "B P"]:
        """Return timm's features before the classifier."""
        try:
            vector: Tensor = self.model.forward_head(features, pre_logits=True)
        except NotImplementedError as error:  # a few of timm's architectures are encoders for something else
            raise InvalidOption(
                f"the timm model gives no features to classify by ({error})",
                "an architecture that does",
                "choose another --model-name",
            ) from error
        return vector


def check_timm_name(name: str) -> None:
    """Raise UnknownName, with the nearest names, when timm has no such architecture."""
    if not timm.is_model(name):
        raise UnknownName("timm model", name, timm.list_models(), "list them: `deeplense models 'PATTERN*'`")


def list_timm(pattern: str = "") -> list[str]:
    """Return timm's architectures that match a wildcard pattern."""
    return list(timm.list_models(pattern))


def _create(name: str, channels: int, pretrained: bool | Path) -> Any:
    settings: dict[str, Any] = {"in_chans": channels, "num_classes": 0}
    if isinstance(pretrained, Path):
        return _create_from_file(name, pretrained, settings)
    try:
        with _no_long_retries(pretrained):
            return timm.create_model(name, pretrained=pretrained, **settings)
    except RuntimeError as error:
        if "No pretrained weights" in str(error):
            raise InvalidOption(
                f"nobody has published weights for {name}",
                "--pretrained 0, or a file",
                "train from scratch: --pretrained 0",
            ) from error
        raise
    except (OSError, ValueError) as error:  # huggingface_hub's errors are OSErrors
        if not pretrained:
            raise
        raise Unreachable(
            f"the pretrained weights of {name} cannot be fetched: {_first_line(error)}",
            "a connection to huggingface.co, or the weights as a local file",
            "train from scratch (--pretrained 0), or fetch the weights elsewhere and give --weights FILE.safetensors",
        ) from error


def _cut(model: Any, name: str, stages: int) -> None:
    """Drop what comes after a model's first feature levels."""
    try:
        model.prune_intermediate_layers([stages - 1], prune_norm=True, prune_head=True)
        model.num_features = model.head_hidden_size = int(model.feature_info[stages - 1]["num_chs"])
    except (AttributeError, AssertionError, KeyError, TypeError) as error:
        raise InvalidOption(
            f"{name} cannot be cut after {stages} levels of features",
            "a timm model that knows its levels of features",
            "choose another --extractor, e.g. resnet18",
        ) from error


def _create_from_file(name: str, path: Path, settings: dict[str, Any]) -> Any:
    expected = f"weights of timm's {name} as safetensors"
    with _not_loaded() as missing:
        try:
            overlay = {"file": str(path)}
            model: Any = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, **settings)
        except Exception as error:
            raise CorruptFile(path, f"its weights do not fit {name} ({error})", expected) from error
    stems = model.pretrained_cfg.get("first_conv") or ()  # some cannot be fitted to other channels: they start anew
    allowed = {f"{stem}.weight" for stem in ((stems,) if isinstance(stems, str) else stems)}
    if absent := [key for key in missing if key not in allowed]:
        raise CorruptFile(path, f"it lacks {absent[0]} and {len(absent) - 1} more tensors of {name}", expected)
    return model


@contextmanager
def _not_loaded() -> Iterator[list[str]]:
    """Collect the parameters that a file did not fill: of those timm says nothing."""
    missing: list[str] = []
    load = nn.Module.load_state_dict

    def watched(module: nn.Module, *arguments: Any, **settings: Any) -> Any:
        result = load(module, *arguments, **settings)
        missing.extend(result.missing_keys)
        return result

    nn.Module.load_state_dict = watched  # type: ignore[method-assign,assignment]
    try:
        yield missing
    finally:
        nn.Module.load_state_dict = load  # type: ignore[method-assign]


@contextmanager
def _no_long_retries(pretrained: bool) -> Iterator[None]:
    """Knock at the hub once; where it does not open, try the local cache alone, without a minute's wait."""
    offline = constants.HF_HUB_OFFLINE
    if pretrained and not _opens(constants.ENDPOINT):
        constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = offline


def _opens(endpoint: str) -> bool:
    """Whether a server takes connections; behind a proxy only the request itself can tell."""
    address = urlsplit(endpoint)
    host = address.hostname or ""
    if address.scheme in getproxies() and not proxy_bypass(host):
        return True
    try:
        socket.create_connection((host, address.port or (80 if address.scheme == "http" else 443)), 5).close()
    except OSError:
        return False
    return True


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _required_size(model: Any, channels: int, size: tuple[int, int]) -> tuple[int, int] | None:
    """Return the only size the architecture takes, or None where it takes the images as they are."""
    native = model.pretrained_cfg.get("input_size", (3, 224, 224))[1:]
    if tuple(native) == size:
        return None
    if model.pretrained_cfg.get("fixed_input_size", False):
        return int(native[0]), int(native[1])
    if _takes(model, channels, size):
        return None
    if not _takes(model, channels, (int(native[0]), int(native[1]))):
        raise InvalidOption(
            f"{model.pretrained_cfg.get('architecture', 'this model')} takes no images of {channels} channel(s)",
            "an architecture that does",
            "choose another --model-name",
        )
    return int(native[0]), int(native[1])


def _takes(model: Any, channels: int, size: tuple[int, int]) -> bool:
    training = model.training
    try:
        with torch.no_grad():
            model.eval().forward_features(torch.zeros(1, channels, *size))
    except (RuntimeError, AssertionError, ValueError):  # whatever the architecture says of a size it cannot take
        return False
    finally:
        model.train(training)
    return True

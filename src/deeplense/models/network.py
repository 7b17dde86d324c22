"""A backbone with a head, by name: the network of every task that answers one vector per image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from deeplense.core.config import Config
from deeplense.core.errors import CorruptFile, InvalidOption, MissingFile, UnknownName
from deeplense.core.run_folder import SHIPPED_SUFFIX, find_run, shipped_runs
from deeplense.models.backbone import MODELS, Backbone, ModelSource
from deeplense.models.fusion import FiLM, Fusion, FusionName, Late
from deeplense.models.heads import TwoOfOne, complex_head, linear_head

DEFAULT_NAMES: dict[ModelSource, str] = {"baseline": "baseline_cnn", "deeplense": "residual_cnn"}
FUSIONS: dict[FusionName, type[Fusion]] = {"late": Late, "film": FiLM}


class Network(nn.Module):
    """Images, and where it is built for them features of a catalogue, to logits.

    Parameters
    ----------
    backbone
        Images to features.
    head
        Pooled features to logits.
    tune
        Whether the backbone learns; a frozen one also keeps its batch statistics.
    fusion
        What joins the catalogue to the image; None where images are all.
    num_features
        Columns of the catalogue that it reads.
    """

    def __init__(
        self,
        backbone: Backbone,
        head: nn.Module,
        tune: bool = True,
        fusion: Fusion | None = None,
        num_features: int = 0,
    ) -> None:
        super().__init__()
        self.backbone, self.head, self.tune = backbone, head, tune
        self.fusion, self.num_features = fusion, num_features
        backbone.requires_grad_(tune)

    def train(self, mode: bool = True) -> Self:
        """Switch to training mode, but for a frozen backbone."""
        super().train(mode)
        self.backbone.train(mode and self.tune)
        return self

    def expect(self, n_images: int) -> None:
        """Learn how many images will come: what is worth compiling depends on it."""
        self.backbone.expect(n_images)

    def misfit(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, " B"] | None:
        """Return how badly a physical backbone's model of each image fits; None of others."""
        return self.backbone.misfit(images)

    def forward(
        self, images: Float[Tensor, "B C H W"], features: Float[Tensor, "B F"] | None = None
    ) -> Float[Tensor, "B K"]:
        """Return the logits; features that are not given are missing, each of them."""
        pooled = self.backbone.pooled(self.backbone.forward_features(images))
        if self.fusion is not None:
            if features is None:
                features = images.new_full((len(images), self.num_features), torch.nan)
            pooled = self.fusion(pooled, features)
        logits: Tensor = self.head(pooled)
        return logits


def resolve_name(source: ModelSource, name: str | None) -> str:
    """Return the model's name: as given, or the source's own default.

    Raises
    ------
    UnknownName
        When the source has no model of that name.
    InvalidOption
        When timm is asked for without a name.
    """
    if source == "timm":
        from deeplense.models.timm_backbone import check_timm_name

        if name is None:
            raise InvalidOption("--model-source timm without a name", "a timm model", "add --model-name, e.g. resnet18")
        check_timm_name(name)
        return name
    name = name or DEFAULT_NAMES[source]
    own = [key for key in MODELS if getattr(MODELS[key], "source", source) == source]
    if name not in own:
        hint = "list them with `deeplense models`; timm models need --model-source timm"
        raise UnknownName(f"{source} model", name, own, hint)
    return name


def resolve_extractor(source: ModelSource, name: str, extractor: str | None) -> str | None:
    """Return the timm model that a model of ours is built on: as given, or its own; None for other models.

    Raises
    ------
    InvalidOption
        When one is given, but the model has no use for it.
    """
    own: str | None = None if source == "timm" else getattr(MODELS[name], "extractor", None)
    if extractor is not None and own is None:
        raise InvalidOption(
            f"--extractor with {name}", "a model that is built on another, such as mobilevit_se", "leave it out"
        )
    return extractor or own


@dataclass(frozen=True)
class ModelChoice(Config):
    """Which network, and how it starts.

    Parameters
    ----------
    model_source, model_name
        Which backbone.
    complex
        Whether the head has hidden layers.
    dropout
        Of the head.
    tune
        Whether the backbone learns.
    pretrained
        "0", "1" (the hub), a safetensors file (of timm's naming, or of one of our runs), or NAME@deeplense.
    recipe
        What the images are of, as `Recipe.as_dict` gives it: physical models are built on it.
    extractor
        timm model that a model such as mobilevit_se is built on; None for its own.
    single_logit
        Whether two classes share one logit.
    fusion
        How the catalogue is joined to the image.
    features
        Columns of the catalogue that are read.
    """

    model_source: ModelSource
    model_name: str
    complex: bool = False
    dropout: float = 0.0
    tune: bool = True
    pretrained: str = "0"
    recipe: dict[str, object] | None = None
    extractor: str | None = None
    single_logit: bool = False
    fusion: FusionName = "none"
    features: tuple[str, ...] = ()


def build_network(choice: ModelChoice, image_shape: tuple[int, int, int], n_out: int) -> Network:
    """Return a network ready to train.

    Parameters
    ----------
    choice
        Which network.
    image_shape
        (C, H, W) of the images.
    n_out
        Number of classes.

    Raises
    ------
    UnknownName
        When there is no such model.
    InvalidOption
        When the options do not go together.
    MissingFile, CorruptFile
        When the weights file is not there, or not of this architecture.
    """
    pretrained = choice.pretrained
    weights = None if pretrained in ("0", "1") else weights_file(pretrained)
    own_run = weights is not None and any(key.startswith("backbone.") for key in _read_weights(weights))
    extractor = resolve_extractor(choice.model_source, choice.model_name, choice.extractor)
    on_timm = choice.model_source == "timm" or extractor is not None
    if pretrained == "1" and not on_timm:
        raise InvalidOption(
            f"no pretrained weights are published for {choice.model_name}",
            "--pretrained 0, or a file",
            "use --pretrained 0",
        )
    start: bool | Path = pretrained == "1" if weights is None or own_run else weights
    backbone = _backbone(choice, image_shape, extractor, start)
    fusion = _fusion(choice, backbone)
    head = _head(choice, backbone.num_pooled, n_out) if fusion is None else _head_after(fusion, choice, n_out)
    network = Network(backbone, head, choice.tune, fusion, len(choice.features))
    if weights is not None and (own_run or not on_timm):
        _start_from(network, weights)
    return network


def _backbone(
    choice: ModelChoice, image_shape: tuple[int, int, int], extractor: str | None, start: bool | Path
) -> Backbone:
    name = choice.model_name
    if choice.model_source == "timm":
        from deeplense.models.timm_backbone import TimmBackbone

        return TimmBackbone(name, image_shape, start)
    if extractor is not None:
        return MODELS[name](image_shape, extractor, start)
    return MODELS[name](image_shape, choice.recipe) if is_physical(name) else MODELS[name](image_shape)


def _fusion(choice: ModelChoice, backbone: Backbone) -> Fusion | None:
    kind = backbone.fusion or FUSIONS.get(choice.fusion)
    if kind is None:
        return None
    if not choice.features:
        raise InvalidOption(
            f"{choice.model_name} without a catalogue",
            "a dataset whose catalogue has measurements, and a task that reads them",
            "add --task find_lenses --fusion late",
        )
    return kind(backbone.num_pooled, len(choice.features))


def _head(choice: ModelChoice, num_pooled: int, n_out: int) -> nn.Module:
    head = complex_head if choice.complex else linear_head
    if not choice.single_logit:
        return head(num_pooled, n_out, choice.dropout)
    _check_two("--single-logit", n_out)
    return nn.Sequential(head(num_pooled, 1, choice.dropout), TwoOfOne())


def _check_two(what: str, n_out: int) -> None:
    if n_out != 2:
        raise InvalidOption(
            f"{what} with {n_out} classes", "two classes, which one logit can tell apart", "leave it out"
        )


def _head_after(fusion: Fusion, choice: ModelChoice, n_out: int) -> nn.Module:
    """Return the head behind a fusion; where that gives a logit itself, a scale and an offset of it."""
    if not fusion.gives_logit:
        return _head(choice, fusion.num_out, n_out)
    _check_two(choice.model_name, n_out)
    rescale = nn.Linear(1, 1)
    nn.init.ones_(rescale.weight)
    nn.init.zeros_(rescale.bias)
    return nn.Sequential(rescale, TwoOfOne())


def is_physical(name: str) -> bool:
    """Whether a model of ours is built on the recipe of the images."""
    return name in MODELS and bool(getattr(MODELS[name], "physical", False))


def reads_catalogue(source: ModelSource, name: str) -> bool:
    """Whether a model of ours reads the catalogue whatever is asked for: it has nothing else."""
    return source != "timm" and getattr(MODELS[name], "fusion", None) is not None


def load_weights(network: nn.Module, path: Path) -> None:
    """Fill a network with the weights of a run.

    Raises
    ------
    CorruptFile
        When the file is not safetensors, or of another architecture.
    """
    state = _read_weights(path)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise CorruptFile(
            path,
            "its tensors are not those of this network",
            f"{len(network.state_dict())} tensors of this architecture",
        ) from error


def _start_from(network: Network, path: Path) -> None:
    """Fill the backbone, and the head where its shape agrees (another set of classes has another one)."""
    state = _read_weights(path)
    own = network.state_dict()
    backbone = {key for key in own if key.startswith("backbone.")}
    if missing := [key for key in backbone if key not in state or state[key].shape != own[key].shape]:
        raise CorruptFile(path, f"{missing[0]} is missing or has another shape", "weights of the same architecture")
    head = {key for key in own if key not in backbone}
    usable = backbone | (head if all(key in state and state[key].shape == own[key].shape for key in head) else set())
    network.load_state_dict({key: state[key] for key in usable}, strict=False)


def weights_file(name: str) -> Path:
    """Return the file that --pretrained names: FILE.safetensors, or that of NAME@deeplense.

    Raises
    ------
    UnknownName, InvalidOption, MissingFile
        When it names none.
    """
    if name.endswith(SHIPPED_SUFFIX):
        return find_run(name).weights
    path = Path(name).expanduser()
    if path.suffix != ".safetensors":
        raise InvalidOption(
            f"--pretrained {name}",
            f"0, 1, a .safetensors file, or one of: {', '.join(shipped_runs())}",
            "convert other formats to safetensors first: they can carry code",
        )
    if not path.is_file():
        raise MissingFile(f"there is no file {path}", "weights as safetensors", "check the path")
    return path


def _read_weights(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CorruptFile(path, f"not a safetensors file ({error})", "weights as safetensors") from error

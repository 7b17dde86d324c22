"""What a training can be told, and which of it means something to which task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from deeplense.core.config import Bounds, Config, Count, Fraction, NonNegative, Positive
from deeplense.core.errors import InvalidOption

DETECTING = {"detector": "physical", "normal": "no_sub"}  # options of the task detect_anomalies, and their defaults
RESOLVING = {  # of super_resolve
    "estimator": "truth",
    "loss": "mse",
    "adversary": None,
    "perceptual": None,
    "patch": None,
}
FINDING = {"loss": "bce", "fusion": "none", "features": (), "allow_truth_features": False, "balance": "none"}
OF_ALL = {
    *("dataset", "limit", "task", "epochs", "batch_size", "lr", "symmetry"),
    *("device", "workers", "seed", "out", "resume"),
}
LEARNING = {  # how a network learns step by step
    *("optimizer", "weight_decay", "decay_lr", "schedule", "patience", "average_symmetry", "average_weights"),
    *("log_interval", "precision", "tracker", "pretrained", "model_name"),
}
LOSSES = {"super_resolve": ("mse", "mae", "ssim", "mixed"), "find_lenses": ("bce", "focal")}


@dataclass(frozen=True)
class TrainOptions(Config):
    """What `deeplense train` can be told.

    Parameters
    ----------
    dataset
        A recipe (Model_I, model_ii, …; simulated and cached on first use), or a path in any known layout.
    limit
        Learn from at most so many training images of each class; by default from all.
    task
        What is asked: which class; how strange an image is to a detector that has seen one class alone; whether there
        is a lens, by image, catalogue or both; or the image of more pixels behind a coarse one.
    detector
        How anomalies are detected; by default physical. `deeplense models` lists them.
    normal
        The class that a detector takes for normal; by default no_sub.
    estimator
        What super-resolution predicts: the noise-free fine image (truth, the default), or the observed one (fidelity).
    loss
        What super-resolution learns by: mse (the default), mae, ssim, or mixed of the last two. What lens finding
        learns by: bce (the default), or focal, where easy images count little.
    adversary
        Weight of an opponent that tells made images from real ones, in units of the noise; it takes a network that has
        learnt by error (--pretrained). 0.1 for srgan, else none.
    perceptual
        A classifier's run: super-resolved images are also to look to it as the real ones do.
    patch
        Super-resolution learns from random squares of so many coarse pixels a side; by default from whole images.
    fusion
        How lens finding joins the catalogue to the image: none (the default), late (beside its features) or film (the
        catalogue scales and shifts them). The models catalogue_mlp and catalogue_trees read the catalogue alone.
    features
        Columns of the catalogue that are read; by default all that were measured on the objects.
    allow_truth_features
        Let columns in that only a simulation or a model can know; every answer then says so.
    balance
        For uneven classes: weights in the loss, or sampling (as many images of each in an epoch); catalogue: each image
        counts in the loss as its catalogue's column of weights says. By default none.
    fresh
        Draw new training images from the recipe in every epoch; no files are written.
    model_source
        Where the architecture comes from.
    model_name
        Which one; by default residual_cnn (deeplense), baseline_cnn (baseline) or, to super-resolve, residual_unet.
        `deeplense models` lists them.
    extractor
        timm model whose features mobilevit_se and mobilevit_se_xxs read; by default a MobileViT.
    complex
        Use a head with hidden layers instead of one linear layer.
    single_logit
        Give two classes one logit and binary cross-entropy, instead of one logit each.
    lens_recipe
        Recipe whose smooth lens a physical model fits; by default the dataset's own.
    pretrained
        0: random weights. 1: from the model hub. FILE.safetensors: of timm's, or of a run. NAME@deeplense: ours.
    tune
        1: all layers learn. 0: only the head does.
    epochs
        Passes over the training images.
    batch_size
        Images per step, over all processes.
    optimizer
        Optimiser.
    lr
        Peak learning rate.
    weight_decay
        Weight decay of everything but norms and biases.
    dropout
        Dropout in the head.
    decay_lr
        0 keeps the learning rate constant, whatever the schedule.
    schedule
        How the learning rate changes.
    patience
        Stop after so many epochs without improvement; by default never.
    normalise
        What is done to pixel values; its numbers are fitted on training images and kept with the run.
    crop
        Keep so many central pixels along each side; by default all.
    bands
        Learn from these bands alone, in this order: their names (`deeplense data info` lists them), or numbers from 1.
    symmetry
        Random flips and turns: half_turn (180°), d4 (all eight), none, or auto: what the recipe says is exact,
        half_turn where there is no recipe.
    average_symmetry
        Answer with the mean over all copies of an image that the symmetry allows (2 or 8 times the work).
    average_weights
        Judge and keep a running mean of the weights over about the last thousand steps.
    random_rotation
        Rotate by up to so many degrees.
    random_zoom
        Zoom by up to this factor, in or out; 1 for none.
    random_blur
        Blur by a Gaussian of up to this σ, in pixels.
    random_noise
        Add Gaussian noise of up to this standard deviation, in normalised pixel values.
    folds
        Cross-validate: divide all labelled images, whatever their split, into so many parts; one of them judges.
    fold
        Which part judges, from 0; a tenth of the others chooses the epoch.
    log_interval
        Steps between lines of progress; 0 for one line per epoch.
    device
        Where to train; best takes CUDA, then MPS, then the CPU.
    precision
        Arithmetic of the network.
    workers
        Processes that read images.
    seed
        Seed of weights, order, augmentation and dropout.
    tracker
        Mirror the run to a tracker.
    out
        Run folder; by default runs/<new id>.
    resume
        Id or folder of an interrupted run to finish; its own options hold.
    """

    dataset: str | None = None
    _: KW_ONLY
    limit: Annotated[int | None, Bounds(low=1)] = None
    task: Literal["classify", "detect_anomalies", "find_lenses", "super_resolve"] = "classify"
    detector: str | None = None
    normal: str | None = None
    estimator: Literal["fidelity", "truth"] | None = None
    loss: Literal["mse", "mae", "ssim", "mixed", "bce", "focal"] | None = None
    adversary: Annotated[float | None, Bounds(low=0)] = None
    perceptual: str | None = None
    patch: Annotated[int | None, Bounds(low=8)] = None
    fusion: Literal["none", "late", "film"] | None = None
    features: tuple[str, ...] = ()
    allow_truth_features: bool = False
    balance: Literal["none", "weights", "sampling", "catalogue"] | None = None
    fresh: bool = False
    model_source: Literal["baseline", "timm", "deeplense"] = "deeplense"
    model_name: str | None = None
    extractor: str | None = None
    complex: bool = False
    single_logit: bool = False
    lens_recipe: str | None = None
    pretrained: str = "0"
    tune: bool = True
    epochs: Count = 20
    batch_size: Count = 64
    optimizer: Literal["sgd", "adam", "adamw"] = "adamw"
    lr: Positive = 1e-3
    weight_decay: NonNegative = 0.01
    dropout: Fraction = 0.1
    decay_lr: bool = True
    schedule: Literal["constant", "cosine", "cosine_restarts", "cyclic", "one_cycle"] = "one_cycle"
    patience: Annotated[int | None, Bounds(low=1)] = None
    normalise: Literal["none", "max", "min_max", "standard", "sqrt", "log", "asinh"] = "asinh"
    crop: Annotated[int | None, Bounds(low=8)] = None
    bands: tuple[str, ...] = ()
    symmetry: Literal["auto", "none", "half_turn", "d4"] = "auto"
    average_symmetry: bool = False
    average_weights: bool = False
    random_rotation: Annotated[float, Bounds(0, 180)] = 0.0
    random_zoom: Annotated[float, Bounds(1, 4)] = 1.0
    random_blur: Annotated[float, Bounds(0, 16)] = 0.0
    random_noise: NonNegative = 0.0
    folds: Annotated[int | None, Bounds(low=2)] = None
    fold: Annotated[int, Bounds(low=0)] = 0
    log_interval: Annotated[int, Bounds(low=0)] = 0
    device: Literal["best", "cuda", "mps", "cpu"] = "best"
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    workers: Annotated[int, Bounds(0, 256)] = 0
    seed: Annotated[int, Bounds(low=0)] = 0
    tracker: Literal["none", "wandb", "mlflow", "tensorboard"] = "none"
    out: Path | None = None
    resume: str | None = None


def check_task(options: TrainOptions) -> None:
    """Refuse options that mean nothing to the task.

    Raises
    ------
    InvalidOption
        Naming the first of them.
    """
    default = TrainOptions().as_dict()
    given = {name for name, value in options.as_dict().items() if value != default[name]}
    if odd := given - _meaningful(options.task, set(default)):
        name = sorted(odd)[0]
        raise InvalidOption(
            f"--{name.replace('_', '-')} with the task {options.task}",
            "options that this task has a use for",
            "leave it out",
        )
    if options.loss is not None and options.loss not in LOSSES[options.task]:
        raise InvalidOption(
            f"--loss {options.loss} with the task {options.task}",
            f"one of {', '.join(LOSSES[options.task])}",
            "change it",
        )


def _meaningful(task: str, every: set[str]) -> set[str]:
    """Return the options that mean something to a task."""
    general = every - set(DETECTING) - set(RESOLVING) - set(FINDING)
    return {
        "classify": general,
        "find_lenses": general - {"single_logit"} | set(FINDING),
        "detect_anomalies": OF_ALL | set(DETECTING) | {"lens_recipe", "normalise", "crop", "folds", "fold"},
        "super_resolve": OF_ALL | set(RESOLVING) | LEARNING,
    }[task]


def settings_of(options: TrainOptions, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return all options, those of a task at their defaults where they were not given."""
    return options.as_dict() | {name: getattr(options, name) or value for name, value in defaults.items()}


def dataset_named(options: TrainOptions) -> str:
    """Return the dataset that the options name."""
    if options.dataset is None:
        raise InvalidOption("no dataset is named", "--dataset", "add one: a recipe such as model_ii, or a path")
    return options.dataset

"""`deeplense train`: dataset × task × model → run folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from deeplense.core.config import Bounds, Config, Count, Fraction, NonNegative, Positive
from deeplense.core.console import note
from deeplense.core.errors import InvalidDataset, InvalidOption
from deeplense.core.files import remove_leftovers
from deeplense.core.run_folder import RUNS, RunFolder, find_run, new_run_id

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import nn

    from deeplense.data.dataset import Dataset
    from deeplense.data.loader import Loader
    from deeplense.data.transforms import Normalisation, Symmetry
    from deeplense.tasks.task import LearntTask
    from deeplense.training.loop import Trainer

DETECTING = {"detector": "physical", "normal": "no_sub"}  # options of the task detect_anomalies, and their defaults
RESOLVING = {"estimator": "truth", "loss": "mse", "adversary": None, "perceptual": None}  # of super_resolve
FINDING = {"loss": "bce", "fusion": "none", "features": (), "allow_truth_features": False, "balance": "none"}
OF_ALL = {"dataset", "task", "epochs", "batch_size", "lr", "symmetry", "device", "workers", "seed", "out", "resume"}
LEARNING = {  # how a network learns step by step
    *("optimizer", "weight_decay", "decay_lr", "schedule", "patience", "average_symmetry", "average_weights"),
    *("log_interval", "precision", "tracker", "pretrained", "model_name"),
}
LOSSES = {"super_resolve": ("mse", "mae", "ssim", "mixed"), "find_lenses": ("bce", "focal")}
SAMPLE = 512  # training images by which pixel values are normalised and strange images known


@dataclass(frozen=True)
class TrainOptions(Config):
    """What `deeplense train` can be told.

    Parameters
    ----------
    dataset
        A recipe (Model_I, model_ii, …; simulated and cached on first use), or a path in any known layout.
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
    fusion
        How lens finding joins the catalogue to the image: none (the default), late (beside its features) or film (the
        catalogue scales and shifts them). The models catalogue_mlp and catalogue_trees read the catalogue alone.
    features
        Columns of the catalogue that are read; by default all that were measured on the objects.
    allow_truth_features
        Let columns in that only a simulation or a model can know; every answer then says so.
    balance
        For uneven classes: weights in the loss, or sampling (as many images of each in an epoch); by default none.
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
    task: Literal["classify", "detect_anomalies", "find_lenses", "super_resolve"] = "classify"
    detector: str | None = None
    normal: str | None = None
    estimator: Literal["fidelity", "truth"] | None = None
    loss: Literal["mse", "mae", "ssim", "mixed", "bce", "focal"] | None = None
    adversary: Annotated[float | None, Bounds(low=0)] = None
    perceptual: str | None = None
    fusion: Literal["none", "late", "film"] | None = None
    features: tuple[str, ...] = ()
    allow_truth_features: bool = False
    balance: Literal["none", "weights", "sampling"] | None = None
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


def train(options: TrainOptions | None = None, /, **fields: Any) -> Path:
    """Return the run folder of a trained model; the best epoch on validation is kept.

    Parameters
    ----------
    options
        What to train; or give the fields of `TrainOptions` as keywords.

    Raises
    ------
    UnknownName
        When there is no such dataset, model or option.
    InvalidDataset
        When the dataset cannot serve: too few classes, an empty class or split.
    """
    options = TrainOptions.given(options, fields)
    _check_task(options)
    options, run, config = _begin_or_resume(options)
    if run is not None and run.is_finished():
        note(f"run {run.id} is finished: {run.path}")
        return run.path
    from deeplense.training.devices import make_accelerator
    from deeplense.training.trackers import require_tracker, start_tracker

    require_tracker(options.tracker)
    accelerator = make_accelerator(options.device, options.precision)
    run = run or _new_run()
    if accelerator.is_main_process:
        remove_leftovers(run.path)
    if options.task == "detect_anomalies":
        _detect(options, run, config, accelerator)
        return run.path
    prepare = _resolve if options.task == "super_resolve" else _prepare
    trainer, config = prepare(options, run, config, accelerator)
    if accelerator.is_main_process:
        note(f"run {run.id}; if it is interrupted: deeplense train --resume {run.path}")
    with start_tracker(options.tracker, run, config) as tracker:
        trainer.on_epoch = lambda record, answers: tracker.log_epoch(
            record, answers, trainer.validation.targets.numpy(), config["labels"]
        )
        state = trainer.fit()
    if accelerator.is_main_process:
        note(f"best epoch {state.best_epoch}: validation {trainer.task.primary_metric} {state.best:.4f}")
        note(f"run {run.id} is in {run.path}; judge it with: deeplense evaluate {run.path}")
    return run.path


def _check_task(options: TrainOptions) -> None:
    """Refuse options that mean nothing to the task."""
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


def _begin_or_resume(options: TrainOptions) -> tuple[TrainOptions, RunFolder | None, dict[str, Any]]:
    """Return options, folder (None: still to be named) and record of the run that is to be begun or gone on with.

    Raises
    ------
    InvalidOption
        When --out or --resume names a run that was begun with other options.
    """
    if options.resume is not None:
        run = find_run(options.resume)
        config = run.config()
        before = _asked(run, config)
        default, known = TrainOptions(resume=options.resume).as_dict(), before.as_dict()
        changed = [name for name, value in options.as_dict().items() if value not in (default[name], known[name])]
        if changed:
            raise InvalidOption(
                f"--resume with another {', '.join(changed)}",
                "the options that the run was begun with: they hold",
                "leave them out, or begin a new run",
            )
        return before, run, config
    if options.out is None:
        return options, None, {}
    run = RunFolder(options.out)
    if not run.exists():
        return options, run, {}
    config = run.config()
    known = _asked(run, config).as_dict()
    if different := [name for name, value in options.as_dict().items() if known[name] != value]:
        raise InvalidOption(
            f"{run.path} holds a run with another {', '.join(different)}",
            "the options it was begun with, or a new folder",
            "choose another --out, or remove the folder",
        )
    return options, run, config


def _asked(run: RunFolder, config: dict[str, Any]) -> TrainOptions:
    """Return the options that a run was begun with."""
    try:
        return TrainOptions.from_mapping(config["asked"])
    except (KeyError, TypeError, InvalidOption) as error:
        raise run.odd_config(error) from error


def _new_run() -> RunFolder:
    """Return a run folder with a new id, the same one in every process."""
    from accelerate.utils import broadcast_object_list

    return RunFolder(RUNS / str(broadcast_object_list([new_run_id()])[0]))


def _prepare(
    options: TrainOptions, run: RunFolder, config: dict[str, Any], accelerator: Accelerator
) -> tuple[Trainer, dict[str, Any]]:
    """Return the trainer and the run's record; for a resumed run the record is the one that was stored."""
    import torch

    from deeplense.data.transforms import fit_normalisation
    from deeplense.models.network import is_physical
    from deeplense.tasks.task import TASKS
    from deeplense.training.familiar import ranges, statistics

    settings = _resolve_model(options)
    with accelerator.main_process_first():
        train, validation = _images(options)
    dataset = train.dataset
    physical = settings["model_source"] != "timm" and is_physical(settings["model_name"])
    settings["recipe"] = _recipe(settings["model_name"], physical, options, dataset)
    if options.task == "find_lenses":
        settings |= _finding(options, train)
    task: Any = TASKS[options.task].of(dataset.labels, settings)
    torch.manual_seed(options.seed)
    network: Any = task.network(train.image_shape, settings)
    backbone: Any = network.backbone
    if network.fusion is not None:
        network.fusion.fit(train.features, train.targets, options.seed)
    if accelerator.is_main_process:
        for sentence in (*dataset.problems, *backbone.notes):
            note(str(sentence))
    backbone.expect(options.epochs * len(train))
    if not config:
        kind = "none" if backbone.raw else options.normalise
        sample = train.sample(SAMPLE)
        normalisation = fit_normalisation(kind, sample)
        familiar = ranges(statistics(sample, network.eval()))  # without graphs: nothing is learnt here
        config = _record(run, options, settings, (train, validation), normalisation, familiar)
        config["model"]["parameters"] = sum(p.numel() for p in network.parameters())
        if accelerator.is_main_process:
            _begin(run, config)
    return _trainer(options, run, config, accelerator, task, network, (train, validation)), config


def _resolve(
    options: TrainOptions, run: RunFolder, config: dict[str, Any], accelerator: Accelerator
) -> tuple[Trainer, dict[str, Any]]:
    """Return the trainer of a super-resolution network and the run's record."""
    import torch

    from deeplense.data.dataset import open_dataset
    from deeplense.data.loader import PairLoader
    from deeplense.data.transforms import Normalisation
    from deeplense.models.network import weights_of
    from deeplense.simulate import ensure
    from deeplense.tasks.super_resolve import SuperResolve
    from deeplense.training.familiar import ranges, statistics
    from deeplense.training.resolving import contest_of, pair_settings, prepare_resolver, take_features
    from deeplense.upscalers.upscaler import UPSCALERS

    with accelerator.main_process_first():
        dataset = open_dataset(ensure(_named(options)))
        train, validation = (
            PairLoader(dataset, dataset.indices(split), workers=options.workers) for split in ("train", "validation")
        )
    settings = _settings(options, RESOLVING) | {
        "model_source": "deeplense",
        "model_name": options.model_name or "residual_unet",
    }
    if options.adversary is None:
        settings["adversary"] = getattr(UPSCALERS[settings["model_name"]], "adversary", 0.0)
    if settings["adversary"] and options.pretrained == "0":
        raise InvalidOption(
            "an opponent for a network that has learnt nothing",
            "weights of a run that has learnt by error",
            "train with --adversary 0 first, then add --pretrained RUN/model.safetensors",
        )
    settings |= pair_settings(train)
    task = SuperResolve.of(dataset.labels, settings)
    task.wanted(train.sample_batch(1))  # now, not after the record is written
    if options.perceptual is not None:
        take_features(task, options.perceptual, dataset.image_shape, accelerator.device)
    torch.manual_seed(options.seed)
    network = task.network(train.image_shape, settings)
    if options.pretrained == "0":
        prepare_resolver(network, task, train)
    else:
        network.load_state_dict(weights_of(options.pretrained))
    if accelerator.is_main_process:
        for sentence in dataset.problems:
            note(str(sentence))
    if not config:
        familiar = ranges(statistics(train.sample(SAMPLE), network))
        config = _record(run, options, settings, (train, validation), Normalisation("none"), familiar)
        config["model"]["parameters"] = sum(p.numel() for p in network.parameters())
        observation = (getattr(dataset, "manifest", {}).get("recipe") or {}).get("observation") or {}
        config["dataset"]["rescale"] = observation.get("rescale", "none")
        if accelerator.is_main_process:
            _begin(run, config)
    trainer = _trainer(options, run, config, accelerator, task, network, (train, validation))
    if settings["adversary"]:
        trainer.contest = contest_of(task, train.image_shape[0], settings["adversary"], options.lr, options.seed)
    return trainer, config


def _trainer(
    options: TrainOptions,
    run: RunFolder,
    config: dict[str, Any],
    accelerator: Accelerator,
    task: LearntTask,
    network: nn.Module,
    images: tuple[Loader, Loader],
) -> Trainer:
    """Return the trainer of a network on images for training and validation, as options and record say."""
    from deeplense.data.transforms import Augmentation, Normalisation
    from deeplense.training.loop import Plan, Trainer

    try:
        normalisation = Normalisation.from_mapping(config["normalisation"])
        augmentation = Augmentation(
            config["options"]["symmetry"],
            options.random_rotation,
            options.random_zoom,
            options.random_blur,
            options.random_noise,
        )
    except (KeyError, TypeError, InvalidOption) as error:
        raise run.odd_config(error) from error
    plan = Plan(**{field.name: getattr(options, field.name) for field in dataclasses.fields(Plan)})
    if not options.decay_lr:
        plan = dataclasses.replace(plan, schedule="constant")
    return Trainer(task, network, *images, normalisation, augmentation, plan, run, accelerator)


def _detect(options: TrainOptions, run: RunFolder, config: dict[str, Any], accelerator: Accelerator) -> None:
    """Fit a detector of anomalies to the normal images of a dataset, and calibrate it on those for validation."""
    from deeplense.data.dataset import open_dataset
    from deeplense.data.transforms import fit_normalisation
    from deeplense.detectors.calibrated import is_physical
    from deeplense.detectors.detector import Effort, Normals
    from deeplense.simulate import ensure
    from deeplense.tasks.detect_anomalies import DetectAnomalies
    from deeplense.training.detection import fit_detector
    from deeplense.training.familiar import ranges, statistics

    if accelerator.num_processes > 1:
        raise InvalidOption("a detector in several processes", "one process", "start it without torchrun")
    settings = _settings(options, DETECTING)
    dataset = open_dataset(ensure(_named(options)))
    name = settings["detector"]
    settings["recipe"] = _recipe(f"detector {name}", is_physical(name), options, dataset)
    task = DetectAnomalies.of(dataset.labels, settings)
    train, held_out = (_normal_images(dataset, split, task.normal, options) for split in ("train", "validation"))
    network = task.network(train.image_shape, settings).to(accelerator.device)
    for sentence in dataset.problems:
        note(str(sentence))
    sample = train.sample(SAMPLE)
    normalisation = fit_normalisation("none" if network.detector.raw else options.normalise, sample)
    symmetry = _symmetry(options, dataset, train.image_shape)
    if not config:
        familiar = ranges(statistics(sample, network))
        config = _record(run, options, settings, (train, held_out), normalisation, familiar)
        _begin(run, config)
    note(f"run {run.id}; if it is interrupted: deeplense train --resume {run.path}")
    fitted_to, kept_back = (
        Normals(images, normalisation, symmetry, accelerator.device) for images in (train, held_out)
    )
    effort = Effort(options.epochs, options.batch_size, options.lr, options.seed)
    fit_detector(network, fitted_to, kept_back, effort, run)
    note(f"run {run.id} is in {run.path}; judge it with: deeplense evaluate {run.path}")


def _normal_images(dataset: Dataset, split: str, normal: str, options: TrainOptions) -> Loader:
    """Return the normal images of a split."""
    from deeplense.data.loader import Loader
    from deeplense.data.splits import Fold

    rows = dataset.indices(split, Fold.of(options.as_dict()))
    rows = rows[dataset.targets()[rows] == dataset.labels.index(normal)]
    if not rows.size:
        raise InvalidDataset(
            f"{dataset.path} has no image of class '{normal}' in its {split} split",
            "normal images to fit and to calibrate a detector",
            "add images of that class (at least 4, so that each split gets one), or choose another --normal",
        )
    return Loader(dataset, rows, crop=options.crop, workers=options.workers)


def _named(options: TrainOptions) -> str:
    """Return the dataset that the options name."""
    if options.dataset is None:
        raise InvalidOption("no dataset is named", "--dataset", "add one: a recipe such as model_ii, or a path")
    return options.dataset


def _resolve_model(options: TrainOptions) -> dict[str, Any]:
    from deeplense.models.network import resolve_extractor, resolve_name

    name = resolve_name(options.model_source, options.model_name)
    extractor = resolve_extractor(options.model_source, name, options.extractor)
    return options.as_dict() | {"model_name": name, "extractor": extractor}


def _finding(options: TrainOptions, train: Loader) -> dict[str, Any]:
    """Return what lens finding must know of its training images: columns to read, weights and share of the classes."""
    counts = train.targets.bincount(minlength=len(train.dataset.labels)).double()
    alike = counts.new_ones(len(counts))
    weights = counts.mean() / counts if options.balance == "weights" else alike
    shares = counts / counts.sum() if options.balance in (None, "none") else alike / len(counts)
    return {
        **_settings(options, FINDING),
        "features": list(train.feature_names),
        "class_weights": weights.tolist(),
        "shares": shares.tolist(),
    }


def _features(options: TrainOptions, dataset: Dataset) -> tuple[str, ...]:
    """Return the columns of the catalogue that the network reads; none where it sees images alone."""
    from deeplense.data.features import choose_features
    from deeplense.models.network import reads_catalogue, resolve_name

    if options.task != "find_lenses":
        return ()
    alone = reads_catalogue(options.model_source, resolve_name(options.model_source, options.model_name))
    if alone or options.fusion not in (None, "none"):
        return choose_features(dataset, options.features, options.allow_truth_features)
    if options.features or options.allow_truth_features:
        raise InvalidOption(
            "features for a network that sees images alone", "a way to join them", "add --fusion late or --fusion film"
        )
    return ()


def _recipe(name: str, physical: bool, options: TrainOptions, dataset: Dataset) -> dict[str, Any] | None:
    """Return the recipe that a physical model is built on: the one asked for, or the dataset's; None for other models.

    Raises
    ------
    InvalidOption
        When one is asked for, but the model has no use for it.
    """
    from deeplense.recipes.recipe import load_recipe

    if not physical and options.lens_recipe is not None:
        raise InvalidOption(
            f"--lens-recipe with {name}", "a physical model such as lens_inverse, or detector physical", "leave it out"
        )
    if not physical:
        return None
    if options.lens_recipe is not None:
        return load_recipe(options.lens_recipe).as_dict()
    return getattr(dataset, "manifest", {}).get("recipe")


def _images(options: TrainOptions) -> tuple[Loader, Loader]:
    """Return training and validation images: of a dataset, or drawn from a recipe."""
    from deeplense.data.dataset import open_dataset
    from deeplense.recipes.recipe import is_recipe, load_recipe
    from deeplense.simulate import ensure, worth_compiling
    from deeplense.simulation.fresh import FreshLoader, RecipeDataset

    name = _named(options)
    if not options.fresh:
        dataset = open_dataset(ensure(name))
        features = _features(options, dataset)
        return _loader(dataset, "train", options, features), _loader(dataset, "validation", options, features)
    if options.fusion not in (None, "none"):
        raise InvalidOption("--fresh with --fusion", "a dataset with a catalogue", "leave out one of them")
    if options.folds is not None:
        raise InvalidOption("--fresh with --folds", "a dataset of stored images to divide", "leave out one of them")
    if not is_recipe(name):
        raise InvalidOption(
            f"--fresh with '{name}'",
            "a recipe, from which new images can be drawn",
            "name a recipe such as model_ii or a recipe's TOML file, or leave --fresh out",
        )
    drawn = load_recipe(name)
    n_images = options.epochs * drawn.counts.train * len(drawn.labels)
    recipe = RecipeDataset(name, compiled=worth_compiling(n_images))
    features = _features(options, recipe)  # a recipe has none to read: whoever asks for them hears so
    return FreshLoader(recipe, options.seed, options.crop), _loader(recipe, "validation", options, features)


def _loader(dataset: Dataset, split: str, options: TrainOptions, features: tuple[str, ...]) -> Loader:
    """Return the labelled images of a split; every class must be in it."""
    from deeplense.data.loader import Loader
    from deeplense.data.splits import Fold

    rows = dataset.indices(split, Fold.of(options.as_dict()))
    labelled = rows[dataset.targets()[rows] >= 0]
    # images that are drawn come from this process: a fork of it could not run the formulas it has compiled
    loader = Loader(
        dataset,
        labelled,
        crop=options.crop,
        workers=0 if options.fresh else options.workers,
        features=features,
    )
    loader.balanced = options.balance == "sampling" and split == "train"
    present = set(loader.targets.tolist())
    if missing := [label for i, label in enumerate(dataset.labels) if i not in present]:
        raise InvalidDataset(
            f"{dataset.path} has no image of class '{missing[0]}' in its {split} split",
            "every class in every split",
            "add images of that class (at least 4, so that each split gets one), or remove the class",
        )
    return loader


def _symmetry(options: TrainOptions, dataset: Dataset, image_shape: tuple[int, int, int]) -> Symmetry:
    """Return the symmetry to augment with: as asked for, or what the dataset's recipe says is exact."""
    if options.symmetry == "d4" and image_shape[1] != image_shape[2]:
        raise InvalidOption(
            f"symmetry d4 on images of {image_shape[1]}×{image_shape[2]} pixels, which a quarter turn would not fit",
            "square images",
            "add --crop SIZE, or use --symmetry half_turn",
        )
    if options.symmetry != "auto":
        return options.symmetry
    recipe = getattr(dataset, "manifest", {}).get("recipe", {})
    symmetry: Symmetry = recipe.get("symmetry", "half_turn")
    return symmetry


def _settings(options: TrainOptions, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return all options, those of a task at their defaults where they were not given."""
    return options.as_dict() | {name: getattr(options, name) or value for name, value in defaults.items()}


def _record(
    run: RunFolder,
    options: TrainOptions,
    settings: dict[str, Any],
    images: tuple[Loader, Loader],
    normalisation: Normalisation,
    familiar: dict[str, list[float]],
) -> dict[str, Any]:
    """Return what the run folder says of the run, the symmetry of the images resolved."""
    from deeplense.auditing import before_training
    from deeplense.training.record import record_of

    dataset = images[0].dataset
    settings = settings | {"symmetry": _symmetry(options, dataset, images[0].image_shape)}
    found = before_training(dataset, settings["features"])
    said = [{"kind": one.kind, "severity": one.severity, "subject": one.subject, "words": one.words} for one in found]
    return record_of(run.id, options.as_dict(), settings, images, normalisation, familiar) | {"audit": said}


def _begin(run: RunFolder, config: dict[str, Any]) -> None:
    """Write the record of a run, and say what is wrong with its dataset."""
    for finding in config["audit"]:
        note(f"{finding['severity']}: {finding['words']}")
    if config["audit"]:
        note(f"more of this: deeplense data audit {config['dataset']['path']}")
    run.write_config(config)

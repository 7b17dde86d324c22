"""A suite: datasets × methods at one of several sizes, declared in TOML and checked before anything runs."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from deeplense.core.config import Bounds, Config, Count, Positive
from deeplense.core.errors import InvalidOption, UnknownName
from deeplense.core.named_tables import key_of, load_table, shipped_tables
from deeplense.train import TrainOptions

SOURCE_TREE = Path(__file__).parents[3]
GOVERNED = ("dataset", "fresh", "epochs", "precision", "device", "out", "resume")  # options that the suite itself gives
FOLDERS = ("data", "recipes")  # beside those of the datasets
Images = Annotated[int | None, Bounds(low=1)]


@dataclass(frozen=True)
class Size(Config):
    """How much of a suite is run: the budget that every method gets.

    Parameters
    ----------
    about
        What this size is for, in one sentence.
    epochs
        Passes over the training images.
    train, validation, test
        Images per class; by default as many as the recipe says.
    precision
        Arithmetic of training.
    datasets, methods
        Names that this size takes, in place of all; the page says which it leaves out.
    """

    about: str
    epochs: Count
    train: Images = None
    validation: Images = None
    test: Images = None
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    datasets: tuple[str, ...] | None = None
    methods: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Data(Config):
    """One dataset of a suite.

    Parameters
    ----------
    recipe
        Name of a recipe, or a TOML file; a relative path starts from the suite's folder.
    about
        What is asked of it, in one sentence.
    train
        Training images per class at most, whatever the size: few labels.
    epochs_factor
        Passes over these images for each of the size's epochs.
    noise
        Factor on the noise: background × f, exposure / f².
    change
        Other settings of the recipe, by dotted name: "lens.e1" = 0.2.
    methods
        Methods it is for; by default all that do not name other datasets.
    """

    recipe: str
    about: str = ""
    train: Images = None
    epochs_factor: Count = 1
    noise: Positive = 1.0
    change: dict[str, object] = field(default_factory=dict)
    methods: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Method(Config):
    """A model and the way it is trained.

    Parameters
    ----------
    name
        What to type.
    reference
        Whom to cite.
    datasets
        Where it is run; by default everywhere.
    options
        Options of `train` that are its own.
    """

    name: str
    reference: str
    datasets: tuple[str, ...] | None
    options: dict[str, object]


@dataclass(frozen=True)
class Suite(Config):
    """A declared benchmark.

    Parameters
    ----------
    name
        Name of the suite.
    description
        What is compared, in a sentence or two.
    sizes, datasets
        By name.
    methods
        Name → options of `train`, `reference`, and where wanted `datasets` and `variants`.
    variants
        Name → options of `train`: a method that lists a variant is also run with these, as METHOD-VARIANT.
    options
        Options of `train` for all methods; a method's own win.

    Raises
    ------
    InvalidOption
        When a name cannot be a folder's, or a method sets what the suite gives to all alike.
    UnknownName
        When something is named that is not declared, or is no option of `train`.
    """

    name: str
    description: str
    sizes: dict[str, Size]
    datasets: dict[str, Data]
    methods: dict[str, dict[str, object]]
    variants: dict[str, dict[str, object]] = field(default_factory=dict)
    options: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        for kind in ("sizes", "datasets", "methods"):
            if not getattr(self, kind):
                raise InvalidOption(f"a suite without {kind}", f"at least one [{kind}.NAME] table", "add one")
            for name in getattr(self, kind):
                _check_name(kind, name)
        methods = self.all_methods()
        for label, size in self.sizes.items():
            _check_known(f"dataset of size {label}", size.datasets, self.datasets)
            _check_known(f"method of size {label}", size.methods, methods)
            for method in methods.values():
                self.train_options(method, label)
        for method in methods.values():
            _check_known(f"dataset of method {method.name}", method.datasets, self.datasets)
        for name, data in self.datasets.items():
            _check_known(f"method of dataset {name}", data.methods, methods)

    def all_methods(self) -> dict[str, Method]:
        """Return every method, with its variants after it, by the name a user can type."""
        found: dict[str, Method] = {}
        for name, table in self.methods.items():
            first = _method(name, table)
            found[name] = first
            variants = _names(f"variants of method {name}", table.get("variants")) or ()
            _check_known(f"variant of method {name}", variants, self.variants)
            for variant in variants:
                label, options = f"{name}-{variant}", first.options | self.variants[variant]
                found[label] = Method(label, first.reference, first.datasets, options)
        return found

    def methods_of(self, dataset: str) -> list[Method]:
        """Return the methods that are declared for a dataset, whatever the size."""
        methods, wanted = self.all_methods(), self.datasets[dataset].methods
        return [
            method
            for name, method in methods.items()
            if name in (wanted or methods) and dataset in (method.datasets or self.datasets)
        ]

    def train_options(self, method: Method, size: str) -> TrainOptions:
        """Return what `train` is told of a method, but for the dataset and the place."""
        options = self.options | method.options
        if given := [name for name in GOVERNED if name in options]:
            raise InvalidOption(
                f"method {method.name} sets '{given[0]}'",
                f"options other than {', '.join(GOVERNED)}: these are the suite's, the same for all",
                "remove the line",
            )
        budget = {"epochs": self.sizes[size].epochs, "precision": self.sizes[size].precision}
        return TrainOptions.from_mapping(options | budget, f"method {method.name}")


def load_suite(name: str) -> tuple[Suite, Path]:
    """Return a suite by its name or from a user's TOML file, and the folder that its paths start from.

    Raises
    ------
    UnknownName
        When no suite has that name; lists the nearest.
    MissingFile, CorruptFile
        When the file cannot be read, or is not TOML.
    """
    known = known_suites()
    if not name.endswith(".toml") and key_of(name) in known:
        return Suite.from_mapping(tomllib.loads(known[key_of(name)]), f"suite {key_of(name)}"), Path()
    if not name.endswith(".toml"):
        raise UnknownName("suite", name, known, "check the spelling, or name a TOML file of your own")
    table, where, folder = load_table(name, "suite", __package__)
    return Suite.from_mapping(table, where), folder


def known_suites() -> dict[str, str]:
    """Return the TOML text of every suite: those of the package, and in a source tree those of experiments/."""
    tree = SOURCE_TREE / "experiments"
    files = sorted(tree.glob("*.toml")) if (SOURCE_TREE / "pyproject.toml").is_file() else []
    texts = {file.stem: file.read_text(encoding="utf-8") for file in files}
    return shipped_tables(__package__) | {name: text for name, text in texts.items() if "[methods." in text}


def _method(name: str, table: Mapping[str, object]) -> Method:
    if not isinstance(reference := table.get("reference"), str) or not reference:
        raise InvalidOption(f"method {name} has no reference", "whom to cite", "add a line `reference = …`")
    options = {key: value for key, value in table.items() if key not in ("reference", "datasets", "variants")}
    return Method(name, reference, _names(f"datasets of method {name}", table.get("datasets")), options)


def _names(what: str, value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise InvalidOption(f"{what}: {value!r}", "a list of names", 'write ["one", "other"]')
    return tuple(value)


def _check_name(kind: str, name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name) or (kind == "datasets" and name in FOLDERS):
        raise InvalidOption(
            f"[{kind}.{name}]",
            f"a name of letters, digits, _, - and ., none of {', '.join(FOLDERS)}: it becomes a folder",
            "rename it",
        )


def _check_known(kind: str, names: Iterable[str] | None, known: Iterable[str]) -> None:
    every = list(known)
    for name in names or ():
        if name not in every:
            raise UnknownName(kind, name, every)

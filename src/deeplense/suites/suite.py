"""A suite: datasets × methods at one of several sizes, declared in TOML and checked before anything runs."""

from __future__ import annotations

import dataclasses
import itertools
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
GOVERNED = ("dataset", "normal", "fresh", "epochs", "precision", "device", "out", "resume")  # given by the suite itself
FOLDERS = ("data", "recipes")  # beside those of the datasets
TASKS = ("classify", "detect_anomalies")
Images = Annotated[int | None, Bounds(low=1)]
Seeds = Annotated[int, Bounds(1, 10)]


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
        Arithmetic of training a classifier.
    seeds
        Runs of each method that draws random numbers, each with the next seed; marks are their mean.
    datasets, methods
        Names that this size takes, in place of all; the page says which it leaves out.
    """

    about: str
    epochs: Count
    train: Images = None
    validation: Images = None
    test: Images = None
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    seeds: Seeds = 1
    datasets: tuple[str, ...] | None = None
    methods: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Data(Config):
    """One dataset of a suite.

    Parameters
    ----------
    recipe
        Name of a recipe, or a TOML file; a relative path starts from the suite's folder.
    path
        In place of a recipe: images that are there, in any known layout; all of them are taken.
    about
        What is asked of it, in one sentence.
    normal
        The class that is normal: methods are judged by how well they find the others; by default by how well they tell
        all classes apart.
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
    options
        Options of `train` that belong to these images, for all methods; a method's own win.

    Raises
    ------
    InvalidOption
        When it has no images, or images that are there shall be changed.
    """

    recipe: str | None = None
    path: str | None = None
    about: str = ""
    normal: str | None = None
    train: Images = None
    epochs_factor: Count = 1
    noise: Positive = 1.0
    change: dict[str, object] = field(default_factory=dict)
    methods: tuple[str, ...] | None = None
    options: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.recipe is None) == (self.path is None):
            raise InvalidOption(
                f"a dataset with {'both' if self.recipe else 'neither'} of recipe and path",
                "a recipe to simulate, or the path of images that are there",
                "give one of them",
            )
        if self.path is not None and (self.train is not None or self.noise != 1 or self.change):
            raise InvalidOption(
                f"train, noise or change with the images of {self.path}",
                "a recipe, from which other images can be simulated",
                "leave them out",
            )


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
    seeds
        Runs at most, whatever the size: 1 where nothing is random.
    """

    name: str
    reference: str
    datasets: tuple[str, ...] | None
    options: dict[str, object]
    seeds: Seeds | None = None

    @property
    def task(self) -> str:
        """What it learns."""
        return str(self.options.get("task", "classify"))


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
        Name → options of `train`, `reference`, and where wanted `datasets`, `variants` and `seeds`. A detector of
        anomalies has its own reference.
    variants
        Name → options of `train`: a method that lists a variant is also run with these, as METHOD-VARIANT.
    options
        Options of `train` for all methods; a dataset's win, and a method's own win over those. In a table within them,
        named after a task or a method, are those for it alone.

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
            _check_known(f"dataset of method {method.name}", method.datasets, self.datasets)
        for table in (self.options, *(data.options for data in self.datasets.values())):
            names = [name for name, value in table.items() if isinstance(value, Mapping)]
            _check_known("task or method with options", names, [*TASKS, *methods])
        for name, data in self.datasets.items():
            _check_known(f"method of dataset {name}", data.methods, methods)
            for label, method in itertools.product(self.sizes, self.methods_of(name)):
                self.train_options(method, label, name)

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
                found[label] = dataclasses.replace(first, name=label, options=options)
        return found

    def methods_of(self, dataset: str) -> list[Method]:
        """Return the methods that are declared for a dataset, whatever the size."""
        methods, wanted = self.all_methods(), self.datasets[dataset].methods
        return [
            method
            for name, method in methods.items()
            if name in (wanted or methods) and dataset in (method.datasets or self.datasets)
        ]

    def train_options(self, method: Method, size: str, dataset: str) -> TrainOptions:
        """Return what `train` is told of a method on a dataset, but for the seed and where everything lies."""
        data = self.datasets[dataset]
        tables = [_meant_for(method, table) for table in (self.options, data.options)]
        options = tables[0] | tables[1] | method.options
        if given := [name for name in GOVERNED if name in options]:
            raise InvalidOption(
                f"method {method.name} sets '{given[0]}'",
                f"options other than {', '.join(GOVERNED)}: these are the suite's, the same for all",
                "remove the line",
            )
        budget: dict[str, object] = {"epochs": self.sizes[size].epochs * data.epochs_factor}
        if method.task == "classify":
            budget["precision"] = self.sizes[size].precision
        elif data.normal is None:
            raise InvalidOption(
                f"method {method.name} on dataset {dataset}, of which no class is normal",
                "a normal class, which a detector of anomalies learns",
                f'add `normal = "…"` to [datasets.{dataset}], or keep the method to other datasets',
            )
        else:
            budget["normal"] = data.normal
        return TrainOptions.from_mapping(options | budget, f"method {method.name}")


def _meant_for(method: Method, table: Mapping[str, object]) -> dict[str, object]:
    """Return those of a table's options that are for all methods, for this one's task or for it alone."""
    found = {name: value for name, value in table.items() if not isinstance(value, Mapping)}
    for name in (method.task, method.name):
        own = table.get(name)
        found |= own if isinstance(own, Mapping) else {}
    return found


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
    options = {key: value for key, value in table.items() if key not in ("reference", "datasets", "variants", "seeds")}
    if "detector" in options:
        options = {"task": "detect_anomalies"} | options
    reference = table.get("reference", "" if "detector" in options else None)
    if not isinstance(reference, str) or not (reference or "detector" in options):
        raise InvalidOption(f"method {name} has no reference", "whom to cite", "add a line `reference = …`")
    content = {
        "name": name,
        "reference": reference,
        "datasets": _names(f"datasets of method {name}", table.get("datasets")),
        "options": options,
        "seeds": table.get("seeds"),
    }
    return Method.from_mapping(content, f"method {name}")


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

"""A suite: datasets × methods at one of several sizes, declared in TOML and checked before anything runs."""

from __future__ import annotations

import dataclasses
import itertools
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deeplense.core.config import Config
from deeplense.core.errors import InvalidOption, UnknownName
from deeplense.core.named_tables import key_of, load_table, shipped_tables
from deeplense.suites.declared import Data, Method, Size, check_known, fewest, method_of, names_of
from deeplense.suites.kinds import KINDS, Kind, kind_of
from deeplense.suites.runs import TASKS
from deeplense.train import TrainOptions

SOURCE_TREE = Path(__file__).parents[3]
GOVERNED = (
    "dataset",
    "limit",
    "normal",
    "fresh",
    "epochs",
    "precision",
    "device",
    "out",
    "resume",
)  # given by the suite itself
FOLDERS = ("data", "recipes")  # beside those of the datasets


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
        Name → options of `train`, `reference`, and where wanted `datasets`, `variants`, `seeds` and `published`. A
        detector of anomalies and an upscaler have their own reference.
    variants
        Name → options of `train`: a method that lists a variant is also run with these, as METHOD-VARIANT. What is
        published of the method is not said of it.
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
            check_known(f"dataset of size {label}", size.datasets, self.datasets)
            check_known(f"method of size {label}", size.methods, methods)
        for method in methods.values():
            check_known(f"dataset of method {method.name}", method.datasets, self.datasets)
        for table in (self.options, *(data.options for data in self.datasets.values())):
            names = [name for name, value in table.items() if isinstance(value, Mapping)]
            check_known("task or method with options", names, [*TASKS, *methods])
        for name, data in self.datasets.items():
            check_known(f"method of dataset {name}", data.methods, methods)
            for label, method in itertools.product(self.sizes, self.methods_of(name)):
                self.train_options(method, label, name)
            self.kind_of(name)

    def all_methods(self) -> dict[str, Method]:
        """Return every method, with its variants after it, by the name a user can type."""
        found: dict[str, Method] = {}
        for name, table in self.methods.items():
            first = method_of(name, table, self.options.get("task"))
            found[name] = first
            variants = names_of(f"variants of method {name}", table.get("variants")) or ()
            check_known(f"variant of method {name}", variants, self.variants)
            for variant in variants:
                label, options = f"{name}-{variant}", first.options | self.variants[variant]
                found[label] = dataclasses.replace(first, name=label, options=options, published={})
        return found

    def methods_of(self, dataset: str) -> list[Method]:
        """Return the methods that are declared for a dataset, whatever the size."""
        methods, wanted = self.all_methods(), self.datasets[dataset].methods
        return [
            method
            for name, method in methods.items()
            if name in (wanted or methods) and dataset in (method.datasets or self.datasets)
        ]

    def kind_of(self, dataset: str) -> Kind:
        """Return the kind of table that a dataset's methods stand in.

        Raises
        ------
        InvalidOption
            When they are judged by different marks.
        """
        normal, methods = self.datasets[dataset].normal, self.methods_of(dataset)
        kinds = [kind for method in methods if (kind := kind_of(method.task, normal))]
        if len({kind.name for kind in kinds}) > 1:
            tasks = dict.fromkeys(method.task for method in methods)
            raise InvalidOption(
                f"methods of the tasks {', '.join(tasks)} on dataset {dataset}",
                "methods of a dataset that are judged by the same marks",
                f"name those that are meant: `methods = […]` in [datasets.{dataset}]",
            )
        return kinds[0] if kinds else KINDS["classes" if normal is None else "anomalies"]

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
        if TASKS[method.task].by_steps:
            budget["precision"] = self.sizes[size].precision
        else:
            budget["normal"] = data.normal
        if data.path is not None:
            budget["limit"] = fewest(data.train, self.sizes[size].train)
        _check_normal(method, dataset, data.normal)
        return TrainOptions.from_mapping(options | budget, f"method {method.name}")


def _check_normal(method: Method, dataset: str, normal: str | None) -> None:
    """Refuse a normal class where there is no use for it, and none where there has to be one."""
    if kind_of(method.task, normal) is not None:
        return
    if normal is None:
        raise InvalidOption(
            f"method {method.name} on dataset {dataset}, of which no class is normal",
            "a normal class, which a detector of anomalies learns",
            f'add `normal = "…"` to [datasets.{dataset}], or keep the method to other datasets',
        )
    raise InvalidOption(
        f"method {method.name} on dataset {dataset}, of which a class is normal",
        f"a dataset without a normal class: the task {method.task} knows no classes",
        f"remove `normal` from [datasets.{dataset}], or keep the method to other datasets",
    )


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


def _check_name(kind: str, name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name) or (kind == "datasets" and name in FOLDERS):
        raise InvalidOption(
            f"[{kind}.{name}]",
            f"a name of letters, digits, _, - and ., none of {', '.join(FOLDERS)}: it becomes a folder",
            "rename it",
        )

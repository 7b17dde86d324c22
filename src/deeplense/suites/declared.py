"""What a suite is declared with: its sizes, its datasets, its methods."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from deeplense.core.config import Bounds, Config, Count, Positive
from deeplense.core.errors import InvalidOption, UnknownName
from deeplense.suites.runs import TASKS

OF_METHOD = ("reference", "datasets", "variants", "seeds", "published")  # keys that are no options of `train`
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
        Images per class; by default as many as the recipe says. Of images that are there, `train` at most are learnt
        from, and all that validate and judge do so.
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
        In place of a recipe: images that are there, in any known layout.
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
    published
        The best that others have published on other images like these: marks by name, and their `source`. Only beside
        it are the published figures of the methods shown.

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
    published: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_published("a dataset", self.published)
        if (self.recipe is None) == (self.path is None):
            raise InvalidOption(
                f"a dataset with {'both' if self.recipe else 'neither'} of recipe and path",
                "a recipe to simulate, or the path of images that are there",
                "give one of them",
            )
        if self.path is not None and (self.noise != 1 or self.change):
            raise InvalidOption(
                f"noise or change with the images of {self.path}",
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
    published
        What others have published of it on other images: marks by name, and their `source`.

    Raises
    ------
    InvalidOption
        When a published figure is no number, or has no source.
    """

    name: str
    reference: str
    datasets: tuple[str, ...] | None
    options: dict[str, object]
    seeds: Seeds | None = None
    published: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_published(f"method {self.name}", self.published)

    @property
    def task(self) -> str:
        """What it learns."""
        return str(self.options.get("task", "classify"))


def method_of(name: str, table: Mapping[str, object], task: object) -> Method:
    """Return a method from its table; `task` is that of the whole suite, if it has one."""
    options = {key: value for key, value in table.items() if key not in OF_METHOD}
    shared = "detect_anomalies" if "detector" in options else task
    options = ({} if shared is None else {"task": shared}) | options
    asked = options.get("task", "classify")
    check_known(f"task of method {name}", [str(asked)], TASKS)
    has_own = TASKS[str(asked)].source is not None
    reference = table.get("reference", "" if has_own else None)
    if not isinstance(reference, str) or not (reference or has_own):
        raise InvalidOption(f"method {name} has no reference", "whom to cite", "add a line `reference = …`")
    content = {
        "name": name,
        "reference": reference,
        "datasets": names_of(f"datasets of method {name}", table.get("datasets")),
        "options": options,
        "seeds": table.get("seeds"),
        "published": table.get("published", {}),
    }
    return Method.from_mapping(content, f"method {name}")


def names_of(what: str, value: object) -> tuple[str, ...] | None:
    """Return a list of names from a table; None where there is none."""
    if value is None:
        return None
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise InvalidOption(f"{what}: {value!r}", "a list of names", 'write ["one", "other"]')
    return tuple(value)


def fewest(*counts: int | None) -> int | None:
    """Return the least of those that are given; None where none is."""
    return min((count for count in counts if count is not None), default=None)


def _check_published(what: str, figures: Mapping[str, object]) -> None:
    odd = [name for name, figure in figures.items() if (name == "source") != isinstance(figure, str)]
    odd += [name for name, figure in figures.items() if not isinstance(figure, str | int | float)]
    if odd or (figures and len({"source", *figures}) != len(figures)):
        raise InvalidOption(
            f"{what} with published = {dict(figures)}",
            "figures by the name of their mark, and where they are from",
            'write { psnr = 41.86, source = "…" }',
        )


def check_known(kind: str, names: Iterable[str] | None, known: Iterable[str]) -> None:
    """Refuse a name that is not known."""
    every = list(known)
    for name in names or ():
        if name not in every:
            raise UnknownName(kind, name, every)

"""Typed configurations: a frozen dataclass is the CLI flags, the Python keywords and the keys of a TOML file."""

from __future__ import annotations

import dataclasses
import math
import os
import re
import types
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin, get_type_hints

from deeplense.core.errors import InvalidOption, UnknownName


@dataclass(frozen=True)
class Bounds:
    """The range of values a number may take, inclusive, written into its annotation.

    Parameters
    ----------
    low
        Smallest allowed value.
    high
        Largest allowed value.
    """

    low: float = -math.inf
    high: float = math.inf


Positive = Annotated[float, Bounds(low=1e-300)]
NonNegative = Annotated[float, Bounds(low=0.0)]
Fraction = Annotated[float, Bounds(0.0, 1.0)]
Count = Annotated[int, Bounds(low=1)]
CountOrZero = Annotated[int, Bounds(low=0)]


@dataclass(frozen=True)
class Config:
    """Base of every configuration: checks its own fields on construction, reads itself from a mapping.

    Raises
    ------
    InvalidOption
        When a value has the wrong type, is no allowed choice or is out of bounds.
    """

    def __post_init__(self) -> None:
        # a class is hashable, but mypy asks its instances
        for name, hint in _hints(type(self)).items():  # type: ignore[arg-type]
            value = _checked(getattr(self, name), hint, name)
            object.__setattr__(self, name, value)

    @classmethod
    def given(cls, options: Self | None, keywords: Mapping[str, Any]) -> Self:
        """Return the options of a call: one configuration, or its fields as keywords.

        Raises
        ------
        UnknownName, InvalidOption
            When they are no configuration of this kind, or both are given.
        """
        if options is None:
            return cls.from_mapping(keywords)
        if not isinstance(options, cls):
            first = dataclasses.fields(cls)[0].name
            raise InvalidOption(
                f"{options!r} ({type(options).__name__}) in place of options",
                f"keywords, or one {cls.__name__}",
                f"name the option, e.g. {first}={options!r}",
            )
        if keywords:
            raise InvalidOption(
                f"options and beside them {', '.join(keywords)}",
                f"either keywords, or one {cls.__name__}",
                "use dataclasses.replace(options, …)",
            )
        return options

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], where: str = "") -> Self:
        """Return the configuration a mapping (TOML table, JSON object, keywords) describes.

        Parameters
        ----------
        mapping
            Field names to values; nested configurations are mappings too.
        where
            What the mapping is, for error messages: a file or a table.

        Raises
        ------
        UnknownName
            When a key is no field; lists the nearest fields.
        InvalidOption
            When a field without default is missing or a value is not allowed.
        """
        fields = {field.name: field for field in dataclasses.fields(cls)}
        label = f"setting of {where}" if where else "setting"
        for key in mapping:
            if key not in fields:
                raise UnknownName(label, key, fields)
        required = (n for n, f in fields.items() if f.default is f.default_factory is dataclasses.MISSING)
        if missing := [name for name in required if name not in mapping]:
            raise InvalidOption(
                f"{where or cls.__name__} lacks '{missing[0]}'", "a value for it", f"add a line `{missing[0]} = …`"
            )
        try:
            return cls(**mapping)
        except InvalidOption as error:
            if not where or error.found.startswith(where):
                raise
            raise InvalidOption(f"{where}: {error.found}", error.expected, error.remedy) from None

    def as_dict(self) -> dict[str, Any]:
        """Return the configuration as plain values that JSON and TOML can hold."""
        return {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self)}


def part_of(shard: str | None) -> tuple[int, int]:
    """Return which part of how many, from 1, a job of many does that is called "i/N"; without a name the only one.

    Raises
    ------
    InvalidOption
        When it is no such name.
    """
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", "1/1" if shard is None else shard)
    part = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= part[0] <= part[1]:
        raise InvalidOption(f"shard is '{shard}'", "i/N with i from 1 to N", "write --shard 1/8, for example")
    return part


@cache
def _hints(cls: type) -> dict[str, Any]:
    hints = get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def _plain(value: Any) -> Any:
    if isinstance(value, Config):
        return value.as_dict()
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _checked(value: Any, hint: Any, name: str) -> Any:
    """Return `value` as the annotation wants it (ints become floats, mappings configurations), or say why not."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        value = _checked(value, arguments[0], name)
        for bounds in (extra for extra in arguments[1:] if isinstance(extra, Bounds)):
            _check_bounds(value, bounds, name)
        return value
    if origin is Literal:
        if value in arguments:
            return value
        raise UnknownName(f"value of {name}", str(value), [str(choice) for choice in arguments])
    if origin in (Union, types.UnionType):
        return _checked_union(value, arguments, name)
    if origin is dict and isinstance(value, Mapping):
        return {key: _checked(item, arguments[1], f"{name}.{key}") for key, item in value.items()}
    if origin is tuple and isinstance(value, tuple | list):
        hints = arguments[:1] * len(value) if arguments[-1] is ... else arguments
        if len(hints) == len(value):
            return tuple(_checked(item, part, name) for item, part in zip(value, hints, strict=True))
    return _checked_plain(value, origin or hint, name)


def _checked_plain(value: Any, kind: Any, name: str) -> Any:
    if isinstance(kind, type):
        if issubclass(kind, Config) and isinstance(value, Mapping):
            return kind.from_mapping(value, name)
        if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
            return _finite(float(value), name)
        if isinstance(value, kind) and (kind in (bool, object) or not isinstance(value, bool)):
            return value
        if kind.__name__ == "Path" and isinstance(value, str):
            return kind(value)
        if kind is str and isinstance(value, os.PathLike):
            return os.fspath(value)
    raise InvalidOption(
        f"{name} is {value!r} ({type(value).__name__})",
        f"a value of type {getattr(kind, '__name__', kind)}",
        f"change the value of {name}",
    )


def _finite(value: float, name: str) -> float:
    if not math.isfinite(value):
        raise InvalidOption(f"{name} is {value}", "a finite number", f"change the value of {name}")
    return value


def _checked_union(value: Any, choices: tuple[Any, ...], name: str) -> Any:
    errors = []
    for choice in choices:
        if choice is type(None):
            if value is None:
                return None
            continue
        try:
            return _checked(value, choice, name)
        except InvalidOption as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    expected = " or ".join(error.expected for error in errors)
    raise InvalidOption(f"{name} is {value!r}", expected, f"change the value of {name}")


def _check_bounds(value: Any, bounds: Bounds, name: str) -> None:
    numbers = value if isinstance(value, tuple) else (value,)
    for number in numbers:
        if isinstance(number, int | float) and not bounds.low <= number <= bounds.high:
            low, high = (f"{bound:g}" for bound in (bounds.low, bounds.high))
            limit = "greater than 0" if bounds.low == 1e-300 else f"a number from {low} to {high}"
            raise InvalidOption(f"{name} is {number}", limit, f"change the value of {name}")

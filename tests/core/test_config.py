"""Configurations: what they accept, convert, refuse, and what they say when they refuse."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplense.core.config import Bounds, Config, Count, CountOrZero, Fraction, NonNegative, Positive
from deeplense.core.errors import InvalidOption, UnknownName


@dataclass(frozen=True)
class Inner(Config):
    rate: Positive = 0.1
    layers: tuple[int, ...] = (1, 2)


@dataclass(frozen=True)
class Outer(Config):
    name: str
    mode: Literal["fast", "slow"] = "fast"
    size: Count = 3
    spare: CountOrZero = 0
    share: Fraction = 0.5
    offset: NonNegative = 0.0
    shift: float = 0.0
    maybe: Annotated[int | None, Bounds(low=2)] = None
    either: float | Inner = 1.0
    pair: tuple[Positive, Positive] = (1.0, 2.0)
    flag: bool = False
    folder: Path | None = None
    table: dict[str, dict[str, object]] = field(default_factory=dict)
    inner: Inner = field(default_factory=Inner)


def test_an_unknown_key_is_named_with_its_nearest_and_its_place() -> None:
    with pytest.raises(UnknownName) as caught:
        Outer.from_mapping({"name": "a", "sise": 3}, "my.toml")
    assert "my.toml" in caught.value.found
    assert "'sise'" in caught.value.found
    assert "size" in caught.value.expected


def test_a_nested_unknown_key_says_where() -> None:
    with pytest.raises(UnknownName) as caught:
        Outer.from_mapping({"name": "a", "inner": {"rte": 1.0}})
    assert "inner" in caught.value.found
    assert "rate" in caught.value.expected


def test_a_missing_required_field_is_named() -> None:
    with pytest.raises(InvalidOption, match=r"my\.toml lacks 'name'"):
        Outer.from_mapping({}, "my.toml")


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("name", 3, "str"),
        ("mode", "fats", "fast"),
        ("size", 0, "1"),
        ("size", 2.5, "int"),
        ("size", True, "int"),
        ("spare", -1, "0"),
        ("share", 1.01, "1"),
        ("offset", -0.1, "0"),
        ("offset", "0.1", "float"),
        ("offset", True, "float"),
        ("shift", math.nan, "finite"),
        ("shift", math.inf, "finite"),
        ("share", math.nan, "finite"),
        ("maybe", 1, "2"),
        ("either", "x", "float or"),
        ("either", math.nan, "finite"),
        ("pair", [1.0], "tuple"),
        ("pair", [1.0, 0.0], "greater than 0"),
        ("flag", 1, "bool"),
        ("folder", 3, "Path"),
        ("table", {"a": 3}, "dict"),
        ("inner", 3, "Inner"),
        ("inner", {"rate": 0.0}, "greater than 0"),
        ("inner", {"layers": [1, 2.5]}, "int"),
    ],
)
def test_a_wrong_value_is_refused_and_explained(key: str, value: Any, expected: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        Outer.from_mapping({"name": "a", key: value}, "my.toml")
    message = str(caught.value)
    assert "my.toml" in message or key in caught.value.found, f"the message does not say where: {message}"
    assert expected in caught.value.expected, f"{expected!r} is not in: {message}"
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("key", "value", "becomes"),
    [
        ("offset", 2, 2.0),
        ("either", 2, 2.0),
        ("either", {"rate": 2}, Inner(rate=2.0)),
        ("pair", [1, 2], (1.0, 2.0)),
        ("folder", "a/b", Path("a/b")),
        ("maybe", None, None),
        ("maybe", 2, 2),
        ("inner", {"layers": [3]}, Inner(layers=(3,))),
        ("table", {"a": {"on": True, "n": 3, "x": [1]}}, {"a": {"on": True, "n": 3, "x": [1]}}),
    ],
)
def test_plain_values_become_what_the_annotation_says(key: str, value: Any, becomes: Any) -> None:
    result = getattr(Outer.from_mapping({"name": "a", key: value}), key)
    assert result == becomes
    assert type(result) is type(becomes), f"{result!r} is a {type(result).__name__}"


def test_a_path_will_do_for_a_text() -> None:
    assert Outer(name=Path("runs") / "a").name == "runs/a"  # type: ignore[arg-type]


def test_options_are_one_configuration_or_keywords() -> None:
    whole = Outer("a", size=4)
    assert Outer.given(whole, {}) is whole
    assert Outer.given(None, {"name": "a", "size": 4}) == whole
    with pytest.raises(InvalidOption, match="in place of options") as caught:
        Outer.given("model_ii", {})  # type: ignore[arg-type]
    assert "name='model_ii'" in caught.value.remedy
    with pytest.raises(InvalidOption, match="beside them size"):
        Outer.given(whole, {"size": 5})


def test_the_constructor_and_replace_check_as_well() -> None:
    outer = Outer("a", offset=3)
    assert type(outer.offset) is float
    with pytest.raises(InvalidOption):
        dataclasses.replace(outer, size=0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        outer.size = 4  # type: ignore[misc]


@given(
    name=st.text(),
    mode=st.sampled_from(["fast", "slow"]),
    size=st.integers(1, 2**53),
    share=st.floats(0, 1),
    shift=st.floats(allow_nan=False, allow_infinity=False),
    maybe=st.none() | st.integers(2, 100),
    either=st.floats(-10, 10) | st.builds(Inner, rate=st.floats(1e-6, 10)),
    folder=st.none() | st.sampled_from([Path("a"), Path("/b/c")]),
    inner=st.builds(Inner, layers=st.lists(st.integers(), max_size=3).map(tuple)),
)
def test_a_config_survives_json(**fields: Any) -> None:
    outer = Outer(**fields)
    document = json.dumps(outer.as_dict(), allow_nan=False)
    assert Outer.from_mapping(json.loads(document)) == outer

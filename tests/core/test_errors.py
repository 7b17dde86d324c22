"""Errors: three clauses, the nearest names, and safe passage between processes."""

from __future__ import annotations

import copy
import pickle

import pytest

from deeplense.core.errors import CorruptFile, DeepLenseError, InvalidOption, MissingFile, UnknownName, nearest
from deeplense.core.files import CannotWrite

EXAMPLES: list[DeepLenseError] = [
    DeepLenseError("a", "b", "c"),
    InvalidOption("a", "b", "c"),
    UnknownName("model", "resnet81", ["resnet18", "vit"]),
    MissingFile("a", "b", "c"),
    CannotWrite("a", "b", "c"),
    CorruptFile("folder/x.npy", "half an image", "an image"),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_survives_pickling_and_copying(error: DeepLenseError) -> None:
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is type(error)
        assert str(twin) == str(error)
        assert vars(twin) == vars(error)
        assert twin.args == error.args


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_has_three_clauses(error: DeepLenseError) -> None:
    found, expected, to_do = str(error).split("\n")
    assert found == error.found
    assert expected.strip() == f"expected: {error.expected}"
    assert to_do.strip() == f"to do:    {error.remedy}"


def test_a_corrupt_file_names_the_file() -> None:
    assert str(CorruptFile("folder/x.npy", "half an image", "an image")).startswith("folder/x.npy: half an image")


def test_an_unknown_name_lists_the_nearest_or_all() -> None:
    assert UnknownName("model", "resnet81", ["vit", "resnet18"]).expected == "one of: resnet18 (the nearest)"
    assert UnknownName("model", "zzz", ["vit", "resnet18"]).expected == "one of: resnet18, vit"
    assert UnknownName("model", "zzz", []).expected == "one of: none is there yet"


@pytest.mark.parametrize("name", ["model-ii", "Model_II", "MODEL II", "modelii"])
def test_nearest_does_not_mind_case_or_dashes(name: str) -> None:
    assert nearest(name, ["model_i", "model_ii", "lens_finding"])[0] == "model_ii"
    assert nearest("model_ii", [name, "vit"]) == [name], "the known name may be spelt in another way too"

"""A few thousand damaged files per reader; `make fuzz` drives a hundred thousand."""

from __future__ import annotations

import random

import pytest
from tests.fuzz.fuzz_readers import READERS, fuzz
from tests.fuzz.mutate import mutate

FILES = {"npy": 3000, "object": 3000, "pictures": 3000, "npz": 3000, "hdf5": 600}


@pytest.mark.parametrize("reader", READERS)
def test_damaged_files_bring_out_nothing_but_our_errors(reader: str) -> None:
    outcomes = fuzz(reader, FILES[reader])
    assert outcomes["read"] + outcomes["refused"] == FILES[reader]
    assert outcomes["read"] > 0 and outcomes["refused"] > FILES[reader] / 2


def test_the_same_seed_makes_the_same_damage() -> None:
    seeds = [bytes(range(200)), b"other" * 30]
    assert mutate(seeds, random.Random("a")) == mutate(seeds, random.Random("a"))
    assert len({mutate(seeds, random.Random(number)) for number in range(100)}) > 90

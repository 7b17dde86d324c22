"""What every test may ask for: the data that a checkout does not carry, and shapes checked as they are written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

# the same examples on every machine and every run, and no clock
settings.register_profile("deeplense", deadline=None, derandomize=True, max_examples=30, database=None)
settings.load_profile("deeplense")

# The annotated shapes and types of these modules are checked at every call while the tests run. Modules that define
# configurations stay out: a Config takes a mapping or an int where it is annotated otherwise, and converts it itself.
CHECKED = (
    "core.seeding",
    "instruments.noise",
    "instruments.optics",
    "sky.cosmology",
    "sky.ellipticity",
    "sky.light",
    "sky.mass",
    "sky.scene",
    "sky.vortex",
)
install_import_hook([f"deeplense.{module}" for module in CHECKED], "beartype.beartype")

REPOSITORY = Path(__file__).parents[1]
TEST_DATA = Path(os.environ.get("DEEPLENSE_TEST_DATA", REPOSITORY.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Return the folder of public sample data, or skip: it is not ours to ship."""
    if not TEST_DATA.is_dir():
        pytest.skip(f"no sample data in {TEST_DATA}; set DEEPLENSE_TEST_DATA to the folder that holds it")
    return TEST_DATA

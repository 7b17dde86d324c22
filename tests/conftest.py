"""What every test may ask for: the data that a checkout does not carry, and shapes checked as they are written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

# tests compute on small tensors, where a second thread costs more time than it saves; read when torch is imported
os.environ.setdefault("OMP_NUM_THREADS", "1")

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


@pytest.fixture(scope="session")
def small_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a dataset folder of Model II, 24 + 8 + 8 images per class; to be read only."""
    from deeplense.simulate import simulate

    return simulate(recipe="model_ii", train=24, validation=8, test=8, out=tmp_path_factory.mktemp("small") / "set")


@pytest.fixture(scope="session")
def small_run(small_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run folder of a network that has seen `small_set` twice; to be read only."""
    from deeplense.train import train

    out = tmp_path_factory.mktemp("runs") / "small123"
    return train(dataset=str(small_set), epochs=2, batch_size=24, device="cpu", out=out)


@pytest.fixture(scope="session")
def small_tree(small_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the images of `small_set` as a foreign layout, {split}/{class}/*.npy; to be read only."""
    from deeplense.describe import export

    return export(str(small_set), tmp_path_factory.mktemp("small") / "tree")


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty current directory with its own cache: what a test writes by default lands there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEEPLENSE_CACHE", str(tmp_path / "cache"))
    return tmp_path

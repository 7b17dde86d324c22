"""The command line: the seed's spellings, help, exit codes, and no heavy import before it is needed."""

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deeplense import cli
from deeplense.core.config import Config
from deeplense.describe import MontageOptions
from deeplense.evaluate import EvaluateOptions
from deeplense.predict import PredictOptions
from deeplense.report import ReportOptions
from deeplense.simulate import SimulateOptions
from deeplense.train import TrainOptions

VERBS: dict[str, type[Config]] = {
    "simulate": SimulateOptions,
    "train": TrainOptions,
    "evaluate": EvaluateOptions,
    "report": ReportOptions,
    "predict": PredictOptions,
    "data montage": MontageOptions,
}
HEAVY = ("torch", "numpy", "timm", "matplotlib", "pyarrow", "h5py", "sklearn", "accelerate", "PIL")


def typed(line: str) -> int:
    return cli.main(line.split())


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return what the verbs were asked for, instead of doing it."""
    found: dict[str, Any] = {}
    for verb in ("train", "evaluate", "simulate", "predict", "report"):
        monkeypatch.setattr(cli, verb, lambda options, verb=verb: found.update({verb: options}))
    return found


def test_the_training_line_of_the_seed(asked: dict[str, Any]) -> None:
    line = "train --dataset Model_I --model_source timm --model_name convit_small --pretrained 1 --tune 1 --device cuda"
    assert typed(line) == 0
    wanted = TrainOptions(
        dataset="Model_I", model_source="timm", model_name="convit_small", pretrained="1", tune=True, device="cuda"
    )
    assert asked["train"] == wanted


def test_the_evaluation_line_of_the_seed(asked: dict[str, Any]) -> None:
    assert typed("evaluate --run_id 1g9hi3n6 --device cuda") == 0
    assert asked["evaluate"] == EvaluateOptions(run_id="1g9hi3n6", device="cuda")
    assert typed("evaluate 1g9hi3n6 --device=cuda") == 0
    assert asked["evaluate"] == EvaluateOptions(run_id="1g9hi3n6", device="cuda")


@pytest.mark.parametrize("spelling", ["--tune 0", "--tune=0", "--tune false", "--tune False", "--no-tune", "--no_tune"])
def test_switches_in_every_spelling(spelling: str, asked: dict[str, Any]) -> None:
    assert cli.main(["train", *spelling.split(), "--complex", "1", "--decay_lr", "true"]) == 0
    assert asked["train"] == TrainOptions(tune=False, complex=True, decay_lr=True)


def test_a_number_that_looks_like_a_switch_stays_a_number(asked: dict[str, Any]) -> None:
    assert typed("train --epochs 1 --batch-size 1 --pretrained 0 --seed 1") == 0
    assert asked["train"] == TrainOptions(epochs=1, batch_size=1, pretrained="0", seed=1)


def test_weights_is_another_word_for_pretrained(asked: dict[str, Any]) -> None:
    assert typed("train --weights some.safetensors") == 0
    assert asked["train"].pretrained == "some.safetensors"


def test_a_file_of_options_gives_way_to_the_command_line(tmp_path: Path, asked: dict[str, Any]) -> None:
    file = tmp_path / "options.toml"
    file.write_text('dataset = "model_ii"\nepochs = 7\ntune = false\nlr = 3e-3\n')
    assert cli.main(["train", "--config", str(file), "--epochs", "9"]) == 0
    assert asked["train"] == TrainOptions(dataset="model_ii", epochs=9, tune=False, lr=3e-3)


def test_images_to_predict_are_positional(asked: dict[str, Any]) -> None:
    assert typed("predict 1g9hi3n6 a.npy b.png --out answers.parquet") == 0
    files = (Path("a.npy"), Path("b.png"))
    assert asked["predict"] == PredictOptions(run_id="1g9hi3n6", files=files, out=Path("answers.parquet"))


@pytest.mark.parametrize("verb", VERBS)
def test_help_names_every_option_and_shows_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*verb.split(), "--help"]) == 0
    text = capsys.readouterr().out
    for field in dataclasses.fields(VERBS[verb]):
        assert f"--{field.name.replace('_', '-')}" in text, f"{field.name} is not in the help"
    assert f"Example: deeplense {verb}" in text.replace("\n", " ")
    assert "default:" in text or verb in ("report",)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("train --optimzer adam", "--optimizer"),
        ("train --optimizer adm", "adam"),
        ("train --dataset no_such_recipe_ii", "model_ii"),
        ("train --epochs 0", "epochs is 0"),
        ("train --lr -1", "lr is -1"),
        ("train --config nowhere.toml", "nowhere.toml"),
        ("evaluate no_such_run", "no run is called"),
        ("evaluate model_iii@deeplense", "model_ii@deeplense"),
        ("report no_such_run", "no run is called"),
        ("predict model_ii@deeplense nowhere.npy", "nowhere.npy"),
        ("simulate modelii", "model_ii"),
        ("data info nowhere", "model_ii"),
        ("fly", "fly"),
    ],
)
def test_bad_input_ends_with_two_and_three_clauses(
    line: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert typed(line) == 2
    said = capsys.readouterr().err
    assert words in said, said
    assert "to do:" in said, said
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; from deeplense.cli import main; main(['train', '--help']); "
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]"), done.stdout.splitlines()[-1]


def test_verbs_stay_functions_whatever_is_imported() -> None:
    program = "import deeplense.train, deeplense.cli, deeplense; assert callable(deeplense.train)"
    subprocess.run([sys.executable, "-c", program], check=True)

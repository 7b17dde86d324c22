"""The command line: the seed's spellings, help, exit codes, and no heavy import before it is needed."""

import dataclasses
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from deeplense import cli
from deeplense.benchmark import BenchmarkOptions
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
    "benchmark": BenchmarkOptions,
    "data montage": MontageOptions,
}
HEAVY = ("torch", "numpy", "timm", "matplotlib", "pyarrow", "h5py", "sklearn", "accelerate", "PIL")


def typed(line: str) -> int:
    return cli.main(line.split())


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return what the verbs were asked for, instead of doing it."""
    found: dict[str, Any] = {}
    for verb in ("train", "evaluate", "simulate", "predict", "report", "benchmark"):
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


@pytest.mark.parametrize(
    ("rest", "changed"),
    [
        ("", {}),
        ("--no-tune", {"tune": False}),
        ("--tune=0", {"tune": False}),
        ("model_iii", {"dataset": "model_iii"}),
        ("--weights b.safetensors", {"pretrained": "b.safetensors"}),
        ("--random-zoom 1.3 --decay-lr 1", {"random_zoom": 1.3, "decay_lr": True}),
    ],
)
def test_however_an_option_is_spelt_the_command_line_wins(
    rest: str, changed: dict[str, Any], tmp_path: Path, asked: dict[str, Any]
) -> None:
    file = tmp_path / "options.toml"
    file.write_text(
        'dataset = "model_ii"\ntune = true\nrandom_zoom = 1.1\nweights = "a.safetensors"\ndecay_lr = false\n'
    )
    for line in (f"train --config {file} {rest}", f"train {rest} --config={file}"):
        assert typed(line) == 0
        options = {"dataset": "model_ii", "random_zoom": 1.1, "pretrained": "a.safetensors", "decay_lr": False}
        assert asked["train"] == TrainOptions(**options | changed)
    assert typed("train") == 0
    assert asked["train"] == TrainOptions(), "the file of another command line is still in force"


def test_a_file_of_options_may_hold_lists(tmp_path: Path, asked: dict[str, Any]) -> None:
    file = tmp_path / "options.toml"
    file.write_text('run_id = "1g9hi3n6"\nfiles = ["a.npy", "b.npy"]\n')
    assert typed(f"predict --config {file}") == 0
    assert asked["predict"] == PredictOptions(run_id="1g9hi3n6", files=(Path("a.npy"), Path("b.npy")))
    file.write_text('runs = ["one", "other"]\n')
    assert typed(f"report --config {file}") == 0
    assert asked["report"] == ReportOptions(runs=("one", "other"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("epohcs = 3", "--epochs"),
        ("[train]\nepochs = 3", "[train]"),
        ("no_tune = true", "tune = false"),
        ("epochs = [3]", "epochs"),
        ("epochs = three", "TOML"),
        ('optimizer = "adm"', "adam"),
        ("epochs = 0", "epochs is 0"),
        ("epochs = 1\nepochs = 2", "TOML"),
    ],
)
def test_a_wrong_file_of_options_is_explained(
    text: str, words: str, tmp_path: Path, asked: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "options.toml"
    file.write_text(text)
    assert typed(f"train --config {file}") == 2
    said = capsys.readouterr().err
    assert words in said and "expected:" in said and "to do:" in said, said
    assert not asked


@pytest.mark.parametrize(
    "line",
    [
        "predict --run_id 1g9hi3n6 a.npy b.npy",
        "predict a.npy b.npy --run-id=1g9hi3n6",
        "predict --device best --run_id 1g9hi3n6 a.npy b.npy",
        "predict 1g9hi3n6 --files a.npy --files b.npy",
        "predict --run-id 1g9hi3n6 --files a.npy --files b.npy",
    ],
)
def test_a_run_is_positional_or_named_before_or_after_the_files(line: str, asked: dict[str, Any]) -> None:
    assert typed(line) == 0
    assert asked["predict"] == PredictOptions(run_id="1g9hi3n6", files=(Path("a.npy"), Path("b.npy")))


def test_several_values_follow_one_flag(asked: dict[str, Any]) -> None:
    for line in ("--only model_i residual_cnn --size smoke", "--only model_i --only residual_cnn --size smoke"):
        assert typed(f"benchmark substructure {line}") == 0
        wanted = BenchmarkOptions("substructure", size="smoke", only=("model_i", "residual_cnn"))
        assert asked.pop("benchmark") == wanted


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
        ("evaluate model_iv@deeplense", "model_ii@deeplense"),
        ("report no_such_run", "no run is called"),
        ("predict model_ii@deeplense nowhere.npy", "nowhere.npy"),
        ("simulate modelii", "model_ii"),
        ("benchmark substrcture", "substructure"),
        ("benchmark substructure --size smok", "smoke"),
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


@pytest.mark.parametrize("line", ["", "data", "models", "data list", "data info", "data export"])
def test_other_commands_explain_themselves_too(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed(f"{line} --help") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert f"Usage: deeplense {line}".strip() in text
    assert "Example: deeplense" in text or "Start with: deeplense" in text


@pytest.mark.parametrize("line", ["--help", "train --help"])
def test_help_comes_at_once(line: str) -> None:
    """Under half a second on a quiet machine; the limit here is for a busy one."""
    program = [sys.executable, "-m", "deeplense", *line.split()]
    seconds = []
    for _ in range(3):
        begin = time.monotonic()
        done = subprocess.run(program, capture_output=True, text=True, check=True)
        seconds.append(time.monotonic() - begin)
        assert done.stdout.startswith("Usage: deeplense")
    print(f"{line}: {min(seconds):.2f} s")  # noqa: T201
    assert min(seconds) < 3


def test_a_word_that_nothing_takes_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "model_ii", "--tune", "maybe"]) == 2
    said = capsys.readouterr().err
    assert "nothing takes 'maybe'" in said and "1 or 0" in said and "Tokens" not in said

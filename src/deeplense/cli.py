"""The command line: one command per verb; every flag is a field of the verb's own options."""

from __future__ import annotations

import sys
import tomllib
import warnings
from pathlib import Path
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter
from cyclopts.exceptions import UnusedCliTokensError

from deeplense import describe
from deeplense.benchmark import BenchmarkOptions, benchmark
from deeplense.core.console import note
from deeplense.core.errors import CorruptFile, DeepLenseError, MissingFile
from deeplense.describe import AuditOptions, MontageOptions
from deeplense.evaluate import EvaluateOptions, evaluate
from deeplense.predict import PredictOptions, predict
from deeplense.report import ReportOptions, report
from deeplense.simulate import SimulateOptions, simulate
from deeplense.train import TrainOptions, train
from deeplense.version import __version__

SWITCHES = ("0", "1", "true", "false")
SYNONYMS = {"--weights": "--pretrained"}
BAD_INPUT = 2

app = App(
    name="deeplense",
    version=__version__,
    help="Machine learning on strong gravitational lenses: simulate → train → evaluate → report → predict.",
    help_epilogue="Start with: deeplense simulate model_ii --train 500 --validation 100 --test 200",
    help_format="plaintext",
    default_parameter=Parameter(consume_multiple=True),  # --only A B, as the help writes it
    result_action="return_value",
    exit_on_error=False,
    print_error=False,
    suppress_keyboard_interrupt=False,  # main says what is kept
)
data = App(name="data", help="Look at a dataset, or turn it into another layout.")
app.command(data)


@app.command(
    name="simulate",
    help_epilogue="Example: deeplense simulate model_ii --train 1500 --validation 300 --test 1000 --out data/small",
)
def _simulate(options: Annotated[SimulateOptions, Parameter(name="*")]) -> None:
    """Simulate a dataset folder from a recipe. An interrupted one is finished to the same bytes."""
    note(f"dataset: {simulate(options)}")


@app.command(
    name="train",
    help_epilogue="Example: deeplense train --dataset Model_I --model-source timm --model-name convit_small",
)
def _train(options: Annotated[TrainOptions, Parameter(name="*")] = TrainOptions()) -> None:  # noqa: B008 (frozen)
    """Train a model; the run folder holds all that is needed to evaluate, resume or report it."""
    train(options)


@app.command(name="evaluate", help_epilogue="Example: deeplense evaluate 1g9hi3n6 --device cuda")
def _evaluate(options: Annotated[EvaluateOptions, Parameter(name="*")]) -> None:
    """Judge a run on its untouched test split: every mark with its 95 % interval."""
    evaluate(options)


@app.command(name="report", help_epilogue="Example: deeplense report 1g9hi3n6 runs/other --out comparison.html")
def _report(options: Annotated[ReportOptions, Parameter(name="*")]) -> None:
    """Write one self-contained HTML page that shows and compares runs."""
    note(f"report: {report(options)}")


@app.command(name="predict", help_epilogue="Example: deeplense predict 1g9hi3n6 cutouts/ --out answers.csv")
def _predict(options: Annotated[PredictOptions, Parameter(name="*")]) -> None:
    """Answer for new images: a table with one row per image."""
    predict(options)


@app.command(name="benchmark", help_epilogue="Example: deeplense benchmark substructure --size smoke")
def _benchmark(options: Annotated[BenchmarkOptions, Parameter(name="*")]) -> None:
    """Run a suite of methods and datasets and make its table. It can be stopped, and goes on where it was."""
    benchmark(options)


@app.command(name="models", help_epilogue="Example: deeplense models 'convit*'")
def _models(pattern: str = "") -> None:
    """List our architectures, and timm's that match a pattern.

    Parameters
    ----------
    pattern
        A wildcard pattern over timm's names.
    """
    describe.models(pattern)


@data.command(name="list")
def _data_list() -> None:
    """List the recipes that can be named as a dataset."""
    describe.recipes()


@data.command(name="info", help_epilogue="Example: deeplense data info path/to/images")
def _data_info(dataset: str) -> None:
    """Show classes, counts, shapes, ranges, splits and problems of a dataset.

    Parameters
    ----------
    dataset
        A recipe, or a path in any known layout.
    """
    describe.info(dataset)


@data.command(name="montage", help_epilogue="Example: deeplense data montage model_ii --out model_ii.png")
def _data_montage(options: Annotated[MontageOptions, Parameter(name="*")]) -> None:
    """Draw some images of each class."""
    describe.montage(options)


@data.command(name="audit", help_epilogue="Example: deeplense data audit catalogue.csv --out audit.html")
def _data_audit(options: Annotated[AuditOptions, Parameter(name="*")]) -> None:
    """Look for what is wrong with a dataset: columns and names that give the label away, duplicates, shifts, damage."""
    describe.audit(options)


@data.command(name="export", help_epilogue="Example: deeplense data export data/small exported/")
def _data_export(dataset: str, out: Path, layout: describe.Layout = "npy_tree") -> None:
    """Write any dataset as a DeepLense tree of .npy files, or as a catalogue with FITS stamps.

    Parameters
    ----------
    dataset
        A recipe, or a path in any known layout.
    out
        Folder to write.
    layout
        npy_tree, or challenge: classifications.csv and FITS stamps, as in the lens finding challenge.
    """
    describe.export(dataset, out, layout)


def main(tokens: list[str] | None = None) -> int:
    """Run a command line; return 0, or 2 when the input was wrong."""
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch")  # of torch to itself
    try:
        app(_plain_spelling(sys.argv[1:] if tokens is None else tokens))
    except DeepLenseError as error:
        note(f"error: {error}")
    except UnusedCliTokensError as error:
        note(
            f"error: nothing takes '{' '.join(error.unused_tokens or ())}'\n  expected: values after their options; "
            "switches such as --tune take 1 or 0\n  to do:    leave it out, or add --help after the command"
        )
    except CycloptsError as error:
        note(f"error: {error}\n  expected: a command line as --help shows\n  to do:    add --help after the command")
    except KeyboardInterrupt:
        note("stopped; what is finished is kept")
        return 130
    else:
        return 0
    return BAD_INPUT


def _plain_spelling(tokens: list[str]) -> list[str]:
    """Return the command line in one spelling: dashes in names, `--tune=1` for `--tune 1`, no --config."""
    plain: list[str] = []
    for token in tokens:
        if token.startswith("--"):
            name, equals, value = token.partition("=")
            name = name.replace("_", "-")
            plain.append(SYNONYMS.get(name, name) + equals + value)
        elif plain and token.lower() in SWITCHES and plain[-1].startswith("--") and "=" not in plain[-1]:
            plain[-1] += f"={token.lower()}"
        else:
            plain.append(token)
    return _run_first(_with_config(plain))


def _with_config(tokens: list[str]) -> list[str]:
    """Take `--config FILE.toml` out of the command line; the app fills in from the file what the line does not say."""
    app.config = ()
    places = [i for i, token in enumerate(tokens) if token == "--config" or token.startswith("--config=")]
    if not places:
        return tokens
    from cyclopts.config import Dict

    first = places[0]
    inline = tokens[first].partition("=")[2]
    path = Path(inline or (tokens[first + 1] if first + 1 < len(tokens) else ""))
    app.config = (Dict(_options_in(path), use_commands_as_keys=False, source=str(path)),)
    return tokens[:first] + tokens[first + (1 if inline else 2) :]


def _options_in(path: Path) -> dict[str, object]:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MissingFile(f"{path} cannot be read: {error.strerror}", "options as TOML", "check --config") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CorruptFile(path, f"not valid TOML ({error})", "lines such as epochs = 20", "correct it") from error
    for key, value in table.items():
        if isinstance(value, dict):
            raise CorruptFile(path, f"a table [{key}]", "lines such as epochs = 20, in no table", "take its head out")
        if key.replace("_", "-").startswith("no-"):
            raise CorruptFile(path, f"the line {key} = …", f"{key[3:]} = false", "correct it")
    synonyms = {other[2:]: name[2:] for other, name in SYNONYMS.items()}
    return {synonyms.get(key, key): value for key, value in table.items()}


def _run_first(tokens: list[str]) -> list[str]:
    """Put a run that is named by `--run-id` where `predict` takes it: before the files."""
    for place, token in enumerate(tokens if tokens[:1] == ["predict"] else ()):
        name, inline, value = token.partition("=")
        if name == "--run-id" and (inline or place + 1 < len(tokens)):
            rest = tokens[1:place] + tokens[place + (1 if inline else 2) :]
            return ["predict", value or tokens[place + 1], *rest]
    return tokens

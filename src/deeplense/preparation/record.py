"""What a run folder says of its run: enough to repeat it, and to answer by its network."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deeplense.auditing import before_training
from deeplense.core.console import note
from deeplense.core.errors import InvalidOption
from deeplense.core.run_folder import RunFolder
from deeplense.data.dataset import Dataset
from deeplense.data.loader import Loader
from deeplense.data.transforms import Normalisation
from deeplense.preparation.images import symmetry_of
from deeplense.preparation.options import TrainOptions
from deeplense.recipes.recipe import load_recipe
from deeplense.version import __version__

PACKAGE = Path(__file__).parents[1]


def new_record(
    run: RunFolder,
    options: TrainOptions,
    settings: Mapping[str, Any],
    images: tuple[Loader, Loader],
    normalisation: Normalisation,
    familiar: Mapping[str, list[float]],
) -> dict[str, Any]:
    """Return what config.json says of a run, its dataset audited and the symmetry of its images resolved.

    Parameters
    ----------
    run
        The run.
    options, settings
        As they were asked for, and as they were resolved.
    images
        For training and for validation.
    normalisation, familiar
        Of the training images: their stretch, and the ranges of numbers by which a strange image is known.
    """
    train, validation = images
    dataset = train.dataset
    found = before_training(dataset, settings["features"])
    return {
        "run_id": run.id,
        "command": _command(),
        "deeplense_version": __version__,
        "git_commit": _git_commit(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "task": settings["task"],
        "labels": list(dataset.labels),
        "model": {
            "source": "detector" if settings["detector"] else settings["model_source"],
            "name": settings["detector"] or settings["model_name"],
        },
        "dataset": {
            "path": str(dataset.path.absolute()),
            "name": str(Path(name).absolute()) if (name := settings["dataset"]).endswith(".toml") else name,
            "layout": dataset.layout,
            "compiled": getattr(dataset, "manifest", {}).get("compiled", False),
            "n_train": len(train),
            "n_validation": len(validation),
        },
        "options": {**settings, "symmetry": symmetry_of(options, dataset, train.image_shape)},
        "asked": options.as_dict(),
        "normalisation": normalisation.as_dict(),
        "familiar": dict(familiar),
        "image_shape": list(train.image_shape),
        "audit": [
            {"kind": one.kind, "severity": one.severity, "subject": one.subject, "words": one.words} for one in found
        ],
    }


def begin(run: RunFolder, config: dict[str, Any]) -> None:
    """Write the record of a run, and say what is wrong with its dataset."""
    for finding in config["audit"]:
        note(f"{finding['severity']}: {finding['words']}")
    if config["audit"]:
        note(f"more of this: deeplense data audit {config['dataset']['path']}")
    run.write_config(config)


def recipe_of(name: str, physical: bool, options: TrainOptions, dataset: Dataset) -> dict[str, Any] | None:
    """Return the recipe that a physical model is built on: the one asked for, or the dataset's; None for other models.

    Raises
    ------
    InvalidOption
        When one is asked for, but the model has no use for it.
    """
    if not physical and options.lens_recipe is not None:
        raise InvalidOption(
            f"--lens-recipe with {name}", "a physical model such as lens_inverse, or detector physical", "leave it out"
        )
    if not physical:
        return None
    if options.lens_recipe is not None:
        return load_recipe(options.lens_recipe).as_dict()
    return getattr(dataset, "manifest", {}).get("recipe")


def _command() -> str:
    """Return the command line that started this, or the function where there was none of ours."""
    program = Path(sys.argv[0])
    ours = program.name == "deeplense" or program == PACKAGE / "__main__.py"
    return shlex.join(["deeplense", *sys.argv[1:]]) if ours else "deeplense.train(…)"


def _git_commit() -> str | None:
    """Return the commit of the source tree the package runs from; None for an installed package."""
    where = PACKAGE.parents[1]
    if not (where / "pyproject.toml").is_file():  # installed, perhaps below some other repository
        return None
    try:
        answer = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=where, capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None

"""What a run folder says of its run: enough to repeat it, and to answer by its network."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deeplense.data.loader import Loader
from deeplense.data.transforms import Normalisation
from deeplense.version import __version__

PACKAGE = Path(__file__).parents[1]


def record_of(
    run_id: str,
    asked: Mapping[str, Any],
    settings: Mapping[str, Any],
    images: tuple[Loader, Loader],
    normalisation: Normalisation,
    familiar: Mapping[str, list[float]],
) -> dict[str, Any]:
    """Return the content of config.json.

    Parameters
    ----------
    run_id
        Name of the run.
    asked, settings
        Options as they were asked for, and as they were resolved.
    images
        For training and for validation.
    normalisation, familiar
        Of the training images: their stretch, and the ranges of numbers by which a strange image is known.
    """
    train, validation = images
    dataset = train.dataset
    return {
        "run_id": run_id,
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
        "options": dict(settings),
        "asked": dict(asked),
        "normalisation": normalisation.as_dict(),
        "familiar": dict(familiar),
        "image_shape": list(train.image_shape),
    }


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

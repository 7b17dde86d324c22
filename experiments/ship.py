"""Turn a run into a trained model of the package: `python experiments/ship.py RUN NAME`.

Weights in half precision, the run's record and its marks go to src/deeplense/weights/NAME.
"""

import shutil
import sys
from pathlib import Path

from safetensors.torch import load_file, save_file

from deeplense.core.run_folder import SHIPPED, RunFolder


def ship(run: RunFolder, name: str) -> Path:
    """Return the folder of the shipped model."""
    folder = SHIPPED / name
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        key: value.half() if value.is_floating_point() else value for key, value in load_file(run.weights).items()
    }
    save_file(weights, folder / "model.safetensors")
    config = run.config()
    config["run_id"] = name
    config["dataset"]["path"] = config["dataset"]["name"]
    RunFolder(folder).write_config(config)
    for document in ("history.json", "metrics.json"):
        shutil.copy(run.path / document, folder / document)
    return folder


if __name__ == "__main__":
    print(ship(RunFolder(Path(sys.argv[1])), sys.argv[2]))

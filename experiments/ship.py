"""Turn a run into a trained model of the package: `python experiments/ship.py RUN NAME`.

Weights in half precision, the run's record, the marks of those weights on the run's own test split, and a model card go
to src/deeplense/weights/NAME.
"""

import shutil
import sys
from pathlib import Path

from safetensors.torch import load_file, save_file

import deeplense
from deeplense.core.run_folder import SHIPPED, RunFolder, find_run
from deeplense.metrics.calibrated import read_calibration

CARD = """\
# {name}@deeplense

`{model[name]}`, {model[parameters]:,} parameters, half precision. {answers}.
Images of {shape} (channels × height × width), as the recipe stores them, unscaled.

- Data: `{data[name]}`, simulated (recipe `{recipe}`); {data[n_train]:,} training and {data[n_validation]:,} validation
  images. The best epoch was chosen on validation.
- Made by `{command}`, deeplense {version}, seed {seed}; then halved in precision and judged.
- Test split, {n:,} images, 95 % intervals:

| mark | value | interval |
| --- | --- | --- |
{rows}

Limits: it knows this recipe alone, with its lenses, sources, instrument and noise. On images of another survey, other
lenses, another scale or another unit the answers mean nothing, however sure they look; `deeplense predict` tells of
such images in its column `unlike`.
"""


def ship(run: RunFolder, name: str) -> Path:
    """Return the folder of the shipped model."""
    shipped = RunFolder(SHIPPED / name)
    shutil.rmtree(shipped.path, ignore_errors=True)
    shipped.path.mkdir(parents=True)
    tensors = load_file(run.weights)
    save_file({key: t.half() if t.is_floating_point() else t for key, t in tensors.items()}, shipped.weights)
    shutil.copy(run.path / "history.json", shipped.path)
    config = run.config() | {"run_id": name}
    shipped.write_config(config)
    judged = RunFolder(run.path.with_name(f"{name}-half"))
    shutil.copytree(shipped.path, judged.path)
    deeplense.evaluate(run_id=str(judged.path))
    shutil.move(judged.path / "metrics.json", shipped.path)
    if "isotonic" in read_calibration(judged):  # candidates are given calibrated probabilities
        shutil.move(judged.calibration, shipped.path)
    shutil.rmtree(judged.path)
    config["dataset"]["path"] = config["dataset"]["name"]
    shipped.write_config(config)
    (shipped.path / "README.md").write_text(card(shipped), encoding="utf-8")
    return shipped.path


def card(run: RunFolder) -> str:
    """Return the model card, every number from the run's own record."""
    config, marks = run.config(), run.metrics()
    rows = [f"| {name} | {m['value']:.4f} | {m['low']:.4f} – {m['high']:.4f} |" for name, m in marks.items()]
    factor = config["options"].get("degradation", {}).get("factor")
    finer = f"Answers with images of {factor} × {factor} times the pixels, and their σ"
    return CARD.format(
        name=run.id,
        model=config["model"],
        data=config["dataset"],
        recipe=run.id,
        answers=finer if factor else f"Classes: {', '.join(config['labels'])}",
        shape=" × ".join(map(str, config["image_shape"])),
        command=config["command"],
        version=config["deeplense_version"],
        seed=config["options"]["seed"],
        n=next(iter(marks.values()))["n"],
        rows="\n".join(rows),
    )


if __name__ == "__main__":
    print(ship(find_run(sys.argv[1]), sys.argv[2]))

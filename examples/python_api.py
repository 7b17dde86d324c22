"""The main job in Python: simulate, train, evaluate, report, predict. Takes about two minutes on a laptop."""

from pathlib import Path
from tempfile import TemporaryDirectory

import deeplense


def main(folder: Path) -> None:
    data = deeplense.simulate(recipe="model_ii", train=300, validation=60, test=100, out=folder / "data")
    run = deeplense.train(dataset=str(data), epochs=3, lr=3e-3, out=folder / "run")
    marks = deeplense.evaluate(run_id=str(run))
    print("macro AUROC:", marks["auroc_macro"])
    print("report:", deeplense.report(runs=(str(run),)))


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        main(Path(folder))

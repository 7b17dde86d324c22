"""Between two runs: `python experiments/blend.py RUN_A RUN_B --share 0.3 --out runs/blend`.

Weights are (1 − share) A + share B, of two runs of one architecture, B trained on from A: between the network that has
learnt by error and the one that has faced an opponent, as in ESRGAN (Wang et al. 2018, arXiv:1809.00219, section 3.4).
"""

import argparse
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file

from deeplense.core.errors import InvalidOption
from deeplense.core.run_folder import RunFolder, find_run


def main() -> None:
    """Write the run between two runs."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("runs", nargs=2)
    parser.add_argument("--share", type=float, default=0.5, help="of the second run's weights")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    first, second = (load_file(find_run(name).weights) for name in given.runs)
    if {name: value.shape for name, value in first.items()} != {name: value.shape for name, value in second.items()}:
        raise InvalidOption("runs of two architectures", "two runs of one", "name others")
    source, made = find_run(given.runs[1]), RunFolder(given.out)
    made.path.mkdir(parents=True)
    between = {name: (1 - given.share) * value + given.share * second[name] for name, value in first.items()}
    save_file({name: value.to(second[name].dtype).contiguous() for name, value in between.items()}, made.weights)
    shutil.copy(source.path / "history.json", made.path)
    command = f"python experiments/blend.py {' '.join(given.runs)} --share {given.share:g} --out {given.out}"
    made.write_config(source.config() | {"run_id": made.id, "command": command})


if __name__ == "__main__":
    main()

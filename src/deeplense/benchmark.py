"""`deeplense benchmark`: a suite of methods and datasets → the table of results; the verb that composes the others."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from deeplense.core.config import Config
from deeplense.core.console import note
from deeplense.core.errors import InvalidOption, UnknownName
from deeplense.core.files import claimed

if TYPE_CHECKING:
    from deeplense.suites.cell import Cell
    from deeplense.suites.results import Results
    from deeplense.suites.rows import Row

VISIBLE = "CUDA_VISIBLE_DEVICES"
SHARE = 0.05  # of the time, at most, goes into showing what is done so far


@dataclass(frozen=True)
class BenchmarkOptions(Config):
    """What `deeplense benchmark` can be told.

    Parameters
    ----------
    suite
        Name of a suite (substructure, anomalies, super_resolution), or a TOML file of your own.
    size
        Which of the suite's sizes: one budget for every method.
    out
        Folder of all that is made; by default runs/benchmark/<suite>.
    only
        Names of datasets or methods to restrict to; the table still shows all.
    pretrained
        Folder with weights, <model name>.safetensors, that are taken instead of the model hub's.
    data
        Folder with the suite's datasets that are not simulated, in place of the one that the suite names.
    device
        Where to compute; best takes every CUDA device there is, then MPS, then the CPU.
    list
        Show the cells and their state, and do nothing.
    """

    suite: str
    _: KW_ONLY
    size: str = "cpu"
    out: Path | None = None
    only: tuple[str, ...] = ()
    pretrained: Path | None = None
    data: Path | None = None
    device: Literal["best", "cuda", "mps", "cpu"] = "best"
    list: bool = False


def benchmark(options: BenchmarkOptions | None = None, /, **fields: Any) -> Path:
    """Return the folder with results.csv and index.html: each method on each dataset, the same budget for all.

    What is finished is not run again, what was interrupted goes on, and a cell that cannot be run says why. Any number
    of processes may work on one folder, also on several machines that share it.

    Parameters
    ----------
    options
        What to run; or give the fields of `BenchmarkOptions` as keywords.

    Raises
    ------
    UnknownName
        When no suite, size, dataset or method has that name.
    InvalidOption
        When the suite cannot be: an option that `train` does not have, a dataset that is not declared.
    """
    options = BenchmarkOptions.given(options, fields)
    from deeplense.suites.results import Results
    from deeplense.suites.suite import load_suite
    from deeplense.suites.terminal import print_results

    suite, base = load_suite(options.suite)
    if options.size not in suite.sizes:
        raise UnknownName(f"size of suite {suite.name}", options.size, suite.sizes)
    folder = (options.out or Path("runs") / "benchmark" / suite.name) / options.size
    results = Results(suite, options.suite, options.size, folder)
    chosen = _chosen(results, options.only)
    if options.list:
        print_results([row for row in results.rows() if row.outcomes[0].cell in chosen], everything=True)
        return folder
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InvalidOption(
            "a benchmark within torchrun", "one process per device", "start it without: it takes every device by itself"
        )
    devices = _cuda_devices() if options.device in ("best", "cuda") else []
    if len(devices) > 1:
        _one_process_each(options, devices)
    else:
        _run(results, chosen, base, options)
    rows = results.write()
    print_results(rows)
    _say_what_is_left(rows, folder)
    return folder


def _chosen(results: Results, only: Sequence[str]) -> list[Cell]:
    """Return the cells of the named datasets and methods; where none of a kind is named, of all of them."""
    cells = results.cells()
    datasets, methods = {cell.name for cell in cells}, {cell.method.name for cell in cells}
    for name in only:
        if name not in datasets | methods:
            raise UnknownName(
                f"dataset or method of suite {results.suite.name}, size {results.size},",
                name,
                datasets | methods,
                "check the spelling, or take another --size: this one may leave it out",
            )
    wanted, ways = datasets & set(only) or datasets, methods & set(only) or methods
    return [cell for cell in cells if cell.name in wanted and cell.method.name in ways]


def _run(results: Results, cells: Sequence[Cell], base: Path, options: BenchmarkOptions) -> None:
    """Run what is missing, cell by cell; those that another process holds are left to it.

    In between the table is made anew, as often as takes no more than a small share of the time.
    """
    from deeplense.suites.cell import outcome
    from deeplense.suites.work import Workshop

    written, cost = -math.inf, 0.0
    workshop = Workshop(results.folder, base, options.device, options.pretrained, options.data)
    for place, cell in enumerate(cells, 1):
        if outcome(cell).state == "done":
            continue
        with claimed(cell.folder) as mine:
            if not mine:
                note(f"{cell}: another process is at it")
            elif outcome(cell).state != "done":  # another process may have finished it meanwhile
                note(f"cell {place} of {len(cells)}: {cell}")
                workshop.run(cell)
                if (begin := time.monotonic()) - written > cost / SHARE:
                    results.write()
                    written, cost = time.monotonic(), time.monotonic() - begin


def _cuda_devices() -> list[str]:
    """Return the CUDA devices that this process sees, as a process of its own would name each."""
    import torch

    named = [name for name in os.environ.get(VISIBLE, "").split(",") if name.strip()]
    return named or [str(number) for number in range(torch.cuda.device_count())] if torch.cuda.is_available() else []


def _one_process_each(options: BenchmarkOptions, devices: Sequence[str]) -> None:
    """Run the suite by one process per device; they claim cells from the same folder."""
    line = [sys.executable, "-m", "deeplense", "benchmark", options.suite]
    for name, value in options.as_dict().items():
        if name not in ("suite", "list") and value not in (None, []):
            line += [f"--{name}={item}" for item in (value if isinstance(value, list) else [value])]
    note(f"one process on each of {len(devices)} devices")
    workers = [
        subprocess.Popen(line, stdout=subprocess.DEVNULL, env=os.environ | {VISIBLE: device}) for device in devices
    ]
    try:
        for worker in workers:
            worker.wait()
    except KeyboardInterrupt:
        for worker in workers:
            worker.send_signal(signal.SIGINT)
        for worker in workers:
            worker.wait()
        raise
    for device, worker in zip(devices, workers, strict=True):
        if worker.returncode:
            note(f"the process on device {device} ended with code {worker.returncode}")


def _say_what_is_left(rows: Sequence[Row], folder: Path) -> None:
    """Say how many cells are in which state, and where everything lies."""
    from collections import Counter

    states = Counter(one.state for row in rows for one in row.outcomes)
    words = ", ".join(f"{n} {state}" for state, n in states.items())
    note(f"{states.total()} cells: {words}; all of them in {folder / 'index.html'} and {folder / 'results.csv'}")
    if states["waiting"] + states["begun"] + states["not run"]:
        note("what is missing is tried when the same command is given again")

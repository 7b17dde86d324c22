"""`deeplense train`: dataset × task × model → run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deeplense.core.console import note
from deeplense.core.errors import InvalidOption
from deeplense.core.files import remove_leftovers
from deeplense.core.run_folder import RUNS, RunFolder, find_run, new_run_id
from deeplense.preparation.options import TrainOptions, check_task

__all__ = ["TrainOptions", "train"]


def train(options: TrainOptions | None = None, /, **fields: Any) -> Path:
    """Return the run folder of a trained model; the best epoch on validation is kept.

    Parameters
    ----------
    options
        What to train; or give the fields of `TrainOptions` as keywords.

    Raises
    ------
    UnknownName
        When there is no such dataset, model or option.
    InvalidDataset
        When the dataset cannot serve: too few classes, an empty class or split.
    """
    options = TrainOptions.given(options, fields)
    check_task(options)
    options, run, config = _begin_or_resume(options)
    if run is not None and run.is_finished():
        note(f"run {run.id} is finished: {run.path}")
        return run.path
    from deeplense.preparation import detector, network, resolver
    from deeplense.training.devices import make_accelerator
    from deeplense.training.trackers import require_tracker, start_tracker

    require_tracker(options.tracker)
    accelerator = make_accelerator(options.device, options.precision)
    run = run or _new_run()
    if accelerator.is_main_process:
        remove_leftovers(run.path)
        run.forget_marks()  # of an epoch that is not the last
    if options.task == "detect_anomalies":
        detector.fit(options, run, config, accelerator)
        return run.path
    kind = resolver if options.task == "super_resolve" else network
    trainer, config = kind.prepare(options, run, config, accelerator)
    if accelerator.is_main_process:
        note(f"run {run.id}; if it is interrupted: deeplense train --resume {run.path}")
    with start_tracker(options.tracker, run, config) as tracker:
        trainer.on_epoch = lambda record, answers: tracker.log_epoch(
            record, answers, trainer.validation.targets.numpy(), config["labels"]
        )
        state = trainer.fit()
    if accelerator.is_main_process:
        note(f"best epoch {state.best_epoch}: validation {trainer.task.primary_metric} {state.best:.4f}")
        note(f"run {run.id} is in {run.path}; judge it with: deeplense evaluate {run.path}")
    return run.path


def _begin_or_resume(options: TrainOptions) -> tuple[TrainOptions, RunFolder | None, dict[str, Any]]:
    """Return options, folder (None: still to be named) and record of the run that is to be begun or gone on with.

    Raises
    ------
    InvalidOption
        When --out or --resume names a run that was begun with other options.
    """
    if options.resume is not None:
        run = find_run(options.resume)
        config = run.config()
        before = _asked(run, config)
        default, known = TrainOptions(resume=options.resume).as_dict(), before.as_dict()
        changed = [name for name, value in options.as_dict().items() if value not in (default[name], known[name])]
        if changed:
            raise InvalidOption(
                f"--resume with another {', '.join(changed)}",
                "the options that the run was begun with: they hold",
                "leave them out, or begin a new run",
            )
        return before, run, config
    if options.out is None:
        return options, None, {}
    run = RunFolder(options.out)
    if not run.exists():
        return options, run, {}
    config = run.config()
    known = _asked(run, config).as_dict()
    if different := [name for name, value in options.as_dict().items() if known[name] != value]:
        raise InvalidOption(
            f"{run.path} holds a run with another {', '.join(different)}",
            "the options it was begun with, or a new folder",
            "choose another --out, or remove the folder",
        )
    return options, run, config


def _asked(run: RunFolder, config: dict[str, Any]) -> TrainOptions:
    """Return the options that a run was begun with."""
    try:
        return TrainOptions.from_mapping(config["asked"])
    except (KeyError, TypeError, InvalidOption) as error:
        raise run.odd_config(error) from error


def _new_run() -> RunFolder:
    """Return a run folder with a new id, the same one in every process."""
    from accelerate.utils import broadcast_object_list

    return RunFolder(RUNS / str(broadcast_object_list([new_run_id()])[0]))

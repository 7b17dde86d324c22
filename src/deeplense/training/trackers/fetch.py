"""A run that is on W&B and not here: its configuration, weights and history are fetched."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deeplense.core.console import note
from deeplense.core.errors import InvalidOption, MissingFile
from deeplense.core.files import CannotWrite
from deeplense.core.run_folder import RUNS, RunFolder, find_run
from deeplense.training.trackers.service import reason
from deeplense.training.trackers.tracker import FILES
from deeplense.training.trackers.wandb import WandB, is_logged_in, project, require_network

ASK, DOWNLOAD = 20, 1800  # seconds


def fetch_from_wandb(run_id: str) -> RunFolder | None:
    """Return a run that W&B has, fetched into runs/<id>; None where W&B is not installed or nobody is logged in.

    Only JSON and safetensors are fetched: nothing that could carry code.

    Raises
    ------
    MissingFile
        When W&B cannot be reached, has no such run, or has it without weights that can be read safely.
    CannotWrite
        When the run cannot be stored.
    """
    if not re.fullmatch(r"[\w-][\w.-]*", run_id) or os.environ.get("WANDB_MODE") in ("offline", "disabled", "dryrun"):
        return None
    try:
        wandb = WandB.load()
    except InvalidOption:
        return None
    if not is_logged_in(wandb):
        return None
    where = "/".join(part for part in (os.environ.get("WANDB_ENTITY"), project(), run_id) if part)
    note(f"no run {run_id} here; asking W&B for {where}")
    try:
        require_network(wandb)
        files = {file.name: file for file in wandb.Api(timeout=ASK).run(where).files()}
    except Exception as error:  # the network, the login, no such run: W&B's errors have no common kind
        raise _missing(run_id, f"W&B did not hand out {where} ({reason(error)})") from error
    if absent := [name for name in FILES if not (name in files and files[name].size)]:
        raise MissingFile(
            f"the run {where} on W&B has no {absent[0]}; it has {', '.join(sorted(files)[:8]) or 'no file'}",
            f"{', '.join(FILES)}, as `deeplense train --tracker wandb` stores them",
            "train the model again: weights that are stored as pickle can carry code and are not read",
        )
    return _download(run_id, {name: files[name] for name in FILES}, wandb.Api(timeout=DOWNLOAD))


def _download(run_id: str, files: Mapping[str, Any], api: Any) -> RunFolder:
    """Return the run folder, filled beside its place and then moved there: it is whole or not there."""
    try:
        RUNS.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{run_id}.", suffix=".part", dir=RUNS))
        partial = scratch / run_id  # which, unlike its parent, gets this user's usual permissions
        partial.mkdir()
    except OSError as error:
        raise _unwritable(error) from error
    try:
        for name, file in files.items():
            note(f"fetching {name}, {file.size / 1e6:,.1f} MB")
            file.download(root=str(partial), replace=True, api=api).close()
            if (partial / name).stat().st_size != file.size:
                raise _missing(run_id, f"W&B sent {name} incompletely")
        partial.replace(RUNS / run_id)
    except OSError as error:
        raise _unwritable(error) from error
    except MissingFile:
        raise
    except Exception as error:  # as above
        raise _missing(run_id, f"W&B could not be read to the end ({reason(error)})") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return RunFolder(RUNS / run_id)


def _missing(run_id: str, why: str) -> MissingFile:
    """Return the error that tells the nearest ids here, and why W&B could not help."""
    remedy = "check the id and the network, or set WANDB_ENTITY and WANDB_PROJECT to where the run is"
    try:
        find_run(run_id)
    except MissingFile as here:
        return MissingFile(f"{here.found}, and {why}", here.expected, remedy)
    return MissingFile(why, "a run folder or a run on W&B", remedy)


def _unwritable(error: OSError) -> CannotWrite:
    return CannotWrite(
        f"the run cannot be stored in {RUNS}: {error.strerror or error}",
        "a writable folder with enough free space, and no other folder in the run's place",
        "free some space, or run the command in another folder",
    )

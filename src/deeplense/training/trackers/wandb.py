"""Weights & Biases: a run of the project `deeplense` with our run's id; offline without login."""

from __future__ import annotations

import glob
import netrc
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

from PIL.Image import Image

from deeplense.core.console import note
from deeplense.core.run_folder import RunFolder
from deeplense.training.trackers.service import TRACKERS, Service, reason

PROJECT = "deeplense"
ASK, START, FINISH = 10.0, 30.0, 300.0  # seconds to wait for the network: at all, before training, after it


@TRACKERS.register("wandb")
class WandB(Service):
    """A run in WANDB_PROJECT of WANDB_ENTITY, by default the project `deeplense` of whoever is logged in.

    Without login, or where W&B cannot be reached, it is kept in the run folder's `wandb/`, for `wandb sync`.
    """

    title, package, extra = "W&B", "wandb", "wandb"

    def __init__(self, run: RunFolder, config: Mapping[str, Any], first_epoch: int | None) -> None:
        self._folder = run.path
        self._wandb = self.load()
        mode = os.environ.get("WANDB_MODE") or ("online" if is_logged_in(self._wandb) else "offline")
        self._run = self._start(run, config, mode)
        self.resumes = not self._run.offline
        self._run.define_metric("epoch")
        self._run.define_metric("*", step_metric="epoch")

    def numbers(self, values: Mapping[str, float], epoch: int) -> None:
        """Log values against the epoch."""
        self._run.log({"epoch": epoch, **values})

    def pictures(self, images: Mapping[str, Image], epoch: int) -> None:
        """Log images against the epoch."""
        self._run.log({"epoch": epoch} | {name: self._wandb.Image(image) for name, image in images.items()})

    def file(self, path: Path) -> None:
        """Upload a file of the run."""
        copy = Path(self._run.dir) / path.name  # a link, as W&B makes by itself, would break when the folder moves
        shutil.copyfile(path, copy)
        self._run.save(glob.escape(str(copy)), base_path=str(copy.parent), policy="now")

    def close(self, finished: bool) -> None:
        """Wait until everything is uploaded, for a few minutes at most."""
        self._run.finish(exit_code=0 if finished else 1)

    def _start(self, run: RunFolder, config: Mapping[str, Any], mode: str) -> Any:
        """Return the session; where W&B cannot be reached, one that is kept on disk."""
        why = "as WANDB_MODE says" if "WANDB_MODE" in os.environ else "not logged in"
        if mode == "online":
            try:
                session = self._online(run, config)
            except Exception as error:  # no network, a key that is not valid, no permission
                mode, why = "offline", reason(error)
            else:
                note(f"W&B: {session.url}")
                return session
        later = f"; to send it later: wandb sync {self._folder / 'wandb'}/offline-run-*" if mode == "offline" else ""
        note(f"W&B: {mode} ({why}){later}")
        return self._init(run, config, mode)

    def _online(self, run: RunFolder, config: Mapping[str, Any]) -> Any:
        require_network(self._wandb)
        try:
            return self._init(run, config, "online")
        except Exception:
            self._wandb.teardown(1)  # otherwise the id stays in use
            raise

    def _init(self, run: RunFolder, config: Mapping[str, Any], mode: str) -> Any:
        settings = self._wandb.Settings(
            init_timeout=START,
            finish_timeout=FINISH,
            finish_timeout_raises=True,
            console="off",
            silent=True,
        )
        return self._wandb.init(
            project=project(),
            id=wandb_id(run.id),
            name=run.id,
            resume="allow",
            reinit="create_new",  # a session of the user's own in this process is left alone
            mode=mode,
            dir=str(self._folder),
            group=Path(config["dataset"]["name"]).name,
            job_type="train",
            config=_flat(config),
            settings=settings,
        )


def project() -> str:
    """Return the W&B project of our runs."""
    return os.environ.get("WANDB_PROJECT") or PROJECT


def wandb_id(run_id: str) -> str:
    """Return a run's id on W&B: ours, without the characters that W&B refuses."""
    return re.sub(r"[/\\#?%:]", "-", run_id)


def is_logged_in(wandb: Any) -> bool:
    """Return whether an API key is configured, as WANDB_API_KEY or by `wandb login` in .netrc; asks nobody."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    own = os.environ.get("NETRC")
    paths = [Path(own).expanduser()] if own else [Path.home() / ".netrc", Path.home() / "_netrc"]
    present = [path for path in paths if path.is_file()]
    # the public service has had two addresses, and a key for the older one is good for both
    return any(_has_entry(path, host) for path in present for host in (urlsplit(_url(wandb)).netloc, "api.wandb.ai"))


def require_network(wandb: Any) -> None:
    """Return if the service answers; W&B itself would go on trying for minutes.

    Raises
    ------
    OSError
        When it does not.
    """
    url = _url(wandb)
    try:
        urlopen(url, timeout=ASK).close()
    except HTTPError as answer:  # whatever it says, it is there
        answer.close()
    except URLError as error:
        raise OSError(f"no answer from {url}: {error.reason}") from error


def _url(wandb: Any) -> str:
    return os.environ.get("WANDB_BASE_URL") or str(wandb.setup().settings.base_url)


def _has_entry(path: Path, host: str) -> bool:
    try:
        return host in netrc.netrc(path).hosts
    except (OSError, netrc.NetrcParseError):
        return False


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's record with its options at the top, where W&B's tables and filters look for them."""
    return {key: value for key, value in config.items() if key not in ("options", "dataset", "model")} | {
        **config["options"],
        "parameters": config["model"].get("parameters"),
    }

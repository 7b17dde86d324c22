"""MLflow: a run of the experiment `deeplense`, on the server or in the local store that MLflow itself would use."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL.Image import Image

from deeplense.core.console import note
from deeplense.core.run_folder import RunFolder
from deeplense.training.trackers.service import TRACKERS, Service

EXPERIMENT = "deeplense"
TAG = "deeplense_run_id"
# MLflow would try an unreachable server for many minutes, and training would wait
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}


@TRACKERS.register("mlflow")
class MLflow(Service):
    """A run that carries our run's id as its name and as a tag, by which a later session finds it again.

    MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME say where; by default the local store, experiment `deeplense`.
    """

    title, package, extra = "MLflow", "mlflow", "mlflow"

    def __init__(self, run: RunFolder, config: Mapping[str, Any], first_epoch: int | None) -> None:
        for name, value in PATIENCE.items():
            os.environ.setdefault(name, value)
        self._client = self.load().MlflowClient()
        experiment = self._experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT)
        tag = run.id.replace("'", "_")
        known = self._client.search_runs([experiment], f"tags.{TAG} = '{tag}'", max_results=1)
        if known:
            self._id = known[0].info.run_id
            if first_epoch is not None:
                self._client.update_run(self._id, status="RUNNING")
        else:
            self._id = self._client.create_run(experiment, run_name=run.id, tags={TAG: tag}).info.run_id
            self._describe(config)
        if first_epoch is not None:
            note(f"MLflow: run {run.id} in {self._client.tracking_uri}")

    def numbers(self, values: Mapping[str, float], epoch: int) -> None:
        """Log metrics, all in one request."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(self._id, [Metric(_key(name), value, now, epoch) for name, value in values.items()])

    def pictures(self, images: Mapping[str, Image], epoch: int) -> None:
        """Log images by epoch."""
        for name, image in images.items():
            self._client.log_image(self._id, image, key=_key(name), step=epoch)

    def file(self, path: Path) -> None:
        """Log an artifact."""
        self._client.log_artifact(self._id, str(path))

    def close(self, finished: bool) -> None:
        """Set the run's status."""
        self._client.set_terminated(self._id, "FINISHED" if finished else "FAILED")

    def _experiment(self, name: str) -> str:
        """Return the id of the experiment called `name`, made where there is none."""
        known = self._client.get_experiment_by_name(name)
        return str(known.experiment_id if known is not None else self._client.create_experiment(name))

    def _describe(self, config: Mapping[str, Any]) -> None:
        """Log the options and what came of them as parameters."""
        from mlflow.entities import Param

        facts = {key: value for key, value in config.items() if isinstance(value, str | int | float | list)}
        described = {**facts, **config["options"]}
        self._client.log_batch(self._id, params=[Param(_key(name), str(value)) for name, value in described.items()])


def _key(name: str) -> str:
    """Return a name of the characters that MLflow takes; a class may be called anything."""
    return re.sub(r"[^A-Za-z0-9_\-./ ]", "_", name)

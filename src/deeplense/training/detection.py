"""How a detector of anomalies is made: fitted to normal images, then calibrated on others that it has not seen."""

from __future__ import annotations

import time

import torch
from safetensors.torch import save

from deeplense.core.files import atomic
from deeplense.core.run_folder import RunFolder
from deeplense.detectors.calibrated import CalibratedDetector
from deeplense.detectors.detector import Effort, Normals, Scores

BATCH = 256


def fit_detector(
    network: CalibratedDetector, normals: Normals, held_out: Normals, effort: Effort, run: RunFolder
) -> None:
    """Fit and calibrate a detector, and write it to its run; interrupted, it begins again.

    Parameters
    ----------
    network
        The detector, as it was built.
    normals, held_out
        Normal images to fit to, and others to calibrate on.
    effort
        How it learns.
    run
        Where the record goes.
    """
    begin = time.monotonic()
    network.expect(len(normals) + len(held_out))
    network.train()
    network.detector.fit(normals, effort)
    network.eval()
    fitted = time.monotonic()
    network.calibrate(_scores(network, held_out))
    weights = {name: value.contiguous().cpu() for name, value in network.state_dict().items()}
    record = {"fit_seconds": fitted - begin, "seconds": time.monotonic() - begin}
    run.write_history([{"epoch": 1, "images_per_second": len(normals) / record["fit_seconds"]} | record])
    with atomic(run.weights) as temporary:
        temporary.write_bytes(save(weights))


@torch.inference_mode()
def _scores(network: CalibratedDetector, images: Normals) -> Scores:
    return torch.cat([network.detector.score(batch) for batch in images.in_order(BATCH)])

"""A short audit before every training: only what would spoil what the network is about to learn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deeplense.auditing import arrangement, pixels
from deeplense.auditing.audited import arrays, of_groups, of_images, some_of
from deeplense.auditing.columns import Rows, predictive, shifted
from deeplense.auditing.finding import Finding, ordered
from deeplense.core.errors import DeepLenseError
from deeplense.data.dataset import Dataset
from deeplense.data.features import roles_of

IMAGES = 256
"""Looked at; what 256 images do not show is for `deeplense data audit`."""


def before_training(dataset: Dataset, inputs: Sequence[str] = ()) -> list[Finding]:
    """Return the leaks and warnings that matter to a network, leaks first; nothing where all is well.

    Columns are looked at in full, of the images a sample, in some seconds at most. Images that are drawn when they are
    asked for are not looked at. A stamp that cannot be read is a finding, never an error.

    Parameters
    ----------
    dataset
        What it is to learn.
    inputs
        Columns that it reads beside the images; all others, truth among them, it cannot see.
    """
    if not len(dataset):
        return []
    table = dataset.catalogue
    ids = [str(name) for name in table["id"].to_pylist()]
    rows = Rows(dataset.targets(), dataset.labels, np.array(dataset.splits(), dtype=object))
    columns = arrays(table, list(inputs))
    findings = predictive(columns, rows) + shifted(columns, rows) + arrangement.repeated_ids(ids)
    findings += of_groups(table, roles_of(dataset), rows)
    if dataset.path.exists():
        findings += _of_images(dataset, rows, ids)
    return [finding for finding in ordered(findings) if finding.severity != "note"]


def _of_images(dataset: Dataset, rows: Rows, ids: list[str]) -> list[Finding]:
    try:
        found = pixels.survey(dataset, some_of(len(dataset), IMAGES), lambda n: None)
    except DeepLenseError as error:  # of all of them; training will say the same where it matters
        return [Finding("unreadable", "warning", "images", f"none of {IMAGES} can be read: {error.found}")]
    return of_images(found, rows, ids)

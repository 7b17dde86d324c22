"""A survey's objects, ranked by how likely each is a lens: a row for each, or the reason why it has no rank."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float32, Float64, Int64

from deeplense.core.errors import DeepLenseError, InvalidDataset, InvalidOption
from deeplense.core.files import sha256
from deeplense.data.readers.stamps import Stamps
from deeplense.data.transforms import fit_normalisation
from deeplense.metrics.calibrated import calibrated, pooled, read_calibration
from deeplense.metrics.survey import shifted_prior
from deeplense.metrics.temperature import logits_of, softmax
from deeplense.tasks.find_lenses import LENS
from deeplense.training.committee import names_of
from deeplense.training.trained import TrainedModel
from deeplense.version import __version__

SAMPLE = 512  # stamps by which the stretch is fitted to a survey
NO_STAMP = "no stamp in every band"


@dataclass(frozen=True)
class Finder:
    """A run that finds lenses, and how its probabilities are made honest.

    Parameters
    ----------
    model
        The run.
    known
        How its probabilities are made honest: see `read_calibration`.
    prior
        Share of lenses among the images that it has learnt from, as it has seen them.
    trained
        Share of lenses among the images that its calibrated probabilities are for.
    """

    model: TrainedModel
    known: Mapping[str, Any]
    prior: float
    trained: float

    @classmethod
    def of(cls, model: TrainedModel) -> Finder:
        """Return a run as a finder.

        Raises
        ------
        InvalidOption
            When it does not know the class `lens`.
        CorruptFile
            When its calibration is damaged.
        """
        if LENS not in model.labels or model.task.pairs or not model.task.has_temperature:
            raise InvalidOption(
                f"a catalogue with the run {model.run.id}, of the classes {', '.join(model.labels) or 'none'}",
                "a run of --task find_lenses, or a classifier with a class 'lens'",
                "name another run, or predict the images themselves: `deeplense predict RUN stamps/`",
            )
        known = read_calibration(model.run) if len(model.labels) == 2 else {}  # of more classes lens is one
        try:
            prior = float(model.config["options"]["shares"][model.labels.index(LENS)])
        except (KeyError, TypeError, IndexError, ValueError) as error:
            raise model.run.odd_config(error) from error
        return cls(model, known, prior, float(known.get("prevalence", prior)))

    @property
    def calibration(self) -> str:
        """How its probabilities are made honest."""
        return next((name for name in ("isotonic", "temperature") if name in self.known), "none")

    def stretched_to(self, survey: Stamps) -> Finder:
        """Return the finder with its stretch fitted to a survey of other units or noise; nothing there is unlike."""
        rows = np.linspace(0, len(survey) - 1, min(SAMPLE, len(survey))).astype(np.int64)
        taken = [self.taken(image, survey) for image, _ in (_read(survey, int(row)) for row in rows)]
        if not (found := [image for image in taken if not isinstance(image, str)]):
            raise InvalidDataset(f"no stamp of {survey.path} can be read", "images to fit the stretch to", "check them")
        kind = self.model.normalisation.kind
        fitted = fit_normalisation(kind, torch.from_numpy(np.stack(found)))
        return replace(
            self, model=replace(self.model, normalisation=fitted, config=self.model.config | {"familiar": {}})
        )

    def taken(self, image: Float32[np.ndarray, "C H W"] | str, survey: Stamps) -> Float32[np.ndarray, "c h w"] | str:
        """Return a stamp as the network takes it, or why it does not."""
        if isinstance(image, str):
            return image
        try:
            return self.model.taken(image, survey.bands, survey.path)
        except InvalidDataset as error:
            return f"{error.found}; expected {error.expected}"

    def evidence(self, log_odds: Float64[np.ndarray, " N"]) -> Float64[np.ndarray, " N"]:
        """Return by how much its answers speak for a lens, whatever the share of lenses that it has learnt from."""
        temperature = float(self.known.get("temperature", 1.0))
        return log_odds / temperature - math.log(self.prior / (1 - self.prior))

    def probabilities(self, log_odds: Float64[np.ndarray, " N"], prevalence: float) -> Float64[np.ndarray, " N"]:
        """Return what its answers are worth where lenses are as common as in a survey; NaN stays NaN."""
        return shifted_prior(calibrated(_two(log_odds), self.known, 1)[:, 1], self.trained, prevalence)


class Ranked(NamedTuple):
    """A table of candidates.

    Attributes
    ----------
    table
        A row per object, the likeliest lens first.
    rows
        Of each, its row in the catalogue.
    """

    table: pa.Table
    rows: Int64[np.ndarray, " N"]


def rank_candidates(
    finders: Sequence[Finder],
    survey: Stamps,
    prevalence: float | None,
    batch_size: int,
    advance: Callable[[int], None],
    joint: Mapping[str, Any] | None = None,
) -> Ranked:
    """Return one row per object of a catalogue, the likeliest lens first, those without an answer last.

    Of several finders the probability is what they say together, see `pooled`.

    Parameters
    ----------
    finders
        One run or more.
    survey
        The catalogue and its stamps.
    prevalence
        Share of lenses in the survey; None for that of the first finder's training.
    batch_size
        Images at a time.
    advance
        Is told how many more objects are done.
    joint
        How the probabilities of several together are made honest: see `read_calibration`; None for as they are.

    Raises
    ------
    InvalidDataset
        When the catalogue lacks a column that a finder reads.
    """
    n = survey.table.num_rows
    log_odds = np.full((len(finders), n), np.nan)
    errors: list[str | None] = [NO_STAMP] * n
    unlike: list[str | None] = [None] * n
    masked = np.zeros(n, np.int64)
    for first in range(0, len(survey), batch_size):
        rows = np.arange(first, min(first + batch_size, len(survey)))
        read = [_read(survey, int(row)) for row in rows]
        for row, (stamp, pixels) in zip(rows, read, strict=True):
            place = survey.rows[row]
            masked[place], errors[place] = pixels, stamp if isinstance(stamp, str) else None
        for finder, own in zip(finders, log_odds, strict=True):
            _score(finder, survey, (rows, [stamp for stamp, _ in read]), own, (errors, unlike))
        advance(len(rows))
    aim = default_prevalence(finders, joint) if prevalence is None else prevalence
    each = [finder.probabilities(own, aim) for finder, own in zip(finders, log_odds, strict=True)]
    evidence = np.mean([finder.evidence(own) for finder, own in zip(finders, log_odds, strict=True)], axis=0)
    if len(finders) == 1:
        p = each[0]
    elif joint:
        together = pooled([_two(own) for own in log_odds], [finder.known for finder in finders])
        p = shifted_prior(calibrated(together, joint, 1)[:, 1], joint["prevalence"], aim)
    else:
        p = _two(evidence + math.log(aim / (1 - aim)))[:, 1]
    # many are certain: of equal probabilities the stronger evidence comes first
    order = np.lexsort((np.arange(n), -np.nan_to_num(evidence, nan=-np.inf), -np.nan_to_num(p, nan=-1)))
    ranked = np.isfinite(p)[order]
    columns: dict[str, Any] = {
        "rank": pa.array(np.arange(1, n + 1), mask=~ranked),
        "id": pa.array(survey.ids).take(order),
        **{name: survey.table[name].take(order) for name in survey.roles_of_table.of("position")},
        "p_lens": pa.array(p[order], mask=~ranked),
        "prevalence": np.full(n, aim),
        **_of_each(finders, _two(log_odds.ravel())[:, 1].reshape(log_odds.shape), each, order),
        "unlike": pa.array(unlike, pa.string()).take(order),
        "masked_pixels": masked[order],
        "error": pa.array(errors, pa.string()).take(order),
    }
    if any(finder.model.used_truth for finder in finders):
        columns["truth_features_used"] = np.ones(n, bool)
    return Ranked(pa.table(columns), order)


def _of_each(
    finders: Sequence[Finder], scores: Float64[np.ndarray, "M N"], each: Sequence[Any], order: Int64[np.ndarray, " N"]
) -> dict[str, pa.Array[Any]]:
    """Return the score of the run, or score and probability of each of several."""
    if len(finders) == 1:
        return {"score": _nullable(scores[0][order])}
    columns: dict[str, pa.Array[Any]] = {}
    names = names_of([finder.model.run for finder in finders])
    for name, score, p in zip(names, scores, each, strict=True):
        columns |= {f"score_{name}": _nullable(score[order])}
        columns |= {f"p_lens_{name}": _nullable(np.asarray(p)[order])}
    return columns


def _calibrations(finders: Sequence[Finder]) -> list[str]:
    """Return how the probability of each is made honest; several are pooled after their temperatures alone."""
    if len(finders) == 1:
        return [finders[0].calibration]
    return ["temperature" if "temperature" in finder.known else "none" for finder in finders]


def _two(log_odds: Float64[np.ndarray, " N"]) -> Float64[np.ndarray, "N 2"]:
    """Return the probabilities of no lens and of a lens; both keep their digits where the other is nearly 1."""
    return softmax(np.stack([np.zeros_like(log_odds), log_odds], axis=1))


def _nullable(values: Float64[np.ndarray, " N"]) -> pa.Array[Any]:
    found: pa.Array[Any] = pa.array(values, mask=~np.isfinite(values))
    return found


def _read(survey: Stamps, row: int) -> tuple[Float32[np.ndarray, "C H W"] | str, int]:
    """Return a stamp and its masked pixels, or why it cannot be read."""
    try:
        return survey.stamp(row)
    except DeepLenseError as error:
        return f"{error.found}; expected {error.expected}", 0


def _score(
    finder: Finder,
    survey: Stamps,
    read: tuple[Int64[np.ndarray, " B"], Sequence[Float32[np.ndarray, "C H W"] | str]],
    log_odds: Float64[np.ndarray, " N"],
    said: tuple[list[str | None], list[str | None]],
) -> None:
    """Fill in what a finder says of some rows of the survey, each in its place in the catalogue: scores, words."""
    rows, (errors, unlike) = read[0], said
    stamps = [finder.taken(stamp, survey) for stamp in read[1]]
    good = np.array([not isinstance(stamp, str) for stamp in stamps])
    places = [survey.rows[row] for row in rows]
    for place, stamp in zip(places, stamps, strict=True):
        if isinstance(stamp, str):
            errors[place] = stamp
    if not good.any():
        return
    batch = np.stack([stamp for stamp in stamps if not isinstance(stamp, str)])
    answers = finder.model.answer(batch, finder.model.features(survey, rows[good]))
    words = finder.model.unfamiliar(batch)
    lens = finder.model.labels.index(LENS)
    logits = logits_of(np.stack([np.delete(answers, lens, axis=1).sum(axis=1), answers[:, lens]], axis=1))
    odds = np.where(np.isfinite(answers).all(axis=1), logits[:, 1] - logits[:, 0], np.nan)
    for row, answer, word in zip(np.flatnonzero(good), odds, words, strict=True):
        log_odds[places[row]] = answer
        unlike[places[row]] = unlike[places[row]] or word
        if not np.isfinite(answer):
            errors[places[row]] = "the network's answer is not a number; expected pixel values like those of training"


def default_prevalence(finders: Sequence[Finder], joint: Mapping[str, Any] | None) -> float:
    """Return the share of lenses that probabilities are for where no survey's is named."""
    return float(joint["prevalence"]) if joint else finders[0].trained


def facts_of(
    finders: Sequence[Finder], prevalence: float | None, joint: Mapping[str, Any] | None
) -> dict[str, str | float]:
    """Return what must be known of a table of candidates: whose answers they are, and for which prevalence."""
    first = finders[0].model
    model = first.config.get("model") or {}
    return {
        "RUN": " ".join(finder.model.run.id for finder in finders),
        "MODEL": str(model.get("name", "")),
        "WEIGHTS": " ".join(sha256(finder.model.run.weights)[:16] for finder in finders),
        "SOFTWARE": f"deeplense {__version__}",
        "PREVAL": default_prevalence(finders, joint) if prevalence is None else prevalence,
        "CALIBRAT": "isotonic" if joint else " ".join(_calibrations(finders)),
        "TRUTH": "used" if any(finder.model.used_truth for finder in finders) else "not used",
    }

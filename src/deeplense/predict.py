"""`deeplense predict`: run × new images → a table with one row per image; of super-resolution also finer images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, fields
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from deeplense.core.config import Bounds, Config, Count, Positive, part_of
from deeplense.core.console import note, progress
from deeplense.core.errors import DeepLenseError, InvalidOption, MissingFile
from deeplense.core.files import atomic

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from jaxtyping import Int64

    from deeplense.core.run_folder import RunFolder
    from deeplense.data.readers.stamps import Stamps


MEANT_FOR = {  # options that mean something to some kinds of input only
    "maps": ("images",),
    **dict.fromkeys(("flux_convention", "rescale", "figures"), ("images to super-resolve",)),
    **dict.fromkeys(("images", "committee", "prevalence", "own_stretch"), ("a catalogue",)),
    **dict.fromkeys(("shard", "bands"), ("images", "a catalogue")),
    **dict.fromkeys(("known_lenses", "match_radius", "mosaic", "top"), ("a catalogue",)),
}


class UnreadableImages(DeepLenseError):
    """Some images could not be read; the table holds the others."""


class ContradictedImages(DeepLenseError):
    """Some finer images, made coarse again, are not what was observed; all are written."""


@dataclass(frozen=True)
class PredictOptions(Config):
    """What `deeplense predict` can be told.

    Parameters
    ----------
    run_id
        Id or folder of the run.
    files
        Images (.npy, .png, .jpg; to super-resolve .fits, .fits.gz, .npy), or folders that are searched for them. To
        find lenses also one catalogue, a table (.csv, .parquet, .ecsv, .vot, .fits) with a stamp for each row.
    out
        Table to write, .csv or .parquet; by default predictions.csv. Of a catalogue also .fits or .vot; by default
        candidates.csv. To super-resolve: a file for one file, or a folder, by default super_resolved; the table
        predictions.csv lies in it or beside the file.
    maps
        Folder for a map of where each image is strange, NAME.fits and NAME.png; of detectors that can say.
    flux_convention
        What super-resolved values are: surface_brightness, per coarse pixel as before (the default), or flux, which
        finer pixels share.
    rescale
        Before super-resolution, bring each image linearly to the smallest and largest pixel of training images, and
        the answer back (min_max), or take it as it is (none). By default min_max if the run has learnt images scaled
        to [0, 1] and this image is not like them.
    images
        Of a catalogue: the folder of its stamps, where that is not its own.
    committee
        Of a catalogue: other runs that are asked, too; the probability is that of their mean evidence.
    prevalence
        Of a catalogue: the share of lenses in the survey, for which probabilities are given; by default as in training.
    own_stretch
        Of a catalogue: fit the stretch of pixel values to these stamps, which are of another unit or noise than those
        of training. Nothing is unlike then.
    bands
        The bands of these images that the run takes, in the order of training, by name or by number from 1; by default
        those of training, as they lie.
    known_lenses
        Of a catalogue: lenses that are known, a table with positions, or lenscat (the package of that name).
    match_radius
        With --known-lenses, the largest separation [arcsec].
    mosaic
        Of a catalogue: HTML page to write, with the images at the top of the ranking.
    top
        With --mosaic, how many.
    shard
        "i/N": answer part i of N (from 1) of the images or of the catalogue's rows, and leave the others to other jobs.
    figures
        Folder for a picture of each super-resolved image beside the coarse one and bicubic interpolation, NAME.png.
    batch_size
        Images at a time.
    device
        Where to compute; best takes CUDA, then MPS, then the CPU.
    """

    run_id: str
    files: tuple[Path, ...]
    _: KW_ONLY
    out: Path | None = None
    maps: Path | None = None
    flux_convention: Literal["surface_brightness", "flux"] | None = None
    rescale: Literal["none", "min_max"] | None = None
    images: Path | None = None
    committee: tuple[str, ...] = ()
    prevalence: Annotated[float | None, Bounds(1e-9, 1 - 1e-9)] = None
    own_stretch: bool = False
    bands: tuple[str, ...] = ()
    known_lenses: str | None = None
    match_radius: Positive = 1.0
    mosaic: Path | None = None
    top: Count = 100
    shard: str | None = None
    figures: Path | None = None
    batch_size: Count = 256
    device: Literal["best", "cuda", "mps", "cpu"] = "best"

    @property
    def part(self) -> tuple[int, int]:
        """Which part of how many."""
        return part_of(self.shard)


def predict(options: PredictOptions | None = None, /, **fields: Any) -> Path:
    """Return the path of a table with one row per image: file, the answer's columns, unlike, error.

    A classifier answers with its prediction and the probability of each class; a detector of anomalies with score,
    p-value and q-value, the false discovery rate among these images at which each would be a discovery.
    An image that cannot be read gets a row that says why, and does not stop the others. An image that is unlike those
    of training is told of in the column `unlike`: a network answers it just as surely.

    Of a catalogue the table is ranked, the likeliest lens first: id and position, the calibrated probability and the
    prevalence that it is for, the score of the run, known lenses nearby, masked pixels.

    A run of super-resolution answers with files of finer images, their σ and masks, and the table says of each χ² per
    pixel of what it is made coarse again, the ratio of fluxes, and how many pixels were masked.

    Parameters
    ----------
    options
        What to predict; or give the fields of `PredictOptions` as keywords.

    Raises
    ------
    MissingFile
        When there is no such run or file.
    UnreadableImages
        After the table is written, when some images could not be read.
    ContradictedImages
        After all is written, when an estimate of the noise-free image contradicts what was observed.
    """
    options = PredictOptions.given(options, fields)
    from deeplense.training.trained import locate_run

    run = locate_run(options.run_id)
    if run.config().get("task") == "super_resolve":
        what, answer = "images to super-resolve", _super_resolve
    elif _is_catalogue(options):
        what, answer = "a catalogue", _find
    else:
        what, answer = "images", _answer
    _check_options(options, what)
    return answer(options, run)


def _is_catalogue(options: PredictOptions) -> bool:
    """Return whether one table is named, with its stamps."""
    from deeplense.data.tables import TABLES, is_table

    if len(options.files) != 1:
        return False
    path = options.files[0]
    return path.suffix.lower() in TABLES and (options.images is not None or is_table(path) or not path.is_file())


def _check_options(options: PredictOptions, what: str) -> None:
    """Refuse options that mean nothing to what is asked for."""
    for field in fields(options):
        kinds = MEANT_FOR.get(field.name)
        if kinds is not None and what not in kinds and getattr(options, field.name) != field.default:
            raise InvalidOption(
                f"--{field.name.replace('_', '-')} with {what} and the run {options.run_id}",
                f"{' or '.join(kinds)}",
                "leave it out",
            )


def _super_resolve(options: PredictOptions, run: RunFolder) -> Path:
    """Write the finer images; return the path of their table."""
    import pyarrow as pa

    from deeplense.training.trained import TrainedModel
    from deeplense.training.upscaled_files import COLUMNS, upscale_files
    from deeplense.training.upscaled_sources import plan
    from deeplense.training.upscaling import HIGHEST_CHI2, LEAST_CHI2, Upscaling

    jobs, out = plan(options.files, options.out or Path("super_resolved"))
    upscaling = Upscaling(TrainedModel.load(run, options.device), options.rescale, options.batch_size)
    rows = upscale_files(upscaling, jobs, options.flux_convention or "surface_brightness", options.figures)
    _write(pa.Table.from_pylist(rows, COLUMNS), out)
    note(f"{len(rows):,} rows are in {out}")
    contradicted = [row["chi2"] for row in rows if row["consistent"] is False]
    error = ContradictedImages(
        f"{len(contradicted)} of {len(rows)} super-resolved images contradict what was observed: made coarse again, "
        f"they differ from it by χ² of up to {max(contradicted, default=0):.3g} per pixel",
        f"at most {HIGHEST_CHI2:g}, and a little more where there are few pixels",
        f"do not trust them (column 'consistent' of {out}): the noise or the optics of these images are not those of "
        "training, or the run has learnt too little",
    )
    noisy = sum(row["consistent"] is True and row["chi2"] < LEAST_CHI2 for row in rows)
    if noisy:
        note(f"{noisy:,} of {len(rows):,} still have the noise of what was observed: χ² per pixel below {LEAST_CHI2:g}")
    if contradicted:
        note(error.found)  # also where images that could not be read are the error
    _tell(out, [row["unlike"] for row in rows], [row["error"] for row in rows])
    if contradicted:
        raise error
    return out


def _answer(options: PredictOptions, run: RunFolder) -> Path:
    """Write a row of answers for each image; return the path of the table."""
    out = options.out or Path(f"predictions{_of_part(options)}.csv")
    if out.suffix not in (".csv", ".parquet"):
        raise InvalidOption(f"--out {out}", "a name that ends in .csv or .parquet", "change --out")
    from deeplense.training.answering import answer_files, answer_table
    from deeplense.training.trained import TrainedModel

    number, of = options.part
    files = list(islice(_expand(options.files), number - 1, None, of))
    if not files:
        raise InvalidOption(f"part {number} of {of} has no image", "one at least", "divide them into fewer parts")
    if options.maps is not None:
        _check_names(files)
    model = TrainedModel.load(run, options.device).with_bands(options.bands)
    if model.needs_features:
        raise InvalidOption(
            f"images alone with the run {run.id}, which also reads {', '.join(model.feature_names)}",
            "one catalogue with these columns, and its stamps",
            "`deeplense predict RUN catalogue.csv --images stamps/`, or a run that reads images alone",
        )
    model.expect(len(files))
    parts = []
    with progress("predicting", len(files)) as advance:
        for first in range(0, len(files), options.batch_size):
            batch = files[first : first + options.batch_size]
            parts.append(answer_files(model, batch, options.maps))
            advance(len(batch))
    whole = answer_table(model, files, parts)
    _write(whole, out)
    note(f"{len(files):,} rows are in {out}")
    _tell(out, whole["unlike"].to_pylist(), whole["error"].to_pylist())
    return out


def _find(options: PredictOptions, run: RunFolder) -> Path:
    """Write the ranked table of a catalogue's objects, and the page of its top; return the table's path."""
    from deeplense.data.readers.stamps import Stamps
    from deeplense.data.tables import WRITTEN, write_table
    from deeplense.metrics.calibrated import read_calibration
    from deeplense.training.candidates import Finder, facts_of, rank_candidates
    from deeplense.training.committee import members_of
    from deeplense.training.known_lenses import KnownLenses
    from deeplense.training.trained import TrainedModel, locate_run

    out = options.out or Path(f"candidates{_of_part(options)}.csv")
    if out.suffix.lower() not in WRITTEN:
        raise InvalidOption(f"--out {out}", f"a name that ends in {', '.join(WRITTEN)}", "change --out")
    named = [run, *map(locate_run, options.committee)]
    runs = [member for one in named for member in members_of(one)]
    judged = read_calibration(run) if len(runs) > len(named) == 1 else {}  # of a committee
    joint = judged if "isotonic" in judged else None
    finders = [Finder.of(TrainedModel.load(one, options.device).with_bands(options.bands)) for one in runs]
    survey = Stamps(options.files[0], images=options.images, part=options.part)
    for sentence in survey.problems:
        note(sentence)
    known = None if options.known_lenses is None else KnownLenses.read(options.known_lenses)
    if known is not None:
        known.require_positions(survey.table)  # now, not after hours of work
    if options.own_stretch:
        finders = [finder.stretched_to(survey) for finder in finders]
    with progress("looking for lenses", len(survey)) as advance:
        table, rows = rank_candidates(finders, survey, options.prevalence, options.batch_size, advance, joint)
    if known is not None:
        table = known.mark(table, options.match_radius)
    write_table(table, out, facts_of(finders, options.prevalence, joint))
    if options.mosaic is not None:
        _write_mosaic(options, table, survey, rows)
    note(f"{table.num_rows:,} rows are in {out}")
    if "truth_features_used" in table.column_names:
        note("columns that no survey can measure were read: these ranks mean nothing for real objects")
    _tell(out, table["unlike"].to_pylist(), table["error"].to_pylist())
    return out


def _write_mosaic(options: PredictOptions, table: pa.Table, survey: Stamps, rows: Int64[np.ndarray, " N"]) -> None:
    """Write the page of the images at the top of the ranking; one that has gone since is left out."""
    from deeplense.pages.mosaic import render

    assert options.mosaic is not None  # asked for by those who know
    place_of = {row: place for place, row in enumerate(survey.rows)}
    shown, images = [], []
    for candidate, row in zip(table.slice(0, options.top).to_pylist(), rows[: options.top].tolist(), strict=True):
        if candidate["rank"] is None:
            break
        try:
            images.append(survey.images([place_of[row]])[0])
            shown.append(candidate)
        except DeepLenseError as error:
            note(f"{candidate['id']} is not shown: {error.found}")
    page = render(options.run_id, str(options.files[0]), shown, images, table.num_rows)
    with atomic(options.mosaic) as temporary:
        temporary.write_text(page, encoding="utf-8")
    note(f"the first {len(images):,} are shown in {options.mosaic}")


def _of_part(options: PredictOptions) -> str:
    """Return what the name of a table says of the part that it is."""
    return "" if options.shard is None else "-{}-of-{}".format(*options.part)


def _tell(out: Path, unlike: Sequence[str | None], errors: Sequence[str | None]) -> None:
    """Say how many images are strange, and raise where some could not be read."""
    strange = [word for word in unlike if word is not None]
    if strange:
        note(
            f"{len(strange):,} of {len(unlike):,} unlike the training images, not to be trusted (column 'unlike'): "
            f"{strange[0]}"
        )
    failed = len(errors) - errors.count(None)
    if failed:
        raise UnreadableImages(
            f"{failed} of {len(errors)} images could not be read",
            "images like those of the training set",
            f"read the column 'error' of {out}; the other rows are sound",
        )


def _expand(paths: tuple[Path, ...]) -> Iterator[Path]:
    """Yield every image file: files as given, folders searched in sorted order."""
    from deeplense.data.readers.files import SUFFIXES

    for path in paths:
        if path.is_dir():
            found = sorted(entry for entry in path.rglob("*") if entry.suffix.lower() in SUFFIXES)
            if not found:
                raise MissingFile(
                    f"no image is below {path}", f"files ending in {', '.join(SUFFIXES)}", "check the folder"
                )
            yield from found
        elif path.exists():
            yield path
        else:
            raise MissingFile(f"there is no file {path}", "an image or a folder of images", "check the path")
    if not paths:
        raise InvalidOption("no image is named", "at least one file or folder", "add it after the run")


def _check_names(files: list[Path]) -> None:
    """Refuse files whose maps would have the same name."""
    from collections import Counter

    name, n = Counter(path.stem for path in files).most_common(1)[0]
    if n > 1:
        raise InvalidOption(f"--maps for {n} files called {name}", "a name for each map", "predict them apart")


def _write(table: pa.Table, out: Path) -> None:
    import pyarrow.csv
    import pyarrow.parquet as pq

    with atomic(out) as temporary:
        if out.suffix == ".csv":
            pyarrow.csv.write_csv(table, temporary)
        else:
            pq.write_table(table, temporary)

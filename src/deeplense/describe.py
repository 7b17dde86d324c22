"""`deeplense data …` and `deeplense models`: what is this dataset, what models are there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from deeplense.core.config import Bounds, Config, Count
from deeplense.core.console import note, progress, table
from deeplense.core.errors import DeepLenseError, InvalidOption, UnknownName
from deeplense.core.files import atomic
from deeplense.core.run_folder import find_run, shipped_runs

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float32, Int64

    from deeplense.auditing.audited import Audit
    from deeplense.data.dataset import Dataset

SAMPLE = 1024
Layout = Literal["npy_tree", "challenge"]


@dataclass(frozen=True)
class MontageOptions(Config):
    """What `deeplense data montage` can be told.

    Parameters
    ----------
    dataset
        Recipe or path.
    out
        Picture to write: .png, .pdf or .svg.
    per_class
        Images of each class.
    split
        Which images; by default those of every split.
    """

    dataset: str
    _: KW_ONLY
    out: Path = Path("montage.png")
    per_class: Annotated[int, Bounds(1, 64)] = 6
    split: str | None = None


@dataclass(frozen=True)
class AuditOptions(Config):
    """What `deeplense data audit` can be told.

    Parameters
    ----------
    dataset
        Recipe, path, or a table (CSV, Parquet, FITS, …) alone.
    out
        Page to write; the same findings are in a CSV file beside it.
    sample
        Most images to look at.
    """

    dataset: str
    _: KW_ONLY
    out: Path = Path("audit.html")
    sample: Count = 50_000


def info(dataset: str) -> dict[str, Any]:
    """Return and print what a dataset holds: classes, counts, shapes, ranges, splits, problems.

    Parameters
    ----------
    dataset
        Recipe or path.
    """
    import numpy as np

    opened = _open(dataset)
    splits, labels = opened.splits(), opened.catalogue["label"].to_pylist()
    counts = Counter(zip(labels, splits, strict=True))
    rows = np.unique(np.linspace(0, len(opened) - 1, min(SAMPLE, len(opened))).astype(np.int64))
    pixels, refused = _images(opened, rows)
    facts: dict[str, Any] = {
        "path": str(opened.path),
        "layout": opened.layout,
        "images": len(opened),
        "image_shape": list(opened.image_shape),
        "bands": list(opened.bands),
        "labels": list(opened.labels),
        "pixels": {"min": float(pixels.min()), "median": float(np.median(pixels)), "max": float(pixels.max())},
        "pixels_sampled_from": len(pixels),
        "columns": opened.catalogue.column_names,
        "problems": [*_problems(opened, counts), *refused],
    }
    names = [name for name in ("train", "validation", "test") if name in splits]
    facts["counts"] = {
        label: {name: counts[label, name] for name in names}
        for label in (*opened.labels, None)
        if any(counts[label, name] for name in names)
    }
    _print_info(facts, names)
    return facts


def montage(options: MontageOptions | None = None, /, **fields: Any) -> Path:
    """Return the path of a picture with some images of each class.

    Parameters
    ----------
    options
        What to draw; or give the fields of `MontageOptions` as keywords.
    """
    options = MontageOptions.given(options, fields)
    import numpy as np

    from deeplense.metrics.figures import image_grid

    if options.out.suffix not in (".png", ".pdf", ".svg"):
        raise InvalidOption(f"--out {options.out}", "a name that ends in .png, .pdf or .svg", "change --out")
    dataset = _open(options.dataset)
    rows = np.arange(len(dataset)) if options.split is None else dataset.indices(options.split)
    names = np.array([label or "unlabelled" for label in dataset.catalogue["label"].to_pylist()])[rows]
    chosen = [
        row for label in dict.fromkeys((*dataset.labels, *names)) for row in rows[names == label][: options.per_class]
    ]
    captions = [dataset.catalogue["label"][int(row)].as_py() or "" for row in chosen]
    figure = image_grid(dataset.images(np.array(chosen)), captions, columns=options.per_class)
    with atomic(options.out) as temporary:
        figure.savefig(temporary, format=options.out.suffix[1:], dpi=150)
    note(f"{len(chosen)} images are in {options.out}")
    return options.out


def audit(options: AuditOptions | None = None, /, **fields: Any) -> Audit:
    """Return, print and write what is wrong with a dataset: leaks, duplicates, shifts, damage.

    Parameters
    ----------
    options
        What to look at; or give the fields of `AuditOptions` as keywords.
    """
    options = AuditOptions.given(options, fields)
    from deeplense.auditing.audited import audit_dataset, audit_table
    from deeplense.auditing.written import show, write
    from deeplense.data.tables import is_table

    if options.out.suffix != ".html":
        raise InvalidOption(f"--out {options.out}", "a name that ends in .html", "change --out")
    if is_table(Path(options.dataset).expanduser()):
        found = audit_table(Path(options.dataset).expanduser())
    else:
        opened = _open(options.dataset)
        with progress("looking at", min(len(opened), options.sample)) as advance:
            found = audit_dataset(opened, options.sample, advance)
    show(found)
    write(found, options.out)
    return found


def export(dataset: str, out: Path, layout: Layout = "npy_tree") -> Path:
    """Return the folder that a dataset is written to, in a layout that others read.

    Parameters
    ----------
    dataset
        Recipe or path.
    out
        Folder to write.
    layout
        npy_tree: {train,validation,test}/<class>/<name>.npy; challenge: classifications.csv and a FITS stamp of every
        image and band, as in the lens finding challenge.

    Raises
    ------
    UnknownName
        For any other layout.
    """
    from deeplense.data.export import export_npy_tree
    from deeplense.data.export_stamps import export_stamps

    writers = {"npy_tree": export_npy_tree, "challenge": export_stamps}
    if layout not in writers:
        raise UnknownName("layout", layout, writers)
    opened = _open(dataset)
    with progress("exporting", len(opened)) as advance:
        writers[layout](opened, out, advance)
    note(f"{len(opened):,} images are in {out}")
    return out


def recipes() -> list[str]:
    """Return and print the recipes."""
    from deeplense.recipes.recipe import load_recipe, shipped_recipes

    known = {name: load_recipe(name) for name in shipped_recipes()}
    table("Recipes", ("recipe", "what it is"), [(n, r.description) for n, r in known.items()], numbers=False)
    return list(known)


def models(pattern: str = "") -> list[str]:
    """Return and print our architectures, detectors and upscalers, the trained models we ship, and some of timm's.

    Parameters
    ----------
    pattern
        Wildcard pattern of timm's architectures, such as 'convit*'; without one, they are only counted.
    """
    from deeplense.detectors.detector import DETECTORS
    from deeplense.models.backbone import MODELS
    from deeplense.models.timm_backbone import list_timm
    from deeplense.upscalers.upscaler import UPSCALERS

    own = [(name, str(getattr(MODELS[name], "source", "")), _first_line(MODELS[name].__doc__)) for name in MODELS]
    timm = list_timm(pattern)
    table("Our architectures", ("--model-name", "--model-source", "what it is"), own, numbers=False)
    strange = [(name, _seen(DETECTORS[name]), _first_line(DETECTORS[name].__doc__)) for name in DETECTORS]
    table("Detectors of anomalies", ("--detector", "was shown", "how strange an image is"), strange, numbers=False)
    finer = [(name, _first_line(UPSCALERS[name].__doc__)) for name in UPSCALERS]
    table("To super-resolve", ("--model-name", "what it is"), finer, numbers=False)
    shipped = shipped_runs()
    cards = [(name, find_run(name).config()["dataset"]["name"]) for name in shipped]
    table("Trained models in this package", ("name", "trained on"), cards, numbers=False)
    if pattern and not timm:
        note(f"no architecture of timm is like '{pattern}'; a star stands for any letters: deeplense models '*vit*'")
    elif pattern:
        table(f"timm architectures like '{pattern}'", ("--model-name", "--model-source"), [(n, "timm") for n in timm])
    else:
        note(f"and {len(timm):,} architectures of timm: list some with, for example, deeplense models 'convit*'")
    return [name for name, *_ in (*own, *strange, *finer)] + shipped + (timm if pattern else [])


def _open(name: str) -> Dataset:
    from deeplense.data.dataset import open_dataset
    from deeplense.simulate import ensure

    return open_dataset(ensure(name))


def _images(dataset: Dataset, rows: Int64[np.ndarray, " N"]) -> tuple[Float32[np.ndarray, "B C H W"], list[str]]:
    """Return the images of the rows that can be read, and a sentence on the others; the error if none can be."""
    import numpy as np

    try:
        return dataset.images(rows), []
    except DeepLenseError:
        pass  # one by one, to know which
    images: list[np.ndarray] = []
    errors: list[DeepLenseError] = []
    for row in rows:
        try:
            images.append(dataset.images([int(row)]))
        except DeepLenseError as error:
            errors.append(error)
    if not images:
        raise errors[0]
    said = f"{len(errors):,} of {len(rows):,} images that were looked at cannot be read: "
    return np.concatenate(images), [said + error.found for error in errors[:1]]


def _problems(dataset: Dataset, counts: Counter[tuple[str | None, str]]) -> list[str]:
    """Return what the layout's reader noticed, and damaged or unbalanced data."""
    problems = list(dataset.problems)
    check = getattr(dataset, "check", None)
    if check is not None:
        problems += [f"{name} is not the file that the manifest vouches for" for name in check()]
    sizes = Counter({label: sum(n for (name, _), n in counts.items() if name == label) for label in dataset.labels})
    if sizes and max(sizes.values()) > 2 * min(sizes.values()):
        problems.append("classes are unequal: " + ", ".join(f"{label} {n:,}" for label, n in sizes.items()))
    return problems


def _print_info(facts: dict[str, Any], names: Sequence[str]) -> None:
    pixels = facts["pixels"]
    rows = [(label or "unlabelled", *(f"{n[name]:,}" for name in names)) for label, n in facts["counts"].items()]
    shape = " × ".join(map(str, facts["image_shape"]))
    table(f"{facts['path']}\n{facts['layout']}", ("class", *names), rows)
    table(
        "Pixels",
        ("images", "channels × height × width", "min", "median", "max"),
        [(f"{facts['images']:,}", shape, *(f"{pixels[key]:.4g}" for key in ("min", "median", "max")))],
    )
    if facts["bands"]:
        note("bands: " + ", ".join(f"{number} {name}" for number, name in enumerate(facts["bands"], 1)))
    for problem in facts["problems"]:
        note(f"note: {problem}")


def _first_line(text: str | None) -> str:
    return (text or "").strip().splitlines()[0]


def _seen(detector: object) -> str:
    """Return which images a detector is shown beside the normal ones."""
    category = getattr(detector, "category", "")
    return "normal images" if category == "normal" else f"also {category} anomalies"

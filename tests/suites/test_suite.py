"""A suite's declaration: what it means, and what is refused."""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path
from typing import Any

import pytest
import timm

from deeplense.core.errors import DeepLenseError, InvalidOption, UnknownName
from deeplense.core.files import sha256
from deeplense.detectors.detector import DETECTORS
from deeplense.models.backbone import MODELS
from deeplense.recipes.recipe import shipped_recipes
from deeplense.suites.cell import Cell, cells_of
from deeplense.suites.declared import Data, Size
from deeplense.suites.results import Results
from deeplense.suites.runs import reference_of
from deeplense.suites.suite import Suite, known_suites, load_suite
from deeplense.train import train
from deeplense.upscalers.upscaler import UPSCALERS

ROOT = Path(__file__).parents[2]
REFERENCE = {"reference": "someone"}
SMALL: dict[str, Any] = {
    "name": "small",
    "description": "two by two",
    "sizes": {"one": {"about": "little", "epochs": 2, "train": 50}},
    "datasets": {"a": {"recipe": "model_ii"}, "b": {"recipe": "model_iii"}},
    "methods": {"ours": REFERENCE, "cnn": REFERENCE | {"model_source": "baseline", "variants": ["wide"]}},
    "variants": {"wide": {"complex": True}},
}


def suite(**changed: Any) -> Suite:
    return Suite.from_mapping(SMALL | changed)


def cells(**changed: Any) -> list[Cell]:
    return cells_of(suite(**changed), "one", Path("out"))


def names(found: list[Cell]) -> list[tuple[str, str]]:
    return [(cell.name, cell.method.name) for cell in found]


def test_cells_are_datasets_times_methods_with_variants() -> None:
    assert names(cells()) == [(d, m) for d in "ab" for m in ("ours", "cnn", "cnn-wide")]
    wide = cells()[2]
    assert wide.options.complex and wide.options.model_source == "baseline"
    assert wide.folder == Path("out/a/cnn-wide") and wide.options.dataset == "out/data/a"


def test_a_methods_options_win_over_the_shared_ones() -> None:
    found = cells(options={"lr": 0.1, "seed": 3}, methods={"ours": REFERENCE | {"lr": 0.2}})
    assert {(cell.options.lr, cell.options.seed) for cell in found} == {(0.2, 3)}


SIZE = {
    "about": None,  # shown on the page
    "epochs": (7, lambda found: found[0].options.epochs),
    "train": (7, lambda found: found[0].counts["train"]),
    "validation": (7, lambda found: found[0].counts["validation"]),
    "test": (7, lambda found: found[0].counts["test"]),
    "precision": ("bf16", lambda found: found[0].options.precision),
    "seeds": (7, lambda found: len({cell.folder for cell in found if cell.name == "a" and cell.method.name == "cnn"})),
    "datasets": (["b"], lambda found: [found[0].name] if {cell.name for cell in found} == {"b"} else None),
    "methods": (["cnn-wide"], lambda found: [found[0].method.name] if len(found) == 2 else None),
}
DATA = {
    "about": None,  # shown on the page
    "recipe": ("model_i", lambda found: found[0].images["recipe"]),
    "path": None,  # in place of the recipe: see below
    "normal": None,  # for detectors: see below
    "options": ({"lr": 0.2}, lambda found: {"lr": found[0].options.lr}),
    "published": ({"psnr": 40.0, "source": "x"}, lambda found: found[0].data.published),
    "train": (7, lambda found: found[0].counts["train"]),
    "epochs_factor": (3, lambda found: found[0].options.epochs / 2),
    "noise": (2.0, lambda found: found[0].images["noise"]),
    "change": ({"lens.e1": 0.2}, lambda found: found[0].images["change"]),
    "methods": (["cnn"], lambda found: [found[0].method.name] if len(found) == 4 else None),
}


@pytest.mark.parametrize(("table", "kind", "knobs"), [("sizes.one", Size, SIZE), ("datasets.a", Data, DATA)])
def test_no_dead_knobs(table: str, kind: type, knobs: dict[str, Any]) -> None:
    assert set(knobs) == {field.name for field in dataclasses.fields(kind)}
    place, name = table.split(".")
    for knob, turned in knobs.items():
        if turned is not None:
            value, product = turned
            changed = SMALL[place] | {name: SMALL[place][name] | {knob: value}}
            assert product(cells(**{place: changed})) == value, knob


STRANGE: dict[str, Any] = {
    "datasets": {"a": {"path": "images", "normal": "sub", "options": {"crop": 50, "pca": {"symmetry": "d4"}}}},
    "methods": {"pca": {"detector": "pca", "seeds": 1}, "flow": {"detector": "flow"}, "cnn": REFERENCE},
    "options": {"batch_size": 32, "detect_anomalies": {"lr": 0.1}, "classify": {"optimizer": "sgd"}},
    "sizes": {"one": {"about": "little", "epochs": 2, "precision": "bf16", "seeds": 3, "train": 50}},
}


def test_options_reach_the_methods_that_they_mean_something_to() -> None:
    found = {cell.method.name: cell.options for cell in cells(**STRANGE)}
    asked = {name: found[name].as_dict() for name in found}
    assert {(one["crop"], one["batch_size"]) for one in asked.values()} == {(50, 32)}
    shown = ("task", "detector", "normal", "lr", "optimizer", "precision", "symmetry")
    assert [[asked[name][key] for key in shown] for name in ("pca", "flow", "cnn")] == [
        ["detect_anomalies", "pca", "sub", 0.1, "adamw", "fp32", "d4"],
        ["detect_anomalies", "flow", "sub", 0.1, "adamw", "fp32", "auto"],
        ["classify", None, None, 1e-3, "sgd", "bf16", "auto"],
    ]


def test_each_seed_has_a_folder_and_what_is_not_random_one_run() -> None:
    found = cells(**STRANGE)
    assert [(str(cell.folder), cell.options.seed) for cell in found if cell.method.name != "flow"] == [
        ("out/a/pca", 0),
        *((f"out/a/cnn/seed-{seed}", seed) for seed in range(3)),
    ]
    assert str(found[1]) == "a × flow, seed 0" and str(found[0]) == "a × pca"


def test_images_that_are_there_are_taken_as_they_are_and_as_many_learnt_from_as_the_size_says() -> None:
    cell = cells(**STRANGE)[0]
    assert cell.counts == {} and cell.images == {"path": "images"}
    assert cell.options.limit == 50
    few = STRANGE["datasets"]["a"] | {"train": 5}
    assert cells(**STRANGE | {"datasets": {"a": few}})[0].options.limit == 5


PAIRED: dict[str, Any] = {
    "options": {"task": "super_resolve", "estimator": "fidelity"},
    "methods": {
        "bicubic": {"model_name": "bicubic", "variants": ["truth"], "published": {"psnr": 40.0, "source": "x"}},
        "pca": {"detector": "pca", "datasets": ["b"]},
    },
    "variants": {"truth": {"estimator": "truth"}},
    "datasets": {"a": {"recipe": "super_resolution"}, "b": {"recipe": "model_ii", "normal": "sub", "methods": ["pca"]}},
    "sizes": {"one": {"about": "little", "epochs": 2, "precision": "bf16"}},
}


def test_the_task_of_a_suite_is_that_of_methods_that_name_none() -> None:
    found = {cell.method.name: cell.options for cell in cells(**PAIRED)}
    shown = [(one.task, one.estimator, one.precision, one.normal) for one in found.values() if not one.detector]
    assert shown == [("super_resolve", "fidelity", "bf16", None), ("super_resolve", "truth", "bf16", None)]
    assert (found["pca"].task, found["pca"].normal) == ("detect_anomalies", "sub")
    methods = suite(**PAIRED).all_methods()
    assert reference_of(methods["bicubic"]) == UPSCALERS["bicubic"].reference  # type: ignore[attr-defined]
    assert methods["bicubic"].published and not methods["bicubic-truth"].published, "published of something else"


def test_few_labels_are_never_more_than_the_size_has() -> None:
    assert cells(datasets={"a": {"recipe": "model_ii", "train": 80}})[0].counts["train"] == 50


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"sizes": {}}, "[sizes.NAME]"),
        ({"sizes": {"one": {"about": "x", "epochs": 0}}}, "epochs"),
        ({"sizes": {"one": {"about": "x", "epochs": 1, "method": ["ours"]}}}, "methods"),
        ({"sizes": {"one": {"about": "x", "epochs": 1, "methods": ["our"]}}}, "ours"),
        ({"sizes": {"one": {"about": "x", "epochs": 1, "datasets": ["aa"]}}}, "aa"),
        ({"datasets": {"data": {"recipe": "model_ii"}}}, "rename"),
        ({"datasets": {"../up": {"recipe": "model_ii"}}}, "rename"),
        ({"datasets": {"a": {"recipe": "model_ii", "noise": 0}}}, "noise"),
        ({"datasets": {"a": {"recipe": "model_ii", "methods": ["cnn-wid"]}}}, "cnn-wide"),
        ({"methods": {"ours": {}}}, "reference"),
        ({"methods": {"ours": REFERENCE | {"lrr": 1}}}, "lr"),
        ({"methods": {"ours": REFERENCE | {"optimizer": "adm"}}}, "adam"),
        ({"methods": {"ours": REFERENCE | {"epochs": 1}}}, "the same for all"),
        ({"methods": {"ours": REFERENCE | {"datasets": "a"}}}, "list of names"),
        ({"methods": {"ours": REFERENCE | {"datasets": ["c"]}}}, "dataset of method ours"),
        ({"methods": {"ours": REFERENCE | {"variants": ["wid"]}}}, "wide"),
        ({"options": {"dataset": "x"}}, "the same for all"),
        ({"sizs": {}}, "sizes"),
        ({"datasets": {"a": {}}}, "neither of recipe and path"),
        ({"datasets": {"a": {"recipe": "model_ii", "path": "images"}}}, "both of recipe and path"),
        ({"datasets": {"a": {"path": "images", "noise": 2.0}}}, "from which other images can be simulated"),
        ({"datasets": {"a": {"path": "images", "noise": 2.0}}}, "from which other images can be simulated"),
        ({"datasets": {"a": {"path": "images", "change": {"n_pixels": 3}}}}, "other images can be simulated"),
        ({"datasets": {"a": {"recipe": "model_ii", "options": {"corp": 5}}}}, "crop"),
        ({"datasets": {"a": {"recipe": "model_ii", "options": {"cnnn": {"crop": 5}}}}}, "task or method"),
        ({"options": {"classif": {"lr": 1.0}}}, "task or method"),
        ({"options": {"normal": "no_sub"}}, "the same for all"),
        ({"methods": {"pca": {"detector": "pca"}}}, "no class is normal"),
        ({"methods": {"ours": REFERENCE | {"seeds": 0}}}, "seeds"),
        ({"methods": {"ours": REFERENCE | {"seeds": "x"}}}, "seeds"),
        ({"sizes": {"one": {"about": "x", "epochs": 1, "seeds": 11}}}, "seeds"),
        ({"options": {"task": "super_resolv"}}, "super_resolve"),
        ({"options": {"task": "super_resolve"}, "datasets": {"a": {"recipe": "x", "normal": "no_sub"}}}, "no classes"),
        ({"methods": {"ours": REFERENCE, "up": {"task": "super_resolve"}}}, "same marks"),
        ({"methods": {"ours": REFERENCE | {"published": {"psnr": 41.0}}}}, "source"),
        ({"methods": {"ours": REFERENCE | {"published": {"psnr": "41", "source": "x"}}}}, "source"),
        ({"datasets": {"a": {"recipe": "model_ii", "published": {"source": 1, "psnr": 4}}}}, "source"),
    ],
)
def test_what_cannot_be_is_refused_with_three_clauses(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        suite(**changed)
    assert words in str(caught.value) and caught.value.expected and caught.value.remedy


@pytest.mark.parametrize("content", [b"name = ", b"\xff", b"name = 1"])
def test_a_file_that_is_no_suite(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "suite.toml").write_bytes(content)
    with pytest.raises(DeepLenseError, match=r"suite\.toml"):
        load_suite(str(tmp_path / "suite.toml"))


# ---- the suites that are part of the package


@pytest.fixture(scope="module")
def substructure() -> Suite:
    return load_suite("substructure")[0]


@pytest.fixture(scope="module")
def anomalies() -> Suite:
    return load_suite("anomalies")[0]


@pytest.fixture(scope="module")
def super_resolution() -> Suite:
    return load_suite("super_resolution")[0]


def test_the_suite_is_known_and_other_files_of_the_folder_are_not() -> None:
    assert set(known_suites()) == {"substructure", "anomalies", "lens_finding", "super_resolution"}
    with pytest.raises(UnknownName, match="substructure"):
        load_suite("sub_structure")


def test_the_wheel_carries_the_suites() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert build["force-include"] == {
        f"experiments/{name}.toml": f"deeplense/suites/{name}.toml" for name in known_suites()
    }
    assert all((ROOT / file).is_file() for file in build["force-include"])


def test_every_architecture_and_recipe_it_names_exists(substructure: Suite) -> None:
    known = {"timm": set(timm.list_models())} | {
        source: {name for name in MODELS if getattr(MODELS[name], "source", "") == source}
        for source in ("baseline", "deeplense")
    }
    assert {data.recipe for data in substructure.datasets.values()} <= set(shipped_recipes())
    for method in substructure.all_methods().values():
        options = substructure.train_options(method, "full", (method.datasets or ("model_i",))[0])
        assert options.model_name == method.name.split("-")[0]
        assert options.model_name in known[options.model_source]


def test_every_detector_is_compared_and_runs_once_where_it_draws_nothing(anomalies: Suite) -> None:
    methods = anomalies.all_methods()
    assert {method.options["detector"] for method in methods.values() if method.task != "classify"} == set(DETECTORS)
    for name, method in methods.items():
        if method.task == "classify":
            assert MODELS[str(method.options["model_name"])] and method.seeds is None
        else:
            assert method.options["detector"] == name and reference_of(method)
            assert (method.seeds == 1) == (not DETECTORS[name].learns), name  # type: ignore[attr-defined]


def test_a_detector_that_learns_nothing_by_steps_does_not_depend_on_the_seed(small_set: Path, tmp_path: Path) -> None:
    weights = set()
    for seed in (0, 1):
        for name in ("mean_image", "pca", "one_class_svm", "global_statistics", "brightness"):
            options = {"task": "detect_anomalies", "detector": name, "seed": seed, "device": "cpu"}
            run = train(dataset=str(small_set), out=tmp_path / f"{name}-{seed}", **options)
            weights.add(sha256(run / "model.safetensors"))
    assert len(weights) == 5


@pytest.mark.parametrize("size", ["cpu", "full"])
def test_floor_and_ceiling_stand_in_every_table_of_anomalies(size: str, anomalies: Suite) -> None:
    found = names(cells_of(anomalies, size, Path()))
    taken = anomalies.sizes[size].datasets or anomalies.datasets
    assert {"published", "published-inverse", "test5", "model_i", "model_ii", "model_iii"} <= set(taken)
    for name, data in ((name, anomalies.datasets[name]) for name in taken):
        methods = {method for dataset, method in found if dataset == name}
        assert {"brightness", "global_statistics", "linear_discriminant", "residual_cnn"} <= methods
        assert ("physical" in methods) == (data.normal == "no_sub")


def test_every_upscaler_is_compared_and_runs_once_where_only_its_spread_is_learnt(super_resolution: Suite) -> None:
    methods = super_resolution.all_methods()
    names = {str(method.options["model_name"]) for method in methods.values()}
    assert names == set(UPSCALERS) - {"srgan"}, "which goes on from a run that has learnt by error"
    for method in methods.values():
        trained = UPSCALERS[str(method.options["model_name"])].trained  # type: ignore[attr-defined]
        assert (method.seeds == 1) == (not trained) and reference_of(method)
    both = {method.name.removesuffix("-truth") for method in methods.values() if method.options.get("estimator")}
    assert {"linear", "residual_unet"} <= both


def test_published_figures_stand_beside_what_they_are_published_of(super_resolution: Suite) -> None:
    figures = {name: method.published.get("psnr") for name, method in super_resolution.all_methods().items()}
    assert {name: figure for name, figure in figures.items() if figure is not None} == {
        **{"srcnn": 41.86, "srresnet_1": 42.35, "srresnet_2": 42.30, "srresnet_3": 42.05, "srresnet_3_ssim": 41.96},
        **{"srresnet_3_deconvolution": 37.97, "edsr_1": 41.88, "edsr_4": 41.72, "edsr_8": 41.75},
    }
    datasets = {name: data.published.get("psnr") for name, data in super_resolution.datasets.items() if data.published}
    assert datasets == {"super_resolution": 42.375}


@pytest.mark.parametrize("name", ["substructure", "lens_finding", "super_resolution"])
@pytest.mark.parametrize("size", ["smoke", "cpu", "full"])
def test_every_method_gets_the_same_budget(size: str, name: str) -> None:
    budgets: dict[str, set[Any]] = {}
    for cell in cells_of(load_suite(name)[0], size, Path()):
        same = (cell.options.epochs, cell.options.batch_size, cell.options.precision, tuple(cell.counts.items()))
        budgets.setdefault(cell.name, set()).add(same)
    assert {len(found) for found in budgets.values()} == {1}


def test_full_is_everything_at_the_published_sizes(substructure: Suite) -> None:
    assert Results(substructure, "substructure", "full", Path()).left_out() == {}
    counts = {cell.name: cell.counts for cell in cells_of(substructure, "full", Path())}
    assert counts["model_i"] == {}, "as many as the recipe says"
    assert [counts[f"model_ii-labels_{n}"]["train"] for n in (100, 1000)] == [100, 1000]


@pytest.mark.parametrize(("name", "most"), [("substructure", 3), ("super_resolution", 6)])
def test_smoke_is_small(name: str, most: int) -> None:
    found = cells_of(load_suite(name)[0], "smoke", Path())
    assert len({cell.name for cell in found}) <= 2 and len({cell.method.name for cell in found}) <= most
    assert all(sum(cell.counts.values()) <= 20 for cell in found)

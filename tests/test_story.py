"""One story: all verbs on a tiny set, as a user types them."""

import json
from pathlib import Path

import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from deeplense.cli import main


def run(line: str) -> None:
    assert main(line.split()) == 0, line


def test_from_the_sky_to_a_catalogue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run("simulate model_ii --train 24 --validation 8 --test 8 --out data/tiny")
    run("data info data/tiny")
    run("data montage data/tiny --per_class 2 --out sky.png")
    assert Path("sky.png").read_bytes().startswith(b"\x89PNG")

    run("train --dataset data/tiny --epochs 2 --batch_size 16 --out runs/first --tune 1 --log_interval 0")
    config = json.loads(Path("runs/first/config.json").read_text())
    assert config["labels"] == ["no_sub", "cdm", "axion"]
    assert config["options"]["symmetry"] == "half_turn", "the recipe's exact symmetry is the default"
    assert len(json.loads(Path("runs/first/history.json").read_text())) == 2

    run("evaluate --run_id first --device best")
    metrics = json.loads(Path("runs/first/metrics.json").read_text())
    assert set(metrics["auroc_macro"]) == {"value", "low", "high", "n"}
    assert {"accuracy", "auroc_no_sub", "auroc_cdm", "auroc_axion", "auroc_micro", "ece", "ece_scaled"} <= set(metrics)
    predictions = pq.read_table("runs/first/predictions.parquet")
    assert predictions.num_rows == 24
    assert predictions.column_names == ["id", "label", "split", "prediction", "p_no_sub", "p_cdm", "p_axion"]
    assert Path("runs/first/roc.csv").is_file() and Path("runs/first/sensitivity.csv").is_file()
    assert "auroc_macro" in capsys.readouterr().out

    # the same images in the community's layout: class folders in another order, read without a manifest
    run("data export data/tiny tree")
    run("train --dataset tree --epochs 1 --model_source baseline --crop 48 --out runs/second")
    run("evaluate runs/second")
    run("evaluate runs/first --dataset tree")
    again = json.loads(Path("runs/first/tree-test/metrics.json").read_text())
    assert set(again) == set(metrics)
    for name, mark in metrics.items():
        assert again[name] == pytest.approx(mark, rel=1e-12), f"{name}: the same images, another layout"

    run("report first runs/second --out both.html")
    page = Path("both.html").read_text(encoding="utf-8")
    assert "residual_cnn" in page
    assert "baseline_cnn" in page

    run("report first --attribution --out looked.html")
    page = Path("looked.html").read_text(encoding="utf-8")
    for expected in ("Grad-CAM", "another image's", "by axion mass", "by total subhalo mass", "temperature scaling"):
        assert expected in page, expected
    assert page.count('class="sheet"') >= 2, "a sheet for each class with substructure, or two"
    run("report runs/second --attribution --out unknown.html")
    assert "is known of simulated images only" in Path("unknown.html").read_text(encoding="utf-8")

    run("predict first tree/test --out answers.csv")
    answers = pyarrow.csv.read_csv("answers.csv")
    assert answers.num_rows == 24
    assert set(answers["error"].to_pylist()) <= {"", None}, "every image could be read"

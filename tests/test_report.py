import base64
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from deeplense.core.errors import CorruptFile, InvalidOption, MissingFile
from deeplense.core.files import write_json
from deeplense.core.run_folder import RunFolder
from deeplense.metrics.marks import classification_marks
from deeplense.report import report

HOSTILE = ['<script>alert("1")</script>', "$x_{", "_under & 'score'"]


def write_evaluation(folder, labels, separation=2.0, images=300, seed=0):
    generator = np.random.default_rng(seed)
    targets = np.arange(images) % len(labels)
    logits = generator.normal(size=(images, len(labels))) + separation * np.eye(len(labels))[targets]
    odds = np.exp(np.clip(separation * logits, -60, 60))
    probabilities = (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)
    marks = classification_marks(probabilities, targets, labels, resamples=100)
    RunFolder(folder).write_metrics({name: mark.as_dict() for name, mark in marks.items()})
    names = np.array(labels, object)
    columns = {
        "id": [f"image-{i}" for i in range(images)],
        "label": names[targets],
        "split": ["test"] * images,
        "prediction": names[probabilities.argmax(axis=1)],
        **{f"p_{label}": probabilities[:, k] for k, label in enumerate(labels)},
    }
    pq.write_table(pa.table(columns), RunFolder(folder).predictions)


def write_mistakes(folder, labels, count=3, pixels=16):
    generator = np.random.default_rng(1)
    rows = [
        {"id": f"no_sub-{i:06d}", "label": labels[0], "prediction": labels[1], "probability": 0.99 - i / 100}
        for i in range(count)
    ]
    write_json(folder / "mistakes.json", rows)
    save_file(
        {"images": generator.normal(size=(count, 1, pixels, pixels)).astype(np.float32)},
        folder / "mistakes.safetensors",
    )


def make_run(folder, labels=("no_sub", "cdm", "axion"), **evaluation) -> Path:
    labels = list(labels)
    run = RunFolder(folder)
    run.write_config(
        {
            "run_id": folder.name,
            "command": f"deeplense train --dataset {labels[0]}",
            "deeplense_version": "0.1.0",
            "git_commit": "0123456789abcdef",
            "created": "2026-05-04T03:02:01+00:00",
            "labels": labels,
            "image_shape": [1, 64, 64],
            "model": {"source": "deeplense", "name": "residual_cnn", "parameters": 385451},
            "dataset": {"path": "/somewhere/model_ii", "name": "model_ii", "n_train": 4500, "n_validation": 900},
            "options": {"lr": 0.003, "crop": None, "schedule": "one_cycle"},
        }
    )
    run.write_history(
        [
            {"epoch": e, "lr": 1e-3, "train_loss": 1 / e, "validation_loss": 1.1 / e, "seconds": 20.5,
             "validation_accuracy": 1 - 0.5 / e, "validation_auroc_macro": 1 - 0.3 / e}
            for e in range(1, 9)
        ]
    )  # fmt: skip
    write_evaluation(folder, labels, **evaluation)
    write_mistakes(folder, labels)
    return folder


class Outline(HTMLParser):
    """Collects tags, links and text; complains about tags that do not match."""

    VOID = ("meta", "img", "br")

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.links, self.text = [], [], [], ""
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "srcset", "data", "action", "poster")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text += data + " "


def pictures(page: str) -> list[str]:
    return [base64.b64decode(code).decode() for code in re.findall(r"data:image/svg\+xml;base64,([^\"]+)", page)]


def test_one_run(tmp_path):
    folder = make_run(tmp_path / "1g9hi3n6")
    page = report(runs=[str(folder)])
    assert page == folder / "report.html"
    outline = Outline(page.read_text())
    marks = json.loads((folder / "metrics.json").read_text())
    for expected in (
        "1g9hi3n6", "residual_cnn", "model_ii", "385,451", "4,500", "2 min 44 s", "deeplense train --dataset no_sub",
        "0123456789abcdef", "one_cycle", "AUROC, axion", "no_sub-000002", "taken for", "0.970", "1 × 64 × 64",
        f"{marks['auroc_macro']['value']:.3f}", f"{marks['auroc_cdm']['low']:.3f}",
    ):  # fmt: skip
        assert expected in outline.text
    titles = " ".join(pictures(page.read_text()))
    for expected in ("false positive rate", "predicted class", "confidence", "epoch", "validation split"):
        assert expected in titles
    assert outline.tags.count("img") == 5 + 3


def test_the_page_is_all_there_is(tmp_path):
    page = report(runs=[str(make_run(tmp_path / "a")), str(make_run(tmp_path / "b", seed=1))]).read_text()
    outline = Outline(page)
    assert all(link.startswith(("data:image/", "#run-")) for link in outline.links)
    assert not {"script", "link", "iframe", "object"} & set(outline.tags)
    assert not re.search(r"https?://|@import|url\(", page)
    # A picture within the page may name vocabularies, but must not refer to anything outside itself.
    for picture in pictures(page):
        assert not re.search(r"(href|src)=\"(?!#|data:image/png)", picture)
    assert "default-src 'none'" in page


def test_runs_are_grouped_by_classes_and_compared(tmp_path):
    folders = [
        make_run(tmp_path / "weak", separation=1.0),
        make_run(tmp_path / "strong", separation=3.0),
        make_run(tmp_path / "finder", labels=("nonlens", "lens")),
    ]
    page = report(runs=[*map(str, folders), str(folders[0])], out=tmp_path / "out" / "all.html")
    outline = Outline(page.read_text())
    assert outline.tags.count("table") == 2
    assert outline.tags.count("section") == 3  # a run named twice is shown once
    assert "3 runs compared" in outline.text
    assert "no_sub · cdm · axion" in outline.text
    bold = re.findall(r'class="best">([0-9.]+)', page.read_text())
    strong = json.loads((folders[1] / "metrics.json").read_text())
    assert [float(number) for number in bold] == pytest.approx(
        [
            strong[name]["value"]
            for name in ("auroc_macro", "auroc_no_sub", "auroc_cdm", "auroc_axion", "accuracy", "ece")
        ],
        abs=0.01,
    )
    assert any("1. weak" in picture and "2. strong" in picture for picture in pictures(page.read_text()))


def test_other_sets_the_run_was_judged_on_get_a_row(tmp_path):
    folder = make_run(tmp_path / "a")
    (folder / "model_iii-test").mkdir()
    write_evaluation(folder / "model_iii-test", ["no_sub", "cdm", "axion"], seed=4)
    text = Outline(report(runs=[str(folder)]).read_text()).text
    assert "model_iii-test, 300 images" in text
    assert "model_ii, 300 images" in text


def test_hostile_names_are_text(tmp_path):
    folder = make_run(tmp_path / "<b onload=x>&", labels=HOSTILE)
    page = report(runs=[str(folder)]).read_text()
    outline = Outline(page)
    assert not {"script", "b"} & set(outline.tags)
    for name in (*HOSTILE, "<b onload=x>&"):
        assert name in outline.text
    for picture in pictures(page):
        assert "<script" not in picture
        assert "<b" not in picture
    assert any("$x_{" in picture for picture in pictures(page))
    assert any("_under" in picture for picture in pictures(page))


@pytest.mark.filterwarnings("error")
def test_names_beyond_ascii_and_beyond_text(tmp_path):
    folder = make_run(tmp_path / "Übung", labels=["галактика", "透镜", "tab\there\x00"])
    page = report(runs=[str(folder)]).read_text(encoding="utf-8")
    assert "透镜" in page
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"command": "train \ud800"}))
    assert "train ?" in report(runs=[str(folder)]).read_text(encoding="utf-8")


def test_bare_minimum_is_enough(tmp_path):
    folder = make_run(tmp_path / "bare")
    write_json(folder / "config.json", {"labels": ["no_sub", "cdm", "axion"]})
    write_json(folder / "history.json", [])
    (folder / "mistakes.json").unlink()
    text = Outline(report(runs=[str(folder)]).read_text()).text
    assert "mistakes" not in text
    assert "– parameters" in text


def test_both_calibrations_are_shown_where_a_temperature_is_known(tmp_path):
    folder = make_run(tmp_path / "a")
    before = pictures(report(runs=[str(folder)]).read_text())
    assert not any("temperature" in text for text in Outline((folder / "report.html").read_text()).text.split("."))
    write_json(folder / "calibration.json", {"temperature": 0.5, "split": "validation", "n": 300})
    metrics = json.loads((folder / "metrics.json").read_text())
    mark = {"value": 0.0123, "low": 0.0101, "high": 0.0145, "n": 300}
    write_json(folder / "metrics.json", metrics | {"ece_scaled": mark, "nll": mark, "nll_scaled": mark})
    page = report(runs=[str(folder)]).read_text()
    text = Outline(page).text
    assert "Reliability after temperature scaling, T = 0.5" in text
    assert "0.0123" in text and "T = 0.5 was fitted on the validation split" in " ".join(text.split())
    assert len(pictures(page)) == len(before) + 1
    assert sum("ECE 0.0123 [0.0101, 0.0145]" in picture for picture in pictures(page)) == 1


def test_no_mistake_is_said(tmp_path):
    folder = make_run(tmp_path / "a")
    write_json(folder / "mistakes.json", [])
    assert "No test image was misclassified" in report(runs=[str(folder)]).read_text()


def test_a_perfect_run_and_many_classes(tmp_path):
    report(runs=[str(make_run(tmp_path / "perfect", separation=30.0))])
    report(runs=[str(make_run(tmp_path / "many", labels=[f"class {k}" for k in range(14)], images=700))])


def test_a_run_that_was_not_evaluated(tmp_path):
    folder = make_run(tmp_path / "a")
    for name in ("predictions.parquet", "metrics.json"):
        (folder / name).unlink()
        with pytest.raises(MissingFile, match="deeplense evaluate"):
            report(runs=[str(folder)])
    assert not (folder / "report.html").exists()


def test_no_run():
    with pytest.raises(MissingFile, match="no run is called"):
        report(runs=["nowhere"])
    with pytest.raises(InvalidOption, match="no run is named"):
        report(runs=[])


MARK = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 10}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.json", b"{"),
        ("metrics.json", b"[1]"),
        ("metrics.json", b"{}"),
        ("metrics.json", b'{"accuracy": 0.5}'),
        ("metrics.json", json.dumps({"accuracy": {**MARK, "value": float("nan")}}).encode()),
        ("metrics.json", json.dumps({"accuracy": MARK}).encode()),
        ("predictions.parquet", b""),
        ("predictions.parquet", b"PAR1 but no more"),
        ("config.json", b"[]"),
        ("config.json", b'{"labels": "no_sub"}'),
        ("history.json", b'{"a": 1}'),
        ("history.json", b"[1, 2]"),
        ("mistakes.json", b'[{"id": 1}]'),
        ("mistakes.json", b'{"a": 1}'),
        ("mistakes.safetensors", b"\x00" * 9),
        ("calibration.json", b"{}"),
        ("calibration.json", b'{"temperature": 0}'),
        ("sensitivity.csv", b"class,against\ncdm,no_sub\n"),
        ("sensitivity.csv", b"\xff\x00"),
    ],
)
def test_damaged_files_are_named(tmp_path, name, content):
    folder = make_run(tmp_path / "a")
    (folder / name).write_bytes(content)
    with pytest.raises(CorruptFile, match=re.escape(name)):
        report(runs=[str(folder)])
    assert not (folder / "report.html").exists()


@pytest.mark.parametrize("change", ["column", "label", "null"])
def test_predictions_of_something_else_are_refused(tmp_path, change):
    folder = make_run(tmp_path / "a")
    table = pq.read_table(folder / "predictions.parquet")
    if change == "column":
        table = table.drop_columns(["p_cdm"])
    else:
        column = [("sphere" if change == "label" else None), *table["label"].to_pylist()[1:]]
        table = table.set_column(1, "label", pa.array(column, pa.string()))
    pq.write_table(table, folder / "predictions.parquet")
    with pytest.raises(CorruptFile, match=r"predictions\.parquet"):
        report(runs=[str(folder)])


def test_importing_the_verb_loads_nothing_heavy():
    heavy = "{'numpy', 'matplotlib', 'jinja2', 'pyarrow', 'torch', 'safetensors'}"
    code = f"import deeplense.report, sys; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)

import base64
import io
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
from PIL import Image
from safetensors.numpy import save_file
from scipy import stats

from deeplense.core.errors import CorruptFile, InvalidOption, MissingFile
from deeplense.core.files import write_json
from deeplense.core.run_folder import RunFolder
from deeplense.metrics.anomalies import anomaly_marks, conformal_p_values, false_discovery_q_values
from deeplense.metrics.anomaly_figures import MapColours
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


def write_config(folder, labels, model, **more):
    config = {
        "run_id": folder.name,
        "command": f"deeplense train --dataset {labels[0]}",
        "deeplense_version": "0.1.0",
        "git_commit": "0123456789abcdef",
        "created": "2026-05-04T03:02:01+00:00",
        "labels": labels,
        "image_shape": [1, 64, 64],
        "model": model,
        "dataset": {"path": "/somewhere/model_ii", "name": "model_ii", "n_train": 4500, "n_validation": 900},
        "options": {"lr": 0.003, "crop": None, "schedule": "one_cycle"},
    }
    RunFolder(folder).write_config(config | more)


def make_run(folder, labels=("no_sub", "cdm", "axion"), **evaluation) -> Path:
    labels = list(labels)
    write_config(folder, labels, {"source": "deeplense", "name": "residual_cnn", "parameters": 385451})
    RunFolder(folder).write_history(
        [
            {"epoch": e, "lr": 1e-3, "train_loss": 1 / e, "validation_loss": 1.1 / e, "seconds": 20.5,
             "validation_accuracy": 1 - 0.5 / e, "validation_auroc_macro": 1 - 0.3 / e}
            for e in range(1, 9)
        ]
    )  # fmt: skip
    write_evaluation(folder, labels, **evaluation)
    write_mistakes(folder, labels)
    return folder


def write_scores(folder, labels, normal, separation=2.0, images=300, seed=0, lost=0):
    """Write what a detector answers; the first `lost` images could not be scored."""
    generator = np.random.default_rng(seed)
    targets = np.arange(images) % len(labels)
    scores = generator.normal(size=images) + separation * (targets != labels.index(normal))
    scores[:lost] = np.inf
    p_values = conformal_p_values(scores, generator.normal(size=99))
    marks = anomaly_marks(scores, targets, labels, normal, p_values, resamples=100)
    RunFolder(folder).write_metrics({name: mark.as_dict() for name, mark in marks.items()})
    columns = {
        "id": [f"image-{i}" for i in range(images)],
        "label": np.array(labels, object)[targets],
        "split": ["test"] * images,
        "score": scores.astype(np.float32),
        "p_value": p_values.astype(np.float32),
        "q_value": false_discovery_q_values(p_values).astype(np.float32),
    }
    pq.write_table(pa.table(columns), RunFolder(folder).predictions)


def write_strangest(folder, labels, normal, maps="signed", pixels=16):
    strange = next(label for label in labels if label != normal)
    kinds = {"strangest": (strange, 3), "strangest normal": (normal, 2), "least strange anomaly": (strange, 2)}
    rows = [
        {"id": f"{kind} {i}", "label": label, "kind": kind, "score": 31415.0 / (i + 1), "p_value": 0.25}
        for kind, (label, n) in kinds.items()
        for i in range(n)
    ]
    generator = np.random.default_rng(2)
    arrays = {"images": generator.normal(size=(len(rows), 1, pixels, pixels)).astype(np.float32)}
    if maps is not None:
        arrays["maps"] = arrays["images"] * 3 if maps == "signed" else arrays["images"] ** 2
    write_json(folder / "strangest.json", rows)
    save_file(arrays, folder / "strangest.safetensors")


SENSITIVITY = """"class","against","quantity","low","high","middle","positives","auroc","auroc_low","auroc_high","n"
"cdm","no_sub","substructure_snr",1,9,4,50,0.7,0.6,0.8,150
"cdm","no_sub","substructure_snr",9,20,14,50,0.9,0.8,1,150
"""


def make_detector(
    folder, labels=("no_sub", "cdm", "axion"), normal="no_sub", detector="pca", maps="signed", **scores
) -> Path:
    labels = list(labels)
    options = {"detector": detector, "normal": normal, "recipe": {"name": "model_ii", "lens": {"theta_e": [1, 2]}}}
    model = {"source": "detector", "name": detector}
    write_config(folder, labels, model, task="detect_anomalies", options=options)
    RunFolder(folder).write_history([{"epoch": 1, "seconds": 95.0, "fit_seconds": 80.0}])
    write_scores(folder, labels, normal, **scores)
    write_strangest(folder, labels, normal, maps)
    (folder / "sensitivity.csv").write_text(SENSITIVITY)
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


# ---- detectors of anomalies


def test_one_detector(tmp_path):
    folder = make_detector(tmp_path / "7k2")
    page = report(runs=[str(folder)])
    assert page == folder / "report.html"
    outline = Outline(page.read_text())
    text = " ".join(outline.text.split())
    marks = json.loads((folder / "metrics.json").read_text())
    for expected in (
        "7k2", "pca on model_ii", "normal: no_sub · anomalies: cdm, axion", "normal images alone",
        "principal components", "4,500", "900 others to calibrate on", "1 min 35 s",
        "deeplense train --dataset no_sub", "AUROC, all", "AUROC, axion", "AUPRC, 1 %",
        "TPR, 0.1 % FPR", "none below 0.0011", "100 of them normal", "1 × 64 × 64",
        "The strangest images", "The strangest of the normal images", "The least strange of the anomalies",
        "least strange anomaly 1", "score 31,415", "p = 0.25", "no_sub is normal; anomalies: cdm, axion",
        "anomaly scores", "How faint a substructure is found", "recipe model_ii",
        f"{marks['auroc']['value']:.3f}", f"{marks['auprc_at_1pct']['value']:.2f}",
    ):  # fmt: skip
        assert expected in text, expected
    assert "theta_e" not in text
    assert "p_chi2" not in text, "not every detector has one, and runs of before have none"
    titles = " ".join(pictures(page.read_text()))
    for expected in ("false positive rate", "anomaly score", "p-value", "KS distance", "signal-to-noise ratio"):
        assert expected in titles
    assert outline.tags.count("img") == 3 + 1 + 3 + 2 * 7  # figures, sensitivity, colours, images and maps
    assert all(link.startswith(("data:image/", "#run-")) for link in outline.links)


@pytest.mark.parametrize(("power", "words"), [(1, "uniform as far as they can tell"), (4, "not uniform")])
def test_the_theoretical_p_values_are_judged_where_there_are_any(tmp_path, power, words):
    folder = make_detector(tmp_path / "a", detector="physical")
    table = pq.read_table(folder / "predictions.parquet")
    p_chi2 = pa.array(np.random.default_rng(0).random(len(table)) ** power, pa.float32())
    pq.write_table(table.append_column("p_chi2", p_chi2), folder / "predictions.parquet")
    text = " ".join(Outline(report(runs=[str(folder)]).read_text()).text.split())
    assert f"Of these normal images it is {words}" in text
    normal = np.array(table["label"]) == "no_sub"
    distance = stats.kstest(p_chi2.to_numpy()[normal], "uniform").statistic
    assert f"KS distance {distance:.3f}" in text


def test_a_fit_of_no_time_takes_less_than_a_second(tmp_path):
    folder = make_detector(tmp_path / "a")
    write_json(folder / "history.json", [{"epoch": 1, "seconds": 0.3}])
    assert "< 1 s" in Outline(report(runs=[str(folder)]).read_text()).text


def test_the_discoveries_are_counted(tmp_path):
    folder = make_detector(tmp_path / "a", separation=6.0)
    table = pq.read_table(folder / "predictions.parquet")
    found = [
        label for label, q in zip(table["label"].to_pylist(), table["q_value"].to_pylist(), strict=True) if q <= 0.05
    ]
    words = f"{len(found)} of the 300 test images are discoveries, {found.count('no_sub')} of them normal"
    assert 0 < len(found) < 300
    assert words in " ".join(Outline(report(runs=[str(folder)]).read_text()).text.split())


def test_detectors_are_grouped_and_compared(tmp_path):
    folders = [
        make_detector(tmp_path / "weak", separation=1.0),
        make_detector(tmp_path / "strong", separation=3.0, detector="physical"),
        make_detector(tmp_path / "other", normal="cdm"),
        make_detector(tmp_path / "two", labels=("nonlens", "lens"), normal="nonlens"),
    ]
    (folders[0] / "model_iii-test").mkdir()
    write_scores(folders[0] / "model_iii-test", ["no_sub", "cdm", "axion"], "no_sub", seed=3)
    page = report(runs=[*map(str, folders), str(folders[0])], out=tmp_path / "all.html").read_text()
    outline = Outline(page)
    assert outline.tags.count("table") == 3 and outline.tags.count("section") == 4
    assert "4 detectors of anomalies compared" in outline.text and "model_iii-test, 300 images" in outline.text
    strong = json.loads((folders[1] / "metrics.json").read_text())
    bold = [float(number) for number in re.findall(r'class="best">([0-9.]+)', page)]
    names = ["auroc", "auroc_cdm", "auroc_axion", "auprc_at_1pct", "auprc_at_5pct", "tpr_at_1pct_fpr"]
    assert bold == pytest.approx([strong[name]["value"] for name in (*names, "tpr_at_0.1pct_fpr")], abs=0.01)
    assert any("1. weak" in picture and "3. strong" in picture for picture in pictures(page))
    assert "normal: nonlens · anomalies: lens" in outline.text


def drawn_maps(page):
    """Return the colours of the middle of each scale."""
    codes = re.findall(r'alt="Colours of the maps" src="data:image/png;base64,([^"]+)', page)
    return [Image.open(io.BytesIO(base64.b64decode(code))).convert("RGB") for code in codes]


def test_signed_maps_are_symmetric_about_white_and_others_begin_dark(tmp_path):
    page = report(runs=[str(make_detector(tmp_path / "signed"))]).read_text()
    assert len(re.findall(r'class="scale"><span>−([0-9.]+)</span>.*<span>\1</span>', page)) == 3
    assert all(min(scale.getpixel((128, 0))) > 240 for scale in drawn_maps(page))
    page = report(runs=[str(make_detector(tmp_path / "positive", maps="positive"))]).read_text()
    assert page.count('class="scale"><span>0</span>') == 3
    assert all(max(scale.getpixel((0, 0))) < 10 for scale in drawn_maps(page))


def test_a_map_is_drawn_a_pixel_for_a_pixel():
    map_ = np.zeros((57, 101), np.float32)
    map_[2, 5], map_[40, 1], map_[0, 0] = 9, -9, np.nan
    colours = MapColours.of([map_, np.full((3, 3), np.nan)])
    assert colours.low == -colours.high
    picture = Image.open(io.BytesIO(MapColours(-3.0, 3.0).png(map_))).convert("RGB")
    assert picture.size == (101, 57)
    red, blue, unknown = (picture.getpixel(place) for place in ((5, 2), (1, 40), (0, 0)))
    assert red[0] > 2 * red[2] and blue[2] > 2 * blue[0] and max(unknown) - min(unknown) < 30
    assert MapColours.of([np.zeros((4, 4)), np.full((4, 4), np.nan)]) == MapColours(0.0, 1.0)


def test_a_detector_that_cannot_say_where(tmp_path):
    page = report(runs=[str(make_detector(tmp_path / "a", maps=None))]).read_text()
    outline = Outline(page)
    assert "does not say where" in outline.text and 'class="scale"' not in page
    assert outline.tags.count("img") == 3 + 1 + 7


def test_the_bare_minimum_of_a_detector(tmp_path):
    folder = make_detector(tmp_path / "a")
    labels = ["no_sub", "cdm", "axion"]
    bare = {"labels": labels, "task": "detect_anomalies", "options": {"normal": "no_sub"}}
    write_json(folder / "config.json", bare)
    write_json(folder / "history.json", [])
    for name in ("strangest.json", "sensitivity.csv"):
        (folder / name).unlink()
    text = Outline(report(runs=[str(folder)]).read_text()).text
    assert "What it finds strange" not in text and "to be cited" not in text and "none below" not in text
    write_json(folder / "strangest.json", [])
    assert "no image to show" in Outline(report(runs=[str(folder)]).read_text()).text


@pytest.mark.filterwarnings("error")
def test_images_that_could_not_be_scored_are_infinitely_strange(tmp_path):
    text = report(runs=[str(make_detector(tmp_path / "some", lost=5))]).read_text()
    assert any("the rest at the edges" in picture for picture in pictures(text))
    report(runs=[str(make_detector(tmp_path / "all", lost=300))])


def test_hostile_names_of_a_detector_are_text(tmp_path):
    folder = make_detector(tmp_path / "<b onload=x>&", labels=HOSTILE, normal=HOSTILE[0], detector="<i>x</i>")
    rows = json.loads((folder / "strangest.json").read_text())
    write_json(folder / "strangest.json", [row | {"kind": "<u>", "id": "<s>"} for row in rows])
    page = report(runs=[str(folder)]).read_text()
    outline = Outline(page)
    assert not {"script", "b", "i", "u", "s"} & set(outline.tags)
    for name in (*HOSTILE, "<b onload=x>&", "<i>x</i>", "<u>", "<s>"):
        assert name in outline.text
    for picture in pictures(page):
        assert "<script" not in picture


def test_a_perfect_detector_and_many_classes(tmp_path):
    report(runs=[str(make_detector(tmp_path / "perfect", separation=1e6))])
    labels = [f"class {k}" for k in range(14)]
    report(runs=[str(make_detector(tmp_path / "many", labels=labels, normal="class 3", images=700))])


def test_runs_of_different_tasks_are_refused(tmp_path):
    folders = [str(make_run(tmp_path / "told")), str(make_detector(tmp_path / "found"))]
    with pytest.raises(InvalidOption, match="different tasks") as caught:
        report(runs=folders)
    for name, words in (("told", "classify"), ("found", "detect_anomalies")):
        assert f"{name} ({words})" in caught.value.found
    assert all(f"`deeplense report {folder}`" in caught.value.remedy for folder in folders)
    assert not list(tmp_path.glob("*/report.html"))


def test_a_detector_has_no_attribution(tmp_path):
    folder = make_detector(tmp_path / "a")
    with pytest.raises(InvalidOption, match="--attribution with a, a detector"):
        report(runs=[str(folder)], attribution=True)
    assert not (folder / "report.html").exists()


def test_a_detector_that_was_not_evaluated(tmp_path):
    folder = make_detector(tmp_path / "a")
    for name in ("predictions.parquet", "metrics.json"):
        (folder / name).unlink()
        with pytest.raises(MissingFile, match="deeplense evaluate"):
            report(runs=[str(folder)])


LABELS = '"task": "detect_anomalies", "labels": ["no_sub", "cdm", "axion"]'
ROW = '{"id": "x", "label": "cdm", "kind": "strangest", "score": %s, "p_value": %s}'


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", b'{"task": "sing", "labels": ["a", "b"]}'),
        ("config.json", b'{"task": ["detect_anomalies"], "labels": ["a", "b"]}'),
        ("config.json", b'{"task": "detect_anomalies"}'),
        ("config.json", f"{{{LABELS}}}".encode()),
        ("config.json", f'{{{LABELS}, "options": 3}}'.encode()),
        ("config.json", f'{{{LABELS}, "options": {{"normal": "sphere"}}}}'.encode()),
        ("metrics.json", b"{}"),
        ("metrics.json", json.dumps({"auroc": MARK}).encode()),
        ("predictions.parquet", b"PAR1 but no more"),
        ("history.json", b"[1, 2]"),
        ("sensitivity.csv", b"class,against\ncdm,no_sub\n"),
        ("strangest.json", b"{"),
        ("strangest.json", b'{"a": 1}'),
        ("strangest.json", b"7"),
        ("strangest.json", b"[1, 2, 3, 4, 5, 6, 7]"),
        ("strangest.json", f"[{', '.join([ROW % (1, 0.5)] * 6)}]".encode()),
        ("strangest.json", f"[{', '.join([ROW % (1, 1.5)] * 7)}]".encode()),
        ("strangest.json", f"[{', '.join([ROW % ('NaN', 0.5)] * 7)}]".encode()),
        ("strangest.json", f"[{', '.join([ROW % ('null', 0.5)] * 7)}]".encode()),
        ("strangest.json", f"[{', '.join([ROW % (1, 0.5)] * 7)}]".replace("cdm", "sphere").encode()),
        ("strangest.json", b'[{"id": 1}, {}, {}, {}, {}, {}, {}]'),
        ("strangest.safetensors", b"\x00" * 9),
    ],
)
def test_damaged_files_of_a_detector_are_named(tmp_path, name, content):
    folder = make_detector(tmp_path / "a")
    (folder / name).write_bytes(content)
    with pytest.raises(CorruptFile, match=re.escape(name)):
        report(runs=[str(folder)])
    assert not (folder / "report.html").exists()


@pytest.mark.parametrize("shape", [(6, 1, 16, 16), (7, 2, 16, 16), (7, 1, 16, 15), (7, 16, 16)])
def test_maps_that_do_not_fit_their_images_are_refused(tmp_path, shape):
    folder = make_detector(tmp_path / "a")
    arrays = {"images": np.zeros((7, 1, 16, 16), np.float32), "maps": np.zeros(shape, np.float32)}
    save_file(arrays, folder / "strangest.safetensors")
    with pytest.raises(CorruptFile, match=r"strangest\.safetensors.*maps of shape"):
        report(runs=[str(folder)])


@pytest.mark.parametrize(("column", "value"), [("score", np.nan), ("p_value", 1.5), ("q_value", -0.1), ("label", "x")])
def test_answers_of_something_else_are_refused(tmp_path, column, value):
    folder = make_detector(tmp_path / "a")
    table = pq.read_table(folder / "predictions.parquet")
    changed = pa.array([value, *table[column].to_pylist()[1:]], table[column].type)
    for other in (table.set_column(table.column_names.index(column), column, changed), table.drop_columns([column])):
        pq.write_table(other, folder / "predictions.parquet")
        with pytest.raises(CorruptFile, match=r"predictions\.parquet"):
            report(runs=[str(folder)])


def test_a_p_value_of_chi2_beyond_1_is_refused(tmp_path):
    folder = make_detector(tmp_path / "a", detector="physical")
    table = pq.read_table(folder / "predictions.parquet")
    wrong = table.append_column("p_chi2", pa.array(np.full(len(table), 1.5), pa.float32()))
    pq.write_table(wrong, folder / "predictions.parquet")
    with pytest.raises(CorruptFile, match=r"predictions\.parquet"):
        report(runs=[str(folder)])


def test_importing_the_verb_loads_nothing_heavy():
    heavy = "{'numpy', 'matplotlib', 'jinja2', 'pyarrow', 'torch', 'safetensors'}"
    code = f"import deeplense.report, sys; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)

"""The page of super-resolution: comparable runs side by side, each estimator judged by its own marks."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from deeplense.core.errors import InvalidOption
from deeplense.core.run_folder import RunFolder
from deeplense.report import report

BOLD = re.compile(r'class="best"[^>]*>([−0-9.]+)')


class Outline(HTMLParser):
    """Collects tags, links and text; complains about tags that do not match."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.links, self.text = [], [], [], ""
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data + " "


def test_one_run(resolved):
    page = report(runs=[str(resolved())]).read_text()
    outline = Outline(page)
    for expected in (
        "srcnn on pairs", "12,345", "data range 1", "47.00", "PSNR, truth [dB]", "asked for the image without noise",
        "estimate − truth", "best", "worst", "pixel value", "a Gaussian blur and means of blocks of σ = 1.25", "−0.2",
        "to be cited", "for 3 epochs", "<i>median",
    ):  # fmt: skip
        assert expected in outline.text
    assert "i" not in outline.tags and "script" not in outline.tags
    assert all(link.startswith(("data:image/", "#run-")) for link in outline.links)
    assert not BOLD.search(page)  # one run is the best of nothing
    # 4 figures; of each pair the greys, 4 images in one stretch, and 2 maps with their colours
    assert outline.tags.count("img") == 4 + 3 * (1 + 4 + 2 * 2)


def test_real_pairs_have_dashes_and_no_truth(resolved):
    outline = Outline(report(runs=[str(resolved(estimator="fidelity", real=True))]).read_text())
    row = outline.text.split("srcnn, 40 images")[1].split("12,345")[0]
    assert row.count("–") == 8  # floor, gap, two marks against the truth, flux, centroid, θ_E, χ²
    assert "estimate − observed" in outline.text and "estimate − truth" not in outline.text


def test_fidelity_with_known_truth_shows_both_and_is_compared_with_the_observed(resolved):
    outline = Outline(report(runs=[str(resolved(estimator="fidelity"))]).read_text())
    assert "estimate − observed" in outline.text
    assert outline.tags.count("img") == 4 + 3 * (1 + 5 + 2 * 2)


def test_the_best_is_of_one_estimator_in_its_own_marks(resolved):
    folders = [
        resolved("strong", epochs=0, psnr_truth=49.0, psnr=39.0, flux_error=-0.03, coverage_68=0.99),
        resolved("weak", epochs=0, psnr_truth=44.0, psnr=40.0, flux_error=0.02),
        resolved("copy", epochs=0, estimator="fidelity", psnr=42.0, psnr_truth=60.0, gap=0.2),
        resolved("other", epochs=0, estimator="fidelity", psnr=41.5, psnr_truth=61.0, gap=0.7),
    ]
    page = report(runs=[*map(str, folders)]).read_text()
    assert Outline(page).tags.count("table") == 1 and "4 upscalers compared" in page
    blocks = page.split('class="head"')[1:]
    truth, fidelity = ([round(float(x.replace("−", "-")), 1) for x in BOLD.findall(block)] for block in blocks)
    assert 49.0 in truth and 40.0 not in truth and 1.9 in truth  # flux error [%]: nearest to 0
    assert not any(x < 0 for x in truth)
    assert any(67 < x < 69 for x in truth) and 99.0 not in truth  # coverage: nearest to what is nominal
    assert 42.0 in fidelity and 0.2 in fidelity and not {60.0, 61.0, 0.7} & set(fidelity)


@pytest.mark.parametrize(("ranges", "tables"), [((1.0, 1.0), 1), ((1.0, 0.5), 2)])
def test_only_marks_with_one_data_range_share_a_table(resolved, ranges, tables):
    folders = [resolved(f"run {k}", epochs=0, data_range=x) for k, x in enumerate(ranges)]
    outline = Outline(report(runs=[*map(str, folders)]).read_text())
    assert outline.tags.count("table") == tables


def test_other_sets_get_a_table_though_their_truth_is_unknown(resolved):
    folder = resolved(epochs=0)
    other = resolved("sky", real=True, epochs=0)
    (folder / "sky-test").mkdir()
    (folder / "sky-test" / "metrics.json").write_text((other / "metrics.json").read_text())
    text = Outline(report(runs=[str(folder)]).read_text()).text
    assert "sky-test, 2 × as fine, data range 1" in text and "pairs, 2 × as fine, data range 1" in text


def test_bands_are_averaged_and_what_does_not_learn_has_no_curves(resolved):
    outline = Outline(report(runs=[str(resolved(bands=3, epochs=1, model="bicubic"))]).read_text())
    assert "Bands are averaged" in outline.text and "learns nothing by gradients but its σ" in outline.text
    assert outline.tags.count("img") == 2 + 3 * (1 + 4 + 2 * 2)


def test_residuals_are_white_where_nothing_is_wrong(resolved):
    folder = resolved()
    arrays = load_file(folder / "panels.safetensors")
    save_file(arrays | {"estimate": arrays["truth"]}, folder / "panels.safetensors")
    page = report(runs=[str(folder)]).read_text()
    (found, *_) = re.findall(r'alt="estimate − truth[^"]*" src="data:image/png;base64,([^"]+)"', page)
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(found))).convert("RGB"))
    assert pixels.shape == (16, 16, 3) and (pixels >= 246).all()


def test_there_is_no_attribution(resolved):
    folder = resolved()
    with pytest.raises(InvalidOption, match="--attribution with a, a run of super-resolution"):
        report(runs=[str(folder)], attribution=True)
    assert not (folder / "report.html").exists()


def test_unknown_upscalers_and_no_panels(resolved):
    folder = resolved(model="<b>mine</b>")
    (folder / "panels.json").write_text("[]")
    RunFolder(folder).write_history([])
    outline = Outline(report(runs=[str(folder)]).read_text())
    assert "<b>mine</b>" in outline.text and "There is no image to show" in outline.text
    assert "to be cited" not in outline.text

"""From a catalogue to ranked candidates: nothing is lost, nothing is ranked without a reason."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Table

from deeplense.core.errors import InvalidDataset, InvalidOption, MissingFile
from deeplense.core.run_folder import RunFolder
from deeplense.data.tables import read_table
from deeplense.evaluate import evaluate
from deeplense.metrics.calibrated import calibrated, pooled, read_calibration
from deeplense.metrics.survey import shifted_prior
from deeplense.predict import UnreadableImages, predict
from deeplense.report import report
from deeplense.train import train
from deeplense.training import known_lenses
from deeplense.training.committee import Committee
from deeplense.training.known_lenses import KnownLenses
from deeplense.training.trained import TrainedModel

SIDE, N = 16, 80


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalogue, and in another folder its stamps: lenses are brighter; one stamp is damaged, one is missing."""
    folder = tmp_path_factory.mktemp("survey")
    (folder / "stamps").mkdir()
    drawn = np.random.default_rng(0)
    lines = ["ID,is_lens,split,ra,dec,mag"]
    for number in range(N):
        is_lens, split = number % 2, ("train", "train", "validation", "test")[number // 2 % 4]
        image = drawn.normal(size=(SIDE, SIDE)) + 2 * is_lens
        if number == 5:
            image[3, 3] = np.nan
        np.save(folder / "stamps" / f"{number + 1000}.npy", image.astype(np.float32))
        lines.append(f"{number + 1000},{is_lens},{split},{10 + number / 100},{-5 - number / 100},{20 - is_lens}")
    (folder / "catalogue.csv").write_text("\n".join([*lines, "2000,1,test,50,50,20", "2001,0,test,51,51,20"]))
    (folder / "stamps" / "2001.npy").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def runs(survey: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolder]:
    from deeplense.data.readers.stamps import Stamps

    home = tmp_path_factory.mktemp("learnt")
    data = home / "data"
    data.mkdir()
    lines = (survey / "catalogue.csv").read_text().splitlines()
    (data / "catalogue.csv").write_text("\n".join(lines[:-2]))
    for number in range(N):
        (data / f"{number + 1000}.npy").write_bytes((survey / "stamps" / f"{number + 1000}.npy").read_bytes())
    assert Stamps(data).image_shape == (1, SIDE, SIDE)
    base: dict[str, Any] = {"task": "find_lenses", "dataset": str(data), "device": "cpu", "lr": 1e-2, "batch_size": 8}
    found = {
        "image": RunFolder(train(out=home / "image", epochs=8, **base)),
        "late": RunFolder(train(out=home / "late", epochs=1, fusion="late", **base)),
    }
    for run in found.values():
        evaluate(run_id=str(run.path), device="cpu")
    return found


def candidates(survey: Path, run: RunFolder, out: Path, **options: Any) -> Path:
    """Return the table, which always says that two rows could not be scored."""
    with pytest.raises(UnreadableImages, match=f"2 of {N + 2}"):
        predict(
            run_id=str(run.path),
            files=(survey / "catalogue.csv",),
            images=survey / "stamps",
            out=out,
            device="cpu",
            **options,
        )
    return out


def test_every_row_is_ranked_or_has_a_reason(survey: Path, runs: dict[str, RunFolder], tmp_path: Path) -> None:
    table = pq.read_table(candidates(survey, runs["image"], tmp_path / "c.parquet", batch_size=7)).to_pydict()
    assert table["rank"] == [*range(1, N + 1), None, None]
    assert sorted(table["id"]) == sorted([*(str(1000 + k) for k in range(N)), "2000", "2001"])
    p = np.array(table["p_lens"][:N])
    assert (np.diff(p) <= 0).all() and p.min() > 0 and p.max() < 1
    reasons = dict(zip(table["id"][N:], table["error"][N:], strict=True))
    assert "no stamp" in reasons["2000"] and "2001" in reasons["2001"]
    top = {int(name) % 2 for name in table["id"][: N // 4]}
    assert top == {1}, "the brighter ones are the lenses"
    masked = dict(zip(table["id"], table["masked_pixels"], strict=True))
    assert masked["1005"] == 1 and sum(masked.values()) == 1
    again = pq.read_table(candidates(survey, runs["image"], tmp_path / "d.parquet")).to_pydict()
    assert again["id"] == table["id"], "the batch has no part in it"


def test_parts_of_a_survey_are_the_whole(survey: Path, runs: dict[str, RunFolder], tmp_path: Path) -> None:
    whole = pq.read_table(candidates(survey, runs["late"], tmp_path / "whole.parquet", prevalence=0.01)).to_pylist()
    rows = []
    for number in (1, 2, 3):
        known: dict[str, Any] = {"run_id": str(runs["late"].path), "files": (survey / "catalogue.csv",)}
        known |= {"images": survey / "stamps", "prevalence": 0.01, "device": "cpu", "shard": f"{number}/3"}
        with suppress(UnreadableImages):
            predict(out=tmp_path / f"{number}.parquet", **known)
        rows += pq.read_table(tmp_path / f"{number}.parquet").to_pylist()
    for row in (*rows, *whole):
        del row["rank"]
    together, alone = (sorted(some, key=lambda row: str(row["id"])) for some in (rows, whole))
    assert len(together) == len(alone) == N + 2
    for part, row in zip(together, alone, strict=True):  # the last bits are of the batch that an image came in
        assert part == {name: pytest.approx(v, rel=1e-5) if isinstance(v, float) else v for name, v in row.items()}


def test_a_part_names_its_table(
    survey: Path, runs: dict[str, RunFolder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stamps = [survey / "stamps" / f"{1000 + k}.npy" for k in (0, 1, 2, 6)]
    run = str(runs["image"].path)
    found = [predict(run_id=run, files=stamps, shard=f"{k}/2", device="cpu") for k in (1, 2)]
    assert [path.name for path in found] == ["predictions-1-of-2.csv", "predictions-2-of-2.csv"]
    assert [read_table(path)["file"].to_pylist() for path in found] == [
        [str(stamp) for stamp in stamps[k::2]] for k in (0, 1)
    ]
    with pytest.raises(InvalidOption, match="part 5 of 5 has no image"):
        predict(run_id=run, files=stamps, shard="5/5", device="cpu")
    with pytest.raises(InvalidOption, match="i from 1 to N"):
        predict(run_id=run, files=stamps, shard="0/2", device="cpu")


def test_a_fits_catalogue_beside_its_stamps_is_no_image(
    survey: Path, runs: dict[str, RunFolder], tmp_path: Path
) -> None:
    shutil.copytree(survey / "stamps", tmp_path / "tile")
    Table.read(survey / "catalogue.csv").write(tmp_path / "tile" / "catalogue.fits")
    with pytest.raises(UnreadableImages, match=f"2 of {N + 2}"):
        predict(
            run_id=str(runs["image"].path),
            files=(tmp_path / "tile" / "catalogue.fits",),
            out=tmp_path / "c.parquet",
            device="cpu",
        )
    assert pq.read_table(tmp_path / "c.parquet")["rank"].null_count == 2


def test_four_formats_hold_the_same(survey: Path, runs: dict[str, RunFolder], tmp_path: Path) -> None:
    read = {}
    for suffix in ("csv", "parquet", "fits", "vot"):
        out = candidates(survey, runs["late"], tmp_path / f"c.{suffix}", prevalence=0.01)
        read[suffix] = read_table(out)
    for suffix, table in read.items():
        assert table.column_names == read["csv"].column_names, suffix
        assert [str(value) for value in table["id"].to_pylist()] == [str(v) for v in read["csv"]["id"].to_pylist()]
        p = np.array([np.nan if v is None else float(v) for v in table["p_lens"].to_pylist()])[:N]
        assert np.allclose(p, read["csv"]["p_lens"].to_numpy(zero_copy_only=False)[:N]), suffix
    meta = Table.read(tmp_path / "c.fits").meta
    assert meta["PREVAL"] == 0.01 and meta["RUN"] == "late" and meta["TRUTH"] == "not used"
    assert b"isotonic" in pq.read_schema(tmp_path / "c.parquet").metadata[b"CALIBRAT"]


def test_the_prevalence_of_the_survey(survey: Path, runs: dict[str, RunFolder], tmp_path: Path) -> None:
    even = pq.read_table(candidates(survey, runs["image"], tmp_path / "a.parquet")).slice(0, N)
    rare = pq.read_table(candidates(survey, runs["image"], tmp_path / "b.parquet", prevalence=0.001)).slice(0, N)
    expected = shifted_prior(even["p_lens"].to_numpy(), 0.5, 0.001)
    assert np.allclose(rare["p_lens"].to_numpy(), expected) and set(rare["prevalence"].to_pylist()) == {0.001}


def test_a_committee_is_the_mean(survey: Path, runs: dict[str, RunFolder], tmp_path: Path) -> None:
    out = candidates(survey, runs["image"], tmp_path / "c.parquet", committee=(str(runs["late"].path),))
    table = pq.read_table(out).slice(0, N)
    logits = []
    for name, run in runs.items():
        score = table[f"score_{name}"].to_numpy()
        logits.append(np.log(score / (1 - score)) / read_calibration(run)["temperature"])
    # as many lenses as others in training, in validation and in the survey
    assert np.allclose(table["p_lens"].to_numpy(), 1 / (1 + np.exp(-np.mean(logits, axis=0))), rtol=1e-5)
    assert np.ptp(logits[1]) > 0


def test_a_committee_is_judged_and_answers_as_a_run(
    survey: Path, runs: dict[str, RunFolder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    both = (str(runs["image"].path), str(runs["late"].path))
    marks = evaluate(run_id=both[0], committee=both[1:], device="cpu")
    folder = RunFolder(Path("runs") / "image+late")
    assert folder.metrics().keys() == marks.keys() >= {"auroc_lens", "ece_isotonic", "tpr10"}
    tables = [pq.read_table(run.predictions) for run in (*runs.values(), folder)]
    answers = [np.stack([table[f"p_{name}"].to_numpy() for name in ("nonlens", "lens")], 1) for table in tables]
    together = pooled(answers[:2], [read_calibration(run) for run in runs.values()])
    assert np.allclose(answers[2], together, atol=1e-6) and np.ptp(answers[1]) > 0

    def told(**options: Any) -> Any:
        return pq.read_table(candidates(survey, folder if not options else runs["image"], Path("c.parquet"), **options))

    plain, judged = told(committee=both[1:]), told()
    assert sorted(plain["score_late"].to_pylist()[:N]) == sorted(judged["score_late"].to_pylist()[:N])
    p = dict(zip(plain["id"].to_pylist(), plain["p_lens"].to_pylist(), strict=True))
    expected = [p[name] for name in judged["id"].to_pylist()[:N]]
    honest = calibrated(np.array([[1 - value, value] for value in expected]), read_calibration(folder), 1)[:, 1]
    assert np.allclose(judged["p_lens"].to_numpy(zero_copy_only=False)[:N], honest, atol=1e-6)
    page = report(runs=(both[0], str(folder.path)), out=Path("page.html")).read_text()
    assert "image+late" in page and "image and catalogue" in page
    assert evaluate(run_id=str(folder.path), device="cpu") == marks


def test_each_of_a_committee_is_asked_for_evidence_not_for_its_prior(
    survey: Path, runs: dict[str, RunFolder], tmp_path: Path
) -> None:
    """Two runs that have seen few lenses are as sure together as one of them is alone."""
    pair = []
    for name in ("one", "other"):
        run = RunFolder(tmp_path / name / "seed-0")  # of a benchmark, where all are called alike
        shutil.copytree(runs["image"].path, run.path)
        run.calibration.unlink()
        config = run.config()
        config["options"]["shares"] = [0.98, 0.02]
        run.write_config(config)
        pair.append(run)
    alone = candidates(survey, pair[0], tmp_path / "a.parquet", prevalence=0.1)
    both = candidates(survey, pair[0], tmp_path / "b.parquet", prevalence=0.1, committee=(str(pair[1].path),))
    one, two = (pq.read_table(path).slice(0, N) for path in (alone, both))
    assert np.allclose(one["p_lens"].to_numpy(), two["p_lens"].to_numpy(), rtol=1e-6)
    assert pq.read_schema(both).metadata[b"CALIBRAT"] == b"none none"
    assert {"score_one-seed-0", "p_lens_other-seed-0"} <= set(two.column_names)


def test_committees_of_runs_that_are_called_alike_have_their_own_folders(
    runs: dict[str, RunFolder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = []
    for method in ("a", "b"):
        models = []
        for seed, run in enumerate(runs.values()):
            path = tmp_path / method / f"seed-{seed}"
            shutil.copytree(run.path, path)
            models.append(TrainedModel.load(RunFolder(path), "cpu"))
        committee = Committee.of(models)
        committee.write_record(committee.folder())
        found.append((committee.folder().path, committee.config["members"]))
    assert found[0][0] == Path("runs/seed-0+seed-1") != found[1][0]
    assert [RunFolder(path).config()["members"] for path, _ in found] == [members for _, members in found]
    alike = [TrainedModel.load(RunFolder(tmp_path / method / "seed-0"), "cpu") for method in ("a", "b")]
    assert Committee.of(alike).name == "a-seed-0+b-seed-0"


@pytest.mark.parametrize(
    "second, words", [("image", "twice"), ("fold", "the same images"), ("grown", "the same images"), ("cdm", "of cdm")]
)
def test_a_committee_that_is_none_is_refused(
    runs: dict[str, RunFolder], second: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = runs["image"] if second == "image" else RunFolder(tmp_path / second)
    if second != "image":
        shutil.copytree(runs["image"].path, run.path)
    config = run.config()
    if second == "grown":
        config["dataset"]["n_train"] += 8
    if second == "fold":
        config["options"] |= {"folds": 2, "fold": 1}
    if second == "cdm":
        config["labels"] = ["cdm", "lens"]
    if second != "image":
        run.write_config(config)
    with pytest.raises(InvalidOption, match=words):
        evaluate(run_id=str(runs["image"].path), committee=(str(run.path),), device="cpu")
    assert not (tmp_path / "runs").exists()


def test_a_committee_answers_catalogues_alone(
    survey: Path, runs: dict[str, RunFolder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Committee.of([TrainedModel.load(run, "cpu") for run in runs.values()]).write_record(RunFolder(Path("both")))
    with pytest.raises(InvalidOption, match="both, a committee"):
        predict(run_id="both", files=(survey / "stamps" / "1000.npy",), device="cpu")


def test_another_unit_needs_its_own_stretch(survey: Path, runs: dict[str, RunFolder], tmp_path: Path) -> None:
    faint = tmp_path / "faint"
    faint.mkdir()
    for path in (survey / "stamps").glob("1*.npy"):
        np.save(faint / path.name, np.load(path) * 1e-9)
    faint.joinpath("2001.npy").write_bytes(b"no image")
    moved = tmp_path / "moved"
    moved.mkdir()
    (moved / "catalogue.csv").write_bytes((survey / "catalogue.csv").read_bytes())
    faint.rename(moved / "stamps")
    strange = pq.read_table(candidates(moved, runs["image"], tmp_path / "a.parquet"))
    assert all(strange["unlike"].to_pylist()[:N])
    own = pq.read_table(candidates(moved, runs["image"], tmp_path / "b.parquet", own_stretch=True))
    plain = pq.read_table(candidates(survey, runs["image"], tmp_path / "c.parquet"))
    assert not any(own["unlike"].to_pylist())
    scores = [dict(zip(t["id"].to_pylist(), t["score"].to_pylist(), strict=True)) for t in (own, plain)]
    both = np.array([[one[key] for key in scores[0] if one[key] is not None] for one in scores], float)
    assert np.corrcoef(both)[0, 1] > 0.95


def test_known_lenses_are_marked(survey: Path, runs: dict[str, RunFolder], tmp_path: Path) -> None:
    known = tmp_path / "known.csv"
    known.write_text("name,RA [deg],DEC [deg]\nHere,10.0100001,-5.01\nAbsent,200,20\nUnknown,,\n")
    options = {"known_lenses": str(known), "match_radius": 0.5, "mosaic": tmp_path / "m.html", "top": N}
    table = pq.read_table(candidates(survey, runs["image"], tmp_path / "c.parquet", **options))
    found = {
        name: lens for name, lens in zip(table["id"].to_pylist(), table["known_lens"].to_pylist(), strict=True) if lens
    }
    assert found == {"1001": "Here"}
    page = (tmp_path / "m.html").read_text()
    assert page.count("<figure>") == N and "known: Here" in page


def test_positions_are_asked_for(tmp_path: Path) -> None:
    known = tmp_path / "known.csv"
    known.write_text("name,x\nHere,1\n")
    with pytest.raises(InvalidDataset, match="without positions"):
        KnownLenses.read(str(known))
    known.write_text("name,ra,dec\nHere,1,1\n")
    with pytest.raises(InvalidDataset, match="candidates without positions"):
        KnownLenses.read(str(known)).mark(pa.table({"id": ["a"]}), 1.0)
    known.write_text("name,ra,dec\nHere,one,1\n")
    with pytest.raises(InvalidDataset, match="holds no angles"):
        KnownLenses.read(str(known))


def test_positions_in_hours_and_without_a_value(tmp_path: Path) -> None:
    known = tmp_path / "known.csv"
    known.write_text("name,RAJ2000,DEJ2000\nHere,10:21:03.4,-05:12:44\nLost,11:00:00,-999\nNone,,\n")
    candidates = pa.table({"ra": [155.264167, 165.0, 0.0], "dec": [-5.212222, -999.0, None], "unlike": [None] * 3})
    found = KnownLenses.read(str(known)).mark(candidates, 1.0)
    assert found["known_lens"].to_pylist() == ["Here", None, None]


def test_a_survey_is_not_scored_for_a_table_that_cannot_be_written(
    survey: Path, runs: dict[str, RunFolder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*given: object) -> None:
        raise AssertionError("scored before the known lenses were read")

    monkeypatch.setattr("deeplense.training.candidates.rank_candidates", never)
    with pytest.raises(MissingFile, match=r"misspelt\.csv"):
        predict(
            run_id=str(runs["image"].path),
            files=(survey / "catalogue.csv",),
            images=survey / "stamps",
            known_lenses=str(tmp_path / "misspelt.csv"),
            device="cpu",
        )


def test_lenscat_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_lenses, "find_spec", lambda name: None)
    with pytest.raises(known_lenses.MissingCatalogue, match="lenscat is not installed"):
        KnownLenses.read("lenscat")


@pytest.mark.parametrize("option", [{"maps": Path("m")}, {"rescale": "min_max"}])
def test_options_of_others_are_refused(survey: Path, runs: dict[str, RunFolder], option: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption, match="with a catalogue"):
        predict(run_id=str(runs["image"].path), files=(survey / "catalogue.csv",), **option)
    with pytest.raises(InvalidOption, match="--prevalence with images"):
        predict(run_id=str(runs["image"].path), files=(survey / "stamps",), prevalence=0.1)


def test_a_run_that_knows_no_lenses_is_refused(survey: Path, small_run: Path) -> None:
    with pytest.raises(InvalidOption, match="no_sub, cdm, axion"):
        predict(run_id=str(small_run), files=(survey / "catalogue.csv",), images=survey / "stamps", device="cpu")


def test_what_one_of_a_committee_refuses_has_a_reason(
    survey: Path, runs: dict[str, RunFolder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deeplense.training.candidates import Finder

    taken = Finder.taken

    def refuse(self: Finder, image: Any, stamps: Any) -> Any:
        return "refused" if self.model.run.id == "image" else taken(self, image, stamps)

    monkeypatch.setattr(Finder, "taken", refuse)
    out = tmp_path / "c.parquet"
    with pytest.raises(UnreadableImages, match=f"{N + 2} of {N + 2}"):
        predict(
            run_id=str(runs["image"].path),
            files=(survey / "catalogue.csv",),
            images=survey / "stamps",
            out=out,
            device="cpu",
            committee=(str(runs["late"].path),),
        )
    table = pq.read_table(out)
    assert table["rank"].null_count == N + 2 and table["error"].null_count == 0


def test_without_knots_the_temperature_calibrates(survey: Path, runs: dict[str, RunFolder], tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "plain")
    shutil.copytree(runs["image"].path, run.path)
    (run.path / "calibration.json").write_text('{"temperature": 2.0}')
    table = pq.read_table(candidates(survey, run, tmp_path / "c.parquet")).slice(0, N)
    score = table["score"].to_numpy()
    odds = np.sqrt(score / (1 - score))
    assert np.allclose(table["p_lens"].to_numpy(), odds / (1 + odds), atol=1e-6)
    assert pq.read_schema(tmp_path / "c.parquet").metadata[b"CALIBRAT"] == b"temperature"


def test_the_mosaic_shows_rows_not_names(survey: Path, runs: dict[str, RunFolder], tmp_path: Path) -> None:
    """Two objects of one name keep their own stamps, by their paths."""
    folder = tmp_path / "twins"
    folder.mkdir()
    for number in range(4):
        np.save(folder / f"s{number}.npy", np.load(survey / "stamps" / f"{1000 + number}.npy"))
    (folder / "catalogue.csv").write_text("name,path\n" + "\n".join(f"a{k // 2},s{k}.npy" for k in range(4)))
    page = tmp_path / "m.html"
    predict(
        run_id=str(runs["image"].path),
        files=(folder / "catalogue.csv",),
        out=tmp_path / "c.csv",
        mosaic=page,
        device="cpu",
    )
    pictures = {line.partition('src="')[2] for line in page.read_text().splitlines() if "<figure>" in line}
    assert len(pictures) == 4


def test_a_run_that_reads_a_catalogue_does_not_answer_images_alone(
    survey: Path, runs: dict[str, RunFolder], tmp_path: Path
) -> None:
    with pytest.raises(InvalidOption, match="which also reads mag"):
        predict(
            run_id=str(runs["late"].path), files=(survey / "stamps" / "1000.npy",), out=tmp_path / "a.csv", device="cpu"
        )
    assert not (tmp_path / "a.csv").exists()

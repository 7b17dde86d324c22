"""Tables of every format, and the roles of their columns."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import MaskedColumn, Table
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplense.core.errors import CorruptFile, InvalidOption, MissingFile, UnknownName
from deeplense.data.catalogue import Role, Roles, guess_roles
from deeplense.data.tables import TABLES, read_table, write_table

FORMATS = {
    ".fits": "fits",
    ".fit": "fits",
    ".vot": "votable",
    ".xml": "votable",
    ".ecsv": "ascii.ecsv",
    ".csv": "ascii.csv",
    ".tsv": "ascii.tab",
}


def texts(tmp_path: Path, text: str, name: str = "table.csv") -> pa.Table:
    (tmp_path / name).write_text(text, encoding="utf-8")
    return read_table(tmp_path / name)


LETTERS = {"id": ["naïve", "α\n", None], "score": [0.5, None, 1.0]}


def test_fits_tables_hold_other_letters_as_question_marks(tmp_path: Path) -> None:
    path = tmp_path / "out.fits"
    write_table(pa.table(LETTERS), path, {"MODEL": "Sérsic", "PREVAL": 0.5})
    assert read_table(path).to_pydict()["id"][:2] == ["na?ve", "??"]
    meta = Table.read(path).meta
    assert (meta["MODEL"], meta["PREVAL"]) == ("S?rsic", 0.5)


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".vot"])
def test_other_tables_keep_every_letter(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    write_table(pa.table(LETTERS), path, {"MODEL": "Sérsic"})
    assert [str(text).strip() for text in read_table(path)["id"].to_pylist()[:2]] == ["naïve", "α"]


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_csv_of_another_encoding_has_texts(tmp_path: Path, encoding: str) -> None:
    content = "id,label,mag\n1,é,20\n2,,21\n3,lentille,22\n"
    (tmp_path / "table.csv").write_bytes(content.encode(encoding))
    table = read_table(tmp_path / "table.csv")
    assert table["label"].type == pa.string() and table["label"].to_pylist() == ["é", None, "lentille"]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.dictionary(pa.int32(), pa.binary())])
def test_bytes_of_a_parquet_file_are_texts(tmp_path: Path, kind: pa.DataType) -> None:
    column = pa.array(["é".encode(), "ü".encode("latin-1"), None]).cast(kind)
    pq.write_table(pa.table({"a": column, "b": [1, 2, 3]}), tmp_path / "table.parquet")
    assert read_table(tmp_path / "table.parquet").to_pydict() == {"a": ["é", "ü", None], "b": [1, 2, 3]}


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_gives_the_same_table(tmp_path: Path, suffix: str) -> None:
    mask = [False, True, False]
    table = Table(
        {
            "ID": np.array([7, 8, 1237648720693755918]),
            "mag": MaskedColumn([20.5, 1.0, 22.25], mask=mask),
            "count": MaskedColumn([1, 2, 3], mask=mask, dtype=np.int32),
            "field": ["north", "south", "east"],
        }
    )
    path = tmp_path / f"table{suffix}"
    table.write(path, format=FORMATS[suffix])
    read = read_table(path)
    assert read.column_names == ["ID", "mag", "count", "field"]
    assert read["ID"].to_pylist() == [7, 8, 1237648720693755918] and read["field"].to_pylist() == list(table["field"])
    assert read["count"].to_pylist() == [1, None, 3]
    mags = [None if mag is None or np.isnan(mag) else mag for mag in read["mag"].to_pylist()]  # FITS writes NaN
    assert mags == [20.5, None, 22.25]
    assert read_table(path, ["mag"]).column_names == ["mag"]
    with pytest.raises(CorruptFile, match="no column 'size'"):
        read_table(path, ["size"])


def test_parquet_keeps_its_types_without_dictionaries_and_lists(tmp_path: Path) -> None:
    table = pa.table({"id": ["a", "b"], "kind": pa.array(["x", "y"]).dictionary_encode(), "list": [[1], [2, 3]]})
    pq.write_table(table, tmp_path / "table.parquet")
    read = read_table(tmp_path / "table.parquet")
    assert read.schema == pa.schema({"id": pa.string(), "kind": pa.string()})
    assert read["kind"].to_pylist() == ["x", "y"]


@pytest.mark.parametrize(
    "text",
    [
        "ID,is_lens\n1,0\n2,1\n",
        "\ufeffID,is_lens\n1,0\n2,1\n",
        '"ID","is_lens"\r\n1,0\r\n2,1\r\n',
        "# a challenge\n#\n# of lenses, with a comma\nID,is_lens\n1,0\n2,1\n",
        "# what it is\n# ID,is_lens\n1,0\n2,1\n",
        "\nID;is_lens\n1;0\n2;1\n",
        "ID\tis_lens\n1\t0\n2\t1",
    ],
)
def test_delimiters_and_comments_at_the_top(tmp_path: Path, text: str) -> None:
    assert texts(tmp_path, text).to_pydict() == {"ID": [1, 2], "is_lens": [0, 1]}


def test_a_column_without_a_name_gets_one(tmp_path: Path) -> None:
    assert texts(tmp_path, ",ID\n0,5\n1,6\n").to_pydict() == {"column_1": [0, 1], "ID": [5, 6]}


def test_missing_values_are_null_in_numbers_and_texts(tmp_path: Path) -> None:
    assert texts(tmp_path, "ID,mag,name\n1,,a\n2,3.5,\n").to_pydict() == {
        "ID": [1, 2],
        "mag": [None, 3.5],
        "name": ["a", None],
    }


@pytest.mark.parametrize("text", ["# nothing\n", "a,a\n1,2\n", "a,b\n1,2,3\n"])
def test_what_is_no_table_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(CorruptFile, match=r"table\.csv"):
        texts(tmp_path, text)


def test_a_table_of_another_suffix_or_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match="suffix"):
        read_table(tmp_path / "table.xlsx")
    with pytest.raises(MissingFile):
        read_table(tmp_path / "table.csv")


def test_columns_of_vectors_are_left_out(tmp_path: Path) -> None:
    Table({"ID": [1, 2], "vector": np.ones((2, 3))}).write(tmp_path / "table.fits")
    assert read_table(tmp_path / "table.fits").column_names == ["ID"]


def test_a_votable_that_names_other_files_is_refused(tmp_path: Path) -> None:
    secret, path = tmp_path / "secret.bin", tmp_path / "table.vot"
    secret.write_bytes(b"\0\0\0\x07")
    form = (
        '<VOTABLE version="1.3">{0}<RESOURCE><TABLE><FIELD name="ID" datatype="int"/><DATA><BINARY>'
        '<STREAM {1}="file://{2}"/></BINARY></DATA></TABLE></RESOURCE></VOTABLE>'
    )
    for text in (form.format("", "href", secret), form.format("", "actuate='>'\nHREF", secret)):
        path.write_text(text)
        with pytest.raises(CorruptFile, match="outside the file"):
            read_table(path)
    path.write_bytes(form.format("", "href", secret).encode("utf-16"))
    with pytest.raises(CorruptFile, match="outside the file"):
        read_table(path)
    path.write_text('<!DOCTYPE a [<!ENTITY b "c">]>' + form.format("&b;", "id", secret))
    with pytest.raises(CorruptFile, match="outside the file"):
        read_table(path)


@settings(max_examples=20)
@given(st.sampled_from(TABLES), st.binary(max_size=200))
def test_any_bytes_give_a_table_or_one_error(suffix: str, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"table{suffix}"
        path.write_bytes(content)
        try:
            assert read_table(path).num_columns > 0
        except CorruptFile as error:
            assert error.path == path


def roles_of(names: str, **overrides: str) -> dict[str, Role]:
    return {name: column.role for name, column in guess_roles(names.split(), None, overrides).columns.items()}


def test_the_catalogue_of_the_challenge() -> None:
    names = "ID is_lens Einstein_area numb_source_images flux_lensed_image_in_sigma numb_pix_lensed_image mag_lens"
    assert roles_of(names) == dict.fromkeys(names.split(), "truth") | {"ID": "id", "is_lens": "label"}


def test_the_catalogue_of_the_second_challenge() -> None:
    names = "column_1 ID x_crit y_crit source_ID z_source z_lens mag_source n_pix_source n_pix_lens halo_mass mag_lens"
    known = {"column_1": "ignored", "ID": "id", "source_ID": "ignored"}
    assert roles_of(names) == dict.fromkeys(names.split(), "truth") | known


def test_our_own_catalogue() -> None:
    names = "id label split seed theta_E e1 source_magnitude"
    known = {"id": "id", "label": "label", "split": "split", "seed": "ignored"}
    assert roles_of(names) == dict.fromkeys(names.split(), "truth") | known


@pytest.mark.parametrize(
    ("role", "names"),
    [
        ("position", "ra DEC RAJ2000 ALPHA_J2000 right_ascension X_IMAGE glon"),
        ("id", "objID"),
        ("id", "NAME"),
        ("path", "file_name"),
        ("split", "subset"),
        ("weight", "sample_weight"),
        ("group", "tile fold Field_ID"),
        ("label", "is_lens"),
        ("truth", "z_source zs theta_E Einstein_radius stellar_mass mag_lens MagSource lensed_flux p_lens votes"),
        ("feature", "modelMag_g FLUX_AUTO petroRad_r fwhm_world color_gr e1 ellipticity z z_phot n_sersic g"),
    ],
)
def test_general_names(role: Role, names: str) -> None:
    assert roles_of(names) == dict.fromkeys(names.split(), role)
    assert all(column.sure and column.reason for column in guess_roles(names.split()).columns.values())


def test_an_unknown_number_is_a_feature_with_a_note() -> None:
    roles = guess_roles(["qzx", "mag_g"], pa.table({"qzx": [1.0, 2.0], "mag_g": [1.0, 2.0]}))
    assert roles.of("feature") == ("qzx", "mag_g") and not roles.columns["qzx"].sure
    assert len(roles.notes()) == 1 and "qzx" in roles.notes()[0] and "mag_g" not in roles.notes()[0]
    assert guess_roles(["mag_g"]).notes() == []


def test_values_decide_where_names_do_not() -> None:
    table = pa.table(
        {
            "id": [1, 1, 2],  # repeated: no id
            "name": ["a", "b", "c"],
            "class": [0.1, 0.2, 0.3],  # fractions: no class
            "image": [1, 2, 3],  # no path
            "mag": ["bright", "faint", "faint"],
            "color_gr": [0.5, 0.5, 0.5],
            "split": ["train", "test", "val"],
            "set": ["north", "south", "south"],
        }
    )
    roles = guess_roles(table.column_names, table)
    assert {role: roles.of(role) for role in ("id", "split", "label", "path")} == {  # type: ignore[arg-type]
        "id": ("name",),
        "split": ("split",),
        "label": (),
        "path": (),
    }
    assert roles.columns["mag"].role == roles.columns["color_gr"].role == roles.columns["set"].role == "ignored"


def test_a_second_label_is_truth_and_a_second_id_is_ignored() -> None:
    assert roles_of("label is_lens name objid") == {
        "label": "truth",
        "is_lens": "label",
        "name": "ignored",
        "objid": "id",
    }


def test_the_user_knows_better() -> None:
    assert roles_of("ID is_lens verdict mag", verdict="label", mag="ignored") == {
        "ID": "id",
        "is_lens": "truth",
        "verdict": "label",
        "mag": "ignored",
    }
    with pytest.raises(UnknownName, match="verdict"):
        roles_of("ID verdict", vredict="label")
    with pytest.raises(UnknownName, match="feature"):
        roles_of("ID verdict", verdict="features")
    with pytest.raises(InvalidOption, match="both the id"):
        roles_of("a b", a="id", b="id")


def test_roles_survive_as_plain_values() -> None:
    roles = guess_roles(["ID", "mag", "is_lens"])
    assert Roles.from_mapping(roles.as_dict()) == roles


@pytest.mark.parametrize("survey", ["space", "ground"])
def test_the_challenge_as_published(test_data: Path, survey: str) -> None:
    path = test_data / "lens_finding" / survey / "classifications.csv"
    if not path.is_file():
        pytest.skip(f"no {path}")
    table = read_table(path)
    roles = guess_roles(table.column_names, table)
    assert table.num_rows == 20_000 and roles.of("feature") == () and len(roles.of("truth")) == 3


def test_what_is_measured_on_simulated_images_is_no_truth() -> None:
    names = ["id", "label", "split", "seed", "galaxy_magnitude", "e1", "measured_mag_r", "measured_angle"]
    roles = guess_roles(names)
    assert roles.of("feature") == ("measured_mag_r", "measured_angle")
    assert roles.of("truth") == ("galaxy_magnitude", "e1")
    assert roles.of("ignored") == ("seed",) and not roles.notes()

"""What papers claim: the committed file holds, a damaged one is named by its line, and nothing measured is mixed in."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.record import RecordError
from harness.report.formats import latex, markdown
from harness.report.outputs import texts
from harness.report.read import published
from harness.report.read.groups import collect
from harness.report.read.published import COLUMNS, about, read, rows_for
from harness.report.tables import published_beside
from harness.spec import registry

HEADER = ",".join(COLUMNS)
GOOD = "coco1k,SCAN,T2I_AVE,interactive,BUTD,bi-GRU,single,70.9,94.5,97.8,56.4,87.0,93.9,500.5,,a paper,"


def written(folder: Path, *lines: str) -> Path:
    path = folder / "published.csv"
    path.write_text("\n".join([HEADER, *lines]) + "\n", encoding="utf-8")
    return path


def test_the_committed_file_holds():
    rows = read()
    assert len(rows) == 466
    assert all(row["source"] for row in rows)
    assert {row["dataset"] for row in rows} == set(published.DATASETS)


def test_every_name_of_ours_exists():
    known = {*registry.methods(), registry.SELFALIGN}
    assert set(published.METHODS.values()) <= known
    assert {label for labels in published.LABELS.values() for label in labels.values() if label} <= set(
        registry.labels()
    )
    in_file = {(row.method, row["variant"]) for row in read()}
    for method, labels in published.LABELS.items():
        assert {(method, variant) for variant in labels} <= in_file, method


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("coco1k", "coco"), "line 3: dataset must be one of flickr8k, flickr30k, coco1k, coco5k, got 'coco'"),
        (("interactive", "both"), "line 3: family must be one of independent, interactive, got 'both'"),
        (("single", "two"), "line 3: runs must be single, ensemble<n> or mean_of_<n>_seeds, got 'two'"),
        (("70.9", "170.9"), "line 3: i2t_r1 must be a number from 0 to 100, got '170.9'"),
        (("70.9", "nan"), "line 3: i2t_r1 must be a number from 0 to 100, got 'nan'"),
        (("70.9", "-7"), "line 3: i2t_r1 must be a number from 0 to 100, got '-7'"),
        (("70.9", " 70.9"), "line 3: i2t_r1 has stray blanks"),
        (("94.5", "70.5"), "line 3: i2t recall falls as K grows: 70.9, 70.5, 97.8"),
        (("500.5", "500.9"), "line 3: rsum is 500.9, the six recalls add up to 500.5"),
        (("500.5", ""), "line 3: rsum goes with all six recalls, 6 are there"),
        (("94.5", ""), "line 3: rsum goes with all six recalls, 5 are there"),
        (("500.5,,", "500.5,2.0,"), "line 3: rsum_sd without several seeds"),
        (("a paper", ""), "line 3: source is missing"),
        (("SCAN", ""), "line 3: method is missing"),
        (("a paper,", "a paper"), "line 3: 16 cells, need 17"),
        (("T2I_AVE", "I2T_AVE"), None),
    ],
)
def test_a_wrong_line_is_named(tmp_path, change, said):
    path = written(tmp_path, GOOD, GOOD.replace(*change))
    if said is None:
        assert len(read(path)) == 2
        return
    with pytest.raises(RecordError, match=re.escape(f"published.csv {said}")):
        read(path)


def test_rounding_of_what_was_printed_is_no_error(tmp_path):
    """Six recalls and Rsum, each half a tenth off at most: 0.35 together."""
    assert read(written(tmp_path, GOOD.replace("500.5", "500.8")))[0]["rsum"] == "500.8"


def test_a_line_that_repeats_another_is_named(tmp_path):
    with pytest.raises(RecordError, match="line 4: the same as line 2"):
        read(written(tmp_path, GOOD, GOOD.replace("T2I", "I2T"), GOOD + "another note"))


@pytest.mark.parametrize("text", ["dataset,method\n", "", HEADER + '\n"a', "\xff"])
def test_a_file_that_is_none_is_one_line(tmp_path, text):
    path = tmp_path / "published.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(RecordError, match=r"^published\.csv"):
        read(path)


def test_a_changed_file_is_read_anew(tmp_path):
    assert len(read(written(tmp_path, GOOD))) == 1
    assert len(read(written(tmp_path, GOOD, GOOD.replace("T2I", "I2T")))) == 2


@pytest.mark.parametrize(
    ("label", "variants"),
    [
        ("scan:t2i-avg", {("T2I_AVE", "this variant"), ("AVE+LSE", "ensemble"), ("", "variant not stated")}),
        ("scan:t2i-lse", {("AVE+LSE", "ensemble"), ("", "variant not stated")}),
        ("scan*", {("AVE+LSE", "ensemble")}),
        ("gsmn", {("dense", "this variant")}),
        ("scan+selfalign", set()),
        ("chance", set()),
    ],
)
def test_lines_go_to_the_row_they_are_about(tmp_path, label, variants):
    lines = [
        *(GOOD, GOOD.replace("T2I_AVE", "I2T_AVE"), GOOD.replace("T2I_AVE", "")),
        GOOD.replace("T2I_AVE", "AVE+LSE").replace("single", "ensemble2"),
        *(GOOD.replace("SCAN,T2I_AVE", f"GSMN,{variant}") for variant in ("dense", "sparse")),
        GOOD.replace("SCAN,T2I_AVE", "SAN,"),
    ]
    rows = read(written(tmp_path, *lines))
    assert {(row["variant"], fit) for row, fit in about(label, rows)} == variants


def test_selfalign_rows_get_what_is_published_of_selfalign():
    found = rows_for("vsrn+selfalign (prototypes=7)")
    assert {(row["method"], row["fit"], row["runs"], row["rsum"]) for row in found} == {
        ("SelfAlign", "host not stated", "not stated", None)
    }
    assert found == rows_for("camera+selfalign")
    assert "SelfAlign" not in {row["method"] for row in rows_for("vsrn")}


def test_rows_are_plain_mappings():
    first = next(row for row in rows_for("vsrn") if row["ensemble"])
    assert first["runs"] == "ensemble"
    assert isinstance(first["rsum"], float)
    assert first["rsum_sd"] is None
    assert set(first) == {*COLUMNS, "ensemble", "fit"}


def test_published_numbers_are_beside_measured_ones_and_in_no_ranking(stored):
    (group,) = collect(stored.folder)
    sheet = published_beside.beside(group)
    assert sheet is not None
    assert sheet.marks == {}
    assert "**" not in markdown(sheet)
    assert "underline" not in latex(sheet)
    by_found = sheet.text.groupby("found")["method"].apply(list)
    assert by_found["measured"] == ["vsepp", "vsepp+selfalign", "vsrn", "scan:t2i-lse"]
    rows = {row["method"]: row for _, row in sheet.text.iterrows() if row["found"] == "measured"}
    assert rows["vsepp"]["Rsum"] == "245.0 ± 35.4"  # of its own two seeds, whatever was published
    assert rows["vsrn"]["Rsum"] == "—"
    ensembles = sheet.text[sheet.text["runs"] == "ensemble*"]["method"]
    assert len(ensembles)
    assert ensembles.str.endswith("*").all()
    others = sheet.text[(sheet.text["found"] == "published") & (sheet.text["runs"] != "ensemble*")]["method"]
    assert not others.str.endswith("*").any()


def test_published_numbers_are_quoted_as_printed(stored):
    (group,) = collect(stored.folder)
    sheet = published_beside.beside(group)
    assert sheet is not None
    mean_of_seeds = sheet.text[sheet.text["Rsum"] == "366.58 ± 2.72"]
    assert list(mean_of_seeds["i2t R@1"]) == ["44.40"]
    gains = sheet.text[sheet.text["method"].str.startswith("SelfAlign")]
    assert set(gains["Rsum"]) == {"—"}
    assert all("Rsum gain of" in sheet.notes[int(number)] for number in gains["note"])


def test_settings_chosen_on_dev_are_beside_nothing(make):
    make.add(make.job("vsepp", data={"ranked": "dev"}), make.ranks([0], [0]))
    (group,) = collect(make.folder)
    assert published_beside.beside(group) is None


def test_without_a_published_method_there_is_no_table(make):
    make.add(make.job("chance"), make.ranks([0], [0]))
    assert not [name for name in texts(make.folder, collect(make.folder)) if name.startswith("published")]

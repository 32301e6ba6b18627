"""How rows were tuned, as tables: every column worked out by hand, tuned and untuned rows ranked apart."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from harness import tuned
from harness.record import AskedRecord, TunedFrom
from harness.report.figures import gather
from harness.report.outputs import texts
from harness.report.read.groups import collect
from harness.report.tables.comparison import comparison
from harness.report.tables.sharing import sharing_sheet
from harness.report.tables.tuning import terminal, tuning_sheet
from harness.spec.job import Data, Settings
from tests.tuned_values import row, value

VALUE = value(
    Data(fingerprint="ab" * 32),
    Settings(),
    vsepp=row("vsepp", 10.0, 20.0, 30.0, 25.0, doubled=28.0),
    vsrn=row("vsrn", 50.0, 10.0, 40.0, None),
    camera=row("camera", 5.0, 9.0, 8.0, 7.0, doubled=19.5),
)


def test_the_winners_are_one_line_a_row():
    lines = {line[0]: tuple(line[1:]) for line in tuning_sheet(VALUE).text.itertuples(index=False)}
    assert lines == {
        "camera": ("4", "0.01", "16 of 20", "9.0", "low", "3 of 4", "+10.5", "35"),
        "vsepp": ("4", "0.02", "5 of 20", "30.0", "high", "3 of 4", "-2.0", "35"),
        "vsrn": ("4", "0.01", "5 of 20", "50.0", "low", "3 of 4", "—", "28"),
    }


def test_what_sharing_costs_is_the_distance_to_ones_own_best():
    """Means: 21.7 at (0.01, 5), 13 at (0.01, 16), 26 at (0.02, 5); (0.02, 16) is not shared, for one diverged there.

    Better ones of the three: 2 + 0 + 2, 1 + 2 + 0, 0 + 1 + 1.
    """
    sheet = sharing_sheet(VALUE)
    assert sheet is not None
    lines = {line[0]: tuple(line[1:]) for line in sheet.text.itertuples(index=False)}
    assert lines == {
        "camera": ("9.0", "0.01, 16", "8.0", "-1.0", "8.0", "-1.0"),
        "vsepp": ("30.0", "0.02, 5", "30.0", "+0.0", "30.0", "+0.0"),
        "vsrn": ("50.0", "0.01, 5", "40.0", "-10.0", "40.0", "-10.0"),
    }
    assert "cost a row 3.7 dev Rsum on average, 10.0 at most" in sheet.notes[0]


def test_nothing_is_shared_by_one_row():
    assert sharing_sheet(tuned.narrowed(VALUE, ["vsepp"])) is None


@pytest.fixture
def folder(make):
    """Two rows with trials, one set by hand, one untuned and the floor; the untuned row is the best of all."""
    hits = {"chance": 11, "vsepp": 9, "camera": 4, "vsrn": 0, "saem": 4}
    tuned_settings = {"schedule": "cosine", "updates": 20, "parts": 4}
    asked = {}
    for label, rank in hits.items():
        own = {} if label in ("chance", "vsrn") else {**tuned_settings, "lr": {"vsepp": 0.02}.get(label, 0.01)}
        job = make.job(label, **own)
        make.add(
            job,
            make.ranks([rank, rank], [rank] * 5),
            parameters=0 if label == "chance" else 7,
            best_epoch=2,
            history=[{"dev_rsum": 1.0}] * 4,
        )
        if own:
            how = "by hand" if label == "saem" else "own"
            asked[job.key] = TunedFrom(value=VALUE.key, row=label, how=how)
    make.store.save_asked(AskedRecord("1" * 16, "full", False, list(asked), [], [], asked))
    tuned.keep(make.folder, VALUE)
    return make.folder


def column(sheet, name):
    return dict(zip(sheet.text["method"], sheet.text[name], strict=True))


def test_the_comparison_tells_how_each_row_was_tuned(folder):
    (group,) = collect(folder)
    sheet = comparison(group)
    assert column(sheet, "tuning") == {
        "chance": "—", "camera": "own", "saem": "by hand", "vsepp": "own", "vsrn": "untuned",
    }  # fmt: skip
    assert column(sheet, "trials") == {"chance": "—", "camera": "4", "saem": "—", "vsepp": "4", "vsrn": "—"}
    assert column(sheet, "best at the edge")["camera"] == "low"
    assert column(sheet, "twice as long adds")["vsepp"] == "-2.0"
    assert set(column(sheet, "best look at dev").values()) == {"3 of 4"}
    assert any(note.endswith("not ranked beside the tuned rows: saem, vsrn.") for note in sheet.notes)


def test_a_row_of_fewer_trials_than_others_is_not_ranked_beside_them(folder, make):
    few = VALUE.rows["camera"]
    few = {**few, "trials": few["trials"][:3], "outward": 0, "doubled": None}
    few["winner"] = max(range(3), key=lambda place: few["trials"][place]["dev_rsum"] or 0.0)
    few["edge"] = tuned.edge([t["lr"] for t in few["trials"]], few["trials"][few["winner"]]["lr"])
    value = tuned.made(VALUE.data, VALUE.settings, VALUE.design, {**VALUE.rows, "camera": few})
    (stored,) = make.store.asked()
    asked = {key: {**source, "value": value.key} for key, source in stored.tuning.items()}
    for path in (folder / "asked").glob("*"):
        path.unlink()
    make.store.save_asked(replace(stored, tuning=asked))
    tuned.keep(folder, value)
    (group,) = collect(folder)
    sheet = comparison(group)
    assert column(sheet, "tuning")["camera"] == "fewer trials"
    assert column(sheet, "trials")["camera"] == "3"
    assert column(sheet, "tuning")["vsepp"] == "own"
    assert any(note.endswith("not ranked beside the tuned rows: camera, saem, vsrn.") for note in sheet.notes)


def test_an_untuned_row_is_not_the_best_of_tuned_ones(folder):
    (group,) = collect(folder)
    names = [row.name for row in group.rows]
    marks = {names[place]: mark for (place, title), mark in comparison(group).marks.items() if title == "Rsum"}
    assert marks == {"camera": "best", "vsepp": "second", "vsrn": "best", "saem": "second"}


def test_the_report_makes_its_tables_and_curves_from_the_copy_alone(folder):
    groups = collect(folder)
    assert {"tuning.md", "tuning.csv", "sharing.md", "sharing.csv"} <= texts(folder, groups).keys()
    assert "tuning" in gather.draw(groups).pictures


def test_without_the_copy_a_row_still_says_that_it_was_tuned(folder):
    (folder / "tuned" / f"{VALUE.key}.json").unlink()
    (group,) = collect(folder)
    sheet = comparison(group)
    assert column(sheet, "tuning")["vsepp"] == "own"
    assert column(sheet, "trials")["vsepp"] == "—"


def test_records_of_before_are_grouped_as_before(make):
    for lr in (0.1, 0.2):
        make.add(make.job("vsepp", lr=lr), make.ranks([0, 0], [0] * 5))
    groups = collect(make.folder)
    assert [group.differs for group in groups] == [{"settings.lr": 0.1}, {"settings.lr": 0.2}]
    assert not any(group.is_tuned for group in groups)


def test_an_ensemble_is_tuned_where_all_its_members_are(make):
    members = [make.job("vsrn", seed) for seed in (0, 1)]
    for job in members:
        make.add(job, make.ranks([0, 0], [0] * 5))
    whole = replace(members[0], model=replace(members[0].model, method="vsrn*"))
    make.add(whole, make.ranks([0, 0], [0] * 5), members=[job.key for job in members], family="independent")
    for keys, how in ((members, "own"), (members[:1], "untuned")):
        source = TunedFrom(value=VALUE.key, row="vsrn", how="own")
        asked = AskedRecord("1" * 16, "full", False, [], [], [], {job.key: source for job in keys})
        make.store.save_asked(asked)
        rows = {row.name: row for group in collect(make.folder) for row in group.rows}
        assert rows["vsrn*"].tuning.how == how


def test_settings_that_its_own_trials_chose_are_no_part_of_a_rows_name(folder, make):
    """Another row of the same label, here at a rate that nobody's trials chose, tells its rate."""
    job = make.job("vsepp", lr=0.01, schedule="cosine", updates=20, parts=4)
    make.add(job, make.ranks([9, 9], [9] * 5), parameters=7)
    (group,) = collect(folder)
    assert [row.name for row in group.rows if row.model.label == "vsepp"] == ["vsepp", "vsepp (lr=0.01)"]


@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_shows_the_winners_with_no_number_broken(width):
    shown, label = io.StringIO(), "vsepp+distilled (teacher=scan:t2i-lse)"  # which has to break
    long = value(Data(fingerprint="ab" * 32), Settings(), **{label: row("vsepp", 10.0, 20.0, 30.0, 25.0, doubled=28.0)})
    Console(width=width, file=shown).print(terminal(long))
    words = shown.getvalue().split()
    for cells in tuning_sheet(long).text.to_dict("records"):
        assert {cells["lr"], cells["dev Rsum"], cells["best part"].replace(" of ", "/")} <= set(words)
    assert all(len(line) <= width for line in shown.getvalue().splitlines())

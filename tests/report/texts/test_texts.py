"""No number of README.md, docs/growth.md and FINDINGS.md is typed by hand: all of them follow from stored records."""

import json
import re
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from harness import ROOT
from harness.record import RecordError
from harness.report.read.contrasts import compared
from harness.report.read.times import QueryTime, shown_ms
from harness.report.read.tuning import UNTUNED, Tuning
from harness.report.tables import ablations
from harness.report.tables.claims import claims
from harness.report.tables.headline import choices, mean_rsum, ranked
from harness.report.texts import __main__ as door
from harness.report.texts import answer, published
from harness.report.texts.facts import Facts, listed

FOLDER = "full-scenes"


@pytest.fixture(scope="module")
def stored():
    return Facts()


@pytest.fixture
def copied(tmp_path):
    """A results folder whose records may be changed."""
    kept = shutil.ignore_patterns("tables", "figures", "concepts")
    shutil.copytree(ROOT / "results/reference" / FOLDER, tmp_path / "reference" / FOLDER, ignore=kept)
    return tmp_path


def keys(results, label):
    """Keys of the records of a row that has no options of its own."""
    found = [json.loads(path.read_text()) for path in (results / "reference" / FOLDER / "records").glob("*.json")]
    return [record["key"] for record in found if record["label"] == label]


def test_stored_texts_are_those_of_the_records(stored):
    for name, text in door.texts(ROOT, stored).items():
        assert (ROOT / name).read_text(encoding="utf-8") == text, f"{name} is stale: python -m harness.report.texts"


def test_a_typed_number_is_replaced(stored):
    text = "Before\n<!-- fill: facts.rsum('full-scenes', 'vsepp', 1) -->\n999.9<!-- end -->\nafter 999.9"
    filled = door.filled(text, stored, "a text")
    ranks = [run.usable_ranks for run in stored.row(FOLDER, "vsepp").runs]
    mean = np.mean([sum(100 * (side < k).mean() for side in (r.i2t, r.t2i) for k in (1, 5, 10)) for r in ranks])
    assert filled == text.replace("999.9<", f"{mean:.1f}<")


def test_a_changed_record_changes_the_texts(copied):
    """All ranks of SelfAlign's row on VSE++ become the best there are: 600, a gain on its host."""
    before = Facts(copied).rsum(FOLDER, "vsepp+selfalign")
    for key in keys(copied, "vsepp+selfalign"):
        path = copied / "reference" / FOLDER / "ranks" / f"{key}.npz"
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        np.savez_compressed(path, **arrays | {name: np.zeros_like(arrays[name]) for name in ("i2t", "t2i")})
    after = Facts(copied)
    assert before != "600" == after.rsum(FOLDER, "vsepp+selfalign")
    (gained,) = [gain for gain in after.gains(FOLDER) if gain.host.name == "vsepp"]
    assert gained.interval is not None
    assert gained.interval[0] > 0
    assert gained.word == "better"
    gain = 600 - mean_rsum(after.row(FOLDER, "vsepp"))
    assert f"`vsepp` {gain:+.1f} [" in answer.added(after, FOLDER)
    assert answer.best(after, FOLDER).splitlines()[2].startswith("| vsepp+selfalign")


def test_a_changed_time_changes_the_leaders(copied):
    costs = copied / "reference" / FOLDER / "costs"
    path = next(path for key in keys(copied, "chan") if (path := costs / f"{key}.json").exists())  # one seed is timed
    cost = json.loads(path.read_text())
    entry = next(entry for entry in cost["galleries"] if entry["items"] == 1000)
    entry["stages_ms"] = {"encode": [1.0, 2.0, 9.0], "search": [4997.0] * 3, "rank": [1.0] * 3}
    path.write_text(json.dumps(cost))
    changed = Facts(copied)
    assert changed.query_ms(FOLDER, "chan") == "5,000"
    assert "in 5,000 ms) from 1,000 to 10,000 ms" in answer.leaders(changed, FOLDER)


def test_the_table_is_best_first_each_method_once(stored):
    lines = [re.split(r" *\| *", line)[1:-1] for line in answer.best(stored, FOLDER).splitlines()[2:]]
    rsums = [float(line[2].split()[0]) for line in lines]
    assert rsums == sorted(rsums, reverse=True)
    for family in ("interactive", "independent"):
        there = {(row.model.method, row.model.selfalign is not None) for row in stored.ranked(FOLDER, family)}
        assert [line[1] for line in lines].count(family) == min(5, len(there))
    methods = [line[0].partition(":")[0] for line in lines]
    assert len(set(methods)) == len(methods)
    best = max(stored.ranked(FOLDER), key=mean_rsum)
    assert lines[0][0] == best.name


def test_the_answer_has_five_lines_and_names_every_host(stored):
    lines = answer.answer(stored, FOLDER).splitlines()
    assert [line[:3] for line in lines] == ["1. ", "2. ", "3. ", "4. ", "5. "]
    hosts = {row.model.host for row in stored.rows(FOLDER) if row.model.selfalign is not None}
    assert all(f"`{host}` " in lines[1] for host in hosts)


def test_gains_are_those_of_the_table_of_claims(stored):
    told = {(gain.row.name, gain.host.name): (str(gain), gain.word) for gain in stored.gains(FOLDER)}
    every = claims(stored.group(FOLDER))
    found = {(claim.row.name, claim.other.name): (claim.contrast.shown, claim.verdict) for claim in every}
    assert len(told) > 3
    assert told.items() <= found.items()


def test_rows_beside_interactive_ones_are_tested_together_and_untuned_ones_stand_apart(monkeypatch, stored):
    """By luck alone a row is above or below zero in some of many tests; an untuned row tells nothing."""
    row, others = stored.row(FOLDER, "vsrn+selfalign"), stored.rows(FOLDER, "interactive")
    told = stored.told_apart(FOLDER, "vsrn+selfalign")
    tuned = [other for other in others if other.is_settled]
    words = {contrast.other.name: contrast.word for contrast in compared([(row, other) for other in tuned])}
    assert told["behind"] == listed([name for name, word in words.items() if word == "worse"])
    assert told["untuned"] == listed([other.name for other in others if not other.is_settled])
    rows = [replace(other, tuning=UNTUNED) for other in others]
    facts = Facts()
    monkeypatch.setattr(facts, "rows", lambda *_: rows)
    assert facts.told_apart(FOLDER, "vsrn+selfalign")["untuned"] == listed([other.name for other in others])


def test_an_untuned_row_leads_nowhere_beside_tuned_ones(monkeypatch):
    facts = Facts()
    (group,) = [facts.group(FOLDER)]
    best = max(facts.ranked(FOLDER), key=mean_rsum)
    rows = tuple(replace(row, tuning=UNTUNED) if row.name == best.name else row for row in group.rows)
    monkeypatch.setattr(facts, "group", lambda _: replace(group, rows=rows))
    assert best.name not in [row.name for row in facts.ranked(FOLDER)]
    assert f"| {best.name} " not in answer.best(facts, FOLDER)
    assert f"`{best.name}`" not in answer.leaders(facts, FOLDER)
    assert best.name not in [choice.row.name for choice in choices(rows)]
    bare = tuple(replace(row, tuning=UNTUNED) for row in group.rows)
    assert len(ranked(bare)) == len(facts.rows(FOLDER))


def test_rows_that_were_not_run_are_named(copied):
    before = answer.not_run(Facts(copied), FOLDER)
    for key in keys(copied, "naaf"):
        (copied / "reference" / FOLDER / "records" / f"{key}.json").unlink()
    assert "`naaf`" not in before
    assert re.search(r"rows that are missing: [^;]*`naaf`", answer.not_run(Facts(copied), FOLDER))


def test_what_is_said_of_settings_follows_from_the_trials(monkeypatch, stored):
    rows = stored.rows(FOLDER)
    for settled, rates, search in (
        (0, "all rows share one learning rate", "; a search of its own settings for any row."),
        (2, f"{len(rows) - 2} of the {len(rows)} rows have had", f"settings for {len(rows) - 2} of them."),
        (len(rows), "the best of its own trials", "no interval over seeds."),
    ):
        told = [SimpleNamespace(**vars(row), is_settled=place < settled) for place, row in enumerate(rows)]
        facts = Facts()
        monkeypatch.setattr(facts, "rows", lambda *_, told=told: told)
        assert rates in answer.half_trained(facts, FOLDER)
        assert answer.not_run(facts, FOLDER).endswith(search)


@pytest.mark.parametrize(
    ("whose", "said"),
    [
        ({"both": "own", "one": "own"}, "Every arm has the settings that its own trials chose."),
        (
            {"both": "base", "one": "base"},
            "Arms have the settings that their base's trials chose, which need",
        ),
        ({"both": "own", "one": "base"}, "Arms have the settings that their base's trials chose, which need not"),
        ({"both": "untuned", "one": "own"}, "Of `both` not all were tuned: the table says which."),
    ],
)
def test_it_is_told_whose_trials_chose_the_settings_of_arms(monkeypatch, stored, whose, said):
    arms = {name: SimpleNamespace(row=SimpleNamespace(tuning=Tuning(how))) for name, how in whose.items()}  # type: ignore[arg-type]
    base = SimpleNamespace(name="vsepp")
    monkeypatch.setattr(ablations, "by_question", lambda _: {"split": [SimpleNamespace(arms=arms, base=base)]})
    told = stored.settings_of_arms(FOLDER, "split")
    assert told.startswith(said)
    assert told.endswith(", but for `both`.") == (whose == {"both": "own", "one": "base"})
    with pytest.raises(RecordError, match="0 of split in two, settings of arms"):
        stored.settings_of_arms(FOLDER, "split in two")


def test_a_family_that_is_not_there_has_no_time(stored):
    assert stored.query_span(FOLDER, []) == "—"
    with pytest.raises(RecordError, match="none of these rows was timed"):
        stored.query_span(FOLDER, [stored.row(FOLDER, "oracle")])


@pytest.mark.parametrize(
    ("gained", "said"),
    [
        ({"vsepp": 2.9, "vsrn": 10.0, "saem": -4.0}, answer.LONG_ENOUGH),
        ({"vsepp": 3.0, "vsrn": 3.1, "saem": -4.0}, "longer training may change their order"),
        ({"vsepp": 0.0, "vsrn": 10.1, "saem": 0.0}, "longer training may change their order"),
    ],
)
def test_a_length_is_long_enough_by_its_rule(gained, said, monkeypatch):
    facts = Facts()
    monkeypatch.setattr(facts, "doubled", lambda _: gained)
    assert said in answer.half_trained(facts, FOLDER)
    assert f"more than 3 to {sum(more > 3 for more in gained.values())} of them" in answer.half_trained(facts, FOLDER)


def test_runs_that_still_improve_are_counted(copied):
    before, trained = Facts(copied).rising(FOLDER)
    for key in keys(copied, "vsepp"):
        path = copied / "reference" / FOLDER / "records" / f"{key}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"best_epoch": 0}))
    after, of = Facts(copied).rising(FOLDER)
    assert (of, before - after > 0) == (trained, True)


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("facts.rsum('full-scenes', 'vse')", "full-scenes has 0 of vse, a text needs one"),
        ("facts.rsum('full-moon', 'vsepp')", "full-moon is not a folder"),
        ("facts.arm('full-scenes', 'submodules', 'vsepp', 'neither')", "0 of submodules: vsepp, neither"),
        ("facts.rerank('full-scenes', 'vsepp', 'imram:text', 10)", "0 of imram:text behind vsepp"),
        ("facts.query_ms('full-scenes', 'vsepp', 7)", "no single query of vsepp among 7 images"),
        ("facts.setting('full-scenes', 'colour')", "0 of colour"),
        ("facts.rsums('full-scenes', 'vsepp')", "no attribute 'rsums'"),
        ("facts.rsum(", "unexpected"),
        ("queries('full-scenes-plain', ('vsepp',))", "full-scenes-plain: vsepp was not timed"),
    ],
)
def test_what_records_do_not_say_is_refused(stored, expression, says):
    with pytest.raises(RecordError, match=re.escape(says)):
        door.rendered(f"{{{{ {expression} }}}}", stored, "a text")


def test_the_door_writes_and_checks(tmp_path, monkeypatch, stored):
    for name in set(door.SLOTTED) - {"README.md"}:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("nothing to fill\n")
    (tmp_path / "README.md").write_text("<!-- fill: facts.rsum('full-scenes', 'chance') -->\n<!-- end -->\n")
    (tmp_path / "results/FINDINGS.md.j2").write_text("{{ facts.count('full-scenes', 'test') }}\n")
    monkeypatch.setattr(door, "ROOT", tmp_path)
    monkeypatch.setattr(door, "Facts", lambda: stored)
    run = CliRunner().invoke
    assert run(door.app, ["--check"]).exit_code == 1
    assert not (tmp_path / "results/FINDINGS.md").exists()
    assert "written: results/FINDINGS.md" in run(door.app, []).output
    assert (tmp_path / "results/FINDINGS.md").read_text() == stored.count(FOLDER, "test") + "\n"
    assert run(door.app, ["--check"]).exit_code == 0
    (tmp_path / "results/FINDINGS.md.j2").write_text("{{ facts.count('full-moon', 'test') }}\n")
    assert run(door.app, []).exit_code == 2


def test_words():
    assert [listed(names) for names in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "none",
        "a",
        "a and b",
        "a, b and c",
    ]
    times = [QueryTime(ms, ms, ms, known, {}, True) for ms, known in ((0.912, True), (99.6, True), (1234, False))]
    assert [shown_ms(time) for time in times] == ["0.91", "100", "≈1,200"]


def test_what_suite_paper_should_come_to(stored):
    """CAMERA's ten seeds have 501.71 ± 1.59: a mean of three lies within 2.2622 x 1.59 x (13/30)^½ = 2.37 of that."""
    lines = published.expected(stored).splitlines()
    (camera,) = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| camera")]
    assert camera == ["camera", "flickr30k", "BUTD regions", "BERT", "501.7 ± 1.6", "3", "[499.3, 504.1]"]
    assert "randomly" not in "".join(lines)
    assert "| scan:i2t-avg | flickr30k | BUTD regions | bi-GRU |      447.4 ± 2.1 |            1 |" in "".join(lines)


def test_claims_are_told_as_their_table_has_them(stored):
    table = (ROOT / "results/reference" / FOLDER / "tables/claims.md").read_text(encoding="utf-8")
    assert answer.claimed(stored, FOLDER) in table


def test_memory_needs_a_timed_row(stored):
    assert "MiB a row, 256 images encoded at once and 1,000 searched" in stored.peaks("full-flickr8k-1-h200")
    with pytest.raises(RecordError, match="no timed row tells its memory"):
        stored.peaks("full-scenes-plain")

"""Tables from made-up records: exact text, what shares a table and what does not, what is said of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from harness.measure.verdicts import MARGIN, corrected, reach, word
from harness.record import RecordError
from harness.report import console_table, rsum
from harness.report.formats import ABSENT, Sheet, csv, interval, latex, markdown, signed, significant
from harness.report.outputs import texts
from harness.report.read import times
from harness.report.read.groups import Row, collect
from harness.report.read.protocols import protocol
from harness.report.read.rows import owners
from harness.report.tables import comparison, effort
from harness.report.tables.claims import Claim, claims, claims_sheet
from harness.spec import registry
from harness.spec.job import Settings

LEGEND = (
    "Recall at K and Rsum (the sum of the six recalls) in percent, median and mean rank from 1; "
    "mean ± standard deviation (n - 1) over seeds, 95% interval of the mean by Student's t over seeds. "
    "The best and the second best of a column are marked, chance aside; — is a figure that is not there."
)
TIMES = (
    "Times are medians (device abacus, threads 2). End to end: one caption alone, read, encoded, scored against "
    "2 images that are encoded already, and ranked. In batches: encoding, scoring and ranking of many captions at "
    "once, 3 samples."
)
UNTOLD = "No end-to-end time of any row: records from before single queries were timed as a whole."
ORDER = (
    "Order of the rows against that published on Flickr30K (Kendall's tau of Rsum; a check, never a target): "
    "only 1 of its rows are published there, too few."
)
GOLDEN_TEX = rf"""% Comparison
% Data scenes, split test: 12 images, 30 captions; seeds 0, 1. Made by `python -m harness.report results/full-scenes`.
\begin{{tabular}}{{lllrrrrrrrrrrrrrrrrrrrr}}
\toprule
method & family & seeds & i2t R@1 & i2t R@5 & i2t R@10 & t2i R@1 & t2i R@5 & t2i R@10 & Rsum & Rsum 95\% & i2t MedR & i2t MeanR & t2i MedR & t2i MeanR & binding R@1 & end-to-end ms/query & queries/s in batches & encode ms/image & encode ms/caption & score+rank ms/query & index bytes/image & parameters \\
\midrule
chance & independent & 1 & 0.0 & 0.0 & 50.0 & 0.0 & 0.0 & 20.0 & 70.0 & --- & 10.0 & 10.5 & 11.0 & 10.8 & 0.0 & --- & 50.0 & 100 & 10.0 & 10.0 & 1,024 & 0 \\
vsepp & independent & 2 & 0.0 $\pm$ 0.0 & \underline{{50.0 $\pm$ 0.0}} & \underline{{75.0 $\pm$ 35.4}} & 20.0 $\pm$ 0.0 & 40.0 $\pm$ 0.0 & \underline{{60.0 $\pm$ 0.0}} & 245.0 $\pm$ 35.4 & [-72.7, 562.7] & 7.5 $\pm$ 0.7 & 7.8 $\pm$ 0.4 & 10.0 $\pm$ 0.0 & 7.6 $\pm$ 0.0 & \underline{{50.0 $\pm$ 0.0}} & --- & \textbf{{50.0}} & 100 & 10.0 & \textbf{{10.0}} & 1,024 & 1,234 \\
vsepp+selfalign & independent & 2 & \underline{{50.0 $\pm$ 0.0}} & \underline{{50.0 $\pm$ 0.0}} & \textbf{{100.0 $\pm$ 0.0}} & \underline{{40.0 $\pm$ 0.0}} & \underline{{50.0 $\pm$ 14.1}} & \underline{{60.0 $\pm$ 0.0}} & \underline{{350.0 $\pm$ 14.1}} & [222.9, 477.1] & \underline{{5.0 $\pm$ 0.0}} & \underline{{5.5 $\pm$ 0.0}} & \underline{{7.5 $\pm$ 3.5}} & \underline{{6.3 $\pm$ 0.7}} & \textbf{{100.0 $\pm$ 0.0}} & --- & \underline{{33.3}} & 100 & 10.0 & \underline{{20.0}} & 1,024 & 1,234 \\
vsrn & independent & --- & --- & --- & --- & --- & --- & --- & --- & --- & --- & --- & --- & --- & --- & --- & --- & --- & --- & --- & --- & --- \\
scan:t2i-lse & interactive & 1 & \textbf{{100.0}} & \textbf{{100.0}} & \textbf{{100.0}} & \textbf{{80.0}} & \textbf{{80.0}} & \textbf{{80.0}} & \textbf{{540.0}} & --- & \textbf{{1.0}} & \textbf{{1.0}} & \textbf{{1.0}} & \textbf{{3.0}} & \textbf{{100.0}} & --- & 0.990 & 100 & 10.0 & 1000 & 1,024 & 1,234 \\
\bottomrule
\end{{tabular}}
% {LEGEND}
% {effort.NONE}
% {TIMES}
% {UNTOLD}
% {ORDER}
"""  # noqa: E501
GOLDEN_CSV_HEAD = (
    "method,family,seeds,i2t R@1,i2t R@1 sd,i2t R@1 low,i2t R@1 high,i2t R@5,i2t R@5 sd,i2t R@5 low,i2t R@5 high,"
    "i2t R@10,i2t R@10 sd,i2t R@10 low,i2t R@10 high,t2i R@1,t2i R@1 sd,t2i R@1 low,t2i R@1 high,"
    "t2i R@5,t2i R@5 sd,t2i R@5 low,t2i R@5 high,t2i R@10,t2i R@10 sd,t2i R@10 low,t2i R@10 high,"
    "Rsum,Rsum sd,Rsum low,Rsum high,"
    "i2t MedR,i2t MedR sd,i2t MeanR,i2t MeanR sd,t2i MedR,t2i MedR sd,t2i MeanR,t2i MeanR sd,"
    "binding R@1,binding R@1 sd,"
    "end-to-end ms/query,queries/s in batches,encode ms/image,encode ms/caption,score+rank ms/query,index bytes/image,"
    "parameters"
)
GOLDEN_CSV_HOST = (
    "vsepp,independent,2,0.0,0.0,0.0,0.0,50.0,0.0,50.0,50.0,75.0,35.4,-242.7,392.7,20.0,0.0,20.0,20.0,"
    "40.0,0.0,40.0,40.0,60.0,0.0,60.0,60.0,245.0,35.4,-72.7,562.7,"
    "7.5,0.7,7.8,0.4,10.0,0.0,7.6,0.0,50.0,0.0,—,50.0,100,10.0,10.0,1024,1234"
)
GOLDEN_CLAIMS = """## Does SelfAlign help?

| SelfAlign row   | against      |   seeds |          published |        Rsum difference |   P above zero |      verdict |   claim |
|:----------------|:-------------|--------:|-------------------:|-----------------------:|---------------:|-------------:|--------:|
| vsepp+selfalign | vsepp        |       2 | +9.1 / +4.2 / +6.6 | +105.0 [-160.1, 370.1] |           1.00 | untuned host | untuned |
| vsepp+selfalign | scan:t2i-lse |       1 |                  — |                 -200.0 |           0.00 |  untuned row | untuned |

- Untuned: vsepp or its row with SelfAlign has had no trials of its own, so nothing can be said of \
what SelfAlign adds; Rsum +105.0 [-160.1, 370.1], seeds compared: 2.
- A true difference of so many Rsum would have been seen in 80% of cases: vsepp 343.9.
"""  # noqa: E501


@pytest.fixture
def made(stored):
    return texts(stored.folder, collect(stored.folder))


def lines_with(text: str, word: str) -> list[str]:
    return [line for line in text.splitlines() if word in line]


def column(sheet: Sheet, title: str) -> dict[str, str]:
    return dict(zip(sheet.text["method"], sheet.text[title], strict=True))


def test_golden_latex(made, stored):
    failed = f"% Left out: vsrn seed 0 ({stored.job('vsrn').key}), failed: LossError: hinge is nan in step 7\n"
    assert made["comparison.tex"] == GOLDEN_TEX + failed


def test_golden_csv(made, stored):
    lines = made["comparison.csv"].splitlines()
    assert lines[0] == f"data,split,suite,{GOLDEN_CSV_HEAD},keys,commit"
    keys = " ".join(stored.job("vsepp", seed).key for seed in (0, 1))
    assert lines[2] == f"scenes,test,,{GOLDEN_CSV_HOST},{keys},abc".replace("—", "")
    assert lines[4] == "scenes,test,,vsrn,independent" + "," * 48


def test_golden_markdown(made):
    text = made["comparison.md"]
    assert text.startswith(
        "# Comparison\n\nData scenes, split test: 12 images, 30 captions; seeds 0, 1. Made by `python -m "
    )
    cells = [cell.strip() for cell in lines_with(text, "| vsepp+selfalign ")[0].strip("|").split("|")]
    assert cells == [
        *("vsepp+selfalign", "independent", "2"),
        *(
            "_50.0 ± 0.0_",
            "_50.0 ± 0.0_",
            "**100.0 ± 0.0**",
            "_40.0 ± 0.0_",
            "_50.0 ± 14.1_",
            "_60.0 ± 0.0_",
            "_350.0 ± 14.1_",
            "[222.9, 477.1]",
        ),
        *("_5.0 ± 0.0_", "_5.5 ± 0.0_", "_7.5 ± 3.5_", "_6.3 ± 0.7_", "**100.0 ± 0.0**"),
        *("—", "_33.3_", "100", "10.0", "_20.0_", "1,024", "1,234"),
    ]
    assert f"- {LEGEND}\n- {effort.NONE}\n- {TIMES}\n- {UNTOLD}\n- {ORDER}\n" in text


def test_single_runs_are_not_compared_with_ensembles(stored):
    (group,) = collect(stored.folder)
    scan = next(row for row in group.rows if row.name == "scan:t2i-lse")
    with_ensemble = replace(group, rows=(*group.rows, averaged(scan, "scan*")))
    assert [claim.other.name for claim in claims(with_ensemble)] == [claim.other.name for claim in claims(group)]
    assert "scan:t2i-lse" in {claim.other.name for claim in claims(group)}


def test_golden_claims(made):
    assert made["claims.md"].startswith("# What the paper claims\n\nData scenes, split test: 12 images, ")
    assert GOLDEN_CLAIMS in made["claims.md"]
    assert made["claims.csv"].splitlines()[1] == (
        "gains recall on its host,vsepp+selfalign,vsepp,2,Rsum,,+105.0,-160.1,+370.1,1.00,,untuned host,untuned,"
    )


def averaged(row: Row, name: str) -> Row:
    """The same scores as if they were the mean of two models'."""
    runs = tuple(replace(run, record=replace(run.record, members=["a", "b"])) for run in row.runs)
    return replace(row, name=name, runs=runs)


def test_ensembles_are_ranked_among_themselves(stored):
    """Single runs: 245, 350 and 540; the ensembles tie with the best and the second of them."""
    (group,) = collect(stored.folder)
    rows = {row.name: row for row in group.rows}
    ensembles = (averaged(rows["scan:t2i-lse"], "scan*"), averaged(rows["vsepp+selfalign"], "vsepp*+selfalign"))
    sheet = comparison.comparison(replace(group, rows=(*group.rows, *ensembles)))
    marked = {sheet.text["method"][place]: mark for (place, title), mark in sheet.marks.items() if title == "Rsum"}
    assert marked == {
        "scan:t2i-lse": "best",
        "vsepp+selfalign": "second",
        "scan*": "best",
        "vsepp*+selfalign": "second",
    }
    assert r"\* An ensemble" in markdown(sheet)
    assert "An ensemble" not in markdown(comparison.comparison(group))


def test_a_lone_ensemble_is_not_the_best_of_anything(stored):
    (group,) = collect(stored.folder)
    best = next(row for row in group.rows if row.name == "scan:t2i-lse")
    sheet = comparison.comparison(replace(group, rows=(*group.rows, averaged(best, "scan*"))))
    assert not [place for place, _ in sheet.marks if sheet.text["method"][place] == "scan*"]


@pytest.mark.parametrize(
    ("images", "folds", "names"),
    [
        (1000, None, ("1K protocol", "1K protocol")),
        (5000, 1000, ("5K protocol", "1K protocol, mean of 5 folds of 1000 images")),
        (21, 7, ("whole gallery", "mean of 3 folds of 7 images")),
    ],
)
def test_a_protocol_has_the_name_the_field_gives_it(make, images, folds, names):
    ranks = make.ranks([0] * images, [0] * images, folds=folds is not None)
    if folds is not None:
        fold = (np.arange(images) // folds).astype(np.int32)
        ranks = replace(ranks, fold_of_image=fold, fold_of_caption=fold)
    make.add(make.job("vsepp"), ranks)
    (group,) = collect(make.folder)
    assert (protocol(group), protocol(group, folded=True)) == names


def test_settings_say_what_is_shared_and_what_is_not(made):
    assert lines_with(made["settings.md"], "| settings.lr ")[0].split() == [
        "|",
        "settings.lr",
        "|",
        str(Settings().lr),
        "|",
    ]
    assert lines_with(made["settings.md"], "provenance.commit")[0].split() == [
        "|",
        "provenance.commit",
        "|",
        "abc",
        "|",
    ]
    assert len(lines_with(made["settings.md"], "| vsepp ")) == 2
    assert "settings.seed" not in made["settings.md"]


def test_the_same_records_make_the_same_bytes(stored, made):
    assert texts(stored.folder, collect(stored.folder)) == made


def test_rows_stand_in_order(make):
    labels = ["scan:t2i-lse", "vsrn+selfalign", "vsepp+selfalign", "vsrn", "chance", "vsepp"]
    for label in labels:
        make.add(make.job(label), make.ranks([0, 1], [0, 1, 2, 3, 4]))
    (group,) = collect(make.folder)
    names = [row.name for row in group.rows]
    assert names == ["chance", "vsepp", "vsepp+selfalign", "vsrn", "vsrn+selfalign", "scan:t2i-lse"]


def test_different_settings_never_share_a_table(make):
    for lr in (8e-4, 2e-4):
        make.add(make.job("vsepp", lr=lr), make.ranks([0, 1], [0, 1, 2, 3, 4]))
    make.add(make.job("vsepp", seed=1, lr=2e-4), make.ranks([0, 1], [0, 1, 2, 3, 4]))
    groups = collect(make.folder)
    assert [group.differs for group in groups] == [{"settings.lr": 2e-4}, {"settings.lr": 8e-4}]
    made = texts(make.folder, groups)
    assert sorted(made) == [
        *("claims-1.csv", "claims-1.md", "claims-2.csv", "claims-2.md"),
        *(
            "comparison-1.csv",
            "comparison-1.md",
            "comparison-1.tex",
            "comparison-2.csv",
            "comparison-2.md",
            "comparison-2.tex",
        ),
        *(f"published-{group}.{kind}" for group in (1, 2) for kind in ("csv", "md", "tex")),
        "runs.csv",
        *("settings-1.md", "settings-2.md", "summary-1.md", "summary-1.tex", "summary-2.md", "summary-2.tex"),
        *("sweep.csv", "sweep.md"),
    ]
    assert "Only records with `settings.lr=0.0002`." in made["comparison-1.md"]
    assert [line.split(",")[3] for line in made["comparison-2.csv"].splitlines()] == ["settings.lr", "0.0008"]


def test_a_sweep_compares_settings_by_the_rows_that_all_have(make):
    hit, miss = make.ranks([0, 0], [0, 0, 0, 0, 0]), make.ranks([10, 10], [10, 10, 10, 10, 10])
    for lr, ranks in ((8e-4, hit), (2e-4, miss)):
        make.add(make.job("vsepp", lr=lr), ranks)
    make.add(make.job("vsrn", lr=2e-4), hit)
    assert texts(make.folder, collect(make.folder))["sweep.csv"].splitlines() == [
        "settings.lr,vsepp,vsrn,mean",
        "0.0002,0.0,600.0,0.0",
        "0.0008,600.0,,600.0",
    ]


@pytest.mark.parametrize(
    "change", [{"data": {"name": "other"}}, {"data": {"ranked": "dev"}}, {"device": "cuda"}, {"dim": 7}]
)
def test_whatever_setting_differs_the_table_does(make, change):
    make.add(make.job("vsepp"), make.ranks([0, 1], [0, 1]))
    make.add(make.job("vsrn", **change), make.ranks([0, 1], [0, 1]))
    assert len(collect(make.folder)) == 2


def test_options_of_one_label_make_rows_of_their_own(make):
    for prototypes in (7, 11):
        model = registry.model("vsepp+selfalign", selfalign_options={"prototypes": prototypes})
        make.add(make.job(model), make.ranks([0, 1], [0, 1]))
    (group,) = collect(make.folder)
    names = {row.name: len(row.runs) for row in group.rows}
    assert names == {"vsepp+selfalign (prototypes=7)": 1, "vsepp+selfalign (prototypes=11)": 1}


def test_what_cannot_be_used_is_named_and_never_averaged_in(make):
    good = make.ranks([0, 0], [0, 0])
    make.add(make.job("vsepp"), good)
    make.add(make.job("vsepp", seed=1), None)
    stale = replace(registry.model("vsepp"), recipes={"vsepp": 0})
    make.add(make.job(stale, seed=2), make.ranks([9, 9], [9, 9]))
    make.add(make.job("vsepp", seed=3), make.ranks([9, 9], [9, 9]), status="failed", error="OSError: a|b c")
    (group,) = collect(make.folder)
    sheet = comparison.comparison(group)
    assert column(sheet, "Rsum") == {"vsepp": "600.0"}
    assert column(sheet, "seeds") == {"vsepp": "1"}
    lines = lines_with(markdown(sheet), "Left out")
    assert len(lines) == 3
    for line, part in zip(
        lines, ("its ranks are missing", "stale: made by recipe vsepp 0", r"failed: OSError: a\|b c"), strict=True
    ):
        assert part in line


def test_a_job_stored_under_two_keys_counts_once(make):
    job = make.job("vsepp")
    make.add(job, make.ranks([0, 0], [0, 0]))
    record = make.store.record(job.key)
    make.store.save(replace(record, key="0" * 16), make.ranks([9, 9], [9, 9]))
    (group,) = collect(make.folder)
    assert [run.record.key for run in group.runs] == [job.key]
    assert [run.problem for run in group.left_out] == ["stored a second time under another key"]


def test_groups_of_captions_and_absent_counts(make):
    make.add(
        make.job("vsepp"),
        make.ranks([0, 0], [0, 0, 9], groups={"relation": [True, False, True], "empty": [False] * 3}),
        data={},
    )
    make.add(make.job("vsrn"), make.ranks([0, 0], [0, 0, 9]))
    groups = collect(make.folder)
    sheet = comparison.comparison(groups[0])
    assert column(sheet, "relation R@1") == {"vsepp": "50.0", "vsrn": ABSENT}
    assert column(sheet, "empty R@1") == {"vsepp": ABSENT, "vsrn": ABSENT}
    assert "split test: 12 images" in texts(make.folder, groups)["comparison.md"]  # of the record that has them


def test_folds_have_a_table_of_their_own(make):
    make.add(make.job("vsepp"), make.ranks([0, 9], [0, 0, 9], folds=True))
    make.add(make.job("vsrn"), make.ranks([0, 9], [0, 0, 9]))
    made = texts(make.folder, collect(make.folder))
    assert made["comparison.md"].startswith("# Comparison, whole gallery\n")
    assert made["comparison-folds.md"].startswith("# Comparison, mean of 2 folds of 6 images\n")
    assert made["comparison-folds.csv"].splitlines()[1].startswith("scenes,test,,vsepp,independent,1,100.0,,")
    assert made["comparison-folds.csv"].splitlines()[2].startswith("scenes,test,,vsrn,independent,1,,,")


def test_times_of_different_machines_never_share_a_column(stored):
    stored.time(stored.job("vsepp"), 0.04, machine={"device": "abacus", "threads": 3})
    (group,) = collect(stored.folder)
    sheet = comparison.comparison(group)
    for title in ("encode ms/image", "encode ms/caption", "score+rank ms/query"):
        assert set(column(sheet, title).values()) == {ABSENT}
    assert column(sheet, "index bytes/image")["vsepp"] == "1,024"
    why = "Times are left out, rows were not timed alike: threads 2 (chance, vsepp+selfalign, scan:t2i-lse), 3 (vsepp)."
    assert why in sheet.notes
    assert {(claim.end_to_end, claim.search) for claim in claims(group)} == {(None, None)}


def test_times_of_different_workloads_never_share_a_column(stored):
    stored.time(stored.job("scan:t2i-lse"), 0.04, sizes={"images": 2, "captions": 5, "queries": 5, "gallery": 3})
    assert "sizes.gallery 2 (chance, " in times.timing_conflict(collect(stored.folder)[0].rows)


def test_a_stage_without_samples_is_absent_not_zero(stored):
    cost = stored.store.cost(stored.job("vsepp").key)
    assert times.stage_ms(cost, ["score", "rank"], "queries") == pytest.approx(1000 * (0.04 + 0.01) / 5)
    assert times.stage_ms(replace(cost, samples_s={"score": [1.0], "rank": []}), ["score", "rank"], "queries") is None
    assert times.stage_ms(replace(cost, sizes={}), ["score"], "queries") is None
    assert times.stage_ms(None, ["score"], "queries") is None


def test_other_data_come_with_a_warning(make, made):
    make.add(make.job("vsepp", data={"name": "flickr8k"}), make.ranks([0], [0]))
    warning = "Not comparable with published numbers unless features and splits are the published ones."
    assert warning in texts(make.folder, collect(make.folder)[:1])["comparison.md"]
    assert warning not in made["comparison.md"]


@pytest.mark.parametrize(
    ("host", "own", "words"),
    [
        ([9, 9, 10], [0, 0, 0], "SelfAlign helps vsepp; Rsum +233.3 [89.9, 376.8], seeds compared: 3."),
        ([0, 0, 0], [9, 9, 10], "SelfAlign does not help vsepp, it is worse; Rsum -233.3 [-376.8, -89.9]"),
        ([9, 9, 9], [9, 9, 9], "SelfAlign makes no difference to vsepp that matters; Rsum +0.0 [0.0, 0.0]"),
        ([9, 0], [0, 9], "Undecided: these records do not show whether SelfAlign helps vsepp; Rsum +0.0 ["),
        (
            [9],
            [0],
            "Undecided: these records do not show whether SelfAlign helps vsepp; Rsum +200.0, seeds",
        ),
    ],
)
def test_the_claim_is_said_in_plain_words(make, host, own, words):
    """One image query (the rank given) and one caption query a seed: nothing varies over images."""
    for label, found in (("vsepp", host), ("vsepp+selfalign", own)):
        for seed, rank in enumerate(found):
            make.add(make.job(label, seed), make.ranks([rank], [0]))
    make.settle()
    (group,) = collect(make.folder)
    assert claims_sheet(group).notes[0].startswith(words)


def test_hosts_are_tested_together_and_rows_beside_one_interactive_row(make):
    for place, label in enumerate(("vsepp", "vsrn", "vsepp+selfalign", "vsrn+selfalign", "scan:t2i-lse", "camp")):
        for seed in range(3):
            make.add(make.job(label, seed), make.ranks([9, place], [0, 4, 9, place + seed, 10]))
    make.settle()
    found = claims(collect(make.folder)[0])
    assert [(claim.row.name, claim.other.name) for claim in found] == [
        (f"{host}+selfalign", other) for host in ("vsepp", "vsrn") for other in (host, "camp", "scan:t2i-lse")
    ]
    by_other: dict[str, list[Claim]] = {}
    for claim in found:
        by_other.setdefault("host" if claim.other.family == "independent" else claim.other.name, []).append(claim)
    for other, family in by_other.items():
        estimates = [claim.contrast.estimate for claim in family if claim.contrast.estimate]
        together = corrected(estimates, bound=0 if other == "host" else -MARGIN)
        assert [claim.contrast.interval for claim in family] == together
        words = word if other == "host" else reach
        assert [claim.verdict for claim in family] == [words(interval) for interval in together]


def test_claims_of_uneven_captions_need_to_know_whose_they_are(make):
    for label in ("vsepp", "vsepp+selfalign"):
        make.add(make.job(label), replace(make.ranks([0, 0], [0, 0, 9]), caption_to_image=None))
    sheet = claims_sheet(collect(make.folder)[0])
    assert sheet.text.loc[0, "Rsum difference"] == ABSENT
    assert "No difference, records do not tell which caption is whose: vsepp+selfalign." in sheet.notes


def test_equally_many_captions_are_taken_to_lie_image_by_image(make):
    """As records from before it was stored which is whose."""
    for place, label in enumerate(("vsepp", "vsepp+selfalign")):
        for seed in range(2):
            ranks = make.ranks([0, 9], [0, 9, 9, 4 + place])
            make.add(make.job(label, seed), replace(ranks, caption_to_image=None))
    (group,) = collect(make.folder)
    known = owners(list(group.runs))
    assert known is not None
    assert known.tolist() == [image for image in range(12) for _ in range(2)]
    assert claims(group)[0].contrast.interval is not None


def test_a_claim_without_its_parts_says_so(make):
    make.add(make.job("vsrn+selfalign"), make.ranks([0], [0]))
    assert (
        claims_sheet(collect(make.folder)[0]).notes[0] == "Open: vsrn+selfalign has no row of its host to compare with."
    )
    make.add(make.job("vsrn"), None, status="failed", error="x")
    sheet = claims_sheet(collect(make.folder)[0])
    assert list(sheet.text.iloc[0]) == [
        *("vsrn+selfalign", "vsrn", ABSENT, "+9.1 / +4.2 / +6.6", ABSENT, ABSENT, "undecided", "undecided")
    ]


def test_without_selfalign_there_is_nothing_to_confirm(make):
    make.add(make.job("vsepp"), make.ranks([0], [0]))
    assert "there is nothing to confirm or refute" in markdown(claims_sheet(collect(make.folder)[0]))


@pytest.mark.parametrize("ranks", [([0] * 12, [0] * 13), ([0] * 13, [0] * 12)])
def test_records_on_the_same_data_have_the_same_queries(make, ranks):
    make.add(make.job("vsepp"), make.ranks([0, 0], [0, 0]))
    make.add(make.job("vsrn"), make.ranks(*ranks))
    with pytest.raises(RecordError, match=r"has 1\d \+ 1\d queries, other records 12 \+ 12"):
        collect(make.folder)


def test_names_with_specials_read_as_themselves():
    text = pd.DataFrame({"method": ["a_b&<i>|50%#$"], "R@1": ["1.0 ± 0.1"]})
    sheet = Sheet("t_1", text, text, header=("my_data in `x_y`",), marks={(0, "R@1"): "best"})
    assert r"| a\_b&amp;&lt;i&gt;\|50%\#$ | **1.0 ± 0.1** |" in markdown(sheet)
    assert "# t\\_1\n\nmy\\_data in `x_y`\n" in markdown(sheet)
    assert r"a\_b\&\textless{}i\textgreater{}\textbar{}50\%\#\$ & \textbf{1.0 $\pm$ 0.1} \\" in latex(sheet)
    assert csv(sheet) == "method,R@1\na_b&<i>|50%#$,1.0 ± 0.1\n"


def test_a_cell_in_brackets_is_no_argument_of_the_line_before():
    text = pd.DataFrame({"interval": ["[1.0, 2.0]", "*"]})
    assert "\n{}[1.0, 2.0] \\\\\n{}* \\\\\n" in latex(Sheet("t", text, text))


def test_numbers_read_as_meant():
    assert [significant(x) for x in (0.000123456, 0.99951, 12.345, 1234.5, 0)] == [
        "0.000123",
        "1.00",
        "12.3",
        "1234",
        "0",
    ]
    assert [signed(x) for x in (-0.01, 1.84, -2)] == ["+0.0", "+1.8", "-2.0"]
    assert interval((-0.04, 3.25)) == "[0.0, 3.2]"
    assert interval(None) == ABSENT


def test_the_console_shows_rows_and_what_is_left_out(stored, capsys):
    from rich.console import Console

    Console(width=80).print(console_table(stored.folder))
    shown = capsys.readouterr().out
    assert "vsepp+selfalign" in shown
    assert "350.0 ± 14.1" in shown
    assert "hinge is nan in step 7" in shown.replace("\n", " ")
    assert "…" not in shown


@pytest.mark.parametrize(("best", "said"), [([0] * 12, False), ([10] * 12, True), ([0, *[10] * 11], True)])
def test_rows_within_the_noise_of_chance_are_said_to_be(make, best, said, capsys):
    """Chance has a seed of its own; one hit of twelve images is noise."""
    from rich.console import Console

    make.add(make.job("chance", seed=0), make.ranks([10] * 12, [10] * 12))
    for seed in (1, 2):
        make.add(make.job("vsepp", seed), make.ranks(best, [10] * 12))
    Console(width=80).print(console_table(make.folder))
    assert ("No row is beyond chance: vsepp" in capsys.readouterr().out) is said


def test_rsum_of_one_record(stored):
    assert rsum(stored.store, stored.store.record(stored.job("vsepp").key)) == 150 + 120
    assert rsum(stored.store, stored.store.record(stored.job("vsrn").key)) is None

"""The gap that a row closes between its host and a teacher: shares, their teachers, what goes without one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.record import RerankRecord
from harness.report.figures import gather
from harness.report.read.groups import collect
from harness.report.tables import gap
from harness.spec import registry

LOW, MIDDLE, HIGH = ([9, 10], [9, 10, 10, 10, 10]), ([0, 10], [0, 0, 0, 10, 10]), ([0, 0], [0, 0, 0, 0, 10])
STUDENT = registry.model("vsepp+distilled", module_options={"distilled": {"teacher": "scan:t2i-lse"}})


@pytest.fixture
def taught(make):
    """A student alone, taught by SCAN, and with A-SDM; CHAN is the better teacher, though not of the first."""
    for seed in (0, 1):
        model = replace(STUDENT, taken={"distilled.teacher": f"key{seed}.hash"})
        rows = {"vsepp": LOW, "chan": HIGH, "vsepp+a-sdm": MIDDLE, "scan:t2i-lse": ([0, 4], [0, 0, 0, 4, 10])}
        for row, ranks in rows.items():
            make.add(make.job(row, seed), make.ranks(*ranks))
        make.add(make.job(model, seed), make.ranks(*MIDDLE))
    for job in (make.job("vsepp"), make.job("vsepp+a-sdm"), make.job("chan")):
        make.time(job, 0.04)
        make.ask(job, encode=[1.0, 2.0, 9.0], search=[0.5] * 3, rank=[0.25] * 3)
    return make


def group(make):
    (found,) = collect(make.folder)
    return found


def test_seeds_that_take_weights_of_their_own_are_one_row(taught):
    (row,) = [row for row in group(taught).rows if "distilled" in row.model.modules]
    assert sorted(row.rsums) == [0, 1]
    assert row.name == "vsepp+distilled"


def test_a_row_is_measured_by_its_own_teacher_and_others_by_the_best(taught):
    found = {each.row.model.label: each for each in gap.gaps(group(taught))}
    assert found["vsepp+distilled"].teacher.name == "scan:t2i-lse"
    assert found["vsepp+a-sdm"].teacher.name == "chan"
    for each in found.values():
        student, row, teacher = (sum(r.rsums.values()) / 2 for r in (each.student, each.row, each.teacher))
        assert each.value == pytest.approx((row - student) / (teacher - student))
        assert each.percent[0] < 100 * each.value < each.percent[1]


def test_the_table_names_modules_by_what_they_are_and_shows_the_ends(taught):
    sheet = gap.gap_sheet(group(taught))
    names = list(sheet.text["row"])
    assert "vsepp+a-sdm [A-SDM (from FMFA)]" in names
    assert names.count("vsepp alone") == names.count("the teacher itself") == 2
    assert all("%" in cell for name, cell in zip(names, sheet.text["gap closed"], strict=True) if "+" in name)


def pair(taught, seed=0, recalls=(10.0, 40.0, 50.0), machine=None, samples=()):
    """Reranking by the best teacher, measured."""
    retriever, reranker = taught.job("vsepp", seed).key, taught.job("chan", seed).key
    names = [f"{way}_r{k}" for way in ("i2t", "t2i") for k in (1, 5, 10)]
    accuracy = {name: list(recalls) for name in names}
    accuracy |= {"i2t_ceiling": [50.0] * 3, "t2i_ceiling": [50.0] * 3, "rsum_ceiling": [300.0] * 3}
    taught.store.save_rerank(
        RerankRecord(
            key=f"{retriever}-{reranker}",
            retriever="vsepp",
            reranker="chan",
            machine=machine or {"device": "abacus"},
            sizes={"images": 12, "captions": 30},
            ks=[1, 10, 30],
            accuracy=accuracy,
            queries=[30, 30, 30],
            samples_s={"t2i_rerank": [list(samples)] * 3} if samples else {},
        )
    )


def lines(taught):
    """Row -> its line below the best teacher."""
    every = gap.gap_sheet(group(taught)).text.itertuples(index=False)
    return {line.row: line for line in every if line.teacher == "chan"}


def test_the_shortlist_of_the_teacher_stands_beside(taught):
    pair(taught)
    line = lines(taught)["first 10 reranked by chan"]
    assert line[4] == "75%"  # (240 - 60) / (300 - 60)
    assert line[-1] == "—"  # not timed


def test_times_are_those_of_one_query_whoever_answers_it(taught):
    """2 ms to encode, 0.75 to search and rank; of a shortlist 2 more to encode and 3 to put ten in order."""
    pair(taught, machine=taught.store.cost(taught.job("vsepp").key).machine, samples=[0.001, 0.003, 0.009])
    found = lines(taught)
    for name in ("vsepp alone", "vsepp+a-sdm [A-SDM (from FMFA)]", "the teacher itself"):
        assert found[name][-1] == "2.75"
    assert found["first 10 reranked by chan"][-1] == "7.75"
    assert "at 2.75 ms a query" in " ".join(gap.taken_over(group(taught)))


def test_of_two_seeds_that_were_reranked_the_first_is_told(taught):
    pair(taught)
    before = lines(taught)
    for row in ("vsepp", "chan"):
        taught.add(taught.job(row, 1), taught.ranks(*(LOW if row == "vsepp" else HIGH)))
    pair(taught, seed=1, recalls=[10.0, 20.0, 30.0])
    assert lines(taught) == before


def test_rows_that_were_not_timed_alike_have_no_time(taught):
    job = taught.job("vsepp+a-sdm")
    taught.time(job, 0.04, machine={"device": "abacus"})
    taught.ask(job, encode=[1.0] * 3, search=[0.5] * 3, rank=[0.25] * 3)
    assert {line[-1] for line in lines(taught).values()} == {"—"}


def test_a_teacher_that_is_not_above_its_student_leaves_no_gap(make):
    for seed in (0, 1):
        for row, ranks in {"vsepp": HIGH, "chan": LOW, "vsepp+efa": HIGH}.items():
            make.add(make.job(row, seed), make.ranks(*ranks))
    (found,) = gap.gaps(group(make))
    assert found.value is None
    assert "no gap" in list(gap.gap_sheet(group(make)).text["gap closed"])


def test_without_modules_there_is_neither_table_nor_figure_nor_a_word_of_it(stored):
    assert gap.gap_sheet(group(stored)) is None
    assert not any("gap" in line for line in gather.draw([group(stored)]).absent)


def test_the_figure_is_drawn(taught):
    assert "gap-closed" in gather.draw([group(taught)]).pictures


def test_a_sentence_for_each_the_largest_first(taught):
    first, second = gap.taken_over(group(taught))
    assert first.startswith("`vsepp+")
    assert "of the gap from vsepp to" in second


def test_the_sentences_are_of_hosts_with_modules_and_name_the_shortlist(taught):
    taught.add(taught.job("vsrn"), taught.ranks(*LOW))
    taught.add(taught.job("vsrn+selfalign"), taught.ranks(*MIDDLE))
    told = gap.taken_over(group(taught))
    assert len(told) == 2
    assert all(sentence.startswith("`vsepp+") and "% [" in sentence for sentence in told)
    pair(taught)
    assert gap.taken_over(group(taught))[2].startswith("`vsepp`, its first 10 reranked by chan without any training")

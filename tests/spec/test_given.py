"""What `--row` says, and the identity of such a row."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.spec import given
from harness.spec.job import Data, Job, Settings, SpecError


def job(digest: str = "ab", **settings) -> Job:
    request = given.parsed("mine=a.npz,scorer=cosine")
    return given.job(request, "embeddings", digest, Data(name="zoo"), {}, Settings(**settings))


def test_files_and_options_are_told_apart():
    request = given.parsed("clip-b32=some where/a.npy,b.npy,scorer=cosine,ids=i.json")
    assert (request.name, request.files) == ("clip-b32", (Path("some where/a.npy"), Path("b.npy")))
    assert request.options == {"scorer": "cosine", "ids": "i.json"}
    assert request.read[-1] == Path("i.json")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a.npz", "--row takes NAME=FILE"),
        ("mine=", "--row takes NAME=FILE"),
        ("a+b=c.npz", "--row takes NAME=FILE"),
        ("vsepp=c.npz", "a method has that name"),
        ("mine=c.npz,score=dot", "did you mean scorer?"),
        ("mine=c.npz,scorer=euclid", "scorer must be one of dot, cosine"),
        ("mine=c.npz,axes=images-captions,axes=images-captions", "axes is given twice"),
        ("mine=a.npy,b.npy,c.npy", "one or two files, got 3"),
        ("mine=scorer=dot", "one or two files, got 0"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(text, says):
    with pytest.raises(SpecError) as refusal:
        given.parsed(text)
    assert says in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_two_rows_of_one_name_are_refused():
    with pytest.raises(SpecError, match="two rows are named a"):
        given.all_parsed(["a=b.npz", "a=c.npz"])


def test_a_row_is_known_by_what_its_files_hold_and_not_by_where_they_lie_or_it_runs():
    assert job().key == job(threads=7).key
    assert job("ab").key != job("cd").key
    stored = Job.from_dict(job().as_dict())
    assert stored.key == job().key
    assert stored.model.files == ()
    with pytest.raises(SpecError, match="name it once more by --row mine=FILE"):
        given.request_of(stored.model)
    assert given.request_of(job().model) == given.parsed("mine=a.npz,scorer=cosine,kind=embeddings")


def test_how_scores_come_about_follows_the_scorer():
    def family(options: str, kind: str) -> str:
        return given.family(given.job(given.parsed(f"m=a.npz{options}"), kind, "a", Data(), {}, Settings()).model)

    found = {name: family(f",scorer={name}", "embeddings") for name in given.SCORERS}
    assert {found[name] for name in ("dot", "cosine", "max", "max-cosine")} == {"independent"}
    assert {found[name] for name in given.BOTH} == {"interactive"}
    assert family("", "scores") == ""

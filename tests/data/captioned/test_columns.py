"""Which column is what: usual names, told names, and what is refused."""

import pytest

from harness.data.captioned import columns
from harness.data.captioned.picture import split_of, split_of_path
from harness.data.split import DataError
from harness.spec.job import SpecError


def test_what_is_told_goes_before_what_is_usual():
    told = columns.parsed("image=photo, captions=en+fr")
    assert told == {"image": ("photo",), "captions": ("en", "fr")}
    assert columns.parsed("") == {}
    assert columns.chosen("captions", ["caption", "fr", "en"], told, "here") == ("en", "fr")
    assert columns.chosen("captions", ["text", "caption"], {}, "here") == ("caption",)
    assert columns.chosen("captions", ["caption_10", "caption_9", "other"], {}, "here") == ("caption_9", "caption_10")
    assert columns.chosen("id", ["filename", "cocoid"], {}, "here") == ("cocoid",)
    assert columns.chosen("id", ["label"], {}, "here") == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image", "takes ROLE=NAME"),
        ("image=", "takes ROLE=NAME"),
        ("image=a,", "takes ROLE=NAME"),
        ("caption=a", "knows no role 'caption'; did you mean captions?"),
        ("id=a,id=b", "id is given twice"),
        ("captions=a++b", "takes ROLE=NAME"),
    ],
)
def test_other_words_are_refused(text, message):
    with pytest.raises(SpecError, match=message.replace("?", r"\?").replace("[", r"\[")):
        columns.parsed(text)


def test_columns_that_are_not_there_are_named_with_those_that_are():
    with pytest.raises(DataError, match=r"t: no column fr; it has en, image"):
        columns.chosen("captions", ["en", "image"], columns.parsed("captions=en+fr"), "t")
    with pytest.raises(DataError, match=r"t: no column is called image, .*; it has a, b: --columns image=NAME"):
        columns.needed("image", ["a", "b"], {}, "t")


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"),
        ("Validation", "dev"),
        ("val2014", "dev"),
        ("dev", "dev"),
        ("TEST", "test"),
        ("restval", "train"),
    ],
)
def test_names_of_splits(name, split):
    assert split_of(name, "here") == split


@pytest.mark.parametrize("name", ["testing-2", "", "all", None, 3, ["train"], "val20145"])
def test_other_names_are_no_splits(name):
    with pytest.raises(DataError, match=r"here: split .* is none of train, "):
        split_of(name, "here")


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("flickr30k-train-00000-of-00003.parquet", "train"),
        ("data/validation-0.parquet", "dev"),
        ("test/0007.tar", "test"),
        ("train/val2014_0.tar", "dev"),  # the innermost name counts
        ("constrained/latest.tar", None),  # words, not parts of words
        ("0.tar", None),
    ],
)
def test_splits_in_names_of_files(path, split):
    assert split_of_path(path) == split


def test_a_name_of_two_splits_is_refused():
    with pytest.raises(DataError, match=r"train-test\.tar: its name says train and test, need one split"):
        split_of_path("a/train-test.tar")

"""Is a file of CUHK-PEDES told from the others, read with its identities, and refused where it is damaged?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from harness.data.captioned import persons
from harness.data.captioned.columns import parsed
from harness.data.captioned.read import read
from harness.data.extracted.folder import Folder
from harness.data.split import DataError


def entry(path: str, who: object, split: str = "train", **more: Any) -> dict[str, Any]:
    """As reid_raw.json has it."""
    said = {"captions": ["A man in red.", "red\nshirt "], "processed_tokens": [["a", "man"]]}
    return {"split": split, **said, "file_path": path, "id": who, **more}


def test_splits_captions_paths_and_identities(tmp_path):
    listed = [entry("CUHK01/7.png", 12), entry("Market/1.jpg", 12), entry("a.png", 3, "val"), entry("b.png", 4, "test")]
    found = persons.of(listed, tmp_path / "reid_raw.json")
    assert {split: [(p.id, p.identity) for p in pictures] for split, pictures in found.items()} == {
        "train": [("CUHK01/7.png", "12"), ("Market/1.jpg", "12")],
        "dev": [("a.png", "3")],
        "test": [("b.png", "4")],
    }
    assert found["train"][0].filename == "CUHK01/7.png"
    assert found["train"][0].captions == ("A man in red.", "red shirt")


def test_rstpreid_calls_the_path_otherwise(tmp_path):
    picture = {"id": 0, "img_path": "0000_c14_0031.jpg", "captions": ["a woman"], "split": "train"}
    assert persons.of([picture], tmp_path)["train"][0].filename == "0000_c14_0031.jpg"


def test_a_list_is_told_from_karpathys_object(tmp_path):
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (3, 2)).save(tmp_path / "pictures" / "a.png")
    path = tmp_path / "reid_raw.json"
    path.write_text(json.dumps([entry("a.png", 5)]))
    found = read(path, tmp_path / "pictures", parsed(""))
    assert [picture.identity for picture in found.splits["train"]] == ["5"]


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in entry("b.png", 1).items() if name != key}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (without("id"), "picture 1 lacks id"),
        (without("file_path"), "picture 1 lacks file_path"),
        (without("captions"), "picture 1 lacks captions"),
        (entry("b.png", None), "picture 1: id is None, need a text"),
        (entry("b.png", True), "picture 1: id is True, need a text"),
        (entry("b.png", 1.5), "picture 1: id is 1.5, need a text"),
        (entry("b.png", "1 "), "picture 1: id is '1 ', an id with white space to spare"),
        (entry("b.png", 1, "gallery"), "picture 1: split 'gallery' is none of train"),
        (entry("b.png", 1, captions=[]), "picture 1 has no captions"),
        (entry("b.png", 1, captions="a man"), "picture 1: captions is a str, not a list"),
        (entry("b.png", 1, captions=["a man", " "]), "picture 1: caption 1 is empty"),
        (entry("a.png", 1), "two images have the id a.png"),
        (entry("", 1), "picture 1: file_path is '', need a text"),
        (["b.png"], "picture 1 is a list, not an object with split, captions, file_path, id"),
    ],
)
def test_what_is_damaged_is_refused_in_one_line(tmp_path, wrong, says):
    path = tmp_path / "reid_raw.json"
    with pytest.raises(DataError) as refusal:
        persons.of([entry("a.png", 1), wrong], path)
    assert str(refusal.value).startswith(f"{path}: {says}")
    assert "\n" not in str(refusal.value)


def test_an_empty_list_is_refused(tmp_path):
    with pytest.raises(DataError, match="the list is empty"):
        persons.of([], tmp_path)


def test_identities_are_written_a_line_a_picture_and_only_of_persons(tmp_path):
    found = persons.of([entry("a.png", 7), entry("b.png", 5, captions=["one"]), entry("c.png", 7)], Path("x.json"))
    folder = Folder(tmp_path, {})
    folder.write_texts("train", found["train"])
    assert (tmp_path / "train_identities.txt").read_text() == "7\n5\n7\n"
    assert (tmp_path / "train_ids.txt").read_text() == "a.png\na.png\nb.png\nc.png\nc.png\n"

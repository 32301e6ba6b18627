"""The folder that is written: its texts, and what it was begun with."""

import json
from pathlib import Path

import pytest

from harness.data.captioned.picture import Picture
from harness.data.extracted.folder import BEFORE, Folder
from harness.data.split import DataError
from tests.photo_folders import door


def test_folders_of_unknown_weights_say_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text('{"done": {}}')
    with pytest.raises(DataError, match=r"did not keep which weights made the features.*choose another --out"):
        Folder(tmp_path, {"weights": "abc"})


def test_texts_have_an_id_for_each_caption(tmp_path: Path) -> None:
    Folder(tmp_path, {}).write_texts(
        "dev", [Picture("a.png", "7", ("ein Hündchen", "a dog")), Picture("b.png", "9", ("b",))]
    )
    assert (tmp_path / "dev_caps.txt").read_bytes() == "ein Hündchen\na dog\nb\n".encode()
    assert (tmp_path / "dev_ids.txt").read_text() == "7\n7\n9\n"


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("first", "then", "message"),
    [
        (("--reduce", 2), (), "begun with dim 2, now 3; reduce 2, now 0"),
        (("--reduce", 3), (), "begun with reduce 3, now 0"),
        ((), ("--reduce", 3), "begun with reduce 0, now 3"),
        ((), ("--int8",), "begun with int8 False, now True"),
    ],
)
def test_a_folder_is_of_one_kind(
    tmp_path: Path, pictures: Path, captions: Path, first: tuple[object, ...], then: tuple[object, ...], message: str
) -> None:
    assert door(captions, pictures, tmp_path / "out", *first)[0] == 0
    code, said = door(captions, pictures, tmp_path / "out", *then)
    assert code == 2
    assert f"dataset.json: {message}: repeat those settings" in said


@pytest.mark.usefixtures("quick")
def test_folders_written_before_there_were_reductions_and_detectors_are_cached(
    tmp_path: Path, pictures: Path, captions: Path
) -> None:
    assert door(captions, pictures, tmp_path / "out")[0] == 0
    path = tmp_path / "out" / "dataset.json"
    kept = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in kept.items() if k not in BEFORE}))
    assert door(captions, pictures, tmp_path / "out")[1].startswith("train: 5 pictures, cached")

"""Does the caption file's reader say who said what of which picture, and refuse what is no such file?"""

import gzip
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data import karpathy, precomp
from harness.data.split import DataError
from harness.features import Folder


def entry(filename: str, split: str = "train", *raw: str, **more: Any) -> dict[str, Any]:
    sentences = [{"raw": text, "tokens": text.lower().split()} for text in raw or ("a dog",)]
    return {"filename": filename, "split": split, "sentences": sentences, **more}


def written(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "captions.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_splits_captions_and_ids(tmp_path: Path) -> None:
    images = [
        entry("a.jpg", "train", "A dog .", "Ein Hündchen"),
        entry("b.jpg", "restval", "two\ncats ", imgid=7),
        entry("c.jpg", "val", imgid=8, cocoid=90),
        entry("d.jpg", "test", imgid=9, filepath="val2014"),
    ]
    splits = karpathy.read(written(tmp_path, {"images": images}))
    assert {split: [p.id for p in pictures] for split, pictures in splits.items()} == {
        "train": ["a.jpg", "7"],  # restval is training data
        "dev": ["90"],  # COCO's own number first
        "test": ["9"],
    }
    assert splits["train"][0].captions == ("A dog .", "Ein Hündchen")
    assert splits["train"][1].captions == ("two cats",)  # one line, no stray blanks
    assert splits["test"][0].filename == "val2014/d.jpg"


def test_tokens_serve_where_raw_is_missing(tmp_path: Path) -> None:
    image = {"filename": "a.jpg", "split": "test", "sentences": [{"tokens": ["a", "dog"]}]}
    assert karpathy.read(written(tmp_path, {"images": [image]}))["test"][0].captions == ("a dog",)


def test_gzip_is_read_whatever_its_name(tmp_path: Path) -> None:
    plain = written(tmp_path, {"images": [entry("a.jpg")]})
    packed = tmp_path / "packed"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert karpathy.read(packed) == karpathy.read(plain)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "the file is a list, not an object with images"),
        ({"annotations": []}, "the file lacks images; it has annotations"),
        ({"images": []}, "images is empty"),
        ({"images": {}}, "images is a dict, not a list"),
        ({"images": [entry("a.jpg"), {"filename": "b.jpg"}]}, "image 1 lacks split, sentences; it has filename"),
        (
            {"images": [entry("a.jpg", "validation")]},
            "image 0: split 'validation' is none of train, restval, val, test",
        ),
        ({"images": [entry("a.jpg", "val") | {"sentences": []}]}, r"image 0 \(a.jpg\) has no sentences"),
        ({"images": [entry("a.jpg", "val", "a dog", " \n")]}, "image 0: sentence 1 is empty"),
        ({"images": [entry("a.jpg") | {"sentences": [{"text": "a"}]}]}, "image 0: sentence 0 lacks raw; it has text"),
        (
            {"images": [entry("a.jpg") | {"sentences": ["a dog"]}]},
            "image 0: sentence 0 is a str, not an object with raw",
        ),
        ({"images": [entry("a.jpg", imgid=3), entry("b.jpg", imgid=3)]}, "image 1 has the id of image 0: 3"),
        ({"images": [entry("a.jpg", imgid=3), entry("b.jpg", imgid="3")]}, "image 1 has the id of image 0: 3"),
        ({"images": [entry("a.jpg", imgid=True)]}, "image 0: imgid is true, not a text"),
        ({"images": [entry("a.jpg", cocoid="a\nb")]}, r"image 0: cocoid is 'a\\nb', which is no id"),
        ({"images": [entry("a.jpg", cocoid=" ")]}, "image 0: cocoid is ' ', which is no id"),
        ({"images": [entry("a\n.jpg")]}, r"image 0: filename is 'a\\n.jpg', which is not printable"),
        ({"images": [entry("a.jpg", filepath=["x"])]}, "image 0: filepath is a list, not a text"),
        ({"images": [entry("a.jpg") | {"split": ["train"]}]}, r"image 0: split \['train'\] is none of"),
        ({"images": [entry("a.jpg") | {"sentences": [{"raw": None}]}]}, "sentence 0: raw is null, not a text"),
        ({"images": [entry("a.jpg") | {"sentences": [{"raw": float("nan")}]}]}, "sentence 0: raw is NaN, not a text"),
        ({"images": [entry("a.jpg", "val", "a \x1b[2J dog")]}, r"sentence 0: raw has the character U\+001B"),
        ({"images": [entry("a.jpg", "val", "\ud800")]}, r"sentence 0: raw has the character U\+D800"),
        ({"images": [entry("a.jpg", "val", "\ufeff")]}, "sentence 0 is empty"),
        ({"images": [entry("a.jpg") | {"sentences": [{"tokens": [" ", "\n"]}]}]}, "sentence 0 is empty"),
    ],
)
def test_other_content_is_refused(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(DataError, match=message) as refusal:
        karpathy.read(written(tmp_path, content))
    assert "captions.json" in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"{", "not JSON"), (b"\xff\xfe", "not JSON"), (gzip.compress(b"{}" * 99, mtime=0)[:-9], "cannot be read")],
)
def test_damaged_files_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "captions.json.gz"
    path.write_bytes(data)
    with pytest.raises(DataError, match=message):
        karpathy.read(path)


def test_null_ids_are_no_ids(tmp_path: Path) -> None:
    images = [entry("a.jpg", cocoid=None, imgid=0), entry("b.jpg", cocoid=None, imgid=None)]
    assert [p.id for p in karpathy.read(written(tmp_path, {"images": images}))["train"]] == ["0", "b.jpg"]


def test_a_deep_nest_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "captions.json"
    path.write_text("[" * 10**5)
    with pytest.raises(DataError, match="not JSON"):
        karpathy.read(path)


said = st.sampled_from(["a", "a  b", " ü\n", "\ufeffa", "\u2028b\x1c", "\x85c\r\n", "d\u200de"]) | st.text(
    min_size=1, max_size=6
)
sentence = st.fixed_dictionaries({"raw": said}) | st.fixed_dictionaries(
    {"tokens": st.lists(said, min_size=1, max_size=3)}
)
identity = (
    st.none()
    | st.integers()
    | st.sampled_from(["a b", "ü", "\ufeffa", "a\nb", "\u2028", "a\x0bb"])
    | st.text(max_size=4)
)
image = st.fixed_dictionaries(
    {
        "split": st.sampled_from(["train", "restval", "val", "test"]),
        "sentences": st.lists(sentence, min_size=1, max_size=3),
    },
    optional={"imgid": identity, "cocoid": identity},
)
images = st.lists(image, min_size=1, max_size=4).map(
    lambda entries: [entry | {"filename": f"{n}.jpg"} for n, entry in enumerate(entries)]
)


@given(images)
def test_what_is_accepted_is_read_back_from_the_folder_written(entries: list[dict[str, Any]]) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        try:
            accepted = karpathy.read(written(folder, {"images": entries}))
        except DataError:
            return
        for split, pictures in accepted.items():
            Folder(folder, {}).write_texts(split, pictures)
            np.save(folder / f"{split}_ims.npy", np.arange(2.0 * len(pictures)).reshape(-1, 1, 2))
            found = precomp.load(split, folder)
            assert found.images.ids == tuple(p.id for p in pictures)
            assert found.captions == tuple(caption for p in pictures for caption in p.captions)
            assert found.caption_to_image.tolist() == [i for i, p in enumerate(pictures) for _ in p.captions]


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere.json: no such file"):
        karpathy.read(tmp_path / "nowhere.json")

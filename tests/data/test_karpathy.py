"""Does the caption file's reader say who said what of which picture, and refuse what is no such file?"""

import gzip
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.data import karpathy, precomp
from harness.data.extracted.folder import Folder
from harness.data.split import DataError


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
        ({"images": [entry("a.jpg", imgid=3), entry("b.jpg", imgid=3)]}, "two images have the id 3"),
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


# What other programs write -------------------------------------------------------------------------------------------


def test_null_is_absent(tmp_path: Path) -> None:
    images = [
        entry("a.jpg", cocoid=None, imgid=0) | {"sentences": [{"raw": None, "tokens": ["a", "dog"]}]},
        entry("b.jpg", cocoid=None, imgid=None),
    ]
    found = karpathy.read(written(tmp_path, {"images": images}))["train"]
    assert [(p.id, p.captions) for p in found] == [("0", ("a dog",)), ("b.jpg", ("a dog",))]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sentences": [{"raw": None}]}, "sentence 0 is null, not a text"),
        ({"sentences": [{"raw": 3}]}, "sentence 0 is 3, not a text"),
        ({"sentences": [{"tokens": ["a", None]}]}, "sentence 0 is null, not a text"),
        ({"sentences": [{"raw": "a \ud800 dog"}]}, "half a character"),
        ({"split": ["train"]}, "split ['train'] is none of"),
        ({"filename": None}, "filename is None, need a text"),
        ({"filename": "a\x1b[31m.jpg"}, "control characters"),
        ({"cocoid": "a\nb"}, "control characters"),
        ({"cocoid": True}, "need a text"),
    ],
)
def test_fields_of_another_kind_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as error:
        karpathy.read(written(tmp_path, {"images": [entry("a.jpg") | change]}))
    assert message in str(error.value)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("text", ["[" * 100_000, '{"images": ' + "9" * 5000 + "}", '{"images": NaN}'])
def test_json_that_no_reader_should_die_of(tmp_path: Path, text: str) -> None:
    path = tmp_path / "captions.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"captions\.json: not JSON"):
        karpathy.read(path)


COCO = {
    "images": [{"id": 9, "file_name": "9.jpg"}, {"id": 7, "file_name": "7.jpg"}, {"id": 8, "file_name": "8.jpg"}],
    "annotations": [{"image_id": i, "caption": c} for i, c in ((7, "a cat"), (9, "a dog\n"), (7, "two cats"))],
}


@pytest.mark.parametrize(("name", "split"), [("captions_train2014", "train"), ("captions_val2017", "dev")])
def test_coco_s_own_layout(tmp_path: Path, name: str, split: str) -> None:
    path = tmp_path / f"{name}.json"
    path.write_text(json.dumps(COCO))
    found = karpathy.read(path)
    assert {s: [(p.id, p.filename, p.captions) for p in pictures] for s, pictures in found.items()} == {
        split: [("9", "9.jpg", ("a dog",)), ("7", "7.jpg", ("a cat", "two cats"))]  # nothing was said of 8
    }


def test_coco_s_own_layout_needs_a_split_and_all_images(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="go by the file's name"):
        karpathy.read(written(tmp_path, COCO))
    path = tmp_path / "captions_val2014.json"
    path.write_text(json.dumps(COCO | {"images": COCO["images"][:1]}))
    with pytest.raises(DataError, match="1 of the images that annotations name are not there, first 7"):
        karpathy.read(path)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "images",
                    "annotations",
                    "id",
                    "file_name",
                    "image_id",
                    "filename",
                    "split",
                    "sentences",
                    "raw",
                    "tokens",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


def said(path: Path) -> str:
    """The refusal; "" where the file is read."""
    try:
        karpathy.read(path)
    except DataError as error:
        return str(error)
    return ""


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(entries=st.lists(ANYTHING, max_size=3), key=st.sampled_from(["images", "annotations", "filename"]))
def test_any_json_is_read_or_refused_in_a_line(tmp_path: Path, entries: list[Any], key: str) -> None:
    image = entry("a.jpg") | (
        dict.fromkeys(("cocoid", "split", "sentences", "filename"), entries[0]) if entries else {}
    )
    path = tmp_path / "captions_train2014.json"
    for content in ({"images": [entry("b.jpg"), image]}, COCO | {key: entries}, entries):
        path.write_text(json.dumps(content), encoding="utf-8")
        assert len(said(path).splitlines()) <= 1

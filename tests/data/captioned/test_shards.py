"""WebDataset's shards: every caption with its picture, each in its split; what is none is one line."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from harness.data.captioned import columns
from harness.data.captioned.read import read
from harness.data.split import DataError
from tests.data.captioned.drawn import drawn

webdataset = pytest.importorskip("webdataset")


def shard(path: Path, members: dict[str, Any] | list[tuple[str, Any]], mode: Any = "w") -> Path:
    """A tar of members in their order: bytes, a text, or what is written as JSON."""
    path.parent.mkdir(exist_ok=True, parents=True)
    with tarfile.open(path, mode) as tar:
        for name, content in members.items() if isinstance(members, dict) else members:
            if not isinstance(content, bytes):
                content = (content if isinstance(content, str) else json.dumps(content)).encode()
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def told(path: Path, text: str = "") -> dict[str, list[tuple[str, tuple[str, ...]]]]:
    """Split -> ids and captions."""
    found = read(path, None, columns.parsed(text))
    return {split: [(p.id, p.captions) for p in pictures] for split, pictures in found.splits.items()}


def refusal(path: Path, text: str = "") -> str:
    with pytest.raises(DataError) as error:
        read(path, None, columns.parsed(text))
    assert str(error.value).isprintable()
    return str(error.value)


def test_what_the_library_s_own_writer_wrote(tmp_path: Path) -> None:
    with webdataset.TarWriter(str(tmp_path / "val-000.tar")) as writer:
        writer.write({"__key__": "a", "png": drawn(0), "txt": "a dog\n\n two  dogs \n"})
        writer.write({"__key__": "b", "png": drawn(1), "json": {"captions": ["a cat"], "url": None}})
    found = read(tmp_path, None, {})
    assert [(p.id, p.captions) for p in found.splits["dev"]] == [("a", ("a dog", "two dogs")), ("b", ("a cat",))]
    assert [found.container.read(found.container.find(p.filename)) for p in found.splits["dev"]] == [drawn(0), drawn(1)]


@pytest.mark.parametrize(("ending", "mode"), [(".tar", "w"), (".tar.gz", "w:gz"), (".tgz", "w:gz")])
def test_splits_shards_and_kinds_of_captions(tmp_path: Path, ending: str, mode: str) -> None:
    shard(tmp_path / f"train/1{ending}", {"c.JPG": drawn(2, "JPEG"), "c.json": ["one", "two"]}, mode)
    shard(tmp_path / f"train/0{ending}", {"b.txt": "b", "b.jpg": drawn(1, "JPEG"), "b.seg.png": drawn(9)}, mode)
    shard(
        tmp_path / f"rest{ending}",
        {
            "d/x.png": drawn(3),
            "d/x.json": {"caption": "x", "split": "test", "id": 7},
            "y.webp": drawn(4),
            "y.json": {"split": "valid", "sentences": [{"raw": None, "tokens": ["a", "y"]}], "id": None},
            "__meta__": "what the library skips",
        },
        mode,
    )
    assert told(tmp_path) == {
        "train": [("b", ("b",)), ("c", ("one", "two"))],
        "dev": [("y", ("a y",))],
        "test": [("7", ("x",))],
    }
    found = read(tmp_path, None, {})
    seen = [found.container.read(p.filename) for split in ("train", "dev", "test") for p in found.splits[split]]
    assert seen == [drawn(1, "JPEG"), drawn(2, "JPEG"), drawn(4), drawn(3)]


def test_patterns_of_shards_keep_their_order(tmp_path: Path) -> None:
    for number in range(3):
        shard(tmp_path / f"test-{number}.tar", {f"{number}.png": drawn(number), f"{number}.txt": str(number)})
    assert [id_ for id_, _ in told(tmp_path / "test-{2,0}.tar")["test"]] == ["2", "0"]
    assert [id_ for id_, _ in told(tmp_path / "test-{0..2}.tar")["test"]] == ["0", "1", "2"]
    assert [id_ for id_, _ in told(tmp_path / "*-[01].tar")["test"]] == ["0", "1"]
    assert refusal(tmp_path / "test-{2..3}.tar") == f"{tmp_path}/test-3.tar: no such file"
    assert refusal(tmp_path / "test-{0..999999999}.tar").endswith(": 1,000,000,000 files, at most 100,000 can be named")
    for pattern in ("{a,b}" * 17, "{-999999999..9}", "{0..9}" * 6, f"{{0..{'9' * 200}}}"):
        assert "files, at most 100,000 can be named" in refusal(tmp_path / f"{pattern}.tar")
    assert ": no pattern of files: " in refusal(tmp_path / "test-{0.tar")


def test_keys_that_begin_anew_in_each_shard_are_told_apart(tmp_path: Path) -> None:
    for name in ("train/0", "train/1", "test/0"):
        shard(tmp_path / f"{name}.tar", {"000.png": drawn(len(name)), "000.txt": name})
    assert told(tmp_path) == {
        "train": [("train/0/000", ("train/0",)), ("train/1/000", ("train/1",))],
        "test": [("test/0/000", ("test/0",))],
    }


def test_ids_and_the_digest_stay_as_long_as_the_data_do(tmp_path: Path) -> None:
    shard(tmp_path / "a/test.tar", {"0.png": drawn(0), "0.txt": "a"})
    shard(tmp_path / "b/test.tar", {"0.png": drawn(0), "0.txt": "a"})
    shard(tmp_path / "c/test.tar", {"0.png": drawn(0), "0.txt": "b"})
    one, same, other = (read(tmp_path / name, None, {}).digest for name in "abc")
    assert one == same != other


def test_img2dataset_s_two_files_say_one_thing(tmp_path: Path) -> None:
    path = shard(
        tmp_path / "train.tar", {"0.jpg": drawn(0), "0.txt": "a dog", "0.json": {"caption": "a  dog", "key": "0"}}
    )
    assert told(path) == {"train": [("0", ("a dog",))]}


def test_two_files_that_say_other_things_need_a_choice(tmp_path: Path) -> None:
    path = shard(tmp_path / "train.tar", {"0.jpg": drawn(0), "0.txt": "a dog", "0.json": {"caption": "a cat"}})
    assert refusal(path).endswith(
        "sample 0: its txt says 'a dog', its json does not: --columns captions=txt or captions=caption"
    )
    assert told(path, "captions=txt") == {"train": [("0", ("a dog",))]}
    assert told(path, "captions=caption") == {"train": [("0", ("a cat",))]}


def test_of_two_pictures_one_must_be_chosen(tmp_path: Path) -> None:
    path = shard(tmp_path / "train.tar", {"0.jpg": drawn(0), "0.seg.png": drawn(1), "0.txt": "a"})
    assert told(path) == {"train": [("0", ("a",))]}
    assert read(path, None, columns.parsed("image=seg.png")).splits["train"][0].filename == "train.tar/0.seg.png"
    path = shard(tmp_path / "train.tar", {"0.jpg": drawn(0), "0.png": drawn(1), "0.txt": "a"})
    assert refusal(path).endswith("sample 0 has 2 pictures, .jpg and .png: --columns image=jpg")
    assert read(path, None, columns.parsed("image=png")).splits["train"][0].filename == "train.tar/0.png"


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"0.txt": "a"}, "sample 0 has no picture; it has .txt"),
        ({"0.png": b""}, "sample 0 has no captions; it has .png"),
        ({"0.png": b"", "0.txt": "\n"}, "sample 0 has no captions; it has .png, .txt"),
        ({"0.png": b"", "0.txt": b"\xff"}, "sample 0: its txt is no UTF-8"),
        ({"0.png": b"", "0.json": "{"}, "sample 0: its json: not JSON"),
        ({"0.png": b"", "0.json": "3"}, "its json is a int, not an object or a list of captions"),
        ({"0.png": b"", "0.json": {"captions": None}}, "its json: captions: its caption is null, not a text"),
        ({"0.png": b"", "0.json": {"captions": ["a", None]}}, "captions: caption 1 is null, not a text"),
        ({"0.png": b"", "0.json": {"captions": []}}, "its json: captions has no captions"),
        ({"0.png": b"", "0.json": {"captions": ["a", " "]}}, "captions: caption 1 is empty"),
        ({"0.png": b"", "0.json": {"captions": "a", "split": "all"}}, "sample 0: split 'all' is none of train"),
        ({"0.png": b"", "0.json": {"captions": "a", "id": "a\nb"}}, "control characters"),
        ({"0.png": b"", "0.json": {"captions": "a", "id": 1.5}}, "id is 1.5, need a text"),
        ([("0.png", b""), ("0.txt", "a"), ("1.png", b""), ("0.png", b"")], "sample 0 has two .png"),
        ([("0.txt", "a"), ("1.txt", "a"), ("0.txt", "a")], "sample 0 has two .txt"),
        ([("0.txt", "a"), ("0.txt", "a")], "cannot be read: 0.txt: duplicate file name in tar file"),
        (
            {"0.png": b"", "0.json": {"captions": "a", "id": 1}, "1.png": b"", "1.json": {"captions": "a", "id": 1}},
            "two images have the id 1",
        ),
        ({"README": "a"}, "no samples in it"),
    ],
)
def test_samples_that_are_none(tmp_path: Path, members: Any, message: str) -> None:
    path = shard(tmp_path / "train.tar", members)
    assert message in (said := refusal(path))
    assert said.startswith(str(path))


def test_shards_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert refusal(tmp_path / "empty") == f"{tmp_path}/empty: no tar in it, nor a table of Hugging Face"
    assert refusal(tmp_path / "no.tar") == f"{tmp_path}/no.tar: no such file"
    (tmp_path / "test.tar").write_bytes(b"no tar")
    assert refusal(tmp_path / "test.tar").startswith(f"{tmp_path}/test.tar: cannot be read: ")
    whole = shard(tmp_path / "test.tar", {"0.png": drawn(0) * 99, "0.txt": "a"}).read_bytes()
    (tmp_path / "test.tar").write_bytes(whole[:5000])
    assert refusal(tmp_path / "test.tar").startswith(f"{tmp_path}/test.tar: cannot be read: ")
    nowhere = shard(tmp_path / "0.tar", {"0.png": drawn(0), "0.txt": "a"})
    assert "sample 0 is of no split: neither its shard's name nor its json says" in refusal(nowhere)


def test_commands_and_addresses_are_no_shards(tmp_path: Path) -> None:
    for text in (f"pipe:touch {tmp_path}/ran.tar", "http://127.0.0.1:9/train.tar"):
        assert refusal(Path(text)).endswith("no such file")
    assert list(tmp_path.iterdir()) == []

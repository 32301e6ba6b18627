"""Tables of Hugging Face: every caption with its picture, each in its split; what is none is one line."""

from pathlib import Path
from typing import Any

import pytest

from harness.data.captioned import columns
from harness.data.captioned.picture import Captioned
from harness.data.captioned.read import read
from harness.data.split import DataError
from tests.data.captioned.drawn import drawn

datasets = pytest.importorskip("datasets", exc_type=ImportError)
pyarrow = pytest.importorskip("pyarrow")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    datasets.disable_progress_bars()


def table(as_pictures: bool = True, **values: Any) -> Any:
    """Pictures of numbers (None stays) in column `image`, beside other columns."""
    seeds = values.pop("image")
    values = {"image": [None if seed is None else {"bytes": drawn(seed), "path": None} for seed in seeds], **values}
    found = datasets.Dataset.from_dict(values)
    return found.cast_column("image", datasets.Image()) if as_pictures else found


def saved(folder: Path, found: Any) -> Path:
    found.save_to_disk(folder)
    return folder


def told(path: Path, text: str = "") -> dict[str, list[tuple[str, tuple[str, ...]]]]:
    """Split -> ids and captions."""
    found = read(path, None, columns.parsed(text))
    return {split: [(p.id, p.captions) for p in pictures] for split, pictures in found.splits.items()}


def refusal(path: Path, text: str = "") -> str:
    with pytest.raises(DataError) as error:
        read(path, None, columns.parsed(text))
    assert str(error.value).isprintable()
    return str(error.value)


def pictures(found: Captioned, split: str) -> list[bytes]:
    return [found.container.read(found.container.find(p.filename)) for p in found.splits[split]]


TWO = {"image": [0, 1], "captions": [["a dog", " two\ndogs "], ["a cat"]]}


@pytest.mark.parametrize("kind", ["saved", "parquet", "arrow"])
@pytest.mark.parametrize("as_pictures", [True, False])
def test_splits_and_captions_in_every_form(tmp_path: Path, kind: str, as_pictures: bool) -> None:
    parts = {
        "train": table(as_pictures, **TWO),
        "validation": table(as_pictures, image=[2], captions=[["a bird"]]),
        "test": table(as_pictures, image=[3], captions=[["x"]]),
    }
    data = tmp_path / "data"
    if kind == "saved":
        saved(data, datasets.DatasetDict(parts))
    for split, part in parts.items():
        if kind == "parquet":
            part.to_parquet(data / "data" / f"{split}-00000-of-00001.parquet")
        if kind == "arrow":
            saved(data / split, part)  # each on its own, no DatasetDict
    assert told(data) == {
        "train": [("train-0", ("a dog", "two dogs")), ("train-1", ("a cat",))],
        "dev": [(f"{'validation' if kind == 'saved' else 'dev'}-0", ("a bird",))],
        "test": [("test-0", ("x",))],
    }
    found = read(data, None, {})
    assert pictures(found, "train") == [drawn(0), drawn(1)]
    assert pictures(found, "test") == [drawn(3)]
    assert found.digest == read(data, None, {}).digest


def test_a_column_goes_before_the_name_of_the_table(tmp_path: Path) -> None:
    """As in a well-known copy of Flickr30k: everything is in `test`, and a column says the split."""
    part = table(image=[0, 1, 2], caption=[["a"], ["b"], ["c"]], split=["train", "val", "test"], img_id=["7", "8", "9"])
    path = saved(tmp_path / "data", datasets.DatasetDict({"test": part}))
    assert told(path) == {"train": [("7", ("a",))], "dev": [("8", ("b",))], "test": [("9", ("c",))]}


def test_a_saved_table_has_its_own_split(tmp_path: Path) -> None:
    part = datasets.Dataset.from_dict({"image": [b""], "text": ["a"]}, split="test")
    assert told(saved(tmp_path / "data", part)) == {"test": [("test-0", ("a",))]}
    nameless = saved(tmp_path / "nameless", datasets.Dataset.from_dict({"image": [b""], "text": ["a"]}))
    assert "the table: row 0 is of no split" in refusal(nameless)


def test_rows_of_one_caption_with_one_id_are_one_picture(tmp_path: Path) -> None:
    part = table(image=[5, 6, 5, 5], caption=["a", "b", "c", "a"], image_id=[3, 4, 3, 3], id=[10, 11, 12, 13])
    path = saved(tmp_path / "data", datasets.DatasetDict({"train": part}))
    assert told(path) == {"train": [("3", ("a", "c", "a")), ("4", ("b",))]}
    assert pictures(read(path, None, {}), "train") == [drawn(5), drawn(6)]


def test_rows_of_one_caption_without_ids_are_told_by_their_picture(tmp_path: Path) -> None:
    part = table(image=[5, None, 5, None], caption=["a", "b", "c", "d"])
    path = saved(tmp_path / "data", datasets.DatasetDict({"train": part}))
    assert told(path) == {"train": [("train-0", ("a", "c")), ("train-1", ("b",)), ("train-3", ("d",))]}


def test_one_id_of_two_pictures_is_refused(tmp_path: Path) -> None:
    part = table(image=[5, 6], caption=["a", "b"], image_id=[3, 3])
    path = saved(tmp_path / "data", datasets.DatasetDict({"train": part}))
    assert refusal(path) == f"{path}: train: row 1 has the id 3, as row train-0 has, and another picture"


def test_a_column_a_caption_and_sentences_of_karpathy(tmp_path: Path) -> None:
    numbered = table(image=[0], caption_1=["b"], caption_0=["a"])
    assert told(saved(tmp_path / "a", datasets.DatasetDict({"test": numbered})))["test"] == [("test-0", ("a", "b"))]
    assert told(tmp_path / "a", "captions=caption_1") == {"test": [("test-0", ("b",))]}
    sentences = table(image=[0], sentences=[[{"raw": "a", "sentid": 1}, {"raw": "b", "sentid": 2}]])
    assert told(saved(tmp_path / "b", datasets.DatasetDict({"test": sentences})))["test"] == [("test-0", ("a", "b"))]
    of_lists = table(image=[0], sentences=[{"raw": ["a", "b"], "sentid": [1, 2]}])
    assert told(saved(tmp_path / "c", datasets.DatasetDict({"test": of_lists})))["test"] == [("test-0", ("a", "b"))]


def test_pictures_may_be_bytes_or_names_of_files(tmp_path: Path) -> None:
    for kind, values in (("bytes", [drawn(0)]), ("names", ["p.png"]), ("paths", [str(tmp_path / "names/p.png")])):
        part = datasets.Dataset.from_dict({"photo": values, "text": ["a"]})
        part = part.cast_column("photo", datasets.Image()) if kind == "paths" else part
        path = saved(tmp_path / kind, datasets.DatasetDict({"test": part}))
        (path / "p.png").write_bytes(drawn(0))
        assert pictures(read(path, None, columns.parsed("image=photo")), "test") == [drawn(0)]


def test_a_table_that_was_shuffled_or_formatted_is_read_as_it_is(tmp_path: Path) -> None:
    part = table(image=[0, 1, 2], captions=[["a"], ["b"], ["c"]]).select([2, 0]).with_format("numpy")
    path = saved(tmp_path / "data", datasets.DatasetDict({"test": part}))
    assert told(path) == {"test": [("test-0", ("c",)), ("test-1", ("a",))]}
    assert pictures(read(path, None, {}), "test") == [drawn(2), drawn(0)]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"captions": [["a"], None]}, "train: row 1: captions: its caption is null, not a text"),
        ({"captions": [["a"], ["b", None]]}, "train: row 1: captions: caption 1 is null, not a text"),
        ({"captions": [["a"], []]}, "train: row 1: captions has no captions"),
        ({"captions": [["a"], [" "]]}, "train: row 1: captions: caption 0 is empty"),
        ({"captions": ["a", None]}, "train: row 1: captions: its caption is null, not a text"),
        ({"captions": [1, 2]}, "train: row 0: captions: its caption is 1, not a text"),
        ({"captions": [["a"], ["b"]], "id": [1, 1]}, "train: row 1: two images have the id 1"),
        ({"captions": [["a"], ["b"]], "id": [1, None]}, "train: row 1: id is None, need a text"),
        ({"captions": [["a"], ["b"]], "id": [1.5, 2.5]}, "train: row 0: id is 1.5, need a text"),
        ({"captions": [["a"], ["b"]], "split": ["train", "all"]}, "train: row 1: split 'all' is none of train"),
        ({"label": [1, 2]}, "train: no column is called captions, caption, sentences, text, texts, txt; it has image"),
    ],
)
def test_values_that_are_none(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    path = saved(tmp_path / "data", datasets.DatasetDict({"train": table(image=[0, 1], **values)}))
    assert refusal(path).startswith(f"{path}: {message}")


def test_columns_that_are_not_there(tmp_path: Path) -> None:
    part = datasets.Dataset.from_dict({"photo": [b""], "said": ["a"]})
    path = saved(tmp_path / "data", datasets.DatasetDict({"test": part}))
    assert f"{path}: test: no column is called image, img, " in refusal(path)
    assert refusal(path, "image=photo").endswith("it has photo, said: --columns captions=NAME")
    assert refusal(path, "image=photo,captions=told") == f"{path}: test: no column told; it has photo, said"
    assert told(path, "image=photo,captions=said,id=said") == {"test": [("a", ("a",))]}


def test_the_same_id_in_two_splits_is_refused(tmp_path: Path) -> None:
    part = table(image=[0], captions=[["a"]], id=[1])
    path = saved(tmp_path / "data", datasets.DatasetDict({"train": part, "test": part}))
    assert refusal(path) == f"{path}: two images have the id 1"


def test_an_unknown_split_and_no_rows(tmp_path: Path) -> None:
    part = table(image=[0], captions=[["a"]])
    path = saved(tmp_path / "extra", datasets.DatasetDict({"train": part, "extra": part}))
    assert f"{path}: extra: row 0: split 'extra' is none of train" in refusal(path)
    empty = pyarrow.table({"image": pyarrow.array([], pyarrow.binary()), "text": pyarrow.array([], pyarrow.string())})
    with pyarrow.ipc.new_stream(tmp_path / "train.arrow", empty.schema) as file:
        file.write_table(empty)
    assert refusal(tmp_path / "train.arrow") == f"{tmp_path}/train.arrow: no rows in it"


@pytest.mark.parametrize("name", ["train.parquet", "train.arrow"])
def test_damaged_files_are_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"PAR1 and no more")
    assert refusal(tmp_path / name).startswith(f"{tmp_path / name}: cannot be read: ")


def test_a_damaged_folder_is_one_line(tmp_path: Path) -> None:
    path = saved(tmp_path / "data", datasets.DatasetDict({"train": table(**TWO)}))
    (file,) = path.rglob("*.arrow")
    file.write_bytes(file.read_bytes()[:300])
    assert refusal(path).startswith(f"{path}: cannot be read: ")
    (path / "dataset_dict.json").write_text("[")
    assert refusal(path).startswith(f"{path}: cannot be read: ")


def test_pictures_beside_and_columns_of_json_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "data", datasets.DatasetDict({"train": table(**TWO)}))
    with pytest.raises(DataError, match="holds its own pictures: leave --pictures out"):
        read(path, tmp_path, {})
    json_file = tmp_path / "dataset.json"
    json_file.write_text('{"images": [{"filename": "a", "split": "train", "sentences": [{"raw": "a"}]}]}')
    with pytest.raises(DataError, match="JSON has no columns: leave --columns out"):
        read(json_file, tmp_path, columns.parsed("id=a"))
    with pytest.raises(DataError, match="is JSON, so that --pictures must say where its pictures lie"):
        read(json_file, None, {})

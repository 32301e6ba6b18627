"""Does a model come from a folder, from the hub's cache or not at all, without a wait and without a word too many?"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants
from transformers import AutoConfig, AutoModel, AutoTokenizer, BertConfig, BertModel, BertTokenizer

from harness.data import pretrained
from harness.data.extracted import backbones
from harness.data.memo import Memo
from harness.data.split import DataError
from harness.data.text_model import TokenStates, WordPieces

NOWHERE = "http://127.0.0.1:9"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def unreachable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A hub that nobody answers for, an empty cache, and no patience: waiting before another try is an error."""

    def no_waiting(seconds: float) -> None:
        raise AssertionError(f"waits {seconds} s")

    monkeypatch.setattr(constants, "ENDPOINT", NOWHERE)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{NOWHERE}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(time, "sleep", no_waiting)
    pretrained._trouble.cache_clear()
    yield
    pretrained._trouble.cache_clear()


@pytest.fixture
def cached(tmp_path: Path) -> str:
    """A tiny BERT as the hub's client keeps what it downloaded."""
    repository = tmp_path / "hub" / "models--some--bert"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "dog"]
    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    BertModel(BertConfig(vocab_size=len(pieces), **small)).save_pretrained(snapshot)
    (snapshot / "vocab.txt").write_text("\n".join(pieces) + "\n")
    BertTokenizer(str(snapshot / "vocab.txt")).save_pretrained(snapshot)
    return "some/bert"


@pytest.mark.parametrize(
    "load",
    [WordPieces, lambda name: TokenStates(name, False), lambda name: backbones.load_backbone(name, 32, "cpu")],
    ids=["pieces", "states", "backbone"],
)
@pytest.mark.parametrize("name", ["nobody/nothing", "nothing-at-all", "a/b/c", "../x"])
def test_what_is_nowhere_is_one_line_at_once(load, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError) as refusal:
        load(name)
    assert name in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert capfd.readouterr() == ("", "")


def test_the_line_names_the_hub_that_does_not_answer() -> None:
    with pytest.raises(DataError, match=f"no folder, is not in the hub's cache, and {NOWHERE} does not give it: "):
        WordPieces("nobody/nothing")


def test_offline_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match="offline"):
        WordPieces("nobody/nothing")


def test_what_is_cached_needs_no_hub(cached: str, capfd: pytest.CaptureFixture[str]) -> None:
    for kind in (AutoConfig, AutoTokenizer, AutoModel):
        pretrained.loaded(kind, cached)
    assert WordPieces(cached).encode("a dog") == [2, 5, 6, 3]
    assert pretrained.revision(cached) == COMMIT
    assert backbones.weights_identity(cached, Memo(Path("unused"))) == f"revision {COMMIT}"
    assert capfd.readouterr() == ("", "")


def test_the_hub_is_asked_once(cached: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def answer(url: str, **_: object) -> None:
        asked.append(url)
        raise OSError("no")

    monkeypatch.setattr(pretrained, "get_hf_file_metadata", answer)
    for _ in range(2):
        pretrained.loaded(AutoConfig, cached)
    assert asked == [f"{NOWHERE}/{cached}/resolve/main/config.json"]

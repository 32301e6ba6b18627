"""The door of the contract: what a method passes, what does not apply to it, and each failure in a sentence."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from harness import check, contract
from harness.spec import methods, plugins
from tests.methods_of_others import INDEPENDENT, INTERACTIVE, PIXELS, STRINGS, installed, written

MEAN = "masked_mean(self.image(images.fragments), images.mask)"
BREAKS = {  # what is changed in a sound method, by what -> the check that fails, and a part of its sentence
    "no mask": (
        "masked_mean(self.word(self.vectors(texts)), texts.mask)",
        "self.word(self.vectors(texts)).mean(1)",
        "padding changes no score: padding changes the scores: apply the mask",
    ),
    "an unused layer": (
        "self.vectors = ",
        "self.spare = nn.Linear(3, 3)\n        self.vectors = ",
        "reach every parameter: no gradient reaches spare.weight, spare.bias",
    ),
    "no vectors": (
        "Encoded(embedding=unit(masked_mean(self.word",
        "Encoded(contextual=unit(masked_mean(self.word",
        "shapes and family: an independent method must fill `embedding` on both sides",
    ),
    "batch statistics": (
        MEAN,
        f"{MEAN} - {MEAN}.mean(0) / 2",
        "order and company change no score: scores depend on the other items of a batch",
    ),
    "another family": (
        "class Bags(Independent):",
        "class Bags(Independent):\n    family = 'interactive'",
        "shapes and family: the model says family 'interactive', its file says 'independent'",
    ),
    "no text model": (
        "WordVectors(inputs)",
        "WordVectors(__import__('dataclasses').replace(inputs, token_states=None))",
        "word vectors: bags ignores settings.text_model: build its words from inputs.token_states",
    ),
    "state outside the module": (
        "self.image = nn.Linear(inputs.image_dim, inputs.dim)",
        "self.image = lambda x, w=__import__('torch').randn(inputs.image_dim, inputs.dim): x @ w.to(x)",
        "survive a checkpoint: a checkpoint loses something: keep all state in parameters and buffers",
    ),
}


@pytest.fixture(autouse=True)
def as_before():
    yield
    plugins.choose()
    methods._methods.cache_clear()


def checked(*words: str) -> tuple[int, list[str]]:
    """Exit status and lines of `python -m harness.check WORDS`."""
    result = CliRunner().invoke(check.app, words)
    return result.exit_code, (result.stdout + result.stderr).splitlines()


def test_built_in_rows_pass_and_what_does_not_apply_is_said():
    code, lines = checked("chance")
    assert code == 0
    assert lines[-1].startswith("chance: ")
    assert lines[-1].endswith(" 4 do not apply, 0 fail; it trains 0 parameters")
    assert "skipped  chance: eight pairs are learnt by heart: it trains nothing" in lines


def test_a_host_is_checked_with_selfalign_too():
    assert check._rows("vsepp") == ("vsepp", "vsepp+selfalign")
    assert check._rows("scan:t2i-lse") == ("scan:t2i-lse",)


def test_a_broken_package_is_said_before_its_method_is_unknown(tmp_path, monkeypatch):
    installed(tmp_path, "of-others", "module_of_others", "bags", "x = (")
    monkeypatch.syspath_prepend(str(tmp_path))
    methods._methods.cache_clear()
    code, lines = checked("bags")
    assert code == 2
    assert lines[0].startswith("of-others 1.0 brings no method 'bags': ")
    assert lines[1].startswith("error: unknown method 'bags'")
    methods._methods.cache_clear()


def test_an_unknown_name_is_one_line():
    code, lines = checked("vsrm")
    assert code == 2
    assert lines == ["error: unknown method 'vsrm'; did you mean vsrn, saem, gsmn?"]
    assert checked("bags", "--plugin", "nowhere.py") == (2, ["error: --plugin nowhere.py: no such Python file"])


@pytest.mark.parametrize("text", [INDEPENDENT, INTERACTIVE], ids=["independent", "interactive"])
def test_a_sound_file_of_ones_own_passes(tmp_path, text):
    code, lines = checked("bags", "--plugin", str(written(tmp_path, "bags", text)))
    assert code == 0
    assert len(lines) == 1
    assert lines[0].startswith(f"bags: {len(contract.CHECKS)} checks pass, 0 do not apply, 0 fail; it trains ")


def test_one_without_tokens_or_fragments_is_spared_what_does_not_apply(tmp_path):
    code, lines = checked("letters", "--plugin", str(written(tmp_path, "letters", STRINGS)))
    assert (code, len(lines)) == (0, 3)
    assert all(line.endswith(": it reads no tokens") for line in lines[:2])
    code, lines = checked("colours", "--plugin", str(written(tmp_path, "colours", PIXELS)))
    assert code == 0
    assert "skipped  colours: padding changes no loss: it reads neither fragments nor tokens" in "\n".join(lines)
    assert "it trains 0 parameters" in lines[-1]
    undeclared = PIXELS.replace('NEEDS = ("pixels", "strings")', 'NEEDS = ("pixels", "tokens")')
    code, lines = checked("colours", "--plugin", str(written(tmp_path / "other", "colours", undeclared)))
    assert (code, lines[0]) == (
        1,
        "FAILED   colours: shapes and family: it raises TypeError: 'NoneType' object is not iterable",
    )


@pytest.mark.parametrize("broken", BREAKS)
def test_a_failure_is_explained_in_a_sentence(tmp_path, broken):
    sound, unsound, sentence = BREAKS[broken]
    assert sound in INDEPENDENT
    code, lines = checked("bags", "--plugin", str(written(tmp_path, "bags", INDEPENDENT.replace(sound, unsound))))
    assert code == 1
    assert any(line.startswith("FAILED   bags: ") and sentence in line for line in lines), lines


def test_one_that_cannot_be_built_fails_once(tmp_path):
    code, lines = checked("bags", "--plugin", str(written(tmp_path, "bags", INDEPENDENT + "\nraise OSError('gone')\n")))
    assert (code, lines[0]) == (1, "FAILED   bags: it is built: it raises OSError: gone")
    assert lines[1:] == ["bags: 0 checks pass, 0 do not apply, 1 fail"]

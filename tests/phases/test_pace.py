"""How long training takes, said before: from real updates, without what is done once for all rows."""

from __future__ import annotations

from itertools import count

import pytest

from harness import api
from harness.data.text_model import TokenStates
from harness.learn import taken
from harness.phases.pace import TIMED, WARM, pace
from harness.spec import registry
from harness.spec.job import Data, Job, Settings
from harness.spec.taken import resolved
from harness.store import Store
from tests.learn.test_taken import TEACHER, TINY, student
from tests.text_models import tiny_bert


@pytest.mark.usefixtures("same_torch_after")
def test_states_of_a_frozen_text_model_are_read_before_anything_is_timed(data_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    read: list[int] = []
    computed = TokenStates._computed

    def counted(self, tokens, mask):
        read.append(len(tokens))
        return computed(self, tokens, mask)

    monkeypatch.setattr(TokenStates, "_computed", counted)
    seconds = count()

    def clock() -> float:
        """A second for each look at the clock, and one for every batch of captions that is read until then."""
        return next(seconds) + 10.0 * len(read)

    (tmp_path / "bert").mkdir()
    settings = Settings(epochs=9, batch=13, dim=8, text_model=tiny_bert(tmp_path / "bert"))
    job = Job(Data(name="zoo", path=str(data_folder)), registry.model("vse_infty"), settings)
    found = pace(job, Store(tmp_path), clock)
    assert found.update_s == 1.0
    assert found.look_s == 1.0
    assert found.once_s > 0
    assert 0 < len(read) <= WARM + TIMED + 10
    assert found.seconds(5, 2) == 7.0


def test_without_a_text_model_nothing_is_read_once(data_folder, tmp_path):
    job = Job(Data(name="zoo", path=str(data_folder)), registry.model("vsepp"), Settings(dim=8, batch=13))
    found = pace(job, Store(tmp_path))
    assert found.once_s == 0
    assert 0 < found.update_s < found.seconds(3, 0)


@pytest.mark.usefixtures("same_torch_after")
def test_what_a_teacher_makes_of_items_is_made_before_anything_is_timed(tmp_path, monkeypatch):
    api.run(TEACHER, tmp_path, changes=TINY)
    job = resolved(student(), Store(tmp_path))
    seconds, made, real = count(), [], taken._Kept.of

    def counted(self, index, encode):
        before = int(self.known.sum())
        found = real(self, index, encode)
        made.append(int(self.known.sum()) - before)
        return found

    monkeypatch.setattr(taken._Kept, "of", counted)
    found = pace(job, Store(tmp_path), lambda: next(seconds) + 10.0 * sum(made))
    assert sum(made) > 0
    assert found.update_s == 1.0

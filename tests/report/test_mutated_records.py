"""Whatever becomes of one stored file, a report works or says in one line what is wrong with it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness import ROOT
from harness.record import RecordError
from harness.report.read.groups import collect
from harness.report.tables.comparison import left_out_lines

EXAMPLES = int(os.environ.get("HARNESS_FUZZ_EXAMPLES", "200"))
STORED = ROOT / "results" / "reference" / "full-scenes"
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two records with what lies beside them."""
    made = tmp_path_factory.mktemp("stored") / "full-scenes"
    keys = [path.stem for path in sorted((STORED / "costs").glob("*.json"))[:2]]
    for kind, ending in (("records", "json"), ("ranks", "npz"), ("costs", "json")):
        (made / kind).mkdir(parents=True)
        for key in keys:
            shutil.copy(STORED / kind / f"{key}.{ending}", made / kind)
    return made


def _places(value: object, path: tuple = ()) -> list[tuple]:
    inner = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    return ([path] if path else []) + [place for name, own in inner for place in _places(own, (*path, name))]


@settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(draw=st.data())
def test_one_changed_field_is_read_or_refused_in_one_line(folder, draw):
    path = draw.draw(st.sampled_from([p for kind in ("records", "costs") for p in sorted((folder / kind).iterdir())]))
    before = path.read_text()
    stored = json.loads(before)
    *outer, last = draw.draw(st.sampled_from(_places(stored)))
    at = stored
    for name in outer:
        at = at[name]
    if draw.draw(st.booleans()):
        at[last] = draw.draw(VALUES)
    else:
        del at[last]
    path.write_text(json.dumps(stored))
    said = ""
    try:
        for group in collect(folder):
            left_out_lines(group)
    except RecordError as error:
        said = str(error)
    finally:
        path.write_text(before)
    assert "\n" not in said

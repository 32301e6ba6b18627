"""Suite `smoke` on the embedded data: every row that trains is well above chance, within a minute on two cores."""

import pytest
from typer.testing import CliRunner

from harness import load
from harness.run import app
from harness.spec import registry, suites

MARGIN = 2  # times the Rsum of chance


@pytest.mark.slow
def test_every_trained_row_of_smoke_is_well_above_chance(tmp_path):
    place = ["--suite", "smoke", "--results", str(tmp_path), "--workers", "0", "--timing-rounds", "0"]
    done = CliRunner().invoke(app, place)
    assert done.exit_code == 0, done.output
    rsums = load(tmp_path / "smoke-scenes").set_index("label")["rsum"].to_dict()
    chance = rsums.pop("chance")
    assert set(rsums) | {"chance"} == set(suites.find("smoke").labels())
    assert not any(registry.scale(label) for label in rsums)
    assert {label: rsum for label, rsum in rsums.items() if rsum < MARGIN * chance} == {}

"""What is said of pictures that cannot be read."""

import pytest

from harness.data.extracted.looked import Looked, broken_line


@pytest.mark.parametrize(("count", "more"), [(1, ""), (3, ""), (4, ", ...")])
def test_the_first_few_names_are_said(count: int, more: str) -> None:
    looked = {"dev": Looked("", {f"{n}.png": "no" for n in range(count)})}
    names = ", ".join(f"{n}.png" for n in range(min(count, 3)))
    assert broken_line(looked).endswith(f"(dataset.json says why): {names}{more}")
    assert broken_line({"dev": Looked("", {})}) == ""

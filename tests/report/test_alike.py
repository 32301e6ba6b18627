"""Drawings are compared by what an eye sees."""

import pytest

from harness.report.alike import alike

SVG = (
    b'<svg><g id="mabcdef0123"><path d="M 198.320313 -4.5 L 7 1e-3"/></g>'
    b'<use href="#mabcdef0123"/><text>R@1</text></svg>'
)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"198.320313", b"198.320312"),
        (b"198.320313", b"198.36"),
        (b"-4.5", b"-4.50001"),
        (b"mabcdef0123", b"m99ab012345"),  # the hash of coordinates that differ in their last bits
    ],
)
def test_what_nobody_sees_is_no_difference(old, new):
    assert old in SVG
    assert alike(SVG, SVG.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"198.320313", b"198.5"),
        (b"-4.5", b"4.5"),
        (b"R@1", b"R@5"),
        (b"L 7", b"C 7"),
        (b" 1e-3", b""),
        (b"#mabcdef0123", b"#mffffffffff"),  # another thing is drawn
        (b"<text>", b"\xff"),
    ],
)
def test_what_one_sees_is_a_difference(old, new):
    assert old in SVG
    assert not alike(SVG, SVG.replace(old, new))

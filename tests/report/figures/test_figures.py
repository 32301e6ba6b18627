"""Figures as functions of plain values: what stands where, what is refused, the same bytes twice."""

from __future__ import annotations

import io
import random
import xml.etree.ElementTree as ElementTree
from itertools import combinations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from PIL import Image

from harness.report.figures import looks, style
from harness.report.figures.bars import SHADES, divided, forest, stages
from harness.report.figures.gallery import gallery, short
from harness.report.figures.labels import columns, named, spread_apart
from harness.report.figures.panels import KS, curves, recall_by_k, recalls, sweep
from harness.report.figures.scatter import accuracy_time
from harness.report.figures.style import log_ticks
from harness.report.figures.values import Point, front

FAMILIES = tuple(looks.LOOKS)


@pytest.fixture(autouse=True)
def in_style():
    with style.styled():
        yield


def made_points(count: int, seed: int = 0) -> list[Point]:
    """Two clusters in time, as independent and interactive models make."""
    draw = random.Random(seed)
    found = []
    for number in range(count):
        family = FAMILIES[number % 3]
        ms = 10 ** (draw.uniform(-0.5, 1.5) if family == "interactive" else draw.uniform(-2.5, -2))
        found.append(Point(f"method_{number}+part", family, ms, draw.uniform(20, 300)))
    return found


def test_the_front_by_hand():
    fast, slow, beaten, exact = (
        Point("fast", "", 1, 10),
        Point("slow", "", 3, 30),
        Point("beaten", "", 2, 9),
        Point("as slow", "", 3, 20),
    )
    assert front([slow, beaten, exact, fast]) == [fast, slow]
    twin = Point("twin", "", 1, 10)
    assert front([fast, twin]) == [fast, twin]  # equals do not beat one another


@pytest.mark.parametrize("seed", range(5))
def test_the_front_is_that_of_a_sweep_from_fast_to_slow(seed):
    points = made_points(23, seed)
    best, expected = -1.0, []
    for point in sorted(points, key=lambda p: p.ms):
        if point.rsum > best:
            best = point.rsum
            expected.append(point)
    assert front(points) == expected


def test_places_are_pushed_apart_by_hand():
    assert spread_apart(np.array([0.0, 10, 0]), 2, -50, 50).tolist() == [-1, 10, 1]
    assert spread_apart(np.array([0.0, 10, 0]), 2, 0, 50).tolist() == [0, 10, 2]
    assert spread_apart(np.array([9.0, 9.5]), 2, 0, 10).tolist() == [8, 10]
    assert spread_apart(np.array([5.0, 5, 5]), 4, 0, 6).tolist() == [0, 4, 8]  # no room: the distance is kept


@pytest.mark.parametrize("seed", range(5))
def test_places_keep_their_order_and_distance(seed):
    wanted = np.random.default_rng(seed).uniform(0, 100, 17)
    found = spread_apart(wanted, 5, 0, 100)
    order = np.argsort(wanted)
    assert (np.diff(found[order]) >= 5 - 1e-9).all()
    assert found.min() >= -1e-9
    assert found.max() <= 100 + 1e-9


def test_columns_are_points_that_would_stand_under_names():
    assert columns(np.array([0.0, 300, 5]), [50, 50, 60], gap=10) == [[0, 2], [1]]
    assert columns(np.array([0.0, 60, 130]), [60, 60, 60], gap=10) == [[0, 1, 2]]  # each under the one before


@pytest.mark.parametrize("count", [1, 2, 9, 26, 40])
def test_no_two_names_overlap_and_all_lie_within_the_figure(count):
    points = made_points(count)
    figure = accuracy_time(points, 7.3, "Accuracy against time", "caption")
    renderer = FigureCanvasAgg(figure).get_renderer()
    best = front(points)
    places = named([(p.family, p.ms, p.rsum) for p in points], [point in best for point in points])
    names = {points[place].name for place in places}
    boxes = [t.get_window_extent(renderer) for t in figure.axes[0].texts if t.get_text() in names]
    assert len(boxes) == len(names)
    assert {point.name for point in best} <= names
    for one, other in combinations(boxes, 2):
        assert not one.overlaps(other)
    whole = figure.bbox
    assert all(whole.x0 <= box.x0 and box.x1 <= whole.x1 and whole.y0 <= box.y0 and box.y1 <= whole.y1 for box in boxes)


def test_families_differ_in_marker_and_in_colour_and_ensembles_are_hollow():
    every = [*looks.LOOKS.values(), looks.OTHER]
    for part in ("colour", "marker", "symbol", "hatch"):
        assert len({getattr(look, part) for look in every}) == len(every)
    points = [Point("scan", "interactive", 1, 100), Point("scan*", "interactive", 2, 120, ensemble=True)]
    figure = accuracy_time(points, None, "t", "c")
    faces = [line.get_markerfacecolor() for line in figure.axes[0].lines if line.get_marker() == "s"]
    assert faces == [looks.LOOKS["interactive"].colour, "white"]


def test_a_family_of_another_name_is_drawn_and_in_the_legend():
    figure = accuracy_time([Point("new", "distilled", 1, 100)], None, "t", "c")
    legend = figure.axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["distilled", "Pareto front"]


def test_nothing_to_draw_is_refused():
    for call in (
        lambda: accuracy_time([], None, "t", "c"),
        lambda: forest([], "t", "c"),
        lambda: gallery([("a", "interactive", [])], "t", "c"),
        lambda: curves([], "t", "c", "y"),
        lambda: sweep([], "t", "c"),
    ):
        with pytest.raises(ValueError, match=r"^no "):
            call()


def test_the_same_values_give_the_same_bytes():
    first, second = (style.picture(accuracy_time(made_points(9), 5.0, "t", "c"), "t", "c") for _ in range(2))
    assert first == second
    assert b"<dc:date>" not in first.svg
    with Image.open(io.BytesIO(first.png)) as image:
        assert len(image.convert("RGB").getcolors(1 << 20) or ()) > 100


@pytest.mark.parametrize("name", ["a_b", "$x^2$", "<b>&amp;</b>", "50% {x} \\frac", "back`tick"])
def test_names_of_any_letters_are_drawn_as_they_are(name):
    figure = accuracy_time([Point(name, "interactive", 1, 100)], None, name, name)
    assert name in {text.get_text() for text in figure.axes[0].texts}
    made = style.picture(figure, name, name)
    title = ElementTree.fromstring(made.svg).find(".//{http://purl.org/dc/elements/1.1/}title")
    assert title is not None
    assert title.text == name
    style.picture(forest([(name, 1.0, 0.5, 1.5)], name, name), name, name)
    style.picture(recalls([(name, "interactive", {"i2t": np.array([0]), "t2i": np.array([0])})], name, name), "", "")


def test_long_captions_stay_within_the_figure():
    figure = accuracy_time(made_points(3), None, "t", "MMMM warmup_epochs WWWW, " * 30)
    renderer = FigureCanvasAgg(figure).get_renderer()
    for text in figure.texts:
        box = text.get_window_extent(renderer)
        assert box.x1 <= figure.bbox.x1
        assert box.y0 >= 0


def test_a_forest_says_its_numbers_and_fills_what_leaves_zero_out():
    rows = [("up", 2.0, 1.0, 3.0), ("down", -2.0, -4.0, 0.5), ("alone", 1.5, None, None)]
    axes = forest(rows, "t", "c").axes[0]
    assert [text.get_text() for text in axes.texts] == ["+2.0 [1.0, 3.0]", "-2.0 [-4.0, 0.5]", "+1.5"]
    assert [line.get_markerfacecolor() != "white" for line in axes.lines if line.get_marker() in "ov"] == [
        True,
        False,
        False,
    ]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first row at the top
    with pytest.raises(ValueError, match=r"off: 5\.0 lies outside its interval 1\.0 to 2\.0"):
        forest([("off", 5.0, 1.0, 2.0)], "t", "c")


def test_recall_at_every_k_by_hand():
    found = dict(zip(KS.tolist(), recall_by_k(np.array([[0, 1, 4, 5], [9, 10, 99, 100]])).tolist(), strict=True))
    assert [found[k] for k in (1, 2, 4, 5, 10, 11, 99, 100)] == [12.5, 25, 25, 37.5, 62.5, 75, 75, 87.5]


def test_recall_curves_tell_both_directions_apart_without_colour():
    ranks = {"i2t": np.array([0, 3]), "t2i": np.array([0, 200])}
    axes = recalls([("a", "interactive", ranks)], "t", "c").axes[0]
    solid, dashed = axes.lines
    assert (solid.get_linestyle(), dashed.get_linestyle()) == ("-", "--")
    assert np.asarray(solid.get_ydata())[[0, 3]].tolist() == [50, 100]
    assert set(np.asarray(dashed.get_ydata()).tolist()) == {50.0}


def test_the_front_and_the_ends_of_each_family_are_named():
    rows = [("a", 1.0, 5.0), ("a", 2.0, 7.0), ("a", 3.0, 6.0), ("b", 1.0, 1.0)]
    assert named(rows, [False] * 4) == [0, 1, 3]
    assert named(rows, [False, False, True, False]) == [0, 1, 2, 3]


def test_a_time_axis_ends_where_the_data_end():
    axes = accuracy_time(
        [Point("a_long_name", "interactive", 2, 9), Point("b", "interactive", 50, 8)], None, "t", "c"
    ).axes[0]
    assert axes.spines["bottom"].get_bounds() == (2, 50)
    assert axes.xaxis.get_ticklocs().tolist() == [2, 5, 10, 20, 50]
    assert axes.get_xlim()[1] > 50  # room for a name


def test_the_names_of_axes_lie_within_the_figure():
    points = [
        {"items": 10**k, "p50_ms": 10.0**k, "p95_ms": 2 * 10.0**k, "measured": True, "bytes": 10**k} for k in (3, 6)
    ]
    figure = gallery([("a", "interactive", points)], "t", "c")
    renderer = FigureCanvasAgg(figure).get_renderer()
    for axes in figure.axes:
        for box in (axes.yaxis.get_tightbbox(renderer), axes.xaxis.get_tightbbox(renderer)):
            assert box is not None
            assert figure.bbox.x0 <= box.x0
            assert box.x1 <= figure.bbox.x1


def test_a_hollow_mark_is_explained_where_there_is_one():
    points = [Point("scan", "interactive", 1, 100), Point("scan*", "interactive", 2, 120, ensemble=True)]
    legend = accuracy_time(points, None, "t", "c").axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["interactive", "Pareto front", "hollow: two models"]
    assert front(points) == points[:1]  # ensembles are no single models


def test_bars_say_what_was_not_timed():
    rows = [("a", "interactive", {"score": 2.0}), ("b", "independent", {"score": None})]
    axes = stages(rows, {"score": "ms per query"}, "t", "c").axes[0]
    assert [text.get_text() for text in axes.texts] == ["2.00", "—"]
    assert [bar.get_width() for bar in axes.patches] == [2.0, 0]


def test_parts_of_a_bar_are_told_apart_in_a_grey_print():
    greys = sorted(np.dot(to_rgb(shade), (0.299, 0.587, 0.114)) for shade in SHADES)
    assert np.diff(greys).min() > 0.15


def test_bars_of_one_length_show_the_parts_of_a_query_however_short_it_is():
    rows = [("a", "independent", {"encode": 0.3, "search": 0.1}), ("b", "interactive", {"encode": 10.0, "rank": 30.0})]
    axes = divided(rows, ("encode", "search", "rank"), "t", "c").axes[0]
    assert [round(bar.get_width(), 6) for bar in axes.patches] == [75, 25, 0, 25, 0, 75]
    assert [round(bar.get_x(), 6) for bar in axes.patches] == [0, 75, 100, 0, 25, 25]
    assert [text.get_text() for text in axes.texts] == ["0.400 ms", "40.0 ms"]
    for nothing in ([], [("a", "independent", {})]):
        with pytest.raises(ValueError, match="no time to divide"):
            divided(nothing, ("encode",), "t", "c")


def test_the_runs_of_a_method_are_one_line_with_gaps_between_them_and_where_an_epoch_has_no_value():
    rows = [("a", "interactive", [[1.0, None, 3.0], [4.0]]), ("b", "independent", [[7.0]])]
    others, own = curves(rows, "t", "c", "dev Rsum").axes[0].lines
    np.testing.assert_array_equal(own.get_xdata(), [1, 2, 3, np.nan, 1, np.nan])
    np.testing.assert_array_equal(own.get_ydata(), [1, np.nan, 3, np.nan, 4, np.nan])
    np.testing.assert_array_equal(others.get_ydata(), [7, np.nan])


def test_a_sweep_marks_what_has_no_result():
    axes = sweep([("a", "interactive", [10.0, None, 30.0])], "t", "c").axes[0]
    assert [bar.get_height() for bar in axes.patches] == [10, 30]
    assert [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "x"] == [2]


def sizes(*measured: bool, stored: float | None = 4.0):
    return [
        {
            "items": 1000 * 10**step,
            "p50_ms": 10.0**step,
            "p95_ms": 12.0 * 10**step,
            "p99_ms": 15.0 * 10**step,
            "measured": known,
            "bytes": stored and stored * 2**20 * 10**step,
        }
        for step, known in enumerate(measured)
    ]


def test_extrapolated_sizes_are_hollow_and_dashed():
    figure = gallery([("scan", "interactive", sizes(True, True, False)[::-1])], "t", "c")
    for axes in figure.axes:
        marks = [line for line in axes.lines if line.get_marker() == "s"]
        assert [line.get_markerfacecolor() for line in marks] == [looks.LOOKS["interactive"].colour] * 2 + ["white"]
        joins = [line.get_linestyle() for line in axes.lines if line.get_linewidth() == 1.2]
        assert joins == ["-", "--"]
    assert [short(n) for n in (500, 1000, 1_000_000)] == ["500", "1K", "1M"]


def test_memory_that_is_not_known_is_said_to_be():
    figure = gallery([("scan", "interactive", sizes(True, False, stored=None))], "t", "c")
    assert [text.get_text() for text in figure.axes[1].texts] == ["not recorded"]
    style.picture(figure, "t", "c")


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.2, 9, [0.2, 0.5, 1, 2, 5]),
        (0.9, 1100, [1, 10, 100, 1000]),
        (1, 100, [1, 10, 100]),
        (3, 4, []),
        (1e-3, 1e-3, [1e-3]),
    ],
)
def test_a_log_axis_of_few_powers_has_twice_and_five_times_those_as_well(low, high, ticks):
    assert log_ticks(low, high) == ticks

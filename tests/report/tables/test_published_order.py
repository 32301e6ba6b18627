"""The sentence on the published order: which rows it is of, both families, and when there are too few."""

from harness.report.read.groups import collect
from harness.report.read.published import COLUMNS, Published, read
from harness.report.tables.comparison import comparison
from harness.report.tables.published_order import ABOUT, order_note, places

PLACES = ((0, 0), (0, 3), (3, 3), (7, 7), (11, 11))  # of an image, of both its captions: from the best row to the worst


def line(method: str, rsum: float | str, variant: str = "", dataset: str = "flickr30k", runs: str = "single"):
    cells = dict.fromkeys(COLUMNS, "") | {"dataset": dataset, "method": method, "variant": variant, "runs": runs}
    return Published(2, cells | {"rsum": str(rsum)})


def add(make, *labels: str) -> None:
    """From the best to the worst."""
    for (i2t, t2i), label in zip(PLACES, labels, strict=False):
        make.add(make.job(label), make.ranks([i2t], [t2i, t2i]))


def note(make, *published: Published) -> str | None:
    (group,) = collect(make.folder)
    return order_note(group, published)


INDEPENDENT = (line("VSE-infinity", 500), line("VSRN", 480), line("VSE++", 410))
NONE = "None is far from its published place (2 of 3 places or more)."
FAR = "Far from their published place (2 of 3 places or more): vsepp (untuned) 1 here, 3 there."
SCAN, CAMP = line("SCAN", 450.5, "I2T_LSE"), line("CAMP", 460)


def test_all_rows_and_each_family(make):
    add(make, "vse_infty", "vsrn", "vsepp", "scan:i2t-lse", "camp")
    # 10 pairs: of the independent rows all 3 agree; SCAN and CAMP disagree, and each is ahead of VSE++ there alone
    told = "all +0.40 (n 5, p 0.48); independent +1.00 (n 3, p 0.33); too few interactive rows"
    assert note(make, *INDEPENDENT, SCAN, CAMP) == (
        f"{ABOUT}{told}. Far from their published place (2 of 5 places or more): vsepp (untuned) 3 here, 5 there; "
        "camp (untuned) 5 here, 3 there."
    )


def test_rows_far_from_their_place_are_named_farthest_first(make):
    """Published 1, 2, 3, 4, 5; here 3, 2, 5, 4, 1: 2, 0, 2, 0 and 4 places off, of which 2 are a third of 5."""
    add(make, "camp", "vsrn", "vse_infty", "scan:i2t-lse", "vsepp")
    make.settle()
    order = [line("VSE-infinity", 500), line("VSRN", 480), line("VSE++", 470), line("SCAN", 460, "I2T_LSE")]
    found = note(make, *order, line("CAMP", 450))
    assert found is not None
    told = "camp 1 here, 5 there; vse_infty 3 here, 1 there; vsepp 5 here, 3 there."
    assert found.endswith(f"Far from their published place (2 of 5 places or more): {told}")


def test_equal_rows_share_the_first_of_their_places():
    assert places({"a": 2.0, "b": 3.0, "c": 2.0, "d": 1.0}) == {"a": 2, "b": 1, "c": 2, "d": 4}


def test_other_data_ensembles_and_worse_numbers_do_not_count(make):
    add(make, "vse_infty", "vsrn", "vsepp")
    others = (
        line("VSE++", 599, dataset="coco1k"),
        line("VSE++", 598, runs="ensemble2"),
        line("VSE-infinity", 1),
        line("VSRN", ""),
    )
    told = "all +1.00 (n 3, p 0.33); independent +1.00 (n 3, p 0.33)"
    assert note(make, *others, *INDEPENDENT) == f"{ABOUT}{told}. {NONE}"


def test_too_few_rows_are_one_sentence(make):
    add(make, "vse_infty", "vsrn", "vsepp+selfalign", "chance")
    assert note(make, *INDEPENDENT) == f"{ABOUT}only 2 of its rows are published there, too few."


def test_nothing_is_said_where_nothing_is_published(make):
    add(make, "chance", "vsepp")
    assert note(make, SCAN) is None


def test_rows_that_tie_have_no_order(make):
    for label in ("vse_infty", "vsrn", "vsepp"):
        make.add(make.job(label), make.ranks([0], [0, 0]))
    assert note(make, *INDEPENDENT) == f"{ABOUT}all: all tie (n 3); independent: all tie (n 3). {FAR}"


def test_it_stands_under_the_comparison_and_reads_the_stored_file(make):
    add(make, "vse_infty", "vsrn", "vsepp")
    assert {"vse_infty", "vsrn", "vsepp"} <= {one.label for one in read() if one["dataset"] == "flickr30k"}
    (group,) = collect(make.folder)
    assert order_note(group) in comparison(group).notes

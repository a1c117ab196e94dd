"""The paper's own rows, and what must hold of ranges of points."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.findings.tirads import ADVICE, TABLE, Points, advice, assess, level, read, total, unknown
from mrcnn.errors import InputError

ROWS = {
    "composition": {"cystic": 0, "spongiform": 0, "mixed": 1, "solid": 2},
    "echogenicity": {"anechoic": 0, "hyperechoic": 1, "isoechoic": 1, "hypoechoic": 2, "very hypoechoic": 3},
    "shape": {"wider-than-tall": 0, "taller-than-wide": 3},
    "margin": {"smooth": 0, "ill-defined": 0, "lobulated": 2, "irregular": 2, "extrathyroidal": 3},
    "echogenic_foci": {"none": 0, "comet-tail": 0, "macrocalcification": 1, "rim": 2, "punctate": 3},
}


def words(category):
    one = st.sampled_from(sorted(TABLE[category]))
    if category != "echogenic_foci":
        return one
    return st.lists(st.sampled_from(["comet-tail", "macrocalcification", "rim", "punctate"]), unique=True)


full_readings = st.fixed_dictionaries({category: words(category) for category in TABLE})


def of(reading):
    return {category: read(category, word) for category, word in reading.items()}


def rank(result, what):
    names = ADVICE if what == "advice" else tuple(f"TR{number}" for number in range(1, 6))
    return [names.index(each) for each in result[what]]


@pytest.mark.parametrize("category", ROWS)
def test_points_of_each_row(category):
    for word, points in ROWS[category].items():
        assert read(category, word) == Points(points, points, "reader", word)


def test_foci_are_summed():
    assert read("echogenic_foci", ["macrocalcification", "punctate"]).low == 4
    assert read("echogenic_foci", ["macrocalcification", "rim", "punctate", "comet-tail"]).high == 6
    assert read("echogenic_foci", []) == Points(0, 0, "reader", "none")
    assert read("echogenic_foci", ["rim", "rim"]).low == 2


def test_what_cannot_be_determined_has_the_papers_points():
    assert read("composition", "obscured by calcification").low == 2
    assert read("echogenicity", "undetermined").low == 1
    assert read("margin", "undetermined").low == 0


@pytest.mark.parametrize(
    ("points", "expected"), [(0, 1), (1, 1), (2, 2), (3, 3), (4, 4), (5, 4), (6, 4), (7, 5), (8, 5), (16, 5)]
)
def test_levels(points, expected):
    assert level(points) == expected


@pytest.mark.parametrize(
    ("of_level", "millimeters", "expected"),
    [
        (1, 60, 0), (2, 60, 0),
        (3, 14.9, 0), (3, 15, 1), (3, 24.9, 1), (3, 25, 2),
        (4, 9.9, 0), (4, 10, 1), (4, 14.9, 1), (4, 15, 2),
        (5, 4.9, 0), (5, 5, 1), (5, 9.9, 1), (5, 10, 2),
    ],
)  # fmt: skip
def test_size_rule(of_level, millimeters, expected):
    assert advice(of_level, millimeters) == expected


def test_a_worked_case():
    reading = {"composition": "solid", "echogenicity": "hypoechoic", "shape": "taller-than-wide", "margin": "smooth"}
    result = assess(of({**reading, "echogenic_foci": ["punctate"]}), 12.0)
    assert result["points"] == [10, 10]
    assert result["level"] == ["TR5", "TR5"]
    assert result["advice"] == ["fine-needle aspiration"] * 2


def test_spongiform_gets_no_further_points():
    reading = {"composition": "spongiform", "echogenicity": "hypoechoic", "shape": "taller-than-wide"}
    assert total(of({**reading, "margin": "irregular", "echogenic_foci": ["punctate"]})) == (0, 0)


def test_without_millimeters_there_is_no_advice():
    assert assess({category: unknown(category) for category in TABLE}, None)["advice"] is None


def test_what_nobody_assessed_is_said_so():
    categories = {category: unknown(category) for category in TABLE}
    result = assess(categories, 8.0)
    assert result["points"] == [0, 2 + 3 + 3 + 3 + 6]
    # TR1 to TR5 would say nothing.
    assert result["level"] is None and result["advice"] is None and result["unless_spongiform"]["level"] is None
    assert {each["provenance"] for each in result["categories"].values()} == {"not assessed"}


@given(full_readings, st.sets(st.sampled_from(sorted(TABLE))), st.floats(1, 60))
def test_a_range_holds_every_completion_by_a_reader(reading, missing, millimeters):
    partial = {category: unknown(category) if category in missing else each for category, each in of(reading).items()}
    wide, exact = assess(partial, millimeters), assess(of(reading), millimeters)
    assert exact["points"][0] == exact["points"][1]
    assert wide["points"][0] <= exact["points"][0] <= wide["points"][1]
    for what in ("level", "advice") if wide["level"] else ():
        assert rank(wide, what)[0] <= rank(exact, what)[0] <= rank(wide, what)[1]
    if "unless_spongiform" in wide and reading["composition"] != "spongiform":
        assert wide["unless_spongiform"]["points"][0] <= exact["points"][0]


@given(full_readings, st.sampled_from(sorted(TABLE)), st.integers(0, 3), st.floats(1, 60), st.floats(0, 40))
def test_more_points_or_a_larger_nodule_never_ask_for_less(reading, category, more, millimeters, growth):
    categories = of(reading)
    each = categories[category]
    higher = {**categories, category: Points(each.low + more, each.high + more, "reader", each.seen)}
    below, above = assess(categories, millimeters), assess(higher, millimeters + growth)
    assert below["points"][0] <= above["points"][0]
    assert rank(below, "level")[1] <= rank(above, "level")[1]
    assert rank(below, "advice")[1] <= rank(above, "advice")[1]


@pytest.mark.parametrize(
    ("category", "word"),
    [("composition", "hard"), ("echogenic_foci", ["none", "rim"]), ("margin", ["smooth", "irregular"]), ("shape", 3),
     ("echogenic_foci", [["rim"]])],
)  # fmt: skip
def test_words_that_the_table_lacks(category, word):
    with pytest.raises(InputError, match=f"{category}="):
        read(category, word)

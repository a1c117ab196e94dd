import base64
import io
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from experiments.evaluation.page import bullets, embedded, facts, figure, line_chart, page, section, table, ticks

HOSTILE = "\"><script>alert(1)</script><img src=x onerror='alert(2)'>&amp;"


def test_nothing_from_data_becomes_html(read_page):
    parts = [
        section("data", HOSTILE, table([HOSTILE, "b"], [[HOSTILE, 1]], title=HOSTILE)),
        bullets([HOSTILE]),
        facts([(HOSTILE, HOSTILE, HOSTILE)]),
        figure("a.png", HOSTILE),
        line_chart(HOSTILE, {HOSTILE: [(1, 2.0), (2, 3.0)]}, across=HOSTILE, mark=(1, HOSTILE)),
    ]
    read = read_page(page(HOSTILE, parts))
    assert "script" not in read.tags and read.tags.count("img") == 1
    assert not [name for _, name, _ in read.attributes if name.startswith("on")]
    assert read.text.count(HOSTILE) == 14 and HOSTILE in read.values("alt", "aria-label")


def test_an_empty_section_is_left_out():
    assert section("a", "title", "", "") == ""
    assert bullets([]) == "" and line_chart("none", {"a": []}, across="x") == ""


# Values that a loss, a score or a size can have, and those that are none.
values = st.one_of(st.floats(-1e6, 1e6), st.sampled_from([float("nan"), float("inf")]))


@given(st.lists(st.lists(values, max_size=6), max_size=9))
def test_lines_stay_within_their_chart(read_page, lines):
    drawn = line_chart("any", {f"{n}": list(enumerate(line, 1)) for n, line in enumerate(lines)}, across="epoch")
    if drawn:
        read_page(drawn)
    for points in re.findall(r'points="([^"]*)"', drawn):
        for x, y in (map(float, pair.split(",")) for pair in points.split()):
            assert 0 <= x <= 460 and 0 <= y <= 250
    assert "nan" not in drawn.lower().replace("data", "") and "inf" not in drawn


def test_a_gap_parts_a_line_and_a_lone_point_is_a_dot():
    nan = float("nan")
    drawn = line_chart("gap", {"a": [(1, 0.0), (2, 1.0), (3, nan), (4, 1.0)]}, across="epoch", ends=(0, 1))
    # 460 wide with margins of 54 and 10, 250 high with 10 and 34: the ends of both axes.
    assert re.findall(r'points="([^"]*)"', drawn) == ["54.0,216.0 186.0,10.0"]
    assert 'cx="450.0" cy="10.0"' in drawn


@pytest.mark.parametrize(
    ("ends", "expected"),
    [((0, 1), [0, 0.2, 0.4, 0.6, 0.8, 1]), ((1.18, 1.26), [1.18, 1.2, 1.22, 1.24, 1.26]), ((-3, 5), [-2, 0, 2, 4])],
)
def test_ticks_are_round(ends, expected):
    assert ticks(*ends) == expected


def test_epochs_are_whole():
    assert ticks(1, 3, whole=True) == [1, 2, 3] and ticks(4, 4) == [4]


def test_a_picture_is_as_large_as_its_share_allows():
    noise = np.random.default_rng(0).integers(0, 256, (600, 1200, 3), dtype=np.uint8)
    for most in (400_000, 60_000):
        address = embedded(noise, most_bytes=most)
        assert len(address) <= most
        kind, content = address.split(",")
        assert kind == "data:image/jpeg;base64"
        width, height = Image.open(io.BytesIO(base64.b64decode(content))).size
        assert width == 2 * height


def test_a_small_png_stays_as_it_is(tmp_path):
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    assert (
        base64.b64decode(embedded(tmp_path / "a.png", most_bytes=10_000).split(",")[1])
        == (tmp_path / "a.png").read_bytes()
    )

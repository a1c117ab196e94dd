import base64
import io
import shutil
import subprocess

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from experiments.evaluation.page import ENVIRONMENT, Term, embedded, line_chart, render, ticks

HOSTILE = "\"><script>alert(1)</script><img src=x onerror='alert(2)'>&amp;"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MACROS = ENVIRONMENT.get_template("macros.html").module


def empty_check(**values):
    nothing = {"problems": (), "skipped": (), "warnings": (), "counts": None, "sizes": (), "size_figure": "",
               "pictures": (), "alike": (), "alike_note": "", "differing": (), "differing_note": ""}  # fmt: skip
    return render("check.html", **{"title": "t", **nothing, **values})


def test_nothing_from_data_becomes_html(read_page):
    page = empty_check(title=HOSTILE, problems=[HOSTILE], counts=([HOSTILE, "b"], [(HOSTILE, "1")]),
                       pictures=[("a.png", HOSTILE)])  # fmt: skip
    term = Term(HOSTILE, HOSTILE)
    parts = [
        MACROS.table([term, "b"], [[term, "1"]], title=HOSTILE),
        MACROS.facts([(term, HOSTILE, HOSTILE)]),
        MACROS.chart(line_chart(HOSTILE, {HOSTILE: [(1, 2.0), (2, 3.0)]}, across="epoch", mark=(1, HOSTILE))),
        MACROS.scatter([(HOSTILE, 0.5, 0.5)], (HOSTILE, "b")),
        MACROS.intervals([(HOSTILE, 0.0, 0.1, 0.2)], ("a", HOSTILE)),
    ]
    read = read_page(page.replace("</main>", "".join(parts) + "</main>"))
    assert read.tags.count("script") == 1 and read.tags.count("img") == 1
    assert not [name for _, name, _ in read.attributes if name.startswith("on")]
    assert read.text.count(HOSTILE) >= 15 and HOSTILE in read.values("alt", "aria-label")


def test_what_is_empty_is_left_out():
    assert MACROS.bullets([]).strip() == "" and MACROS.table(["a"], []).strip() == ""
    assert line_chart("none", {"a": []}, across="x") is None and MACROS.chart(None).strip() == ""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_a_table_sorts_numbers_and_only_the_script_of_the_page_runs(tmp_path):
    rows = [("a", "10"), ("b", "–"), ("c", "9.5")]
    table = MACROS.table(["name", "value"], rows, kind="sortable", label="any")
    page = empty_check(title="before").replace("</main>", f"{table}<script>document.title='owned'</script></main>")
    # The page's own script sorts; a test in its place needs the policy of a page without scripts of others.
    click = "document.querySelectorAll('th button')[1].click();"
    script = str(ENVIRONMENT.globals["script"])
    sorted_page = page.replace("script-src '", "script-src 'unsafe-inline' 'x").replace(script, script + click)
    texts = []
    for number, content in enumerate((page, sorted_page)):
        file = tmp_path / f"{number}.html"
        file.write_text(content, encoding="utf-8")
        done = subprocess.run(
            [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/chromium",
             "--dump-dom", file.as_uri()],
            capture_output=True, text=True, timeout=240, check=True,
        )  # fmt: skip
        texts.append(done.stdout)
    assert "<title>before</title>" in texts[0]
    assert [texts[1].index(f"<td>{name}</td>") for name in "bca"] == sorted(
        texts[1].index(f"<td>{name}</td>") for name in "abc"
    )


# Values that a loss, a score or a size can have, and those that are none.
values = st.one_of(st.floats(-1e6, 1e6), st.sampled_from([float("nan"), float("inf")]))


@given(st.lists(st.lists(values, max_size=6), max_size=9))
def test_lines_stay_within_their_chart(read_page, lines):
    drawn = line_chart("any", {f"{n}": list(enumerate(line, 1)) for n, line in enumerate(lines)}, across="epoch")
    if drawn is None:
        return
    read_page(MACROS.chart(drawn))
    for x, y in (point for line in drawn.lines for part in line.parts for point in part):
        assert drawn.left <= x <= drawn.right and drawn.top <= y <= drawn.bottom


def test_a_gap_parts_a_line_and_a_lone_point_is_a_dot():
    nan = float("nan")
    drawn = line_chart("gap", {"a": [(1, 0.0), (2, 1.0), (3, nan), (4, 1.0)]}, across="epoch", y_range=(0, 1))
    # x = 1 … 4 lies at 54 … 450, y = 0 … 1 at 216 … 10.
    assert drawn.lines[0].parts == [[(54, 216), (186, 10)], [(450, 10)]]
    html = MACROS.chart(drawn)
    assert 'points="54.0,216.0 186.0,10.0"' in html and 'cx="450.0" cy="10.0"' in html


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
        address = embedded(noise, max_bytes=most)
        assert len(address) <= most
        kind, content = address.split(",")
        assert kind == "data:image/jpeg;base64"
        width, height = Image.open(io.BytesIO(base64.b64decode(content))).size
        assert width == 2 * height


def test_a_small_png_stays_as_it_is(tmp_path):
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    assert (
        base64.b64decode(embedded(tmp_path / "a.png", max_bytes=10_000).split(",")[1])
        == (tmp_path / "a.png").read_bytes()
    )

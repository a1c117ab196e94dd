import re

from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric_name, _validate_param_name

from trackers.runs.names import LONGEST, Names, tracked_name

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=400)


def test_the_names_that_people_use():
    assert tracked_name("val/mask_ap50/left lung") == "val/mask_ap50/left lung"
    assert tracked_name("dice/nódulo (iso)") == "dice/nódulo _iso_"
    assert tracked_name("dice/no\u0301dulo") == "dice/nódulo"
    assert tracked_name("dice/结节") == "dice/结节"
    assert tracked_name("lobe: left, upper") == "lobe_ left_ upper"
    assert tracked_name("/a//../b/") == "_/a/_/__/b/_"


@given(names)
def test_every_name_is_one_that_mlflow_accepts(name):
    tracked = tracked_name(name)
    _validate_metric_name(tracked)
    _validate_param_name(tracked)
    assert len(tracked) <= LONGEST
    assert ":" not in tracked


@given(names)
def test_an_accepted_name_stays(name):
    tracked = tracked_name(name)
    assert tracked_name(tracked) == tracked


@given(st.lists(names, unique=True, max_size=20))
def test_names_stay_apart_and_stay_the_same(given_names):
    naming = Names()
    tracked = [naming(name) for name in given_names]
    assert len(set(tracked)) == len(given_names)
    assert [naming(name) for name in given_names] == tracked
    for name in tracked:
        _validate_metric_name(name)
        assert len(name) <= LONGEST


def test_the_second_of_two_names_that_meet_is_numbered():
    naming = Names()
    assert [naming("a(b"), naming("a[b"), naming("a_b")] == ["a_b", "a_b_2", "a_b_3"]
    assert re.fullmatch(r"x{248}_2", [naming("x" * 300), naming("x" * 301)][1])

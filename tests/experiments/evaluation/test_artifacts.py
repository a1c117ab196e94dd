import csv
import io

from hypothesis import given
from hypothesis import strategies as st

from experiments.evaluation.artifacts import csv_text, notable


@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=20), st.integers(0, 5))
def test_best_median_and_worst_are_apart_and_in_order(scores, count):
    chosen = notable(scores, count)
    every = [index for indices in chosen.values() for index in indices]
    assert len(set(every)) == len(every)
    assert all(scores[index] is not None for index in every)
    assert all(len(indices) <= count for indices in chosen.values())
    worst, best = ([scores[index] for index in chosen[kind]] for kind in ("worst", "best"))
    assert worst == sorted(worst)
    assert best == sorted(best, reverse=True)
    if worst and best:
        assert max(worst) <= min(best)
        assert worst[0] == min(score for score in scores if score is not None)
        assert best[0] == max(score for score in scores if score is not None)


def test_nine_cases_two_of_each_kind():
    scores = [0.5, 0.1, 0.9, None, 0.3, 0.7, 0.2, 0.4, 0.6, 0.8]
    assert notable(scores, 2) == {"best": [2, 9], "median": [7, 0], "worst": [1, 6]}


def test_a_table_with_commas_quotes_and_gaps_is_read_back():
    rows = [{"source": 'a, "b".png', "dice": 0.5}, {"source": "ü.png", "dice": None}]
    read = list(csv.DictReader(io.StringIO(csv_text(rows))))
    assert read == [{"source": 'a, "b".png', "dice": "0.5"}, {"source": "ü.png", "dice": ""}]
    assert csv_text([]).strip() == ""

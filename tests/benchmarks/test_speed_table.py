import pytest

from benchmarks.speed_table import Measured, heading, row, span, speedup, spread


def measured(seconds, **changes):
    values = {"size": 512, "batch": 2, "work": "many", "system": "tensorflow float32", "first": 12.34}
    values |= {"gflop": 450.0, "kept": [100, 100], "device": "cpu", "peak": 3 * 2**29}
    return Measured(**{**values, "seconds": seconds, "limits": [450.0] * len(seconds), **changes})


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_row_holds_what_was_measured():
    assert cells(row(measured([2.0, 1.0, 4.0]), measured([4.0, 3.0, 4.0]))) == [
        "512",
        "2",
        "inference, many",
        "tensorflow float32",
        "2.00 (1.00–4.00)",
        "12.3",
        "1.50",
        "450",
        "225",  # 450 GFLOP in the median of 2 s
        "50%",
        "100",
        "2.00",  # of the ratios 2, 3 and 1
    ]


def test_the_share_of_the_limit_is_taken_turn_by_turn():
    # A machine that runs at half its speed in the second turn and a third in the last one.
    line = row(measured([1.0, 2.0, 3.0], gflop=100.0, limits=[200.0, 100.0, 200 / 3]), None)
    assert cells(line)[9] == "50%"


def test_without_a_peer_there_is_no_ratio_and_in_training_nothing_is_kept():
    assert cells(row(measured([1.0], work="train", kept=[]), None))[-2:] == ["", ""]


def test_lines_are_as_long_as_the_heading():
    titles, rule = heading().split("\n")
    line = row(measured([0.01, 123.4]), measured([1.0, 2.0]))
    assert len(titles) == len(rule) == len(line)
    assert titles.count("|") == rule.count("|") == line.count("|")


def test_the_ratio_is_the_median_of_the_pairs():
    assert speedup([1.0, 1.0, 10.0], [2.0, 3.0, 10.0]) == 2.0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [([0.1234], "0.123 (0.123–0.123)"), ([1.0, 2.0], "1.50 (1.00–2.00)"), ([99.0, 101.0], "100 (99.00–101)")],
)
def test_seconds_are_the_median_between_their_extremes(seconds, text):
    assert spread(seconds) == text


@pytest.mark.parametrize(("counts", "text"), [([], ""), ([100, 100], "100"), ([5, 1], "1–5")])
def test_counts_are_one_number_or_two(counts, text):
    assert span(counts) == text

import pytest

from trackers.runs.reader import RunRecord


def recorded(splits, metrics):
    data = {split: (f"mine ({split})", "d") for split in splits}
    return RunRecord("0" * 32, "1", metrics, {}, {}, data, {}, 0)


@pytest.mark.parametrize(
    ("splits", "measured", "expected"),
    [
        (("train", "val", "test"), ("train", "val", "test"), "test"),
        (("train", "val", "test"), ("train", "val"), "val"),
        (("train", "val"), ("train", "val"), "val"),
        (("train", "val", "held_out"), ("train", "val", "held_out"), "held_out"),
        ((), (), "test"),
    ],
)
def test_results_are_of_what_nothing_was_chosen_by(splits, measured, expected):
    assert recorded(splits, {f"{split}/loss": 1.0 for split in measured}).split == expected


def test_scores_are_without_their_split_and_intervals():
    run = recorded(["test"], {"test/dice": 0.5, "test/dice_lo": 0.4, "test/dice_hi": 0.6, "test/a_lo": 1, "val/b": 2})
    assert run.scores() == {"dice": 0.5, "a_lo": 1}  # a class may be called lo
    assert run.interval("dice") == (0.4, 0.6) and run.interval("a_lo") is None
    assert run.data_name == "mine"

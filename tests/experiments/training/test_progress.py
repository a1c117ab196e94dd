import io

import pytest
from rich.console import Console

from experiments.evaluation.tables import duration_text
from experiments.training.progress import ProgressDisplay, losses_text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (3600, "1 h 00 min"), (7500, "2 h 05 min")],
)
def test_durations_are_words(seconds, text):
    assert duration_text(seconds) == text


def test_losses_are_short():
    logs = {"loss": 1.5, "rpn_class": 0.25, "head_mask": 0.7, "unknown": 3.0}
    assert losses_text(logs) == "loss 1.500 (rpn 0.250, mask 0.700)"
    assert losses_text({"loss": 2.0}) == "loss 2.000"


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes only when told."""
    now = [100.0]
    monkeypatch.setattr("experiments.training.progress.time.monotonic", lambda: now[0])

    def wait(seconds: float) -> None:
        now[0] += seconds

    return wait


def test_a_log_file_gets_a_line_every_ten_seconds_with_the_time_left(clock):
    output = io.StringIO()
    with ProgressDisplay(Console(file=output, width=200), epochs=2, steps_per_epoch=10) as screen:
        for step in range(1, 11):
            clock(60 if step == 1 else 4)  # the first traces the graph
            screen.step(1, step, {"loss": 1.0})
        screen.epoch(1, {"loss": 1.0}, "val AP50 0.500", 96)
    lines = output.getvalue().splitlines()
    assert lines[0] == "epoch 1/2: compiling the training step"
    assert lines[1].startswith("epoch 1/2 step 1/10")
    # Three steps of four seconds are the first more than ten; of 20 steps 4 are done, each takes 4 s.
    assert lines[2] == "epoch 1/2 step 4/10  loss 1.000  1 min 04 s left"
    assert len(lines) == 6
    assert lines[-1] == "epoch 1/2  loss 1.000  val AP50 0.500  1 min 36 s"


def test_a_terminal_gets_a_bar():
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=100)
    with ProgressDisplay(console, epochs=2, steps_per_epoch=2) as screen:
        screen.step(1, 1, {"loss": 0.125})
        screen._bar.refresh()
    assert "1/2" in output.getvalue()
    assert "loss 0.125" in output.getvalue()

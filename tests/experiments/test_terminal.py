"""Lines, phases and progress of a command, on a terminal and in a log file."""

import io
from types import SimpleNamespace

import pytest

from experiments.terminal import Terminal, count_progress, phase, print_addresses, warn

WORDS = " ".join(["near-duplicates"] * 20)


@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_breaks_lines_between_words(width):
    output = io.StringIO()
    Terminal(file=output, width=width, force_terminal=True, color_system=None).print(WORDS)
    lines = output.getvalue().splitlines()
    assert len(lines) > 1 and max(map(len, lines)) <= width
    assert " ".join(line.strip() for line in lines) == WORDS


def test_the_rest_of_an_indented_line_is_aligned_with_its_text():
    output = io.StringIO()
    console = Terminal(file=output, width=30, force_terminal=True, color_system=None)
    console.print("  mask size  28×28: a Dice of 0.957 at most")
    console.print("  Expected: about 90 s of training")
    assert output.getvalue().splitlines() == [
        "  mask size  28×28: a Dice of", "             0.957 at most", "  Expected: about 90 s of", "  training"
    ]  # fmt: skip


def test_a_log_file_keeps_lines_whole_and_counts_items():
    output = io.StringIO()
    console = Terminal(file=output, width=80)
    with phase(console, "Planning"):
        console.print(WORDS)
    with count_progress(console, "Checking images", 3) as advance:
        for _ in range(3):
            advance()
    warn(console, "2 images [a] differ")
    assert output.getvalue().splitlines() == [
        "Planning", WORDS, "Checking images: 3", "warning: 2 images [a] differ"
    ]  # fmt: skip


def test_a_log_file_has_a_line_for_each_change_of_a_phase(monkeypatch):
    monkeypatch.setattr("experiments.terminal.SECONDS_BETWEEN_LINES", 0)
    output = io.StringIO()
    with phase(Terminal(file=output, width=80), "Starting workers") as change_text:
        for text in ("Starting workers", "Running: trial 0 (epoch 1)", "Running: trial 0 (epoch 1)"):
            change_text(text)
    assert output.getvalue().splitlines() == ["Starting workers", "Running: trial 0 (epoch 1)"]


def test_warnings_are_yellow():
    output = io.StringIO()
    warn(Terminal(file=output, force_terminal=True, color_system="standard"), "careful")
    assert output.getvalue().startswith("\x1b[33mwarning: careful")


def test_the_last_lines_name_the_report_and_the_run(tmp_path):
    (tmp_path / "report.html").touch()
    run = SimpleNamespace(folders=(tmp_path,), how_to_open=lambda: "mlflow ui", url=lambda: "http://127.0.0.1:5000/#/1")
    output = io.StringIO()
    print_addresses(Terminal(file=output, width=40), run)
    assert output.getvalue().splitlines() == [
        f"Report:  {tmp_path}/report.html (open it in a browser)", "MLflow:  mlflow ui", "         http://127.0.0.1:5000/#/1"
    ]  # fmt: skip

"""Display the progress of a training: a bar on a terminal, plain lines in a log file."""

from __future__ import annotations

import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from experiments.evaluation.tables import duration_text

SECONDS_BETWEEN_LINES = 10
WIDE = 130
"""Least width of a terminal, in columns, for all losses beside the bar."""
LOSSES = {"loss": "loss", "rpn_class": "rpn", "rpn_box": "rpn box", "head_class": "class", "head_box": "box",
          "head_mask": "mask", "dice_loss": "Dice", "cross_entropy": "cross-entropy",
          "focal_tversky": "focal Tversky"}  # fmt: skip


def losses_text(logs: Mapping[str, float]) -> str:
    """Format the losses that are present as `loss 1.62 (rpn 0.21, …)`."""
    whole, *parts = [f"{word} {logs[name]:.3f}" for name, word in LOSSES.items() if name in logs] or [""]
    return f"{whole} ({', '.join(parts)})" if parts else whole


class ProgressDisplay:
    """Progress over all epochs, with the losses and the time left; a context manager around the training.

    The estimate of the time left ignores the first step, which traces the graph.
    """

    def __init__(self, console: Console, *, epochs: int, steps_per_epoch: int, epochs_done: int = 0) -> None:
        self._console = console
        self._left_at_start = (epochs - epochs_done) * steps_per_epoch
        self._epochs, self._steps = epochs, steps_per_epoch
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.completed}/{task.total}"),
            TextColumn("{task.fields[losses]}"),
            TextColumn("{task.fields[left]}"),
            console=console,
            disable=not console.is_terminal,
            transient=True,
            expand=True,
        )
        self._first = f"epoch {epochs_done + 1}/{epochs}"
        self._task = self._bar.add_task(f"{self._first}: compiling", total=steps_per_epoch, losses="", left="")
        self._done = 0
        self._first_step_ended = self._last_line = time.monotonic()

    def __enter__(self) -> ProgressDisplay:
        self._bar.start()
        if not self._console.is_terminal:
            self._print(f"{self._first}: compiling the training step")
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def step(self, epoch: int, step: int, logs: Mapping[str, float]) -> None:
        """Show a step; `epoch` and `step` count from 1, `logs` are means over the epoch, or empty."""
        now = time.monotonic()
        self._done += 1
        if self._done == 1:
            self._first_step_ended = now
        loss = {name: value for name, value in logs.items() if name == "loss"}
        name, left = f"epoch {epoch}/{self._epochs}", self._left(now)
        if self._console.is_terminal:
            shown = logs if self._console.width >= WIDE else loss
            self._bar.update(self._task, description=name, completed=step, losses=losses_text(shown), left=left)
        elif now - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = now
            self._print(f"{name} step {step}/{self._steps}", losses_text(loss), left)

    def validating(self, epoch: int) -> None:
        """Show that the validation of an epoch begins."""
        if self._console.is_terminal:
            self._bar.update(self._task, description=f"epoch {epoch}/{self._epochs}: validating", losses="")

    def epoch(self, epoch: int, logs: Mapping[str, float], validation: str, seconds: float) -> None:
        """Show the end of an epoch; `validation` is a line of its metrics, or empty."""
        self._last_line = time.monotonic()
        self._print(f"epoch {epoch}/{self._epochs}", losses_text(logs), validation, duration_text(seconds))

    def print_line(self, line: str) -> None:
        """Print a line above the bar."""
        self._print(line)

    def _print(self, *parts: str) -> None:
        self._console.print("  ".join(part for part in parts if part), markup=False)

    def _left(self, now: float) -> str:
        if self._done < 2:
            return ""
        each = (now - self._first_step_ended) / (self._done - 1)
        return f"{duration_text(each * (self._left_at_start - self._done))} left"

"""Connect the parser to the work: a command parses, imports the heavy libraries, works, and returns an exit status."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import click

from experiments.commands.exit_status import FAILED, SERVER_AWAY, TERMINATED, exit_status, quiet_libraries, silent_start
from experiments.config.command_line import Parser
from trackers.runs.local_store import require_writable_store


class Command(Parser):
    """A command of `mrcnn`. Its function validates the arguments, and `work` takes the result.

    Args:
        work: do the work; return an exit status, or None for 0.
        stopped: message after Ctrl-C.
    """

    def __init__(
        self, name: str, *, work: Callable[[Any], int | None], stopped: str = "stopped", **settings: Any
    ) -> None:
        super().__init__(name, **settings)
        self.work = work
        self.stopped = stopped

    def invoke(self, ctx: click.Context) -> Callable[[], int]:
        """Return the job. It runs after click has returned, because click hides broken pipes."""
        arguments = super().invoke(ctx)
        return partial(exit_status, lambda: self.work(arguments), self.stopped)

    def run(self, arguments: Sequence[str] | None = None) -> int:
        """Run the command; return the exit status."""
        return run(self, arguments, f"mrcnn {self.name}")


def run(command: click.Command, arguments: Sequence[str] | None, name: str) -> int:
    """Parse `arguments`, by default those of the process, and run the job; return the exit status."""

    def work() -> int:
        # An option such as --help returns an exit status in place of a job.
        job: Callable[[], int] | int | None = command.main(arguments, prog_name=name, standalone_mode=False)
        return job() if callable(job) else job or 0

    return exit_status(work)


def run_job(load: Callable[[], Callable[[], int | None]], stopped: str = "terminated") -> int:
    """Import a job by `load`, and run it; return the exit status.

    Args:
        load: function that imports the modules of the job and returns the job.
        stopped: message after SIGTERM.
    """
    require_writable_store()
    quiet_libraries()
    # Imported here, so that invalid arguments are reported before TensorFlow and MLflow are loaded.
    with silent_start():
        from experiments.training.callbacks import Diverged
        from trackers.checkpoints.checkpoint_store import CheckpointNotSaved
        from trackers.offline.server import ServerAway, check_reachable
        from trackers.runs.signals import Terminated

        job = load()

    try:
        check_reachable()
        return job() or 0
    except (Diverged, CheckpointNotSaved) as error:
        print(f"mrcnn: {error}", file=sys.stderr)
        return FAILED
    except ServerAway as error:
        print(f"mrcnn: {error}", file=sys.stderr)
        return SERVER_AWAY
    except Terminated:
        print(f"mrcnn: {stopped}", file=sys.stderr)
        return TERMINATED

"""Connect the parser to the work: a command parses, imports the heavy libraries, works, and returns an exit status."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import click

from experiments.commands.exit_status import FAILED, SERVER_AWAY, TERMINATED, ExitStatus, quiet_libraries, silent_start
from experiments.config.command_line import Parser
from trackers.runs.local_store import require_writable_store


@dataclass(frozen=True)
class Job:
    """The work of a command with its arguments, and the message after Ctrl-C."""

    work: Callable[[], int | None]
    stopped: str


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

    def invoke(self, ctx: click.Context) -> Job:
        """Return the job. It runs after click has returned, because click hides broken pipes."""
        return Job(partial(self.work, super().invoke(ctx)), self.stopped)

    def run(self, arguments: Sequence[str] | None = None) -> int:
        """Run the command; return the exit status."""
        return run(self, arguments, f"mrcnn {self.name}")


def run(command: click.Command, arguments: Sequence[str] | None, name: str) -> int:
    """Parse `arguments`, by default those of the process, and run the job; return the exit status."""
    with ExitStatus() as status:
        # An option such as --help returns an exit status in place of a job.
        job: Job | int | None = command.main(arguments, prog_name=name, standalone_mode=False)
        if isinstance(job, Job):
            status.stopped = job.stopped
            job = job.work()
        status.code = job or 0
    return status.code


def run_job(load: Callable[[], Callable[[], object]], stopped: str = "terminated") -> int:
    """Import a job by `load`, and run it; return the exit status.

    Args:
        load: returns the job, whose result, if it is an integer, is the exit status.
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
        result = job()
        return result if isinstance(result, int) else 0
    except (Diverged, CheckpointNotSaved) as error:
        print(f"mrcnn: {error}", file=sys.stderr)
        return FAILED
    except ServerAway as error:
        print(f"mrcnn: {error}", file=sys.stderr)
        return SERVER_AWAY
    except Terminated:
        print(f"mrcnn: {stopped}", file=sys.stderr)
        return TERMINATED

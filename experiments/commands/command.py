"""Run a command: parse, import heavy libraries quietly, work, and turn the errors of a user into an exit status."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any

import click

from experiments.config.command_line import Parser
from mrcnn.errors import InputError
from trackers.runs.address import hide_credentials
from trackers.runs.disk import DiskRefused, disk_problem
from trackers.runs.local_store import require_writable_store

BAD_INPUT, FAILED, SERVER_AWAY, INTERRUPTED, TERMINATED = 2, 1, 3, 130, 143


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


class ExitStatus:
    """Context manager that turns the error of its block into a line on stderr and an exit status.

    Handled are invalid input, disk errors and Ctrl-C. Other errors are raised, for their traceback.

    Attributes:
        code: the exit status.
        stopped: message after Ctrl-C.
    """

    def __init__(self) -> None:
        self.code, self.stopped = 0, "stopped"

    def __enter__(self) -> ExitStatus:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, InputError):
            message, self.code = str(error), BAD_INPUT
        elif isinstance(error, DiskRefused):
            message, self.code = str(error), FAILED
        elif isinstance(error, (KeyboardInterrupt, click.Abort)):
            message, self.code = self.stopped, INTERRUPTED
        elif isinstance(error, Exception) and (problem := disk_problem(error)) is not None:
            message, self.code = problem, FAILED
        else:
            return False
        print(f"mrcnn: {message}", file=sys.stderr)
        return True


def quiet_libraries() -> None:
    """Reduce the log output of TensorFlow and MLflow. Call this before they are imported.

    Environment variables that are set already do not change. Tracebacks are printed without passwords, because MLflow's
    errors quote the server's address with its password. MLflow's usage reports are off, because of patient data.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # TensorFlow warns about tracing several models; a job traces the trained, the best and the packaged one.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    # MLflow warns that an environment made by uv has no pip.
    logging.getLogger("mlflow.utils.environment").setLevel(logging.ERROR)
    # MLflow raises database errors, and also logs each with a traceback.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    sys.excepthook = _print_without_credentials


def _print_without_credentials(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    print(hide_credentials("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr)


@contextmanager
def silent_start() -> Iterator[None]:
    """Announce the import of libraries, and discard what the body writes to file descriptor 2, unless it raises.

    TensorFlow 2.21 prints messages on oneDNN and CUDA while it loads, from C++ and before it reads any log level.
    """
    print("Loading the libraries", flush=True)
    with tempfile.TemporaryFile() as captured:
        sys.stderr.flush()
        stderr = os.dup(2)
        os.dup2(captured.fileno(), 2)
        try:
            yield
        except BaseException:
            captured.seek(0)
            os.write(stderr, captured.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)

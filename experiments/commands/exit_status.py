"""Exit statuses of the commands, one-line messages for errors that a user can correct, and quiet libraries."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

import click

from mrcnn.errors import InputError
from trackers.runs.address import hide_credentials
from trackers.runs.disk import DiskRefused, disk_problem

BAD_INPUT, FAILED, SERVER_AWAY, INTERRUPTED, TERMINATED = 2, 1, 3, 130, 143


def exit_status(work: Callable[[], int | None], stopped: str = "stopped") -> int:
    """Run `work`; return its status, 0 for None, or the status of the error that ended it.

    Invalid input and disk errors are printed as one line. Other errors are raised, for their traceback.

    Args:
        work: function to run.
        stopped: message after Ctrl-C.
    """
    try:
        return work() or 0
    except InputError as error:
        print(f"mrcnn: {error}", file=sys.stderr)
        return BAD_INPUT
    except DiskRefused as error:
        print(f"mrcnn: {error}", file=sys.stderr)
        return FAILED
    except (KeyboardInterrupt, click.Abort):
        print(f"mrcnn: {stopped}", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if (problem := disk_problem(error)) is None:
            raise
        print(f"mrcnn: {problem}", file=sys.stderr)
        return FAILED


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
    """Discard the output to file descriptor 2 in the body, unless the body raises.

    TensorFlow 2.21 prints messages on oneDNN and CUDA while it loads, from C++ and before it reads any log level.
    """
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

"""How commands end: with a status, and a line for what a person can mend."""

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

from mrcnn.errors import InputError
from trackers.runs.address import hide_credentials
from trackers.runs.disk import DiskRefused, disk_problem

BAD_INPUT, FAILED, SERVER_AWAY, INTERRUPTED, TERMINATED = 2, 1, 3, 130, 143


def exit_status(work: Callable[[], int | None], stopped: str = "stopped") -> int:
    """Do `work`; returns its status, 0 where it has none, or that of what ended it. What a disk refuses is one line.
    What nobody foresaw is raised, for its traceback.

    Args:
        stopped: what is said on Ctrl-C.
    """
    try:
        return work() or 0
    except InputError as error:
        print(f"mrcnn: {error}", file=sys.stderr)
        return BAD_INPUT
    except DiskRefused as error:
        print(f"mrcnn: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print(f"mrcnn: {stopped}", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if (problem := disk_problem(error)) is None:
            raise
        print(f"mrcnn: {problem}", file=sys.stderr)
        return FAILED


def quiet_libraries() -> None:
    """Lower the voice of TensorFlow and MLflow; call it before they are imported.

    A variable that is already set stays as it is. Tracebacks are printed without passwords: MLflow's errors quote the
    server's address with the one in it. MLflow's usage reports are off: images of patients are at work here.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # It warns of tracing several models, which is what the job does: the trained, the best, the packaged one.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    # It warns that an environment made by uv holds no pip.
    logging.getLogger("mlflow.utils.environment").setLevel(logging.ERROR)
    # What a database refuses is raised; MLflow besides logs it with a traceback each time.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    sys.excepthook = _print_without_credentials


def _print_without_credentials(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    print(hide_credentials("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr)


@contextmanager
def silent_start() -> Iterator[None]:
    """Drop what is written to the process's stderr in the body, unless it raises.

    TensorFlow 2.21 tells of oneDNN and CUDA as it loads, from C++ and before it reads any log level.
    """
    with tempfile.TemporaryFile() as kept:
        sys.stderr.flush()
        stderr = os.dup(2)
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except BaseException:
            kept.seek(0)
            os.write(stderr, kept.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)

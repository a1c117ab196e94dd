"""How commands end: with a status, and a line for what a person can mend."""

from __future__ import annotations

import sys
from collections.abc import Callable

from mrcnn.errors import InputError
from trackers.disk import DiskRefused, disk_problem

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

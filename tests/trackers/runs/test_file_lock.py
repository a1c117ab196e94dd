"""Who is in, who waits, and what is raised."""

import signal
import subprocess
import sys

import pytest

from trackers.runs.file_lock import file_lock

HOLDER = """
import sys, time
from trackers.runs.file_lock import file_lock
with file_lock(sys.argv[1], 0, OSError()):
    print("in", flush=True)
    time.sleep(60)
"""


class Busy(Exception):
    pass


def test_one_at_a_time_until_it_is_killed(tmp_path):
    path = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", HOLDER, path], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "in\n"
        with pytest.raises(Busy), file_lock(path, 0, Busy()):
            pass
        other.send_signal(signal.SIGKILL)
        other.wait()
        with file_lock(path, 0, Busy()):
            pass


def test_it_is_given_back_after_an_error(tmp_path):
    for _ in range(2):
        with pytest.raises(KeyError), file_lock(tmp_path / "lock", 0, Busy()):
            raise KeyError

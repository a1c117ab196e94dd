import os

import pytest

from experiments.commands.exit_status import silent_start


def test_talk_at_the_start_is_dropped(capfd):
    with silent_start():
        os.write(2, b"oneDNN is on\n")
    os.write(2, b"afterwards\n")
    assert capfd.readouterr().err == "afterwards\n"


def test_talk_before_a_failure_is_told(capfd):
    with pytest.raises(ImportError), silent_start():
        os.write(2, b"library is broken\n")
        raise ImportError
    assert capfd.readouterr().err == "library is broken\n"

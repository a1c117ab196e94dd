import os

import pytest

from experiments.commands.command import silent_start


def test_output_during_the_import_is_discarded(capfd):
    with silent_start():
        os.write(2, b"oneDNN is on\n")
    os.write(2, b"afterwards\n")
    assert capfd.readouterr().err == "afterwards\n"


def test_output_before_an_error_is_printed(capfd):
    with pytest.raises(ImportError), silent_start():
        os.write(2, b"library is broken\n")
        raise ImportError
    assert capfd.readouterr().err == "library is broken\n"

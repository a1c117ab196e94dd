"""Models that were packaged with medmrcnn 0.1 import `mrcnn` by the names of that version."""

import importlib

import pytest

from mrcnn.legacy_modules import LEGACY_NAMES


@pytest.mark.parametrize("module", LEGACY_NAMES)
def test_names_of_packaged_models_can_be_imported(module):
    imported = importlib.import_module(module)
    for name, place in LEGACY_NAMES[module].items():
        source, _, attribute = place.partition(":")
        assert getattr(imported, name) is getattr(importlib.import_module(source), attribute)


def test_the_scoring_server_holds_its_old_name():
    from mrcnn.serving import scoring_server

    assert scoring_server.stand_guard is scoring_server.install_limits


def test_modules_that_never_were_stay_missing():
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("mrcnn.no_such_module")

"""The examples in the docstrings of `mrcnn.metrics`."""

import doctest
import importlib
import pkgutil

import pytest

from mrcnn import metrics

MODULES = [f"mrcnn.metrics.{module.name}" for module in pkgutil.iter_modules(metrics.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_print_what_they_say(name):
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted and not found.failed

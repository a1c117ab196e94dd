"""The examples with printed numbers in the docstrings of the pure functions."""

import doctest
import importlib
import pkgutil

import numpy as np
import pytest

import mrcnn.geometry
import mrcnn.metrics

MODULES = ["mrcnn.errors", "mrcnn.rle", "experiments.evaluation.tables"] + [
    module.name
    for package in (mrcnn.geometry, mrcnn.metrics)
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_print_their_numbers(name):
    found = doctest.testmod(importlib.import_module(name), extraglobs={"np": np})
    assert found.attempted and not found.failed

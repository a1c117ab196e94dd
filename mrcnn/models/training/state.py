"""Random and non-finite states of a model."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np

from mrcnn.backend import ops


def nonfinite_arrays(model: keras.Model) -> list[str]:
    """Return the names of the weights and running statistics that contain NaN or infinity."""
    return [each.path for each in model.weights if not np.isfinite(np.asarray(ops.convert_to_numpy(each.value))).all()]


def random_states(model: keras.Model) -> list[list[int]]:
    """Return the states of the model's random number generators, which Keras does not save with the weights.

    Keras's global random state is not included: no training step uses it.
    """
    return [np.asarray(ops.convert_to_numpy(each.value)).tolist() for each in _generators(model)]


def restore_random_states(model: keras.Model, states: Sequence[Sequence[int]]) -> None:
    """Restore the states that `random_states` returned for the same network."""
    for variable, state in zip(_generators(model), states, strict=True):
        variable.assign(state)


def _generators(model: keras.Model) -> list[keras.Variable]:
    weights = {id(each) for each in model.weights}
    return [each for each in model.variables if id(each) not in weights]

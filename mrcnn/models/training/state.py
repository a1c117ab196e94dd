"""Save and restore the full training state of a model as arrays by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import keras
import numpy as np

from mrcnn.backend import ops
from mrcnn.errors import InputError

MODEL, OPTIMIZER = "model", "optimizer"


def model_arrays(model: keras.Model) -> dict[str, np.ndarray]:
    """Return copies of all variables of a model and, if it is compiled, of its optimizer, by name.

    The model's variables include running statistics and the states of its random generators; the optimizer's include
    the step count, which determines the learning rate of the schedule. Keras's global random state is not included:
    no training step uses it.
    """
    optimizer = getattr(model, "optimizer", None)
    found = _named(MODEL, model.variables)
    return found if optimizer is None else found | _named(OPTIMIZER, optimizer.variables)


def nonfinite_arrays(model: keras.Model) -> list[str]:
    """Return the names of the weights and running statistics that contain NaN or infinity."""
    return [each.path for each in model.weights if not np.isfinite(np.asarray(ops.convert_to_numpy(each.value))).all()]


def restore_model(model: keras.Model, arrays: Mapping[str, np.ndarray]) -> None:
    """Restore the variables of the model, without the optimizer's, from arrays of `model_arrays`.

    Raises:
        InputError: the arrays are those of another network.
    """
    _restore(MODEL, model.variables, arrays)


def restore_optimizer(model: keras.Model, arrays: Mapping[str, np.ndarray]) -> None:
    """Restore the variables of the optimizer, which must be of the same type as that of the saved model.

    Raises:
        InputError: the arrays are those of another optimizer.
    """
    model.optimizer.build(model.trainable_variables)
    _restore(OPTIMIZER, model.optimizer.variables, arrays)


def _named(part: str, variables: Iterable[keras.Variable]) -> dict[str, np.ndarray]:
    """Return copies of the variables by number, because their paths depend on the models of the process."""
    return {f"{part}/{number:05d}": np.array(variable.numpy()) for number, variable in enumerate(variables)}


def _restore(part: str, variables: Iterable[keras.Variable], arrays: Mapping[str, np.ndarray]) -> None:
    variables = list(variables)
    saved = [array for name, array in arrays.items() if name.startswith(f"{part}/")]
    if [(array.shape, array.dtype.name) for array in saved] != [
        (tuple(variable.shape), variable.dtype) for variable in variables
    ]:
        raise InputError(f"training state: its {part} has other variables than this one")
    for array, variable in zip(saved, variables, strict=True):
        variable.assign(array)

"""All numbers by which a training goes on exactly as if it had not been cut short, as arrays by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import keras
import numpy as np

from mrcnn.errors import InputError

MODEL, OPTIMIZER = "model", "optimizer"


def model_arrays(model: keras.Model) -> dict[str, np.ndarray]:
    """Weights, running statistics and the states of the model's own random numbers; of the optimizer, where the model
    is compiled, its slots and its count of steps, from which the schedule's learning rate follows.

    Keras's global random numbers are not among them: they decide the initial weights, and no training step draws any.
    """
    optimizer = getattr(model, "optimizer", None)
    found = _named(MODEL, model.variables)
    return found if optimizer is None else found | _named(OPTIMIZER, optimizer.variables)


def nonfinite_arrays(model: keras.Model) -> list[str]:
    """Names of the weights and running statistics that hold NaN or infinity."""
    return [weight.path for weight in model.weights if not np.isfinite(keras.ops.convert_to_numpy(weight.value)).all()]


def restore_model(model: keras.Model, arrays: Mapping[str, np.ndarray]) -> None:
    """Puts back what `model_arrays` found, but the optimizer's. Raises `InputError` where another network is meant."""
    _restore(MODEL, model.variables, arrays)


def restore_optimizer(model: keras.Model, arrays: Mapping[str, np.ndarray]) -> None:
    """Puts back the optimizer's part, into one of the same kind that the model is compiled with."""
    model.optimizer.build(model.trainable_variables)
    _restore(OPTIMIZER, model.optimizer.variables, arrays)


def _named(part: str, variables: Iterable[keras.Variable]) -> dict[str, np.ndarray]:
    """Numbered, for paths hold names that count the models of the process. Copies: a backend may overwrite its own."""
    return {f"{part}/{number:05d}": np.array(variable.numpy()) for number, variable in enumerate(variables)}


def _restore(part: str, variables: Iterable[keras.Variable], arrays: Mapping[str, np.ndarray]) -> None:
    variables = list(variables)
    kept = [array for name, array in arrays.items() if name.startswith(f"{part}/")]
    if [(array.shape, array.dtype.name) for array in kept] != [
        (tuple(variable.shape), variable.dtype) for variable in variables
    ]:
        raise InputError(f"training state: its {part} has other variables than this one")
    for array, variable in zip(kept, variables, strict=True):
        variable.assign(array)

"""Reading a saved model."""

from __future__ import annotations

from pathlib import Path

import keras

from mrcnn.errors import InputError
from mrcnn.model.mask_rcnn import MaskRCNN


def load(path: str | Path) -> MaskRCNN:
    """The `MaskRCNN` in a `.keras` file, in Keras's safe mode: nothing in the file is executed.

    Raises:
        InputError: the file is missing, is not a `.keras` file, or holds another model.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file, expected a .keras file")
    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise InputError(f"{path}: not a readable .keras model: {str(error).splitlines()[0]}") from error
    if not isinstance(model, MaskRCNN):
        raise InputError(f"{path}: holds a {type(model).__name__}, expected a MaskRCNN")
    return model

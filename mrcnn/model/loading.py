"""Reading a saved model."""

from __future__ import annotations

from pathlib import Path

import keras

from mrcnn.errors import InputError
from mrcnn.model.classifier import Classifier
from mrcnn.model.mask_rcnn import MaskRCNN
from mrcnn.model.resunet import ResUNet
from mrcnn.model.training_state import not_finite

SEGMENTERS = (MaskRCNN, ResUNet)
"""Models with `detect`."""


def load(path: str | Path, kinds: tuple[type, ...] = (MaskRCNN,)) -> MaskRCNN | ResUNet | Classifier:
    """The model in a `.keras` file, in Keras's safe mode: nothing in the file is executed.

    Args:
        kinds: classes of which it may be.

    Raises:
        InputError: the file is missing, is not a `.keras` file, holds another model, or weights that are
            not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file, expected a .keras file")
    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise InputError(f"{path}: not a readable .keras model: {str(error).splitlines()[0]}") from error
    if not isinstance(model, kinds):
        expected = " or ".join(f"a {kind.__name__}" for kind in kinds)
        raise InputError(f"{path}: holds a {type(model).__name__}, expected {expected}")
    # It would find nothing in any image, as if there were nothing.
    if spoilt := not_finite(model):
        raise InputError(f"{path}: weights of {spoilt[0]} are NaN or infinite; expected a model that did not diverge")
    return model

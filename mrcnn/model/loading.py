"""Reading a saved model."""

from __future__ import annotations

import zipfile
from pathlib import Path

import keras

from mrcnn.errors import InputError
from mrcnn.model.classifier import Classifier
from mrcnn.model.harmless import OtherModel, described_model
from mrcnn.model.mask_rcnn import MaskRCNN
from mrcnn.model.resunet import ResUNet
from mrcnn.model.training_state import not_finite
from mrcnn.model.weight_files import UNREADABLE, in_one_line, weights_of

SEGMENTERS = (MaskRCNN, ResUNet)
"""Models with `detect`."""


def load(path: str | Path, kinds: tuple[type, ...] = (MaskRCNN,)) -> MaskRCNN | ResUNet | Classifier:
    """The model in a `.keras` file, in Keras's safe mode: nothing in the file is executed, see `mrcnn.model.harmless`.

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
        with zipfile.ZipFile(path) as archive:
            described_model(archive, {kind.__name__ for kind in kinds})
            weights_of(archive).close()
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except OtherModel as error:
        raise InputError(f"{path}: {error}") from error
    except (*UNREADABLE, TypeError) as error:
        raise InputError(f"{path}: not a readable .keras model: {in_one_line(error)}") from error
    # It would find nothing in any image, as if there were nothing.
    if spoilt := not_finite(model):
        raise InputError(f"{path}: weights of {spoilt[0]} are NaN or infinite; expected a model that did not diverge")
    return model

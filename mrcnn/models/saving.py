"""Reading a saved model."""

from __future__ import annotations

import zipfile
from pathlib import Path

import keras

from mrcnn.errors import InputError
from mrcnn.models.baselines.classifier import Classifier
from mrcnn.models.baselines.unet import ResUNet
from mrcnn.models.mask_rcnn.model import MaskRCNN
from mrcnn.models.pretrained.model_file_validation import UnexpectedModel, validated_model_config
from mrcnn.models.pretrained.weight_files import UNREADABLE, in_one_line, weights_of
from mrcnn.models.training.state import nonfinite_arrays

SEGMENTERS = (MaskRCNN, ResUNet)
"""Models with `detect`."""


def load(path: str | Path, kinds: tuple[type, ...] = (MaskRCNN,)) -> MaskRCNN | ResUNet | Classifier:
    """The model in a `.keras` file, in Keras's safe mode: nothing in the file is executed, see
    `mrcnn.models.pretrained.model_file_validation`.

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
            validated_model_config(archive, {kind.__name__ for kind in kinds})
            weights_of(archive).close()
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except UnexpectedModel as error:
        raise InputError(f"{path}: {error}") from error
    except (*UNREADABLE, TypeError) as error:
        raise InputError(f"{path}: not a readable .keras model: {in_one_line(error)}") from error
    # It would find nothing in any image, as if there were nothing.
    if spoilt := nonfinite_arrays(model):
        raise InputError(f"{path}: weights of {spoilt[0]} are NaN or infinite; expected a model that did not diverge")
    return model

"""Load saved models."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import keras

from mrcnn.errors import InputError
from mrcnn.models.baselines.classifier import Classifier
from mrcnn.models.baselines.unet import ResUNet
from mrcnn.models.mask_rcnn.model import MaskRCNN
from mrcnn.models.pretrained.model_file_validation import UnexpectedModel, validated_model_config
from mrcnn.models.pretrained.weight_files import UNREADABLE, one_line, open_weights
from mrcnn.models.training.state import nonfinite_arrays

SEGMENTERS = (MaskRCNN, ResUNet)
"""Classes of models with `detect`."""


def load(path: str | Path, kinds: tuple[type, ...] = (MaskRCNN,)) -> MaskRCNN | ResUNet | Classifier:
    """Load the model of a `.keras` file, of one of the classes `kinds`, without executing anything in it.

    The file is validated first (`mrcnn.models.pretrained.model_file_validation`) and loaded in Keras's safe mode.

    Raises:
        InputError: the file does not exist, is not a `.keras` file, contains another model or non-finite weights.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file, expected a .keras file")
    try:
        with zipfile.ZipFile(path) as archive:
            validated_model_config(archive, {kind.__name__ for kind in kinds})
            open_weights(archive).close()
        model: Any = keras.models.load_model(path, compile=False, safe_mode=True)
    except UnexpectedModel as error:
        raise InputError(f"{path}: {error}") from error
    except (*UNREADABLE, TypeError) as error:
        raise InputError(f"{path}: not a readable .keras model: {one_line(error)}") from error
    # Such a model detects nothing in any image, without an error.
    if invalid := nonfinite_arrays(model):
        raise InputError(f"{path}: weights of {invalid[0]} are NaN or infinite; expected a model that did not diverge")
    return model

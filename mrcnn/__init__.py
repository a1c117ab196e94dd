"""Mask R-CNN for medical images in Keras 3, with data readers and metrics. Research use only.

Names are imported at their first use, so that data and metrics do not load TensorFlow.
"""

import os
from importlib import import_module
from typing import Any

from mrcnn import legacy_modules

# TensorFlow reads this variable at import, so import this package first. TensorFlow's default disables oneDNN on CPUs
# without AVX-512, where a training step then takes 25 % longer.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

legacy_modules.install()

_MODULES = {
    "Detections": "mrcnn.detections",
    "InputError": "mrcnn.errors",
    "MaskRCNN": "mrcnn.models",
    "ModelConfig": "mrcnn.config",
    "Sample": "mrcnn.data",
    "make_batch": "mrcnn.data",
    "read_dataset": "mrcnn.data",
}
__all__ = sorted(_MODULES)  # pyright: ignore[reportUnsupportedDunderAll] - names of `__getattr__`


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'mrcnn' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)

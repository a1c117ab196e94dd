"""Mask R-CNN for medical images, in Keras 3, and the data and metrics that it needs. Research use only.

Names are imported when they are first used, so that reading data or metrics does not load TensorFlow.
"""

import os
from importlib import import_module

from mrcnn import legacy_modules

# TensorFlow reads this as it is loaded, so this package is best imported before it. By itself it leaves oneDNN out on
# CPUs without AVX-512, where a training step then takes a quarter longer.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

legacy_modules.install()

_HOMES = {
    "Detections": "mrcnn.detections",
    "InputError": "mrcnn.errors",
    "MaskRCNN": "mrcnn.models",
    "ModelConfig": "mrcnn.config",
    "Sample": "mrcnn.data",
    "make_batch": "mrcnn.data",
    "read_dataset": "mrcnn.data",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'mrcnn' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)

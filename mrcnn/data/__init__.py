"""Read annotated images, split them by patient and load batches of fixed shape. Imports no deep-learning framework.

Names are imported at their first use: the options of a command need none of the libraries that read images.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mrcnn.data.dataset import Dataset, Record
    from mrcnn.data.duplicates import find_duplicates
    from mrcnn.data.loading.loader import Loader
    from mrcnn.data.readers import read_dataset
    from mrcnn.data.sample import Sample
    from mrcnn.data.splits import folds_by_patient, split_by_patient, subsample_negatives
    from mrcnn.data.transforms.encoding import make_batch, prepare_image

__all__ = [
    "Dataset",
    "Loader",
    "Record",
    "Sample",
    "find_duplicates",
    "folds_by_patient",
    "make_batch",
    "prepare_image",
    "read_dataset",
    "split_by_patient",
    "subsample_negatives",
]
_MODULES = {
    "Dataset": "dataset",
    "Loader": "loading.loader",
    "Record": "dataset",
    "Sample": "sample",
    "find_duplicates": "duplicates",
    "folds_by_patient": "splits",
    "make_batch": "transforms.encoding",
    "prepare_image": "transforms.encoding",
    "read_dataset": "readers",
    "split_by_patient": "splits",
    "subsample_negatives": "splits",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'mrcnn.data' has no attribute {name!r}")
    return getattr(import_module(f"mrcnn.data.{_MODULES[name]}"), name)

"""Read annotated images, split them by patient and load batches of fixed shape. Imports no deep-learning framework."""

from mrcnn.data.dataset import Dataset, Record
from mrcnn.data.duplicates import find_duplicates
from mrcnn.data.fingerprint import fingerprint
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
    "fingerprint",
    "folds_by_patient",
    "make_batch",
    "prepare_image",
    "read_dataset",
    "split_by_patient",
    "subsample_negatives",
]

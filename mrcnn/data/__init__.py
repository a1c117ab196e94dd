"""From image files with annotations to batches of fixed shape. Imports no deep-learning framework."""

from mrcnn.data.batches import make_batch, prepare_image
from mrcnn.data.dataset import Dataset, Record
from mrcnn.data.loader import Loader
from mrcnn.data.readers import read_dataset
from mrcnn.data.sample import Sample

__all__ = ["Dataset", "Loader", "Record", "Sample", "make_batch", "prepare_image", "read_dataset"]

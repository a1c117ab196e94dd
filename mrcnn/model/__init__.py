"""Mask R-CNN in Keras 3: importing this registers all that a saved `.keras` file needs."""

from mrcnn.model.loading import load
from mrcnn.model.mask_rcnn import MaskRCNN

__all__ = ["MaskRCNN", "load"]

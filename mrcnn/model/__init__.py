"""Mask R-CNN in Keras 3, and its baselines: importing this registers all that a saved `.keras` file needs."""

from mrcnn.model.classifier import Classifier
from mrcnn.model.loading import SEGMENTERS, load
from mrcnn.model.mask_rcnn import MaskRCNN
from mrcnn.model.resunet import ResUNet

__all__ = ["SEGMENTERS", "Classifier", "MaskRCNN", "ResUNet", "load"]

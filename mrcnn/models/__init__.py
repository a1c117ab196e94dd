"""Mask R-CNN in Keras 3 and its baselines. Importing this registers the classes that saved `.keras` files name."""

from mrcnn.models.baselines.classifier import Classifier
from mrcnn.models.baselines.unet import ResUNet
from mrcnn.models.mask_rcnn.model import MaskRCNN
from mrcnn.models.saving import SEGMENTERS, load

__all__ = ["SEGMENTERS", "Classifier", "MaskRCNN", "ResUNet", "load"]

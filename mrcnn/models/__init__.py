"""Mask R-CNN in Keras 3, and its baselines: importing this registers all that a saved `.keras` file needs."""

from mrcnn.models.baselines.classifier import Classifier
from mrcnn.models.baselines.unet import ResUNet
from mrcnn.models.mask_rcnn.model import MaskRCNN
from mrcnn.models.saving import SEGMENTERS, load

__all__ = ["SEGMENTERS", "Classifier", "MaskRCNN", "ResUNet", "load"]

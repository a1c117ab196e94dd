"""The choices in which Mask R-CNNs differ, so that weights trained with the one's are not run with the other's."""

from __future__ import annotations

import numpy as np
from keras import layers

from mrcnn.config import STRIDES, ModelConfig
from mrcnn.geometry import boxes as box_ops
from mrcnn.geometry.anchors import anchor_grid
from mrcnn.geometry.masks import paste_crop
from mrcnn.geometry.roi_align import roi_align
from mrcnn.instance_masks import Crop
from mrcnn.models.mask_rcnn.rpn import propose


class PaperConventions:
    """As the papers have it, and this project where they leave it open: the default.

    The network's own boxes, from anchors to detections, may be in other coordinates than a batch's ("inner").
    """

    def __init__(self, config: ModelConfig) -> None:
        self.config = config

    @property
    def proposal_channels(self) -> int:
        """Width of the convolution that the proposal head's outputs share."""
        return self.config.fpn_channels

    def backbone_layer(self, layer: layers.Layer) -> layers.Layer | None:
        """What stands in for a layer of keras.applications' ResNet; None for a layer that stays."""
        return None

    def anchors(self) -> np.ndarray:
        """The anchor grid (A, 4), inner."""
        return anchor_grid(self.config)

    def to_internal(self, boxes):
        """A batch's boxes (…, 4) in inner coordinates."""
        return boxes

    def to_pixels(self, boxes):
        """Inner boxes (…, 4) in pixels of the network input, x2 and y2 exclusive."""
        return boxes

    def window_inputs(self, letterboxes: list, count: int) -> dict[str, np.ndarray]:
        """What the network must be told about where the images lie in their inputs: further inputs by name."""
        return {}

    def clip(self, boxes, window=None):
        """Inner boxes (B, …, 4) cut to the input."""
        return box_ops.clip(boxes, self.config.image_size)

    def propose(self, logits, deltas, anchors):
        """As `mrcnn.models.mask_rcnn.rpn.propose`, inner."""
        return propose(logits, deltas, anchors, self.config)

    def pool(self, levels, boxes, size: int, images=None):
        """(B, R, size, size, C) of P2 … P5 for inner boxes (B, R, 4); `images` as in `roi_align`."""
        return roi_align(levels, boxes, STRIDES[:4], size, images, canonical_size=self.config.roi_canonical_size)

    def mask_background(self, probabilities):
        """Scores (B, R, K) from class probabilities (B, R, K + 1): what a region may be reported as."""
        return probabilities[..., 1:]

    def num_nms_candidates(self, regions: int, classes: int) -> int:
        """Pairs of region and class that enter the last suppression."""
        return min(regions * classes, 5 * self.config.max_detections)

    def nonempty(self, boxes: np.ndarray) -> np.ndarray:
        """Which boxes (N, 4) in the original image's pixels are reported, (N,) bool."""
        return np.ones(len(boxes), bool)

    def paste(self, mask: np.ndarray, box: np.ndarray, height: int, width: int) -> Crop:
        """As `mrcnn.geometry.masks.paste_crop`."""
        return paste_crop(mask, box, height, width)

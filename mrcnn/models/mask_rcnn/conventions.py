"""Conventions in which Mask R-CNN implementations differ; pretrained weights need those of their own training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from keras import layers

from mrcnn.backend import Tensor
from mrcnn.config import STRIDES, ModelConfig
from mrcnn.geometry import boxes as box_ops
from mrcnn.geometry.anchors import anchor_grid
from mrcnn.geometry.masks import paste_crop
from mrcnn.geometry.roi_align import roi_align
from mrcnn.instance_masks import Crop
from mrcnn.models.mask_rcnn.rpn import propose


class PaperConventions:
    """Conventions of the papers, and of this project where the papers leave a choice. The default.

    The boxes inside the network, from anchors to detections, are in "internal" coordinates, which may differ from the
    pixels of a batch.
    """

    def __init__(self, config: ModelConfig) -> None:
        self.config = config

    @property
    def proposal_channels(self) -> int:
        """Channels of the shared convolution of the proposal head."""
        return self.config.fpn_channels

    def replace_backbone_layer(self, layer: layers.Layer) -> layers.Layer | None:
        """Return a replacement for a layer of the ResNet of keras.applications, or None to keep the layer."""
        return None

    def anchors(self) -> np.ndarray:
        """Return the anchor grid (A, 4) in internal coordinates."""
        return anchor_grid(self.config)

    def to_internal(self, boxes: Tensor) -> Tensor:
        """Convert boxes (…, 4) of a batch to internal coordinates."""
        return boxes

    def to_pixels(self, boxes: Tensor) -> Tensor:
        """Convert internal boxes (…, 4) to pixels of the network input, x2 and y2 exclusive."""
        return boxes

    def window_inputs(self, letterboxes: list, count: int) -> dict[str, np.ndarray]:
        """Return additional inputs by name: the windows of the images within `count` letterboxed inputs."""
        return {}

    def clip(self, boxes: Tensor, window: Tensor | None = None) -> Tensor:
        """Clip internal boxes (B, …, 4) to the input."""
        return box_ops.clip(boxes, self.config.input_shape)

    def propose(self, logits: Tensor, deltas: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
        """Select proposals as `mrcnn.models.mask_rcnn.rpn.propose`, in internal coordinates."""
        return propose(logits, deltas, anchors, self.config)

    def pool(self, levels: Sequence[Tensor], boxes: Tensor, size: int, images: Tensor | None = None) -> Tensor:
        """Pool internal boxes (B, R, 4) from P2 … P5 as (B, R, size, size, C); `images` as in `roi_align`."""
        return roi_align(levels, boxes, STRIDES[:4], size, images, canonical_size=self.config.roi_canonical_size)

    def mask_background(self, probabilities: Tensor) -> Tensor:
        """Remove the background from class probabilities (B, R, K + 1) and return the scores (B, R, K)."""
        return probabilities[..., 1:]

    def num_nms_candidates(self, regions: int, classes: int) -> int:
        """Return the number of pairs of region and class before the final non-maximum suppression."""
        return min(regions * classes, 5 * self.config.max_detections)

    def nonempty(self, boxes: np.ndarray) -> np.ndarray:
        """Return which boxes (N, 4), in pixels of the original image, are reported, as (N,) bool."""
        return np.ones(len(boxes), bool)

    def paste(self, mask: np.ndarray, box: np.ndarray, height: int, width: int) -> Crop:
        """Paste mask probabilities (m, m) into the image as `mrcnn.geometry.masks.paste_crop`."""
        return paste_crop(mask, box, height, width)

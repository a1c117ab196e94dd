"""The conventions of matterport's Mask R-CNN (2017), whose COCO weights many start from.

Inside the network boxes are corner-inclusive: x runs from 0 to size − 1, and a box of w pixels is w − 1 wide. (There
they are also divided by size − 1, which changes nothing but rounding.)
"""

from __future__ import annotations

import numpy as np
from keras import layers, ops

from mrcnn.config import STRIDES
from mrcnn.geometry import boxes as box_ops
from mrcnn.geometry.anchors import anchor_grid
from mrcnn.geometry.matching import take_rows
from mrcnn.geometry.nms import tiled_suppression
from mrcnn.geometry.roi_align import crop_and_resize
from mrcnn.instance_masks import Crop
from mrcnn.models.mask_rcnn.conventions import PaperConventions

PROPOSAL_CHANNELS = 512
BEST_ANCHORS = 6000
"""Anchors of all levels together that enter the suppression of proposals."""
INCLUSIVE = np.array([0, 0, 1, 1], np.float32)


class MatterportConventions(PaperConventions):
    """Anchors on the corners of the cells, one suppression for all levels, one sample a bin, one class a region."""

    proposal_channels = PROPOSAL_CHANNELS

    def backbone_layer(self, layer: layers.Layer) -> layers.Layer | None:
        # Max pooling pads as TensorFlow's "same" does: at the end only where the side is even.
        if layer.name == "pool1_pad":
            return layers.ZeroPadding2D(((0, 1), (0, 1)), name=layer.name)
        return None

    def anchors(self) -> np.ndarray:
        # The middle of a cell is the multiple of its stride.
        counts = [cells**2 * self.config.anchors_per_cell for cells in self.config.grid_sizes]
        half_cells = np.repeat(np.array(STRIDES) / 2, counts)
        return (anchor_grid(self.config) - half_cells[:, None] - INCLUSIVE).astype(np.float32)

    def inner(self, boxes):
        return boxes - INCLUSIVE

    def outer(self, boxes):
        return boxes + INCLUSIVE

    def windows(self, letterboxes: list, count: int) -> dict[str, np.ndarray]:
        windows = np.tile(np.float32([0, 0, 1, 1]) * (self.config.image_size - 1), (count, 1))
        for slot, letterbox in enumerate(letterboxes):
            windows[slot] = letterbox.window - INCLUSIVE
        return {"window": windows}

    def clip(self, boxes, window=None):
        if window is None:
            return box_ops.clip(boxes, self.config.image_size - 1)
        window = ops.reshape(window, (-1, *(1 for _ in boxes.shape[1:-1]), 4))
        low = ops.concatenate([window[..., :2], window[..., :2]], axis=-1)
        high = ops.concatenate([window[..., 2:], window[..., 2:]], axis=-1)
        return ops.maximum(ops.minimum(boxes, high), low)

    def propose(self, logits, deltas, anchors):
        logits, deltas = ops.stop_gradient(logits), ops.stop_gradient(deltas)
        count = min(BEST_ANCHORS, logits.shape[1])
        scores, index = ops.top_k(logits, count)
        boxes = self.clip(box_ops.decode(take_rows(deltas, index), ops.take(anchors, index, axis=0)))
        kept = tiled_suppression(boxes, ops.ones_like(scores, dtype="bool"), self.config.proposal_nms_iou)
        scores, index = ops.top_k(ops.where(kept, scores, -1e9), min(self.config.proposals, count))
        return take_rows(boxes, index), scores > -1e8

    def pool(self, levels, boxes, size: int, images=None):
        return crop_and_resize(
            levels, boxes, self.config.image_size, size, images, canonical_size=self.config.roi_canonical_size
        )

    def eligible(self, probabilities):
        best = probabilities >= ops.max(probabilities, axis=-1, keepdims=True)
        return ops.where(best, probabilities, 0.0)[..., 1:]

    def candidates(self, regions: int, classes: int) -> int:
        return regions  # no region has two classes

    def visible(self, boxes: np.ndarray) -> np.ndarray:
        rounded = np.around(boxes)
        return (rounded[:, 2:] > rounded[:, :2]).all(axis=1)

    def paste(self, mask: np.ndarray, box: np.ndarray, height: int, width: int) -> Crop:
        """The mask in whole pixels, fading to 0 outside its outermost cells, as its interpolation has it."""
        left, top, right, bottom = np.around(box).astype(int)
        rows, columns = (_interpolation(side, len(mask)) for side in (bottom - top, right - left))
        return Crop(top, left, rows @ mask.astype(np.float64) @ columns.T >= 0.5)


def _interpolation(points: int, cells: int) -> np.ndarray:
    """Bilinear weights (points, cells) at the centres of `points` pixels over `cells`, with zeros beyond the ends."""
    position = (np.arange(points) + 0.5) / points * cells - 0.5
    return np.maximum(1 - np.abs(position[:, None] - np.arange(cells)), 0)

"""The conventions of torchvision's `maskrcnn_resnet50_fpn`.

Nearer to the paper's than matterport's. Equal detections need an image that is square: it pads others to multiples of
32 where we pad to the square.
"""

from __future__ import annotations

import re

import keras
import numpy as np
from keras import layers, ops

from mrcnn.config import STRIDES
from mrcnn.geometry.anchors import anchor_shapes
from mrcnn.geometry.roi_align import roi_align
from mrcnn.instance_masks import Crop
from mrcnn.models.layers import folded
from mrcnn.models.mask_rcnn.conventions import PaperConventions
from mrcnn.models.mask_rcnn.rpn import propose

MIN_SIDE = 1e-3
CANDIDATES = 2000
"""It takes every pair of region and class above the threshold; there are rarely more."""


@keras.saving.register_keras_serializable("mrcnn")
class PaddedConv2D(folded.Conv2D):
    """A 3 × 3 convolution padded by one cell on every side, also with a stride, unlike "same"."""

    def call(self, inputs):
        return super().call(ops.pad(inputs, ((0, 0), (1, 1), (1, 1), (0, 0))))

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        return super().compute_output_shape((batch, height + 2, width + 2, channels))


class TorchvisionConventions(PaperConventions):
    """The stride in a block's 3 × 3 convolution, anchors in whole pixels on corners, regions off by half a cell."""

    def backbone_layer(self, layer: layers.Layer) -> layers.Layer | None:
        if re.fullmatch(r"conv[345]_block1_1_conv", layer.name):
            return folded.Conv2D.from_config({**layer.get_config(), "strides": (1, 1)})
        if re.fullmatch(r"conv[345]_block1_2_conv", layer.name):
            return PaddedConv2D.from_config({**layer.get_config(), "strides": (2, 2), "padding": "valid"})
        return None

    def anchors(self) -> np.ndarray:
        config, levels = self.config, []
        for stride, cells, sizes in zip(STRIDES, config.grid_sizes, config.anchor_sizes, strict=True):
            half = anchor_shapes(sizes, config.anchor_ratios) / 2
            base = np.round(np.concatenate([-half, half], axis=-1))
            y, x = np.meshgrid(np.arange(cells) * stride, np.arange(cells) * stride, indexing="ij")
            levels.append((np.stack([x, y, x, y], axis=-1)[:, :, None] + base).reshape(-1, 4))
        return np.concatenate(levels).astype(np.float32)

    def propose(self, logits, deltas, anchors):
        return propose(logits, deltas, anchors, self.config, min_side=MIN_SIDE)

    def pool(self, levels, boxes, size: int, images=None):
        return roi_align(
            levels, boxes, STRIDES[:4], size, images, canonical_size=self.config.roi_canonical_size, aligned=False
        )

    def candidates(self, regions: int, classes: int) -> int:
        return min(regions * classes, CANDIDATES)

    def paste(self, mask: np.ndarray, box: np.ndarray, height: int, width: int) -> Crop:
        """The mask, with a cell of zeros around it, stretched over whole pixels whose last is inclusive."""
        cells = len(mask)
        padded = np.pad(mask.astype(np.float32), 1)
        centre, half = (box[2:] + box[:2]) / 2, (box[2:] - box[:2]) / 2 * np.float32((cells + 2) / cells)
        left, top, right, bottom = np.concatenate([centre - half, centre + half]).astype(int)  # towards 0, as there
        columns, rows = max(right - left + 1, 1), max(bottom - top + 1, 1)
        whole = _interpolation(rows, cells + 2) @ padded @ _interpolation(columns, cells + 2).T > 0.5
        x1, y1, x2, y2 = max(left, 0), max(top, 0), min(right + 1, width), min(bottom + 1, height)
        return Crop(y1, x1, whole[y1 - top : y2 - top, x1 - left : x2 - left])


def _interpolation(points: int, cells: int) -> np.ndarray:
    """Bilinear weights (points, cells) at the centres of `points` pixels over `cells`; the ends' cells go on."""
    position = np.clip((np.arange(points, dtype=np.float32) + 0.5) / points * cells - 0.5, 0, cells - 1)
    return np.maximum(1 - np.abs(position[:, None] - np.arange(cells, dtype=np.float32)), 0)

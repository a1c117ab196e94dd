"""Conventions of the Mask R-CNNs of matterport (2017) and torchvision, for their pretrained weights."""

from __future__ import annotations

import re
from collections.abc import Sequence

import keras
import numpy as np
from keras import layers

from mrcnn.backend import Tensor, ops
from mrcnn.config import STRIDES, ClassifierConfig, ModelConfig
from mrcnn.geometry import boxes as box_ops
from mrcnn.geometry.anchors import anchor_grid, anchor_shapes
from mrcnn.geometry.matching import take_rows
from mrcnn.geometry.nms import tiled_suppression
from mrcnn.geometry.roi_align import crop_and_resize, roi_align
from mrcnn.instance_masks import Crop
from mrcnn.models.layers import folded
from mrcnn.models.mask_rcnn.conventions import PaperConventions
from mrcnn.models.mask_rcnn.rpn import propose

PROPOSAL_CHANNELS = 512
BEST_ANCHORS = 6000
"""Number of anchors of all levels before the suppression of proposals."""
INCLUSIVE = np.array([0, 0, 1, 1], np.float32)


class MatterportConventions(PaperConventions):
    """Conventions of matterport's Mask R-CNN.

    Anchors are centered on cell corners, one suppression serves all levels, a bin has one sample and a region one
    class. Internal boxes are corner-inclusive: x is 0 … size − 1, and a box of w pixels is w − 1 wide. (Matterport
    also divides them by size − 1, which affects rounding only.)
    """

    @property
    def proposal_channels(self) -> int:
        """Channels of the shared convolution of the proposal head."""
        return PROPOSAL_CHANNELS

    def replace_backbone_layer(self, layer: layers.Layer) -> layers.Layer | None:
        # "same" padding of max pooling in TensorFlow, which pads even sides at the end only.
        if layer.name == "pool1_pad":
            return layers.ZeroPadding2D(((0, 1), (0, 1)), name=layer.name)
        return None

    def anchors(self) -> np.ndarray:
        # Anchor centers are multiples of the stride.
        counts = [rows * columns * self.config.anchors_per_cell for rows, columns in self.config.grid_sizes]
        half_cells = np.repeat(np.array(STRIDES) / 2, counts)
        return (anchor_grid(self.config) - half_cells[:, None] - INCLUSIVE).astype(np.float32)

    def to_internal(self, boxes: Tensor) -> Tensor:
        return boxes - INCLUSIVE

    def to_pixels(self, boxes: Tensor) -> Tensor:
        return boxes + INCLUSIVE

    def window_inputs(self, letterboxes: list, count: int) -> dict[str, np.ndarray]:
        windows = np.tile(np.array([0, 0, 1, 1], np.float32) * (self.config.input_shape[0] - 1), (count, 1))
        for slot, letterbox in enumerate(letterboxes):
            windows[slot] = letterbox.window - INCLUSIVE
        return {"window": windows}

    def clip(self, boxes: Tensor, window: Tensor | None = None) -> Tensor:
        if window is None:
            height, width = self.config.input_shape
            return box_ops.clip(boxes, (height - 1, width - 1))
        ends = ops.reshape(window, (-1, *(1 for _ in boxes.shape[1:-1]), 4))
        low = ops.concatenate([ends[..., :2], ends[..., :2]], axis=-1)
        high = ops.concatenate([ends[..., 2:], ends[..., 2:]], axis=-1)
        return ops.maximum(ops.minimum(boxes, high), low)

    def propose(self, logits: Tensor, deltas: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
        logits, deltas = ops.stop_gradient(logits), ops.stop_gradient(deltas)
        count = min(BEST_ANCHORS, logits.shape[1])
        scores, index = ops.top_k(logits, count)
        boxes = self.clip(box_ops.decode(take_rows(deltas, index), ops.take(anchors, index, axis=0)))
        kept = tiled_suppression(boxes, ops.ones_like(scores, dtype="bool"), self.config.proposal_nms_iou)
        scores, index = ops.top_k(ops.where(kept, scores, -1e9), min(self.config.proposals, count))
        return take_rows(boxes, index), scores > -1e8

    def pool(self, levels: Sequence[Tensor], boxes: Tensor, size: int, images: Tensor | None = None) -> Tensor:
        return crop_and_resize(
            levels, boxes, self.config.input_shape[0], size, images, canonical_size=self.config.roi_canonical_size
        )

    def mask_background(self, probabilities: Tensor) -> Tensor:
        best = probabilities >= ops.max(probabilities, axis=-1, keepdims=True)
        return ops.where(best, probabilities, 0.0)[..., 1:]

    def num_nms_candidates(self, regions: int, classes: int) -> int:
        return regions  # no region has two classes

    def nonempty(self, boxes: np.ndarray) -> np.ndarray:
        rounded = np.around(boxes)
        return np.asarray((rounded[:, 2:] > rounded[:, :2]).all(axis=1))

    def paste(self, mask: np.ndarray, box: np.ndarray, height: int, width: int) -> Crop:
        """Paste the mask into whole pixels; the interpolation decreases to 0 outside the outermost cells."""
        left, top, right, bottom = np.around(box).astype(int)
        rows, columns = (_interpolate_zero(side, len(mask)) for side in (bottom - top, right - left))
        return Crop(top, left, rows @ mask.astype(np.float64) @ columns.T >= 0.5)


def _interpolate_zero(points: int, cells: int) -> np.ndarray:
    """Return bilinear weights (points, cells) at the centers of `points` pixels, with zeros outside the cells."""
    position = (np.arange(points) + 0.5) / points * cells - 0.5
    return np.maximum(1 - np.abs(position[:, None] - np.arange(cells)), 0)


MIN_SIDE = 1e-3
CANDIDATES = 2000
"""Torchvision has no limit for pairs of region and class above the threshold; more are rare."""


@keras.saving.register_keras_serializable("mrcnn")
class PaddedConv2D(folded.Conv2D):
    """3 × 3 convolution padded by one cell on every side, also with a stride, unlike "same"."""

    def call(self, inputs: Tensor) -> Tensor:
        return super().call(ops.pad(inputs, ((0, 0), (1, 1), (1, 1), (0, 0))))

    def compute_output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        batch, height, width, channels = input_shape
        return super().compute_output_shape((batch, height + 2, width + 2, channels))


class TorchvisionConventions(PaperConventions):
    """Conventions of torchvision's `maskrcnn_resnet50_fpn`.

    The 3 × 3 convolution of a block has the stride, anchors have integer corners, and RoIAlign is not aligned. The
    detections are equal for square images only: torchvision pads others to multiples of 32, this project to a square.
    """

    def replace_backbone_layer(self, layer: layers.Layer) -> layers.Layer | None:
        if re.fullmatch(r"conv[345]_block1_1_conv", layer.name):
            return folded.Conv2D.from_config({**layer.get_config(), "strides": (1, 1)})
        if re.fullmatch(r"conv[345]_block1_2_conv", layer.name):
            return PaddedConv2D.from_config({**layer.get_config(), "strides": (2, 2), "padding": "valid"})
        return None

    def anchors(self) -> np.ndarray:
        config, levels = self.config, []
        for stride, (rows, columns), sizes in zip(STRIDES, config.grid_sizes, config.anchor_sizes, strict=True):
            half = anchor_shapes(sizes, config.anchor_ratios) / 2
            base = np.round(np.concatenate([-half, half], axis=-1))
            y, x = np.meshgrid(np.arange(rows) * stride, np.arange(columns) * stride, indexing="ij")
            levels.append((np.stack([x, y, x, y], axis=-1)[:, :, None] + base).reshape(-1, 4))
        return np.concatenate(levels).astype(np.float32)

    def propose(self, logits: Tensor, deltas: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
        return propose(logits, deltas, anchors, self.config, min_side=MIN_SIDE)

    def pool(self, levels: Sequence[Tensor], boxes: Tensor, size: int, images: Tensor | None = None) -> Tensor:
        return roi_align(
            levels, boxes, STRIDES[:4], size, images, canonical_size=self.config.roi_canonical_size, aligned=False
        )

    def num_nms_candidates(self, regions: int, classes: int) -> int:
        return min(regions * classes, CANDIDATES)

    def paste(self, mask: np.ndarray, box: np.ndarray, height: int, width: int) -> Crop:
        """Pad the mask by a cell of zeros and resize it to whole pixels, the last of them inclusive."""
        cells = len(mask)
        padded = np.pad(mask.astype(np.float32), 1)
        center, half = (box[2:] + box[:2]) / 2, (box[2:] - box[:2]) / 2 * np.float32((cells + 2) / cells)
        left, top, right, bottom = np.concatenate([center - half, center + half]).astype(
            int
        )  # truncated as in torchvision
        columns, rows = max(right - left + 1, 1), max(bottom - top + 1, 1)
        whole = _interpolate_edge(rows, cells + 2) @ padded @ _interpolate_edge(columns, cells + 2).T > 0.5
        x1, y1, x2, y2 = max(left, 0), max(top, 0), min(right + 1, width), min(bottom + 1, height)
        return Crop(y1, x1, whole[y1 - top : y2 - top, x1 - left : x2 - left])


def _interpolate_edge(points: int, cells: int) -> np.ndarray:
    """Return bilinear weights (points, cells) at the centers of `points` pixels, with the edge cells outside."""
    position = np.clip((np.arange(points, dtype=np.float32) + 0.5) / points * cells - 0.5, 0, cells - 1)
    return np.maximum(1 - np.abs(position[:, None] - np.arange(cells, dtype=np.float32)), 0)


_CONVENTIONS = {
    "paper": PaperConventions,
    "matterport": MatterportConventions,
    "torchvision": TorchvisionConventions,
}


def make_conventions(config: ModelConfig | ClassifierConfig) -> PaperConventions:
    """Create the conventions named by `config.conventions`; those of a classifier serve its backbone alone."""
    return _CONVENTIONS[config.conventions](config)  # pyright: ignore[reportArgumentType]

"""Mask R-CNN (He et al. 2017) with a feature pyramid, as a Keras model of fixed shapes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import keras
import numpy as np

from mrcnn.backend import Tensor, ops
from mrcnn.config import ModelConfig
from mrcnn.data.io.images import read_image
from mrcnn.data.transforms.encoding import Letterbox, prepare_image
from mrcnn.data.transforms.letterbox import CenteredLetterbox
from mrcnn.detections import Detections
from mrcnn.geometry import boxes as box_ops
from mrcnn.geometry.masks import covered_fraction
from mrcnn.geometry.matching import take_rows
from mrcnn.geometry.nms import non_maximum_suppression
from mrcnn.inference.tiles import detect_in_tiles
from mrcnn.instance_masks import InstanceMasks
from mrcnn.models.backbones import build_backbone
from mrcnn.models.detector_base import DetectorBase, padded_batches
from mrcnn.models.mask_rcnn import losses
from mrcnn.models.mask_rcnn.conventions import PaperConventions
from mrcnn.models.mask_rcnn.fpn import build_pyramid
from mrcnn.models.mask_rcnn.heads import BOX_SCALE, build_box_head, build_mask_head
from mrcnn.models.mask_rcnn.rpn import build_proposal_head, flatten_levels, outputs_at
from mrcnn.models.mask_rcnn.targets import CROWD_COVERAGE, anchor_targets, region_targets
from mrcnn.models.pretrained.conventions import make_conventions
from mrcnn.models.training.data_parallel import random_uniform

MASK_SLOTS = (4, 8, 16, 32)
"""Numbers of regions per image for which a mask branch exists, up to half of the slots. Training compiles each branch
with its gradients and omits the first."""
MASK_CHUNK = 256
"""Largest number of regions whose masks are computed at once: one layer of the mask head holds 6 GB for 8,000."""


@keras.saving.register_keras_serializable("mrcnn")
class MaskRCNN(DetectorBase):
    """Detect, classify and segment instances.

    The input is a batch of `make_batch`, a dict. If it contains only `image` (B, H, W, C), the outputs are `boxes`
    (B, D, 4) in network pixels, `scores` (B, D), `class_ids` (B, D), 0 for an empty slot, and `masks` (B, D, m, m),
    probabilities that span each box. If it contains the instances, the outputs are the five losses, so `fit`,
    `evaluate` and `train_on_batch` need only batches.

    Args:
        config: architecture and shapes.
        seed: seed of the training samples; `keras.utils.set_random_seed` sets that of the initial weights.

    Example:
        >>> model = MaskRCNN(ModelConfig(class_names=("iso", "hypo"), image_size=256, backbone="small"))
        >>> model.compile(optimizer="sgd")
        >>> model.train_on_batch(make_batch(samples, model.config))
        >>> detections = model.detect([image])
    """

    config_class = ModelConfig
    config: ModelConfig

    def __init__(
        self,
        config: ModelConfig,
        *,
        seed: int = 0,
        dtype: str | keras.DTypePolicy | None = None,
        name: str = "mask_rcnn",
    ) -> None:
        super().__init__(config, seed=seed, dtype=dtype, name=name)
        self.conventions = make_conventions(config)
        with self.dtype_scope():
            self.backbone = build_backbone(config)
            self.pyramid = build_pyramid(config, [output.shape for output in self.backbone.outputs])
            self.proposal_head = build_proposal_head(config, self.conventions.proposal_channels)
            self.box_head = build_box_head(config)
            self.mask_head = build_mask_head(config)
        self.anchors = self.conventions.anchors()
        self.random = keras.random.SeedGenerator(seed)
        self.loss_means = [keras.metrics.Mean(name=loss) for loss in losses.LOSSES]
        self.built = True

    def call(self, batch: Mapping[str, Tensor], training: bool = False) -> dict[str, Tensor]:
        levels = self.pyramid(self.backbone(batch["image"], training=training), training=training)
        logits, deltas = flatten_levels([self.proposal_head(level) for level in levels], self.config)
        proposals, valid = self.conventions.propose(logits, deltas, ops.convert_to_tensor(self.anchors))
        # P6 is for proposals alone: no region is pooled from it (Lin et al. 2017, section 4.1).
        if "boxes" in batch:
            batch = {**batch, "boxes": self.conventions.to_internal(batch["boxes"])}
            return self._training_losses(levels, proposals, valid, batch, training)
        return self._detect(levels[:4], proposals, valid, batch.get("window"))

    def _pool(self, levels: Sequence[Tensor], boxes: Tensor, size: int) -> Tensor:
        """Pool regions (B, R, 4) into a flat batch (B · R, P, P, C)."""
        pooled = self.conventions.pool(levels, boxes, size)
        return ops.reshape(pooled, (-1, size, size, self.config.fpn_channels))

    def _per_class(self, values: Tensor, class_ids: Tensor, *, per_region: tuple[int, ...]) -> Tensor:
        """Select from values (B · R, classes or 1, …) those of the class (B, R; 1-based) of each region: (B, R, …)."""
        regions = class_ids.shape[1]
        if self.config.class_agnostic:
            return ops.reshape(values, (-1, regions, *per_region))
        index = ops.reshape(ops.maximum(class_ids - 1, 0), (-1, 1, *(1 for _ in per_region)))
        return ops.reshape(ops.take_along_axis(values, index, axis=1), (-1, regions, *per_region))

    def _training_losses(
        self,
        levels: Sequence[Tensor],
        proposals: Tensor,
        proposal_valid: Tensor,
        batch: Mapping[str, Tensor],
        training: bool,
    ) -> dict[str, Tensor]:
        config = self.config
        size = ops.shape(proposals)[0]
        anchors = ops.convert_to_tensor(self.anchors)
        noise = random_uniform((size, anchors.shape[0]), self.random)
        in_crowd = self._in_crowd(batch, anchors)
        sampled = anchor_targets(anchors, batch["boxes"], batch["valid"], noise, config, in_crowd)
        logits, deltas = outputs_at(self.proposal_head, levels, sampled.index, config)
        noise = random_uniform((size, proposals.shape[1] + config.max_instances), self.random)
        target = region_targets(proposals, proposal_valid, batch, noise, config, self._in_crowd(batch, proposals))
        regions, slots, levels = target.boxes.shape[1], config.roi_positives, levels[:4]

        class_logits, box_deltas = self.box_head(self._pool(levels, target.boxes, config.pool_size), training=training)
        class_logits = ops.reshape(class_logits, (-1, regions, len(config.class_names) + 1))
        box_deltas = ops.reshape(box_deltas, (-1, regions, box_deltas.shape[-1]))[:, :slots]
        positive_classes = target.class_ids[:, :slots]
        box_deltas = self._per_class(
            ops.reshape(box_deltas, (-1, box_deltas.shape[-1] // 4, 4)), positive_classes, per_region=(4,)
        )
        # The mask head computes only the slots for positives.
        mask_logits = self._mask_logits(levels, target.boxes[:, :slots], positive_classes, training)
        return {
            "rpn_class": losses.objectness(logits, sampled.positive, sampled.used),
            "rpn_box": losses.box_regression(deltas, sampled.deltas, sampled.positive, sampled.used, beta=1 / 9),
            "head_class": losses.classification(
                class_logits, target.class_ids, target.used, config.class_weights, config.focal_gamma
            ),
            "head_box": losses.box_regression(box_deltas, target.deltas, target.positive, target.used, beta=1.0),
            "head_mask": losses.mask_cross_entropy(mask_logits, target.masks, target.positive),
        }

    def _in_crowd(self, batch: Mapping[str, Tensor], boxes: Tensor) -> Tensor | None:
        """Return which internal boxes (A, 4) or (B, A, 4) lie in a crowd, (B, A) bool, or None without crowds."""
        if "ignore" not in batch:
            return None
        return covered_fraction(batch["ignore"], self.conventions.to_pixels(boxes)) >= CROWD_COVERAGE

    def _detect(
        self, levels: Sequence[Tensor], proposals: Tensor, proposal_valid: Tensor, window: Tensor | None = None
    ) -> dict[str, Tensor]:
        config, conventions = self.config, self.conventions
        regions, classes = proposals.shape[1], len(config.class_names)
        class_logits, deltas = self.box_head(self._pool(levels, proposals, config.pool_size))
        probabilities = ops.reshape(ops.softmax(class_logits, axis=-1), (-1, regions, classes + 1))
        scores = conventions.mask_background(probabilities)
        deltas = ops.reshape(deltas, (-1, regions, deltas.shape[-1] // 4, 4))
        boxes = conventions.clip(box_ops.decode(deltas, ops.expand_dims(proposals, 2), BOX_SCALE), window)
        boxes = ops.broadcast_to(boxes, (ops.shape(boxes)[0], regions, classes, 4))
        scores = ops.where(ops.expand_dims(proposal_valid, -1), scores, 0.0)
        boxes, scores, class_ids = self._best_per_class(boxes, scores)

        return {
            "boxes": ops.where(ops.expand_dims(class_ids > 0, -1), conventions.to_pixels(boxes), 0.0),
            "scores": scores,
            "class_ids": class_ids,
            "masks": ops.sigmoid(self._mask_logits(levels, boxes, class_ids)),
        }

    def _mask_logits(
        self, levels: Sequence[Tensor], boxes: Tensor, class_ids: Tensor, training: bool = False
    ) -> Tensor:
        """Return mask logits (B, D, m, m) of the class of each region; 0 for empty slots (class 0).

        The regions of all images are gathered and computed in one of a few sizes, because each size is compiled
        separately.
        """
        batch, slots, side = ops.shape(boxes)[0], boxes.shape[1], self.config.mask_size
        boxes, class_ids = ops.reshape(boxes, (-1, 4)), ops.reshape(class_ids, (-1,))
        exists = ops.cast(class_ids > 0, "int32")

        def of_regions(chosen: Tensor) -> Tensor:
            """Return the logits (R, m, m) of the regions at positions `chosen` (R,)."""
            regions, images = ops.take(boxes, chosen, axis=0), chosen // slots
            pooled = self.conventions.pool(levels, regions[:, None], self.config.mask_pool_size, images[:, None])
            logits = self.mask_head(ops.squeeze(pooled, 1), training=training)
            logits = self._per_class(
                ops.transpose(logits, (0, 3, 1, 2)), ops.take(class_ids, chosen)[:, None], per_region=(side, side)
            )
            return ops.squeeze(logits, 1)

        def of_first(count: int) -> Callable[[], Tensor]:
            def compute() -> Tensor:
                _, chosen = ops.top_k(exists, count * batch)
                chosen = ops.cast(chosen, "int32")
                if training or count <= MASK_CHUNK:
                    logits = of_regions(chosen)
                else:
                    # The first regions fill the last chunk.
                    filled = ops.concatenate([chosen, chosen[: -count % MASK_CHUNK * batch]])
                    logits = ops.map(of_regions, ops.reshape(filled, (-1, MASK_CHUNK)))
                    logits = ops.reshape(logits, (-1, side, side))[: count * batch]
                whole = ops.scatter(chosen[:, None], logits, (batch * slots, side, side))
                return ops.reshape(whole, (-1, slots, side, side))

            return compute

        sizes = [*(size for size in (MASK_SLOTS[1:] if training else MASK_SLOTS) if 2 * size <= slots), slots]
        total = ops.sum(exists)
        fits = [ops.cast(total > size * batch, "int32") for size in sizes[:-1]]
        return ops.switch(sum(fits, ops.cast(0, "int32")), [of_first(size) for size in sizes])

    def _best_per_class(self, boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Select the `max_detections` best boxes by suppression per class: (B, R, K, 4), (B, R, K) → (B, D, …)."""
        config = self.config
        total = scores.shape[1] * scores.shape[2]
        flat_scores = ops.reshape(scores, (-1, total))
        count = self.conventions.num_nms_candidates(*scores.shape[1:])
        top, index = ops.top_k(flat_scores, count)
        boxes = take_rows(ops.reshape(boxes, (-1, total, 4)), index)
        class_ids = ops.cast(index % scores.shape[2], "int32") + 1
        # An offset per class moves the boxes so far apart that those of two classes never overlap.
        offset = ops.expand_dims(ops.cast(class_ids, "float32"), -1) * (2.0 * max(config.input_shape))
        selected = non_maximum_suppression(boxes + offset, top >= config.score_threshold, config.nms_iou)
        top, index = ops.top_k(ops.where(selected, top, -1.0), min(config.max_detections, count))
        found = top >= 0
        return (
            ops.where(ops.expand_dims(found, -1), take_rows(boxes, index), 0.0),
            ops.where(found, top, 0.0),
            ops.where(found, take_rows(class_ids, index), 0),
        )

    @property
    def submodels(self) -> tuple[keras.Model, ...]:
        return self.backbone, self.pyramid, self.proposal_head, self.box_head, self.mask_head

    def detect(self, images: Sequence[np.ndarray | str | os.PathLike], *, batch_size: int = 4) -> list[Detections]:
        """Find the instances in images of any size.

        Args:
            images: arrays (H, W, C) or (H, W), uint8, uint16 or float32; or paths of image files.
            batch_size: images per batch. Zeros fill the last batch, so that one trace serves all.

        Returns:
            For each image the instances with a score of at least `config.score_threshold`, in pixels of the image. With
            `config.tile` they are found in tiles, and merged.
        """
        if self.config.tile is None:
            return self._detect_whole(images, batch_size)
        opened = [read_image(image) if isinstance(image, str | os.PathLike) else np.asarray(image) for image in images]
        find = partial(self._detect_whole, batch_size=batch_size)
        return detect_in_tiles(find, opened, self.config.tile, batch_size=batch_size)

    def _detect_whole(self, images: Sequence[np.ndarray | str | os.PathLike], batch_size: int) -> list[Detections]:
        if not self.compiled:
            self.compile()
        found = []
        for start in range(0, len(images), batch_size):
            part = [
                read_image(image) if isinstance(image, str | os.PathLike) else image
                for image in images[start : start + batch_size]
            ]
            prepared = [prepare_image(image, self.config) for image in part]
            ((batch, _),) = padded_batches([pixels for pixels, _ in prepared], batch_size)
            windows = self.conventions.window_inputs([letterbox for _, letterbox in prepared], batch_size)
            outputs = self.predict_on_batch({"image": batch, **windows})
            found += [
                to_detections({name: values[slot] for name, values in outputs.items()}, letterbox, self.conventions)
                for slot, (_, letterbox) in enumerate(prepared)
            ]
        return found


def to_detections(
    outputs: dict[str, np.ndarray], letterbox: Letterbox | CenteredLetterbox, conventions: PaperConventions
) -> Detections:
    """Convert the network outputs of one image, (D, …) each, to pixels of the original image of `letterbox`."""
    boxes = letterbox.to_original(np.asarray(outputs["boxes"])).astype(np.float32)
    limits = np.array([letterbox.width, letterbox.height] * 2, np.float32)
    boxes = np.clip(boxes, 0, limits)
    keep = (np.asarray(outputs["class_ids"]) > 0) & conventions.nonempty(boxes)
    boxes = boxes[keep]
    height, width = letterbox.height, letterbox.width
    squares = np.asarray(outputs["masks"])[keep]
    crops = [conventions.paste(mask, box, height, width).tight() for mask, box in zip(squares, boxes, strict=True)]
    return Detections(
        boxes=boxes,
        scores=np.asarray(outputs["scores"])[keep].astype(np.float32),
        class_ids=np.asarray(outputs["class_ids"])[keep].astype(np.int32),
        masks=InstanceMasks(height, width, crops),
    )

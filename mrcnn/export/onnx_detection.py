"""Build the ONNX graph of `MaskRCNN._detect` with the RoiAlign and NonMaxSuppression operators of ONNX."""

from __future__ import annotations

import math

import numpy as np

from mrcnn.config import STRIDES
from mrcnn.export.onnx_graph import Graph, Value
from mrcnn.export.onnx_layers import convert
from mrcnn.geometry.boxes import MAX_LOG_GROWTH
from mrcnn.geometry.roi_align import CANONICAL_LEVEL, FIRST_LEVEL
from mrcnn.models import MaskRCNN
from mrcnn.models.mask_rcnn.heads import BOX_SCALE
from mrcnn.models.mask_rcnn.rpn import MIN_SIDE

SAMPLING = 2
"""Samples per side of a bin, as in `mrcnn.geometry.roi_align`."""
NOTHING = -1e9
"""Score of invalid boxes; NonMaxSuppression drops boxes below `NOTHING / 10`."""


def detect(model: MaskRCNN, planes: Value, graph: Graph) -> dict[str, Value]:
    """Add the detection of `planes` (B, C, S, S) to the graph.

    Returns:
        `boxes` (B, N, 4) in network pixels, `scores` and `class_ids` (B, N), `masks` (B, N, m, m) and `count` (B,),
        where N is the largest count.
    """
    levels = convert(model.pyramid, convert(model.backbone, [planes], graph), graph)
    proposals, valid, regions = _propose(model, levels, graph)
    levels = levels[:4]
    boxes, scores, class_ids = _classify(model, levels, proposals, valid, regions, graph)
    found = graph.cast(class_ids > 0, "int32")
    count = graph.sum(found, axis=1)
    slots = graph.cast(graph.max(count, axis=0), "int64")
    boxes, scores, class_ids, found = (graph.slice(each, 0, slots, 1) for each in (boxes, scores, class_ids, found))
    masks = _masks(model, levels, boxes, class_ids, found, graph)
    return {"boxes": boxes, "scores": scores, "class_ids": class_ids, "masks": masks, "count": count}


def _propose(model: MaskRCNN, levels: list[Value], graph: Graph) -> tuple[Value, Value, int]:
    """Add `mrcnn.models.mask_rcnn.rpn.propose`: boxes (B, R, 4), best first, valid (B, R), and R."""
    config, anchors = model.config, model.anchors
    level_boxes, level_scores, start, total = [], [], 0, 0
    for level, (rows, columns) in zip(levels, config.grid_sizes, strict=True):
        count = rows * columns * config.anchors_per_cell
        logits, deltas = (graph.transpose(each, (0, 2, 3, 1)) for each in convert(model.proposal_head, [level], graph))
        keep = min(config.proposals_per_level, count)
        scores, index = graph.top_k(graph.reshape(logits, (-1, count)), keep)
        references = graph.take(graph.value(anchors[start : start + count], "float32"), index, axis=0)
        deltas = graph.rows(graph.reshape(deltas, (-1, count, 4)), index)
        boxes = _clip(_decode(deltas, references, (1.0, 1.0, 1.0, 1.0), graph), config.input_shape, graph)
        x1, y1, x2, y2 = (graph.take(boxes, side, axis=2) for side in range(4))
        wide = graph.logical_and(x2 - x1 >= MIN_SIDE, y2 - y1 >= MIN_SIDE)
        level_boxes.append(boxes)
        level_scores.append(_suppress(boxes, graph.where(wide, scores, NOTHING), config.proposal_nms_iou, graph))
        start, total = start + count, total + keep
    regions = min(config.proposals, total)
    scores, index = graph.top_k(graph.concatenate(level_scores, 1), regions)
    return graph.rows(graph.concatenate(level_boxes, 1), index), scores > NOTHING / 10, regions


def _classify(
    model: MaskRCNN, levels: list[Value], proposals: Value, valid: Value, regions: int, graph: Graph
) -> tuple[Value, Value, Value]:
    """Add classification and suppression: boxes (B, D, 4), scores and class ids (B, D), best first."""
    config, classes = model.config, len(model.config.class_names)
    flat = graph.reshape(proposals, (-1, 4))
    batch = graph.arange(graph.shape(flat)[0], "int64") / regions
    pooled, order = _pool(model, levels, flat, batch, config.pool_size, graph)
    logits, deltas = (_scatter_rows(each, order, graph) for each in convert(model.box_head, [pooled], graph))
    scores = graph.reshape(graph.op("Softmax", logits, axis=-1), (-1, regions, classes + 1))
    scores = graph.where(graph.expand_dims(valid, -1), graph.slice(scores, 1, classes + 1, 2), 0.0)
    deltas = graph.reshape(deltas, (-1, regions, 1 if config.class_agnostic else classes, 4))
    boxes = _clip(_decode(deltas, graph.expand_dims(proposals, 2), BOX_SCALE, graph), config.input_shape, graph)
    if config.class_agnostic:
        boxes = graph.op("Expand", boxes, np.array([1, 1, classes, 1]))

    total, candidates = regions * classes, model.conventions.num_nms_candidates(regions, classes)
    top, index = graph.top_k(graph.reshape(scores, (-1, total)), candidates)
    boxes = graph.rows(graph.reshape(boxes, (-1, total, 4)), index)
    class_ids = graph.cast(graph.op("Mod", index, classes), "int32") + 1
    # As in the model: boxes are shifted per class so that boxes of two classes never overlap.
    apart = graph.expand_dims(graph.cast(class_ids, "float32"), -1) * (2.0 * max(config.input_shape))
    eligible = graph.where(top >= config.score_threshold, top, NOTHING)
    kept = _suppress(boxes + apart, eligible, config.nms_iou, graph)
    top, index = graph.top_k(kept, min(config.max_detections, candidates))
    found = top > NOTHING / 10
    return (
        graph.where(graph.expand_dims(found, -1), graph.rows(boxes, index), 0.0),
        graph.where(found, top, 0.0),
        graph.where(found, graph.rows(class_ids, index), 0),
    )


def _masks(model: MaskRCNN, levels: list[Value], boxes: Value, class_ids: Value, found: Value, graph: Graph) -> Value:
    """Add mask probabilities (B, N, m, m), 0 in the padding."""
    config, side = model.config, model.config.mask_size
    flat = graph.reshape(boxes, (-1, 4))
    here = graph.op("Squeeze", graph.op("NonZero", graph.reshape(found, (-1,)), dtype="int64"), np.array([0]))
    slots = graph.shape(boxes)[1]
    batch = here / graph.maximum(slots, 1)
    pooled, order = _pool(model, levels, graph.take(flat, here, axis=0), batch, config.mask_pool_size, graph)
    (logits,) = convert(model.mask_head, [pooled], graph)
    here = graph.take(here, order, axis=0)
    if config.class_agnostic:
        logits = graph.reshape(logits, (-1, side, side))
    else:
        of_class = graph.take(graph.reshape(class_ids, (-1,)), here, axis=0) - 1
        logits = graph.op("GatherND", logits, graph.expand_dims(graph.cast(of_class, "int64"), -1), batch_dims=1)
    empty = graph.zeros((graph.shape(flat)[0], side, side), "float32")
    masks = graph.op("ScatterND", empty, graph.expand_dims(here, -1), graph.op("Sigmoid", logits))
    return graph.reshape(masks, (-1, slots, side, side))


def _pool(
    model: MaskRCNN, levels: list[Value], boxes: Value, batch: Value, size: int, graph: Graph
) -> tuple[Value, Value]:
    """Add `mrcnn.geometry.roi_align.roi_align` of boxes (M, 4) in the images `batch` (M,), level by level.

    Returns:
        (M, C, size, size), and the index (M,) int64 of each row's box in `boxes`.
    """
    sides = [graph.maximum(graph.take(boxes, i + 2, axis=1) - graph.take(boxes, i, axis=1), 0.0) for i in (0, 1)]
    side = graph.sqrt(graph.maximum(sides[0] * sides[1], 1e-6))
    exponent = graph.op("Log", side / model.config.roi_canonical_size) / math.log(2)
    # As there: the small addend assigns a box of exactly the canonical size to its level despite rounding.
    level = graph.floor(exponent + CANONICAL_LEVEL + 1e-6) - FIRST_LEVEL
    level = graph.cast(graph.minimum(graph.maximum(level, 0.0), len(levels) - 1.0), "int32")
    pooled, order = [], []
    for number, (features, stride) in enumerate(zip(levels, STRIDES, strict=False)):
        here = graph.op("NonZero", graph.op("Equal", level, number, dtype="bool"), dtype="int64")
        here = graph.op("Squeeze", here, np.array([0]))
        pooled.append(
            graph.op(
                "RoiAlign",
                features,
                graph.take(boxes, here, axis=0),
                graph.take(batch, here, axis=0),
                coordinate_transformation_mode="half_pixel",
                output_height=size,
                output_width=size,
                sampling_ratio=SAMPLING,
                spatial_scale=1.0 / stride,
            )
        )
        order.append(here)
    return graph.concatenate(pooled, 0), graph.concatenate(order, 0)


def _scatter_rows(rows: Value, order: Value, graph: Graph) -> Value:
    """Add the inverse of the gather with the indices `order` (M,) for rows (M, …)."""
    empty = graph.full(graph.shape(rows), 0, rows.dtype)
    return graph.op("ScatterND", empty, graph.expand_dims(order, -1), rows, dtype=rows.dtype)


def _suppress(boxes: Value, scores: Value, iou: float, graph: Graph) -> Value:
    """Add non-maximum suppression: scores (B, K) of boxes (B, K, 4), `NOTHING` for suppressed boxes."""
    count = graph.shape(scores)[1]
    limits = (np.array([iou], np.float32), np.array([NOTHING / 10], np.float32))
    chosen = graph.op(
        "NonMaxSuppression", boxes, graph.expand_dims(scores, 1), graph.sizes([count]), *limits, dtype="int64"
    )
    # Rows of (image, class, box).
    places = graph.take(chosen, np.array([0, 2]), axis=1)
    nothing = graph.full(graph.shape(scores), NOTHING, "float32")
    return graph.op("ScatterND", nothing, places, graph.op("GatherND", scores, places))


def _decode(deltas: Value, references: Value, scale: tuple[float, ...], graph: Graph) -> Value:
    """Add `mrcnn.geometry.boxes.decode`: (…, 4)."""
    dx, dy, dw, dh = (graph.take(deltas, i, axis=-1) / factor for i, factor in enumerate(scale))
    x1, y1, x2, y2 = (graph.take(references, i, axis=-1) for i in range(4))
    width, height = graph.maximum(x2 - x1, 1e-3), graph.maximum(y2 - y1, 1e-3)
    x, y = x1 + width / 2 + dx * width, y1 + height / 2 + dy * height
    half_width, half_height = (
        side * graph.op("Exp", graph.minimum(growth, MAX_LOG_GROWTH)) / 2
        for side, growth in ((width, dw), (height, dh))
    )
    return graph.stack([x - half_width, y - half_height, x + half_width, y + half_height], -1)


def _clip(boxes: Value, shape: tuple[int, int], graph: Graph) -> Value:
    """Add `mrcnn.geometry.boxes.clip`."""
    height, width = shape
    return graph.minimum(graph.maximum(boxes, 0.0), np.array([width, height] * 2, np.float32))

"""From feature maps to detections in ONNX: what `MaskRCNN._detect` does, with ONNX's own RoIAlign and suppression."""

from __future__ import annotations

import math

import numpy as np

from mrcnn.config import STRIDES
from mrcnn.export.onnx_graph import Graph, Value
from mrcnn.export.onnx_layers import convert
from mrcnn.geometry.boxes import MAX_LOG_GROWTH
from mrcnn.geometry.roi_align import CANONICAL_LEVEL, FIRST_LEVEL
from mrcnn.model import MaskRCNN
from mrcnn.model.heads import BOX_SCALE
from mrcnn.model.proposals import MIN_SIDE

SAMPLING = 2
"""Samples along a side of a bin, as in `mrcnn.geometry.roi_align`."""
NOTHING = -1e9
"""Score of what is not eligible; ONNX's suppression leaves out what is below `NOTHING / 10`."""


def detect(model: MaskRCNN, planes: Value, graph: Graph) -> dict[str, Value]:
    """`boxes` (B, N, 4) in network pixels, `scores` and `class_ids` (B, N), `masks` (B, N, m, m), `count` (B,) of
    `planes` (B, C, S, S), N being the largest count."""
    levels = convert(model.pyramid, convert(model.backbone, [planes], graph), graph)
    proposals, valid = _propose(model, levels, graph)
    levels = levels[:4]
    boxes, scores, class_ids = _classify(model, levels, proposals, valid, graph)
    found = graph.cast(class_ids > 0, "int32")
    count = graph.sum(found, axis=1)
    slots = graph.cast(graph.max(count, axis=0), "int64")
    boxes, scores, class_ids, found = (graph.slice(each, 0, slots, 1) for each in (boxes, scores, class_ids, found))
    masks = _masks(model, levels, boxes, class_ids, found, graph)
    return {"boxes": boxes, "scores": scores, "class_ids": class_ids, "masks": masks, "count": count}


def _propose(model: MaskRCNN, levels: list[Value], graph: Graph) -> tuple[Value, Value]:
    """As `mrcnn.model.proposals.propose`: boxes (B, R, 4), best first, and valid (B, R)."""
    config, anchors = model.config, model.anchors
    level_boxes, level_scores, start, total = [], [], 0, 0
    for level, cells in zip(levels, config.grid_sizes, strict=True):
        count = cells * cells * config.anchors_per_cell
        logits, deltas = (graph.transpose(each, (0, 2, 3, 1)) for each in convert(model.proposal_head, [level], graph))
        keep = min(config.proposals_per_level, count)
        scores, index = graph.top_k(graph.reshape(logits, (-1, count)), keep)
        references = graph.take(graph.value(anchors[start : start + count], "float32"), index, axis=0)
        deltas = graph.rows(graph.reshape(deltas, (-1, count, 4)), index)
        boxes = _clip(_decode(deltas, references, (1.0, 1.0, 1.0, 1.0), graph), config.image_size, graph)
        x1, y1, x2, y2 = (graph.take(boxes, side, axis=2) for side in range(4))
        wide = graph.logical_and(x2 - x1 >= MIN_SIDE, y2 - y1 >= MIN_SIDE)
        level_boxes.append(boxes)
        level_scores.append(_suppress(boxes, graph.where(wide, scores, NOTHING), config.proposal_nms_iou, graph))
        start, total = start + count, total + keep
    scores, index = graph.top_k(graph.concatenate(level_scores, 1), min(config.proposals, total))
    return graph.rows(graph.concatenate(level_boxes, 1), index), scores > NOTHING / 10


def _classify(model: MaskRCNN, levels: list[Value], proposals: Value, valid: Value, graph: Graph):
    """Boxes (B, D, 4), scores and class ids (B, D), best first, of what stays of the proposals."""
    config, classes = model.config, len(model.config.class_names)
    regions = min(config.proposals, sum(min(config.proposals_per_level, each) for each in _level_counts(model)))
    pooled, order = _pool(model, levels, graph.reshape(proposals, (-1, 4)), regions, config.pool_size, graph)
    logits, deltas = (_put_back(each, order, graph) for each in convert(model.box_head, [pooled], graph))
    scores = graph.reshape(graph.op("Softmax", logits, axis=-1), (-1, regions, classes + 1))
    scores = graph.where(graph.expand_dims(valid, -1), graph.slice(scores, 1, classes + 1, 2), 0.0)
    deltas = graph.reshape(deltas, (-1, regions, 1 if config.class_agnostic else classes, 4))
    boxes = _clip(_decode(deltas, graph.expand_dims(proposals, 2), BOX_SCALE, graph), config.image_size, graph)
    if config.class_agnostic:
        boxes = graph.op("Expand", boxes, np.array([1, 1, classes, 1]))

    total, candidates = regions * classes, model.conventions.candidates(regions, classes)
    top, index = graph.top_k(graph.reshape(scores, (-1, total)), candidates)
    boxes = graph.rows(graph.reshape(boxes, (-1, total, 4)), index)
    class_ids = graph.cast(graph.op("Mod", index, classes), "int32") + 1
    # As in the model: boxes of two classes are moved so far apart that they never overlap.
    apart = graph.expand_dims(graph.cast(class_ids, "float32"), -1) * (2.0 * config.image_size)
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
    """Probabilities (B, N, m, m) for what was found, 0 in the empty slots."""
    config, side = model.config, model.config.mask_size
    flat = graph.reshape(boxes, (-1, 4))
    here = graph.op("Squeeze", graph.op("NonZero", graph.reshape(found, (-1,)), dtype="int64"), np.array([0]))
    slots = graph.shape(boxes)[1]
    batch = graph.op("Div", here, slots)
    pooled, order = _pool_rows(
        model, levels, graph.take(flat, here, axis=0), batch, config.mask_pool_size, graph
    )
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

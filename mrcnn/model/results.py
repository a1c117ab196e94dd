"""Network outputs to detections in the image that they were asked for, on the host."""

from __future__ import annotations

import numpy as np

from mrcnn.data.batches import Letterbox
from mrcnn.detections import Detections
from mrcnn.model.conventions import Paper


def to_detections(outputs: dict[str, np.ndarray], letterbox: Letterbox, conventions: Paper) -> Detections:
    """One image's network outputs, (D, …) each, in the pixels of the image that `letterbox` came from."""
    boxes = letterbox.to_original(np.asarray(outputs["boxes"])).astype(np.float32)
    limits = np.array([letterbox.width, letterbox.height] * 2, np.float32)
    boxes = np.clip(boxes, 0, limits)
    keep = (np.asarray(outputs["class_ids"]) > 0) & conventions.visible(boxes)
    boxes = boxes[keep]
    masks = np.zeros((len(boxes), letterbox.height, letterbox.width), bool)
    for slot, (mask, box) in enumerate(zip(np.asarray(outputs["masks"])[keep], boxes, strict=True)):
        masks[slot] = conventions.paste(mask, box, letterbox.height, letterbox.width)
    return Detections(
        boxes=boxes,
        scores=np.asarray(outputs["scores"])[keep].astype(np.float32),
        class_ids=np.asarray(outputs["class_ids"])[keep].astype(np.int32),
        masks=masks,
    )

"""Network outputs to detections in the image that they were asked for, on the host."""

from __future__ import annotations

import numpy as np

from mrcnn.data.transforms.encoding import Letterbox
from mrcnn.detections import Detections
from mrcnn.instance_masks import InstanceMasks
from mrcnn.models.mask_rcnn.conventions import PaperConventions


def to_detections(outputs: dict[str, np.ndarray], letterbox: Letterbox, conventions: PaperConventions) -> Detections:
    """One image's network outputs, (D, …) each, in the pixels of the image that `letterbox` came from."""
    boxes = letterbox.to_original(np.asarray(outputs["boxes"])).astype(np.float32)
    limits = np.array([letterbox.width, letterbox.height] * 2, np.float32)
    boxes = np.clip(boxes, 0, limits)
    keep = (np.asarray(outputs["class_ids"]) > 0) & conventions.visible(boxes)
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

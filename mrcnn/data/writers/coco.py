"""Write COCO files with run-length masks: `annotations.json` beside `images/`.

`patient_id`, `spacing_mm` and `label` are additional fields of an image, as the reader takes them; detections of a
model have a `score`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mrcnn.data.writers.form import Form, WrittenImage
from mrcnn.instance_masks import InstanceMasks


def write(images: Sequence[WrittenImage], class_names: Sequence[str], folder: Path) -> list[str]:
    """Write `annotations.json`."""
    entries, annotations = [], []
    for number, image in enumerate(images, start=1):
        _, height, width = image.masks.shape
        entry = {"id": number, "file_name": image.path, "height": height, "width": width}
        entry |= {} if image.patient_id is None else {"patient_id": image.patient_id}
        entry |= {} if image.spacing_mm is None else {"spacing_mm": list(image.spacing_mm)}
        entry |= {} if image.label is None else {"label": image.label}
        entries.append(entry)
        scores = [{}] * len(image.masks) if image.scores is None else [{"score": float(s)} for s in image.scores]
        for annotation, score in zip(_annotations(image.masks, image.class_ids, 0), scores, strict=True):
            annotations.append({"id": len(annotations) + 1, "image_id": number, **annotation, **score})
        if image.crowds is not None:
            for annotation in _annotations(image.crowds, image.crowd_ids, 1):
                annotations.append({"id": len(annotations) + 1, "image_id": number, **annotation})
    categories = [{"id": number, "name": name} for number, name in enumerate(class_names, start=1)]
    content = {"images": entries, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(content), encoding="utf-8")
    return []


def _annotations(masks: InstanceMasks, class_ids: Sequence[int] | np.ndarray, iscrowd: int) -> Iterator[dict[str, Any]]:
    _, height, width = masks.shape
    boxes, areas = masks.boxes.tolist(), masks.areas.tolist()
    for class_id, run, (x1, y1, x2, y2), area in zip(class_ids, masks.to_rle(), boxes, areas, strict=True):
        yield {
            "category_id": int(class_id),
            "iscrowd": iscrowd,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": area,
            "segmentation": {"size": [height, width], "counts": run.decode("ascii")},
        }


FORM = Form(
    "COCO", write, lambda name, split: f"images/{name}", frozenset({"patient_id", "spacing_mm", "label", "crowds"})
)

"""Write COCO files with run-length masks: `annotations.json` beside `images/`.

`patient_id`, `spacing_mm` and `label` are additional fields of an image, as the reader takes them; detections of a
model have a `score`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mrcnn.data.writers.form import Form, WrittenImage
from mrcnn.instance_masks import InstanceMasks


class CocoFile:
    """Collect the images and annotations of a COCO file, with ids from 1.

    Args:
        class_names: names of the class ids from 1.
        description: text about the file, or None.

    Attributes:
        content: the file, for JSON.
    """

    def __init__(self, class_names: Sequence[str], description: str | None = None) -> None:
        categories = [{"id": number, "name": name} for number, name in enumerate(class_names, start=1)]
        self.content: dict[str, Any] = {} if description is None else {"info": {"description": description}}
        self.content |= {"images": [], "annotations": [], "categories": categories}

    def add_image(self, file_name: str, height: int, width: int, **fields: Any) -> None:
        """Add an image; fields that are None are left out."""
        entry = {"id": len(self.content["images"]) + 1, "file_name": file_name, "height": height, "width": width}
        self.content["images"].append(entry | {key: value for key, value in fields.items() if value is not None})

    def add(self, class_id: int, box: Sequence[float], area: float, segmentation: Any, **fields: Any) -> None:
        """Add an annotation of the last image, with its box (x, y, width, height)."""
        annotations = self.content["annotations"]
        entry = {"id": len(annotations) + 1, "image_id": len(self.content["images"]), "category_id": int(class_id)}
        entry |= {"iscrowd": 0, "bbox": list(box), "area": area, "segmentation": segmentation}
        annotations.append(entry | fields)

    def add_masks(
        self,
        masks: InstanceMasks,
        class_ids: Sequence[int] | np.ndarray,
        scores: np.ndarray | None = None,
        *,
        iscrowd: int = 0,
    ) -> None:
        """Add masks of the last image as run lengths."""
        _, height, width = masks.shape
        found = zip(class_ids, masks.to_rle(), masks.boxes.tolist(), masks.areas.tolist(), strict=True)
        for index, (class_id, run, (x1, y1, x2, y2), area) in enumerate(found):
            segmentation = {"size": [height, width], "counts": run.decode("ascii")}
            score = {} if scores is None else {"score": float(scores[index])}
            self.add(class_id, (x1, y1, x2 - x1, y2 - y1), area, segmentation, iscrowd=iscrowd, **score)


def write(images: Sequence[WrittenImage], class_names: Sequence[str], folder: Path) -> list[str]:
    """Write `annotations.json`."""
    file = CocoFile(class_names)
    for image in images:
        _, height, width = image.masks.shape
        spacing = None if image.spacing_mm is None else list(image.spacing_mm)
        file.add_image(image.path, height, width, patient_id=image.patient_id, spacing_mm=spacing, label=image.label)
        file.add_masks(image.masks, image.class_ids, image.scores)
        if image.crowds is not None:
            file.add_masks(image.crowds, image.crowd_ids, iscrowd=1)
    (folder / "annotations.json").write_text(json.dumps(file.content), encoding="utf-8")
    return []


FORM = Form(
    "COCO", write, lambda name, split: f"images/{name}", frozenset({"patient_id", "spacing_mm", "label", "crowds"})
)

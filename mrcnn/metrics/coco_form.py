"""The evaluated images in COCO's forms: a data set with the truth, and a result list with the detections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mrcnn.metrics.case import Case
from mrcnn.metrics.rle import areas, as_json, coco_boxes


def ground_truth(cases: Sequence[Case], class_names: Sequence[str]) -> dict[str, Any]:
    """COCO data set, ready for JSON: masks as run lengths, `iscrowd` 1 for crowds, ids from 1 in the order given."""
    images, annotations = [], []
    for image_id, case in enumerate(cases, start=1):
        images.append(
            {
                "id": image_id,
                "file_name": case.source,
                "height": int(case.height),
                "width": int(case.width),
                "patient_id": case.patient_id,
            }
        )
        masks, classes = [*case.truth, *case.crowds], [*case.truth_classes, *case.crowd_classes]
        boxes, pixels = coco_boxes(masks).tolist(), areas(masks).tolist()
        for number, (class_id, mask, box, area) in enumerate(zip(classes, masks, boxes, pixels, strict=True)):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": int(class_id),
                    "bbox": box,
                    "area": area,
                    "iscrowd": int(number >= len(case.truth)),
                    "segmentation": as_json(mask),
                }
            )
    categories = [{"id": class_id, "name": name} for class_id, name in enumerate(class_names, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def results(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """COCO results, ready for JSON, with the detection's own box and mask.

    pycocotools sizes a result that has a box by that box: remove `bbox` before `loadRes` to repeat mask AP by size.
    """
    return [
        {
            "image_id": image_id,
            "category_id": int(class_id),
            "score": float(score),
            "bbox": box,
            "segmentation": as_json(mask),
        }
        for image_id, case in enumerate(cases, start=1)
        for class_id, score, box, mask in zip(
            case.classes, case.scores, case.boxes.tolist(), case.predicted, strict=True
        )
    ]

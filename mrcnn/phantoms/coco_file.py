"""Samples as a folder of PNG files and a COCO JSON of the kind that makesense.ai exports."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from skimage.measure import approximate_polygon, find_contours

from mrcnn.data.sample import Sample

_TOLERANCE = 0.35  # pixels that a polygon may stray from the traced border


def write_coco(samples: Iterable[Sample], class_names: Sequence[str], folder: Path, description: str) -> None:
    """Writes `images/<source>` and `annotations.json` into an existing, empty folder.

    Image ids count from 1 and annotation ids from 0, as makesense.ai has them; `patient_id` and `spacing_mm` stand on
    each image beside its own fields. Every mask must be one connected piece without holes.
    """
    (folder / "images").mkdir()
    images, annotations = [], []
    for image_id, sample in enumerate(samples, start=1):
        height, width = sample.image.shape[:2]
        Image.fromarray(sample.image[..., 0]).save(folder / "images" / sample.source)
        image = {"id": image_id, "width": width, "height": height, "file_name": sample.source}
        image |= {"patient_id": sample.patient_id, "spacing_mm": list(sample.spacing_mm)}
        images.append(image)
        for mask, class_id in zip(sample.masks, sample.class_ids, strict=True):
            polygon = trace(mask)
            annotation = {"id": len(annotations), "iscrowd": 0, "image_id": image_id, "category_id": int(class_id)}
            annotation |= {"segmentation": [polygon.ravel().tolist()], **_measure(polygon)}
            annotations.append(annotation)
    content = {
        "info": {"description": description},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": index, "name": name} for index, name in enumerate(class_names, start=1)],
    }
    (folder / "annotations.json").write_text(json.dumps(content), encoding="utf-8")


def trace(mask: np.ndarray) -> np.ndarray:
    """(P, 2) corners (x, y) of a polygon around the one piece of a mask, in pixels from the image's corner."""
    border = max(find_contours(np.pad(mask, 1).astype(np.float32), 0.5), key=len)
    corners = approximate_polygon(border, _TOLERANCE)[:-1]
    # find_contours counts from pixel centres, COCO from pixel corners: half a pixel more, less the one of padding.
    return np.round(corners[:, ::-1] - 0.5, 2)


def _measure(polygon: np.ndarray) -> dict:
    """bbox [x, y, width, height] and area of a polygon, by the shoelace formula."""
    low, high = polygon.min(0), polygon.max(0)
    x, y = polygon.T
    area = abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
    return {"bbox": [round(float(side), 2) for side in (*low, *(high - low))], "area": round(float(area), 2)}

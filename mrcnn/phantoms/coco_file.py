"""Samples as a folder of PNG files and a COCO JSON of the kind that makesense.ai exports."""

from __future__ import annotations

import csv
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


def write_film_files(samples: Iterable[Sample], folder: Path) -> None:
    """Writes `images/`, `masks/` (one mask of all lungs, 0 and 255) and `index.csv` into an existing, empty folder."""
    for name in ("images", "masks"):
        (folder / name).mkdir()
    with (folder / "index.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["image", "mask", "patient_id", "view"])
        for sample in samples:
            image, mask = f"images/{sample.source}", f"masks/{sample.source}"
            Image.fromarray(sample.image[..., 0]).save(folder / image)
            Image.fromarray(sample.masks.any(axis=0).astype(np.uint8) * 255).save(folder / mask)
            table.writerow([image, mask, sample.patient_id, "PA"])


FOLDERS = ("train", "validation")
NAME = "via_region_data.json"
ATTRIBUTE = "class"
_EVERY = 6  # one in so many goes to validation


def write_via(samples: Iterable[Sample], class_names: Sequence[str], folder: Path, description: str) -> None:
    """Writes `train` and `validation`, each with its images and `via_region_data.json`, into an existing, empty folder.

    Regions are polygons in a dict, as VIA 1 has them, whose attribute `class` is the class; the form knows no patient
    but by the file name, and no size of a pixel. Every mask must be one connected piece without holes.
    """
    entries: dict[str, dict] = {name: {} for name in FOLDERS}
    for name in FOLDERS:
        (folder / name).mkdir()
    for index, sample in enumerate(samples):
        part = FOLDERS[index % _EVERY == _EVERY - 1]
        path = folder / part / sample.source
        Image.fromarray(sample.image[..., 0]).save(path)
        regions = {}
        for mask, class_id in zip(sample.masks, sample.class_ids, strict=True):
            x, y = trace(mask).T.tolist()
            regions[str(len(regions))] = {
                "shape_attributes": {"name": "polygon", "all_points_x": x, "all_points_y": y},
                "region_attributes": {ATTRIBUTE: class_names[class_id - 1]},
            }
        size = path.stat().st_size
        entry = {"fileref": "", "size": size, "filename": sample.source, "base64_img_data": ""}
        entry |= {"file_attributes": {"description": description}, "regions": regions}
        entries[part][f"{sample.source}{size}"] = entry
    for name, content in entries.items():
        (folder / name / NAME).write_text(json.dumps(content), encoding="utf-8")

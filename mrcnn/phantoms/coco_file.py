"""Write samples as PNG files with annotations in COCO or VIA format, or with mask files."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from skimage.measure import approximate_polygon, find_contours

from mrcnn.data.sample import Sample
from mrcnn.data.writers.coco import CocoFile

_TOLERANCE = 0.35  # maximum distance in pixels between polygon and traced border


def write_coco(samples: Iterable[Sample], class_names: Sequence[str], folder: Path, description: str) -> None:
    """Write `images/<source>` and `annotations.json` into an existing, empty folder.

    `patient_id` and `spacing_mm` are additional fields of an image. Masks are polygons, as in exports of makesense.ai:
    every mask must be one connected component without holes.
    """
    (folder / "images").mkdir()
    file = CocoFile(class_names, description)
    for sample in samples:
        Image.fromarray(sample.image[..., 0]).save(folder / "images" / sample.source)
        facts = {"patient_id": sample.patient_id, "spacing_mm": list(sample.spacing_mm or ())}
        file.add_image(sample.source, *sample.image.shape[:2], **facts)
        for mask, class_id in zip(sample.masks, sample.class_ids, strict=True):
            polygon = trace(mask)
            low, high = polygon.min(0), polygon.max(0)
            box = [round(float(side), 2) for side in (*low, *(high - low))]
            file.add(class_id, box, int(mask.sum()), [polygon.ravel().tolist()])
    (folder / "annotations.json").write_text(json.dumps(file.content), encoding="utf-8")


def trace(mask: np.ndarray) -> np.ndarray:
    """Trace the single component of a mask as a polygon (P, 2) of (x, y), in pixels from the image corner."""
    border = max(find_contours(np.pad(mask, 1).astype(np.float32), 0.5), key=len)
    corners = approximate_polygon(border, _TOLERANCE)[:-1]
    # find_contours uses pixel centers, COCO pixel corners: add half a pixel, subtract one of padding.
    return np.round(corners[:, ::-1] - 0.5, 2)


def write_film_files(samples: Iterable[Sample], folder: Path) -> None:
    """Write `images/`, `masks/` (one mask of all lungs, 0 and 255) and `index.csv` into an existing, empty folder."""
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
_EVERY = 6  # one in six images is for validation


def write_via(samples: Iterable[Sample], class_names: Sequence[str], folder: Path, description: str) -> None:
    """Write `train` and `validation`, each with images and `via_region_data.json`, into an existing, empty folder.

    As in VIA 1, regions are polygons in a dict with the attribute `class`. The format has no patient (other than the
    file name) and no pixel size. Every mask must be one connected component without holes.
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

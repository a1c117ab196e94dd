"""Write LabelMe files: `a.json` beside `a.png`.

An instance is a polygon for each piece, with one `group_id`, so that its corners can be moved. LabelMe has no polygons
with holes; an instance with one is a shape `mask`. Detections have their score in the description.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np

from mrcnn.data.writers.form import Form, WrittenImage
from mrcnn.data.writers.traces import trace_pieces
from mrcnn.instance_masks import Crop

_VERSION = "5.5.0"  # the first one of which all these shapes are known


def write(images: Sequence[WrittenImage], class_names: Sequence[str], folder: Path) -> list[str]:
    """Write a JSON file for each image."""
    for image in images:
        _, height, width = image.masks.shape
        shapes = []
        for number, (class_id, crop) in enumerate(zip(image.class_ids, image.masks, strict=True)):
            score = "" if image.scores is None else f"score {image.scores[number]:.3f}"
            common = {"label": class_names[int(class_id) - 1], "description": score, "flags": {}}
            shapes += [{**common, **shape} for shape in _shapes(crop, number + 1, height, width)]
        path = folder / image.path
        content: dict[str, Any] = {"version": _VERSION, "flags": {}, "shapes": shapes, "imagePath": path.name}
        content |= {"imageData": None, "imageHeight": height, "imageWidth": width}
        content |= {} if image.patient_id is None else {"patient_id": image.patient_id}
        path.with_suffix(".json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return []


def _shapes(crop: Crop, number: int, height: int, width: int) -> Iterator[dict[str, Any]]:
    crop = crop.tight()
    if not crop.pixels.size:
        return
    pieces = trace_pieces(crop, height, width)
    if pieces is None:
        encoded = cv2.imencode(".png", crop.pixels.astype(np.uint8) * 255)[1].tobytes()
        last = [crop.left + crop.pixels.shape[1] - 1, crop.top + crop.pixels.shape[0] - 1]
        yield {"shape_type": "mask", "points": [[crop.left, crop.top], last], "group_id": None,
               "mask": base64.b64encode(encoded).decode("ascii")}  # fmt: skip
        return
    for piece in pieces:
        points = [piece[at : at + 2] for at in range(0, len(piece), 2)]
        group = number if len(pieces) > 1 else None
        yield {"shape_type": "polygon", "points": points, "group_id": group, "mask": None}


def _image_path(name: str, split: str | None) -> str:
    return (PurePosixPath(split or "") / name).as_posix()


FORM = Form("LabelMe", write, _image_path, frozenset({"patient_id", "split"}))

"""Samples as VGG Image Annotator exports them: a folder for training and one for validation, each with its JSON.

As in sets that people made, images went to either folder one by one, so that patients are in both: who reads them has
to keep patients together.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image

from mrcnn.data.sample import Sample
from mrcnn.phantoms.coco_file import trace

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

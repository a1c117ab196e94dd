"""Write YOLO files for segmentation: `data.yaml`, `images/**/a.png` and `labels/**/a.txt` with a line per instance.

A line is the number of the class and one outline in shares of the width and height. Holes and separate pieces are
joined to one outline, as Ultralytics does when it converts COCO, by lines of no width.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from mrcnn.data.writers.form import Form, WrittenImage, below_images
from mrcnn.data.writers.traces import trace_joined
from mrcnn.errors import counted


def write(images: Sequence[WrittenImage], class_names: Sequence[str], folder: Path) -> list[str]:
    """Write a label file for each image, and `data.yaml`; the splits are folders of `images`."""
    joined = 0
    for image in images:
        _, height, width = image.masks.shape
        lines = []
        for class_id, crop in zip(image.class_ids, image.masks, strict=True):
            if not crop.pixels.any():
                continue
            outline, several = trace_joined(crop, height, width)
            joined += several
            shares = [value / (height if index % 2 else width) for index, value in enumerate(outline)]
            lines.append(" ".join([str(int(class_id) - 1), *(f"{share:.9g}" for share in shares)]) + "\n")
        label = folder / _label_path(image.path)
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text("".join(lines), encoding="utf-8")
    splits = dict.fromkeys(image.split for image in images if image.split)
    # A string of JSON is one of YAML.
    lines = [f"{split}: images/{split}\n" for split in splits] + ["names:\n"]
    lines += [f"  {number}: {json.dumps(name, ensure_ascii=False)}\n" for number, name in enumerate(class_names)]
    (folder / "data.yaml").write_text("".join(lines), encoding="utf-8")
    if not joined:
        return []
    return [
        f"{counted(joined, 'instance has', 'instances have')} holes or several pieces, and a line of YOLO is one "
        "outline: they are joined by lines of no width, which this project and Ultralytics fill exactly"
    ]


def _label_path(image: str) -> str:
    """Return the path of a label: that of its image with the last folder `images` replaced by `labels`."""
    parts = image.rpartition(".")[0].split("/")
    last = max(index for index, part in enumerate(parts[:-1]) if part.lower() == "images")
    return "/".join([*parts[:last], "labels", *parts[last + 1 :]]) + ".txt"


FORM = Form("YOLO", write, below_images, frozenset({"split"}))

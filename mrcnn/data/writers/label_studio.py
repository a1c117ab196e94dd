"""Write Label Studio files: `tasks.json` with brush masks, `label_config.xml` and `images/`.

What a model found is written as predictions, which an annotator accepts or corrects; other instances are annotations.
Images have addresses of Label Studio's local storage, with the folder of the data set as its document root.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

import numpy as np

from mrcnn.data.writers.form import Form, WrittenImage

_ADDRESS = "/data/local-files/?d="
_LENGTH_BITS = (3, 4, 8, 16)
"""Sizes of run lengths; each run takes the first that holds its length."""


def write(images: Sequence[WrittenImage], class_names: Sequence[str], folder: Path) -> list[str]:
    """Write `tasks.json` and the labeling interface for it."""
    tasks = []
    for number, image in enumerate(images, start=1):
        data = {"image": _ADDRESS + quote(image.path)}
        data |= {} if image.patient_id is None else {"patient_id": image.patient_id}
        results: dict[str, Any] = {"result": list(_results(image, class_names))}
        if image.scores is None:
            tasks.append({"id": number, "data": data, "annotations": [results]})
            continue
        results |= {"model_version": "medmrcnn"}
        results |= {"score": float(image.scores.mean())} if len(image.scores) else {}
        tasks.append({"id": number, "data": data, "annotations": [], "predictions": [results]})
    (folder / "tasks.json").write_text(json.dumps(tasks), encoding="utf-8")
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Image", {"name": "image", "value": "$image", "zoom": "true"})
    labels = ElementTree.SubElement(view, "BrushLabels", {"name": "label", "toName": "image"})
    for name in class_names:
        ElementTree.SubElement(labels, "Label", {"value": name})
    ElementTree.indent(view)
    ElementTree.ElementTree(view).write(folder / "label_config.xml", encoding="utf-8")
    return []


def _results(image: WrittenImage, class_names: Sequence[str]) -> Iterator[dict[str, Any]]:
    _, height, width = image.masks.shape
    for number, class_id in enumerate(image.class_ids):
        mask = image.masks.mask(number)
        if not mask.any():
            continue
        value = {"format": "rle", "rle": encode_brush(mask), "brushlabels": [class_names[int(class_id) - 1]]}
        yield {
            "id": f"instance-{number}",
            "type": "brushlabels",
            "from_name": "label",
            "to_name": "image",
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "value": value,
        } | ({} if image.scores is None else {"score": float(image.scores[number])})


def encode_brush(mask: np.ndarray) -> list[int]:
    """Encode a mask (H, W) bool as Label Studio's run lengths of RGBA pixels, all channels 0 or 255.

    `mrcnn.data.readers.annotation_tools.label_studio.decode_brush` describes the format.
    """
    flat = np.repeat(mask.ravel(), 4)
    ends = np.append(np.flatnonzero(flat[1:] != flat[:-1]) + 1, len(flat))
    longest = 1 << _LENGTH_BITS[-1]
    bits = [f"{len(flat):032b}{7:05b}", *(f"{size - 1:04b}" for size in _LENGTH_BITS)]
    start = 0
    for end in ends.tolist():
        value = "1" * 8 if flat[start] else "0" * 8
        for length in [longest] * ((end - start) // longest) + [(end - start) % longest]:
            if length:
                size = next(index for index, each in enumerate(_LENGTH_BITS) if length <= 1 << each)
                bits.append(f"1{size:02b}{length - 1:0{_LENGTH_BITS[size]}b}{value}")
        start = end
    text = "".join(bits)
    return np.packbits(np.frombuffer(text.encode("ascii"), np.uint8) - ord("0")).tolist()


FORM = Form("Label Studio", write, lambda name, split: f"images/{name}", frozenset({"patient_id"}))

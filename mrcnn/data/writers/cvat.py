"""Write CVAT files of the form "CVAT for images 1.1": `annotations.xml` beside `images/`, each instance a mask.

Masks are what CVAT's brush changes. They are marked `source="auto"`, as annotations of a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from mrcnn.data.writers.form import Form, WrittenImage, below_images
from mrcnn.instance_masks import Crop


def write(images: Sequence[WrittenImage], class_names: Sequence[str], folder: Path) -> list[str]:
    """Write `annotations.xml`. CVAT has no place for scores."""
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    labels = ElementTree.SubElement(ElementTree.SubElement(ElementTree.SubElement(root, "meta"), "task"), "labels")
    for name in class_names:
        label = ElementTree.SubElement(labels, "label")
        ElementTree.SubElement(label, "name").text = name
        ElementTree.SubElement(label, "type").text = "mask"
        ElementTree.SubElement(label, "attributes")
    for number, image in enumerate(images):
        _, height, width = image.masks.shape
        facts = {"id": str(number), "name": image.path, "width": str(width), "height": str(height)}
        entry = ElementTree.SubElement(root, "image", facts | ({"subset": image.split} if image.split else {}))
        source = "manual" if image.scores is None else "auto"
        for class_id, crop in zip(image.class_ids, image.masks, strict=True):
            if crop.pixels.any():
                label = {"label": class_names[int(class_id) - 1], "source": source, "occluded": "0", "z_order": "0"}
                ElementTree.SubElement(entry, "mask", label | _mask(crop.tight()))
    ElementTree.indent(root)
    ElementTree.ElementTree(root).write(folder / "annotations.xml", encoding="utf-8", xml_declaration=True)
    return []


def _mask(crop: Crop) -> dict[str, str]:
    """Return the attributes of a mask: its box, and run lengths along the rows, background first."""
    rows, columns = crop.pixels.shape
    flat = np.concatenate([[False], crop.pixels.ravel()])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    runs = np.diff(changes, prepend=0, append=rows * columns)
    box = {"left": crop.left, "top": crop.top, "width": columns, "height": rows}
    return {"rle": ", ".join(map(str, runs.tolist()))} | {name: str(value) for name, value in box.items()}


FORM = Form("CVAT", write, below_images, frozenset({"split"}))

"""Read CVAT XML files of the form "CVAT for images 1.1": polygons, boxes, ellipses and masks.

Shapes with one label and one `group_id` are one instance, as in CVAT's COCO export. An image without shapes has no
instances, since CVAT lists every image of a task.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

from mrcnn.data.names import find_patient
from mrcnn.data.problems import Problems, name_warnings
from mrcnn.data.readers.annotation_tools.annotated_images import (
    AnnotatedImage,
    Shape,
    relative_name,
    split_name,
    unique_names,
)
from mrcnn.data.readers.annotation_tools.outlines import (
    Encoded,
    decode_runs,
    ellipse,
    encode_mask,
    encode_polygons,
    numbers,
    rectangle,
)
from mrcnn.data.readers.image_files import (
    ImageFiles,
    find_annotation_files,
    parse_integer,
    parse_number,
    read_xml,
    xml_begins_with,
)
from mrcnn.errors import InputError


def matches(path: Path) -> bool:
    """Check for an XML file of CVAT at `path`, or in it or its direct subfolders."""
    return bool(_find_files(path))


def parse(path: Path, problems: Problems, warnings: list[str]) -> tuple[list[AnnotatedImage], list[str] | None]:
    """Read one file, or the files of a folder, such as one for each task; see `annotated_images`."""
    root = path if path.is_dir() else path.parent
    found = _find_files(path)
    if not found:
        raise InputError(f"{path}: expected annotations.xml of CVAT for images 1.1")
    images, labels, passed = [], [], []
    for file in found:
        tree, where = read_xml(file), relative_name(file, root)
        if tree.find("track") is not None:
            raise InputError(f"{file}: holds tracks of a video; expected an export as CVAT for images 1.1")
        labels += [label.text or "" for label in tree.findall("meta//labels/label/name")]
        files = ImageFiles([file.parent, root])
        for entry in tree.iter("image"):
            image = _read_image(entry, files, where, passed)
            image.split = image.split or split_name(file.stem)
            images.append(image)
    warnings += name_warnings("annotations have no area (points, polylines) and are passed over", passed)
    return images, unique_names(labels) or None


def _find_files(path: Path) -> list[Path]:
    return find_annotation_files(path, ("*.xml", "annotations/*.xml", "*/*.xml"), _is_cvat)


def _is_cvat(file: Path) -> bool:
    return xml_begins_with(file, rb"<annotations>")


def _read_image(entry: ElementTree.Element, files: ImageFiles, where: str, passed: list[str]) -> AnnotatedImage:
    name = entry.get("name")
    image = AnnotatedImage(f"{where}: {name}", name, files, split=split_name(entry.get("subset") or ""))
    image.set_size(entry.get("height"), entry.get("width"), f"{image.where}: expected its width and height")
    for number, child in enumerate(entry):
        at = f"{image.where}, {child.tag} {number}"
        if child.tag == "tag":
            fields = {attribute.get("name", ""): attribute.text for attribute in child.iter("attribute")}
            image.patient = image.patient or find_patient(fields)
        elif child.tag in _SHAPES:
            group = child.get("group_id") if child.get("group_id") not in (None, "", "0") else None
            encode = partial(_SHAPES[child.tag], child)
            image.shapes.append(Shape(at, child.get("label"), encode, group=group))
        else:
            passed.append(at)
    return image


def _attributes(entry: ElementTree.Element, *names: str) -> Sequence[float]:
    return numbers([entry.get(name) for name in names])


def _angle(entry: ElementTree.Element) -> float:
    degrees = parse_number(entry.get("rotation") or "0")
    if degrees is None:
        raise ValueError(f"has rotation {entry.get('rotation')!r}; expected degrees")
    return degrees


def _polygon(entry: ElementTree.Element, height: int, width: int) -> Encoded:
    points = [value for point in (entry.get("points") or "").split(";") for value in point.split(",")]
    return encode_polygons([numbers(points)], height, width)


def _box(entry: ElementTree.Element, height: int, width: int) -> Encoded:
    x1, y1, x2, y2 = _attributes(entry, "xtl", "ytl", "xbr", "ybr")
    return encode_polygons([rectangle(x1, y1, x2, y2, _angle(entry))], height, width)


def _ellipse(entry: ElementTree.Element, height: int, width: int) -> Encoded:
    x, y, along, across = _attributes(entry, "cx", "cy", "rx", "ry")
    return encode_polygons([ellipse(x, y, along, across, math.radians(_angle(entry)))], height, width)


def _mask(entry: ElementTree.Element, height: int, width: int) -> Encoded:
    left, top, columns, rows = (parse_integer(entry.get(name)) for name in ("left", "top", "width", "height"))
    if (
        left is None
        or top is None
        or rows is None
        or columns is None
        or not (0 < rows <= height and 0 < columns <= width)
    ):
        raise ValueError("needs left, top, width and height within its image")
    mask = decode_runs((entry.get("rle") or "").split(","), rows, columns)
    return encode_mask(mask, top, left, height, width)


_SHAPES = {"polygon": _polygon, "box": _box, "ellipse": _ellipse, "mask": _mask}

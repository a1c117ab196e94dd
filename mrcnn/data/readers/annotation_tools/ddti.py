"""Read DDTI as published: an XML file `12.xml` for each case beside its images `12_1.jpg`, `12_2.jpg`, ….

A `mark` holds the number of an image and its outlines as JSON. The case is the patient, its TI-RADS category the label
of the image. An image without a mark, or with an empty one, is not annotated and is left out.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from mrcnn.data.names import normalize_text
from mrcnn.data.problems import Problems
from mrcnn.data.readers.annotation_tools.annotated_images import AnnotatedImage, Shape, relative_name, split_of
from mrcnn.data.readers.annotation_tools.outlines import Encoded, encode_polygons, numbers
from mrcnn.data.readers.image_files import ImageFiles, find_annotation_files, read_xml, xml_begins_with
from mrcnn.errors import InputError

_CLASS = "nodule"  # the only one, which the files do not name


def matches(path: Path) -> bool:
    """Check for an XML file of a case at `path`, or in it or its direct subfolders."""
    return bool(_find_files(path))


def parse(path: Path, problems: Problems, warnings: list[str]) -> tuple[list[AnnotatedImage], list[str]]:
    """Read one case, or the cases of a folder; see `annotated_images`."""
    root = path if path.is_dir() else path.parent
    found = _find_files(path)
    if not found:
        raise InputError(f"{path}: expected XML files of DDTI, such as 12.xml beside 12_1.jpg")
    files_of = {folder: ImageFiles([folder, root]) for folder in {file.parent for file in found}}
    images = []
    for file in found:
        try:
            images += _read_case(read_xml(file), file, root, files_of[file.parent])
        except InputError as error:
            problems.add_skippable(str(error))
    return images, [_CLASS]


def _find_files(path: Path) -> list[Path]:
    return find_annotation_files(path, ("*.xml", "*/*.xml"), _is_case)


def _is_case(file: Path) -> bool:
    return xml_begins_with(file, rb"<case>.*<mark>")


def _read_case(case: ElementTree.Element, file: Path, root: Path, files: ImageFiles) -> list[AnnotatedImage]:
    """Read the marked images of a case; several marks may be of one image."""
    tirads = normalize_text(case.findtext("tirads"))
    images: dict[str, AnnotatedImage] = {}
    for mark in case.iter("mark"):
        number, text = (mark.findtext("image") or "").strip(), (mark.findtext("svg") or "").strip()
        if not text:
            continue
        where = f"{relative_name(file, root)}, image {number}"
        image = images.setdefault(number, AnnotatedImage(where, f"{file.stem}_{number}", files, by_stem=True))
        image.split = split_of(file, root)
        image.patient, image.label = case.findtext("number") or file.stem, f"TI-RADS {tirads}" if tirads else None
        try:
            regions = _parse_regions(text)
        except ValueError as error:
            image.faults.append(f"{where}: {error}")
            continue
        for region in regions:
            at = f"{where}, region {len(image.shapes)}"
            image.shapes.append(Shape(at, _CLASS, partial(_encode_region, region)))
    return list(images.values())


def _parse_regions(text: str) -> list[Any]:
    try:
        regions = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its svg is not JSON ({str(error)[:80]})") from error
    if not isinstance(regions, list):
        raise ValueError("its svg is not a list of regions")
    return regions


def _encode_region(region: Any, height: int, width: int) -> Encoded:
    points = region.get("points") if isinstance(region, dict) else None
    if not isinstance(points, list) or not all(isinstance(point, dict) for point in points):
        raise ValueError("has no list of points with x and y")
    if region.get("regionType", "freehand") not in ("freehand", "polygon"):
        raise ValueError(f"has regionType {str(region['regionType'])[:40]!r}; expected freehand")
    return encode_polygons([numbers([point.get(axis) for point in points for axis in "xy"])], height, width)

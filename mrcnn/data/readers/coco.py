"""Read COCO JSON files, as exported by makesense.ai, CVAT, Label Studio and Roboflow.

Optional image fields beyond the COCO format: `patient_id`, `spacing_mm` (a number, or [row, column]), `label`. Boxes
and areas in the file are ignored and computed from the masks. `iscrowd` marks groups of instances, except in files of
CVAT, which sets it on every brush mask, and if all annotations have it. Numbers may be written as 128, 128.0 or "128".
Several files, such as one per split, are read as one data set with categories matched by name.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

from mrcnn.data.dataset import Dataset
from mrcnn.data.names import find_patient, normalize_text
from mrcnn.data.problems import Problems
from mrcnn.data.readers.annotation_tools.annotated_images import AnnotatedImage, Encoded, Shape, build_dataset
from mrcnn.data.readers.coco_files import (
    entries_by_id,
    find_coco_files,
    identifier,
    image_folders,
    load_coco,
    read_categories,
)
from mrcnn.data.readers.coco_files import (
    matches as matches,
)
from mrcnn.data.readers.image_files import ImageFiles, parse_flag, parse_number
from mrcnn.data.readers.segmentation import encode_segmentation, polygon_warnings
from mrcnn.data.sample import Spacing

_MOST_MM = 1e6
_SHOWN = 5  # files in a message


def read(path: Path, *, patient_pattern: str | None = None) -> Dataset:
    """Read a COCO data set from its folder or its JSON file; `ImageFiles` describes how images are found.

    Raises:
        InputError: annotations or images are invalid; the message lists all problems.
    """
    files = find_coco_files(path)
    root, pooled = path if path.is_dir() else path.parent, len(files) > 1
    problems, warnings = Problems(path if pooled else files[0]), []
    contents = [load_coco(file) for file in files]
    names = [os.path.relpath(file, root) for file in files]
    labels = [f"{name}: " if pooled else "" for name in names]
    class_names, class_of = read_categories(contents, labels, problems, warnings)
    entries = [entry for content in contents for entry in content["annotations"] if isinstance(entry, dict)]
    only_crowds, only_boxes = _are_only_crowds(entries), _are_only_boxes(entries)
    if only_crowds:
        warnings.append("all annotations have iscrowd 1, as Datumaro sets it on every mask, and count as instances")
    images: list[AnnotatedImage] = []
    for file, content, label, classes in zip(files, contents, labels, class_of, strict=True):
        listed = _read_images(content["images"], ImageFiles(image_folders(file, files)), label, pooled, problems)
        categories = {key: class_names[number - 1] for key, number in classes.items()}
        _read_annotations(content["annotations"], listed, categories, label, only_crowds, only_boxes, problems)
        images += listed.values()
    if pooled:
        told = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
        warnings.insert(0, f"{told}: pooled into one data set, which is split again by patient whatever its folders")
    return build_dataset(root, images, class_names, problems, warnings, patient_pattern)


def _read_images(
    entries: list, files: ImageFiles, label: str, pooled: bool, problems: Problems
) -> dict[int | str, AnnotatedImage]:
    """Read the images by id."""
    images = {}
    # Annotations are ambiguous if two images share an id.
    for where, key, entry in entries_by_id("images", entries, label, lambda problem, _: problems.add(problem)):
        name = entry.get("file_name")
        images[key] = image = AnnotatedImage(where, name, files, patient=find_patient(entry), stated_name=name)
        image.name = None if pooled else name
        height, width = entry.get("height"), entry.get("width")
        image.set_size(height, width, f"{where}: height {height!r}, width {width!r}; expected pixels")
        image.spacing_mm = _read_spacing(entry.get("spacing_mm"), image)
        try:
            image.label = normalize_text(entry.get("label"))
        except ValueError as error:
            image.faults.append(f"{where}: label {error}")
    if not entries:
        problems.add(f"{label}images: empty; expected at least one")
    return images


def _read_spacing(value: Any, image: AnnotatedImage) -> Spacing | None:
    if value is None:
        return None
    sides = [parse_number(side) for side in (value if isinstance(value, list) else [value, value])]
    valid = [float(side) for side in sides if side is not None and 0 < side < _MOST_MM]
    if len(sides) == len(valid) == 2:
        return valid[0], valid[1]
    image.faults.append(f"{image.where}: spacing_mm {value!r}; expected a number above 0 or [row, column]")
    return None


def _are_only_crowds(entries: list[dict]) -> bool:
    """Check whether several annotations, and all of them, have iscrowd 1, so that there would be no instance."""
    try:
        return len(entries) > 1 and all(
            parse_flag(entry.get("iscrowd")) and not _is_from_cvat(entry) for entry in entries
        )
    except ValueError:
        return False


def _are_only_boxes(entries: list[dict]) -> bool:
    """Check whether several annotations, and all of them, are boxes without segmentation, as of a detection project."""
    return len(entries) > 1 and all(entry.get("bbox") and not entry.get("segmentation") for entry in entries)


def _read_annotations(
    entries: list,
    images: dict[int | str, AnnotatedImage],
    names: dict[int | str, str],
    label: str,
    only_crowds: bool,
    only_boxes: bool,
    problems: Problems,
) -> None:
    """Add the shapes of annotations to their images; `names` are those of the categories."""

    def refuse(problem: str, entry: Any) -> None:
        key = identifier(entry.get("image_id")) if isinstance(entry, dict) else None
        if key in images:
            images[key].faults.append(problem)
        else:
            problems.add_skippable(problem)

    for where, _, entry in entries_by_id("annotations", entries, label, refuse):
        image_id, category_id = identifier(entry.get("image_id")), identifier(entry.get("category_id"))
        if image_id not in images:
            refuse(f"{where}: image_id {entry.get('image_id')!r} is not among the images", entry)
        if category_id not in names:
            refuse(f"{where}: category_id {entry.get('category_id')!r} is not among the categories", entry)
        if image_id not in images or category_id not in names:
            continue
        try:
            crowd = parse_flag(entry.get("iscrowd")) and not (only_crowds or _is_from_cvat(entry))
        except ValueError as error:
            refuse(f"{where}: iscrowd {error}", entry)
            continue
        segmentation = entry.get("segmentation") or (_box_polygon(entry.get("bbox")) if crowd or only_boxes else None)
        if not segmentation and only_boxes:
            refuse(f"{where}: bbox {entry.get('bbox')!r}; expected [x, y, width, height]", entry)
        elif not segmentation and entry.get("bbox"):
            refuse(f"{where}: has a bbox and no segmentation; expected a mask as polygons or run lengths", entry)
        else:
            encode = partial(_encode, segmentation)
            images[image_id].shapes.append(Shape(where, names[category_id], encode, is_box=only_boxes, is_crowd=crowd))


def _encode(segmentation: Any, height: int, width: int) -> Encoded:
    try:
        return encode_segmentation(segmentation, height, width), polygon_warnings(segmentation, height, width)
    except ValueError as error:
        raise ValueError(f"segmentation {error}") from error


def _box_polygon(box: Any) -> list[list[float]] | None:
    """Convert a COCO box (x, y, width, height) to a segmentation; None for an invalid box."""
    numbers = [parse_number(value) for value in box] if isinstance(box, list) else []
    valid = [value for value in numbers if value is not None]
    if not len(numbers) == len(valid) == 4:
        return None
    x, y, width, height = valid
    return [[x, y, x + width, y, x + width, y + height, x, y + height]]


def _is_from_cvat(annotation: dict) -> bool:
    attributes = annotation.get("attributes")
    return isinstance(attributes, dict) and "occluded" in attributes

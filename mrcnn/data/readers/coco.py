"""Read COCO JSON files, as exported by makesense.ai, CVAT, Label Studio and Roboflow.

Optional image fields beyond the COCO format: `patient_id`, `spacing_mm` (a number, or [row, column]), `label`. Boxes
and areas in the file are ignored and computed from the masks. `iscrowd` marks groups of instances, except in files of
CVAT, which sets it on every brush mask. Numbers may be written as 128, 128.0 or "128". Several files, such as one per
split, are read as one data set with categories matched by name.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

from mrcnn.data.dataset import Dataset
from mrcnn.data.names import find_patient, normalize_text
from mrcnn.data.problems import Problems, summarize_names
from mrcnn.data.readers.coco_files import (
    entries_by_id,
    find_coco_files,
    identifier,
    image_folders,
    load_coco,
    read_categories,
)
from mrcnn.data.readers.image_files import ImageFiles, parse_flag, parse_integer, parse_number, read_record_fields
from mrcnn.data.readers.orientation import find_annotated_as_stored, orient_run, stored_size
from mrcnn.data.readers.records import add_patient, assemble_dataset, name_patients
from mrcnn.data.readers.segmentation import encode_segmentation, polygon_warnings
from mrcnn.data.sample import Spacing

_MOST_MM = 1e6


def read(path: Path, *, patient_pattern: str | None = None) -> Dataset:
    """Read a COCO data set from its folder or its JSON file; `ImageFiles` describes how images are found.

    Raises:
        InputError: annotations or images are invalid; the message lists all problems.
    """
    files = find_coco_files(path)
    root, pooled = path if path.is_dir() else path.parent, len(files) > 1
    problems, warnings = Problems(path if pooled else files[0]), []
    contents = [load_coco(file) for file in files]
    labels = [f"{os.path.relpath(file, root)}: " if pooled else "" for file in files]
    class_names, class_of = read_categories(contents, labels, problems, warnings)
    rows, stated, names = [], [], []
    owners, class_ids, runs, wheres, crowds = [], [], [], [], []
    for file, content, label, classes in zip(files, contents, labels, class_of, strict=True):
        image_files = ImageFiles(image_folders(file, files))
        sizes: dict[Path, tuple[int, int]] = {}
        images = _read_images(content["images"], image_files, label, sizes, problems)
        read_ones = {key: row for key, row in images.items() if row is not None}
        on_stored = find_annotated_as_stored(list(read_ones.values()), sizes, problems, warnings)
        mine = _read_annotations(content["annotations"], images, classes, on_stored, label, problems, warnings)
        position = {key: index for index, key in enumerate(read_ones, start=len(rows))}
        owners += [position[key] for key in mine[0]]
        class_ids, runs, wheres = class_ids + mine[1], runs + mine[2], wheres + mine[3]
        crowds += [(position[key], class_id, run) for key, class_id, run in mine[4]]
        for row in read_ones.values():
            stated.append(row.pop("stated"))
            names.append(row["file_name"])
            row["file_name"] = Path(os.path.relpath(row["path"], root)).as_posix() if pooled else row["file_name"]
            rows.append(row)
        warnings += image_files.warnings()
    # Two entries of one file could put the same image into two splits.
    for image, count in Counter(row["path"] for row in rows).items():
        if count > 1:
            problems.add_skippable(f"images: {image.name} stands in {count} entries; expected one", image)
    in_files = [row["patient_id"] for row in rows]
    patients, found = name_patients(stated, names, patient_pattern, problems, in_files=in_files)
    rows = [add_patient(row, patient) for row, patient in zip(rows, patients, strict=True)]
    if not rows:
        problems.add("images: none can be read; expected at least one")
    problems.raise_if_fatal()
    if pooled:
        told = ", ".join(os.path.relpath(file, root) for file in files)
        warnings.insert(0, f"{told}: pooled into one data set, which is split again by patient whatever its folders")
    return assemble_dataset(class_names, rows, owners, class_ids, runs, wheres, [*warnings, *found], problems, crowds)


def _read_images(
    entries: list, files: ImageFiles, label: str, sizes: dict[Path, tuple[int, int]], problems: Problems
) -> dict[int | str, dict[str, Any] | None]:
    """Read the record fields of each image by id, with its patient as `stated`; None for an invalid image.

    Annotated sizes (height, width) are added to `sizes`.
    """
    images: dict[int | str, dict[str, Any] | None] = {}
    # Annotations are ambiguous if two images share an id.
    for where, key, entry in entries_by_id("images", entries, label, lambda problem, _: problems.add(problem)):
        images[key] = row = _read_image(entry, files, where, sizes, problems)
        if row is not None:
            row["stated"] = find_patient(entry)
    if not entries:
        problems.add(f"{label}images: empty; expected at least one")
    return images


def _read_image(
    entry: dict, files: ImageFiles, where: str, sizes: dict[Path, tuple[int, int]], problems: Problems
) -> dict[str, Any] | None:
    path = None
    try:
        path = files.find(entry.get("file_name"))
    except ValueError as error:
        problems.add_skippable(f"{where}: {error}")
    spacing = _read_spacing(entry.get("spacing_mm"), where, problems, path)
    height, width = (parse_integer(entry.get(side)) for side in ("height", "width"))
    size = None if height is None or width is None or min(height, width) < 1 else (height, width)
    if size is None:
        stated = f"height {entry.get('height')!r}, width {entry.get('width')!r}"
        problems.add_skippable(f"{where}: {stated}; expected pixels", path)
    row = None if path is None else read_record_fields(entry["file_name"], path, where, problems)
    if path is None or row is None:
        return None
    if size in ((row["height"], row["width"]), stored_size(row)):
        sizes[path] = size
    elif size is not None:
        problems.add_skippable(
            f"{where}: {row['file_name']} has {row['width']}×{row['height']} pixels; expected {width}×{height}", path
        )
    try:
        row["label"] = normalize_text(entry.get("label"))
    except ValueError as error:
        problems.add_skippable(f"{where}: label {error}", path)
    row["spacing_mm"] = spacing or row["spacing_mm"]
    return row


def _read_spacing(value: Any, where: str, problems: Problems, image: Path | None) -> Spacing | None:
    if value is None:
        return None
    sides = [parse_number(side) for side in (value if isinstance(value, list) else [value, value])]
    valid = [float(side) for side in sides if side is not None and 0 < side < _MOST_MM]
    if len(sides) == len(valid) == 2:
        return valid[0], valid[1]
    problems.add_skippable(f"{where}: spacing_mm {value!r}; expected a number above 0 or [row, column]", image)
    return None


def _read_annotations(
    entries: list,
    images: dict[int | str, dict[str, Any] | None],
    class_of: dict[int | str, int],
    on_stored: set[Path],
    label: str,
    problems: Problems,
    warnings: list[str],
) -> tuple[list[int | str], list[int], list[bytes], list[str], list[tuple[int | str, int, bytes]]]:
    """Read the instances and the crowd regions.

    Returns:
        Image id, class id, run-length string and name in messages of each instance, as four lists; and the first three
        of each crowd region.
    """
    owners, class_ids, runs, wheres, crowds = [], [], [], [], []
    doubtful: dict[str, list[str]] = {}

    def refuse(problem: str, entry: Any) -> None:
        key = identifier(entry.get("image_id")) if isinstance(entry, dict) else None
        image = None if key is None else images.get(key)
        problems.add_skippable(problem, image["path"] if image else None)

    for where, _, entry in entries_by_id("annotations", entries, label, refuse):
        image_id, category_id = identifier(entry.get("image_id")), identifier(entry.get("category_id"))
        image = None if image_id is None else images.get(image_id)
        class_id = None if category_id is None else class_of.get(category_id)
        if image_id not in images:
            refuse(f"{where}: image_id {entry.get('image_id')!r} is not among the images", entry)
        if category_id not in class_of:
            refuse(f"{where}: category_id {entry.get('category_id')!r} is not among the categories", entry)
        if image_id is None or image is None or class_id is None:
            continue
        try:
            crowd = parse_flag(entry.get("iscrowd"))
        except ValueError as error:
            refuse(f"{where}: iscrowd {error}", entry)
            continue
        crowd = crowd and not _is_from_cvat(entry)
        segmentation, size = entry.get("segmentation"), (image["height"], image["width"])
        size = stored_size(image) if image["path"] in on_stored else size
        if crowd and not segmentation:
            segmentation = _box_polygon(entry.get("bbox"))
        if not segmentation and entry.get("bbox"):
            refuse(f"{where}: has a bbox and no segmentation; expected a mask as polygons or run lengths", entry)
            continue
        try:
            run = encode_segmentation(segmentation, *size)
        except ValueError as error:
            refuse(f"{where}: segmentation {error}", entry)
            continue
        run = orient_run(run, size, image["orientation"]) if image["path"] in on_stored else run
        if crowd:
            crowds.append((image_id, class_id, run))
            continue
        for doubt in polygon_warnings(segmentation, *size):
            doubtful.setdefault(doubt, []).append(where)
        runs.append(run)
        wheres.append(where)
        owners.append(image_id)
        class_ids.append(class_id)
    if crowds:
        warnings.append(
            f"{label}{len(crowds)} annotations mark crowds (iscrowd=1): training and evaluation ignore these regions; "
            "set iscrowd to 0 where one is a single instance"
        )
    warnings += [summarize_names(f"annotations {doubt}", found) for doubt, found in doubtful.items()]
    return owners, class_ids, runs, wheres, crowds


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

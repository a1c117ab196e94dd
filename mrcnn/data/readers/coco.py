"""COCO JSON: what makesense.ai, CVAT, Label Studio and Roboflow export.

Fields beyond COCO's own that are read from an image, all optional: `patient_id`, `spacing_mm` (a number, or [row,
column]), `label`. Boxes and areas in the file are ignored; they are measured on the masks.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mrcnn.data.dataset import Dataset, Record
from mrcnn.data.images import read_size
from mrcnn.data.readers.patients import name_patients
from mrcnn.data.readers.problems import Problems
from mrcnn.data.readers.segmentation import encode, measure
from mrcnn.data.sample import Spacing
from mrcnn.errors import InputError

_SHOWN = 5


def read(path: Path, *, patient_pattern: str | None = None) -> Dataset:
    """Reads a COCO data set: a folder with its JSON, or the JSON; images lie where `file_name` points or in `images/`.

    Raises:
        InputError: lists all problems found in the file and with its images.
    """
    file = _find_json(path)
    content = _load(file)
    problems, warnings = Problems(file), []
    class_names, class_of = _read_categories(content["categories"], problems, warnings)
    images = _read_images(content["images"], file.parent, patient_pattern, problems, warnings)
    owners, class_ids, runs = _read_annotations(content["annotations"], images, class_of, problems, warnings)
    problems.raise_if_any()

    rows = list(images.values())
    boxes, areas = measure(runs, [(rows[owner]["height"], rows[owner]["width"]) for owner in owners])
    # A polygon may cover no pixel centre; such an instance can neither be learnt nor found.
    if empty := int((areas == 0).sum()):
        warnings.append(f"{empty} annotations without any pixel are left out")
    order = np.argsort(owners, kind="stable")
    order = order[areas[order] > 0]
    by_image = np.split(order, np.searchsorted(owners[order], np.arange(1, len(rows))))
    records = [
        Record(**row, class_ids=class_ids[mine], boxes=boxes[mine], areas=areas[mine])
        for row, mine in zip(rows, by_image, strict=True)
    ]
    return Dataset(class_names, records, [[runs[index] for index in mine] for mine in by_image], warnings)


def _find_json(path: Path) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise InputError(f"{path}: no such file or folder; expected a COCO JSON or a folder with annotations.json")
    if (path / "annotations.json").is_file():
        return path / "annotations.json"
    found = sorted(path.glob("*.json"))
    if len(found) != 1:
        names = f"found {', '.join(file.name for file in found[:_SHOWN])}" if found else "found none"
        raise InputError(f"{path}: expected annotations.json or a single *.json; {names}")
    return found[0]


def _load(file: Path) -> dict[str, list]:
    try:
        content = json.loads(file.read_bytes())
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise InputError(f"{file}: not a JSON file ({error})") from error
    if not isinstance(content, dict):
        raise InputError(f"{file}: expected a COCO object with images, annotations and categories")
    problems = Problems(file)
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            problems.add(f"{key}: expected a list; is this a COCO file?")
    problems.raise_if_any()
    return content


def _entries(name: str, entries: list, problems: Problems, id_types: tuple[type, ...]) -> Iterator[tuple[str, dict]]:
    """Each entry with a usable `id` of its own, and how to call it in a message."""
    seen = set()
    for index, entry in enumerate(entries):
        key = entry.get("id") if isinstance(entry, dict) else None
        if type(key) not in id_types:
            allowed = " or ".join({int: "whole number", str: "string"}[kind] for kind in id_types)
            problems.add(f"{name}[{index}]: expected an object with an id ({allowed})")
        elif key in seen:
            problems.add(f"{name}[{index}]: id {key} stands twice")
        else:
            seen.add(key)
            yield f"{name} id {key}", entry


def _read_categories(entries: list, problems: Problems, warnings: list[str]) -> tuple[list[str], dict[int, int]]:
    """Class names in order of the category ids, and the class id (from 1) of each category id."""
    names: dict[int, str] = {}
    for where, entry in _entries("categories", entries, problems, (int,)):
        name = entry.get("name")
        if isinstance(name, str) and name.strip():
            names[entry["id"]] = name.strip()
        else:
            problems.add(f"{where}: name {name!r}; expected a text")
    if not entries:
        problems.add("categories: empty; expected at least one")
    class_names = list(dict.fromkeys(names[key] for key in sorted(names)))
    for name, count in Counter(names.values()).items():
        if count > 1:
            warnings.append(f"{count} categories are called {name!r}; they count as one class")
    return class_names, {key: class_names.index(name) + 1 for key, name in names.items()}


def _read_images(
    entries: list, folder: Path, patient_pattern: str | None, problems: Problems, warnings: list[str]
) -> dict[int | str, dict[str, Any]]:
    """What `Record` holds of each image but its instances, by image id."""
    images: dict[int | str, dict[str, Any]] = {}
    for where, entry in _entries("images", entries, problems, (int, str)):
        row = {key: entry.get(key) for key in ("file_name", "height", "width")}
        row["patient_id"] = _text(entry.get("patient_id"))
        row["label"] = _text(entry.get("label"))
        row["spacing_mm"] = _read_spacing(entry.get("spacing_mm"), where, problems)
        row["path"] = _find_image(row["file_name"], folder, where, problems)
        if any(type(row[side]) is not int or row[side] < 1 for side in ("height", "width")):
            problems.add(f"{where}: height {row['height']!r}, width {row['width']!r}; expected pixels")
            row["height"] = row["width"] = None
        elif row["path"] is not None:
            _check_size(row, where, problems)
        images[entry["id"]] = row
    if not entries:
        problems.add("images: empty; expected at least one")
    # Two entries for one file could set the same picture into two splits.
    for path, count in Counter(row["path"] for row in images.values() if row["path"] is not None).items():
        if count > 1:
            problems.add(f"images: {path.name} stands in {count} entries; expected one")
    file_names = [str(row["file_name"]) for row in images.values()]
    stated = [row["patient_id"] for row in images.values()]
    patients, found = name_patients(stated, file_names, patient_pattern, problems)
    warnings.extend(found)
    for row, patient in zip(images.values(), patients, strict=True):
        row["patient_id"] = patient
    return images


def _text(value: Any) -> str | None:
    return None if value is None or value == "" else str(value)


def _find_image(file_name: Any, folder: Path, where: str, problems: Problems) -> Path | None:
    if not isinstance(file_name, str) or not file_name:
        problems.add(f"{where}: file_name {file_name!r}; expected a path")
        return None
    root = os.path.normpath(folder)
    # Lexical, so that a folder of links to images elsewhere stays usable while `..` and absolute paths do not.
    path = os.path.normpath(os.path.join(root, file_name))
    if os.path.commonpath([os.path.abspath(root), os.path.abspath(path)]) != os.path.abspath(root):
        problems.add(f"{where}: file_name {file_name!r} leaves the folder of the data set")
        return None
    for candidate in (path, os.path.join(root, "images", file_name)):
        if os.path.isfile(candidate):
            return Path(candidate)
    problems.add(f"{where}: {file_name!r} is neither in {root} nor in its images/ folder")
    return None


def _check_size(row: dict[str, Any], where: str, problems: Problems) -> None:
    try:
        height, width = read_size(row["path"])
    except InputError as error:
        problems.add(f"{where}: {error}")
        return
    if (height, width) != (row["height"], row["width"]):
        problems.add(
            f"{where}: {row['file_name']} has {width}×{height} pixels; expected {row['width']}×{row['height']}"
        )


def _read_spacing(value: Any, where: str, problems: Problems) -> Spacing | None:
    if value is None:
        return None
    pair = value if isinstance(value, list) else [value, value]
    if len(pair) == 2 and all(type(side) in (int, float) and math.isfinite(side) and side > 0 for side in pair):
        return float(pair[0]), float(pair[1])
    problems.add(f"{where}: spacing_mm {value!r}; expected a number above 0 or [row, column]")
    return None


def _read_annotations(
    entries: list,
    images: dict[int | str, dict[str, Any]],
    class_of: dict[int, int],
    problems: Problems,
    warnings: list[str],
) -> tuple[np.ndarray, np.ndarray, list[bytes]]:
    """For each instance the position of its image, its class id, and its run-length string."""
    position = {key: index for index, key in enumerate(images)}
    owners, class_ids, runs, crowds = [], [], [], 0
    for where, entry in _entries("annotations", entries, problems, (int, str)):
        image_id, category_id = entry.get("image_id"), entry.get("category_id")
        image = images.get(image_id) if type(image_id) in (int, str) else None
        class_id = class_of.get(category_id) if type(category_id) is int else None
        if image is None:
            problems.add(f"{where}: image_id {image_id!r} is not among the images")
        if class_id is None:
            problems.add(f"{where}: category_id {category_id!r} is not among the categories")
        if image is None or class_id is None or image["height"] is None:
            continue
        if entry.get("iscrowd"):
            crowds += 1
            continue
        try:
            runs.append(encode(entry.get("segmentation"), image["height"], image["width"]))
        except ValueError as error:
            problems.add(f"{where}: segmentation {error}")
            continue
        owners.append(position[image_id])
        class_ids.append(class_id)
    if crowds:
        warnings.append(f"{crowds} annotations mark crowds (iscrowd=1), not instances, and are left out")
    return np.array(owners, np.int64), np.array(class_ids, np.int32), runs

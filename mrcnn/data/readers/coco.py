"""COCO JSON: what makesense.ai, CVAT, Label Studio and Roboflow export.

Fields beyond COCO's own that are read from an image, all optional: `patient_id`, `spacing_mm` (a number, or [row,
column]), `label`. Boxes and areas in the file are ignored; they are measured on the masks. `iscrowd` marks what is no
single instance, except from CVAT, which sets it on every mask drawn with a brush.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mrcnn.data.dataset import Dataset
from mrcnn.data.readers.assemble import assemble
from mrcnn.data.readers.image_files import ImageFiles, read_row
from mrcnn.data.readers.json_file import is_plain_text, json_files, load_json, read_bytes, whole_characters
from mrcnn.data.readers.orientations import find_made_on_stored, stored_size, turn_runs
from mrcnn.data.readers.patients import name_patients, with_patient
from mrcnn.data.readers.problems import Problems, naming
from mrcnn.data.readers.segmentation import doubts, encode
from mrcnn.data.sample import Spacing
from mrcnn.errors import InputError

_SHOWN = 5
_MOST_MM = 1e6
_USUAL_NAME = "annotations.json"
_ANNOTATIONS = "annotations"  # the folder in which CVAT and Label Studio's converters put the JSON


def recognises(path: Path) -> bool:
    if path.is_file():
        return path.suffix.lower() == ".json"
    # A folder of another form may hold a JSON of its own, such as a description of the set.
    return any(file.name == _USUAL_NAME or b'"annotations"' in read_bytes(file) for file in _jsons(path))


def read(path: Path, *, patient_pattern: str | None = None) -> Dataset:
    """Reads a COCO data set: a folder with its JSON, or the JSON; for the images see `ImageFiles`.

    Raises:
        InputError: lists all problems found in the file and with its images.
    """
    file = _find_json(path)
    content = _load(file)
    problems, warnings = Problems(file), []
    folders = [file.parent.parent, file.parent] if file.parent.name == _ANNOTATIONS else [file.parent]
    files = ImageFiles(folders)
    class_names, class_of = _read_categories(content["categories"], problems, warnings)
    sizes: dict[Path, tuple[int, int]] = {}
    images = _read_images(content["images"], files, patient_pattern, sizes, problems, warnings)
    rows = [row for row in images.values() if row is not None]
    on_stored = find_made_on_stored(rows, sizes, problems, warnings)
    instances = _read_annotations(content["annotations"], images, class_of, on_stored, problems, warnings)
    if not rows:
        problems.add("images: none can be read; expected at least one")
    problems.raise_if_impassable()
    return assemble(class_names, rows, *instances, [*warnings, *files.warnings()], problems)


def _jsons(path: Path) -> list[Path]:
    """The JSON files of a folder that may be the annotations."""
    if (path / _USUAL_NAME).is_file():
        return [path / _USUAL_NAME]
    return json_files(path, "*.json") or json_files(path / _ANNOTATIONS, "*.json")


def _find_json(path: Path) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise InputError(f"{path}: no such file or folder; expected a COCO JSON or a folder with annotations.json")
    found = _jsons(path)
    if len(found) != 1:
        names = f"found {', '.join(file.name for file in found[:_SHOWN])}" if found else "found none"
        raise InputError(f"{path}: expected annotations.json or a single *.json; {names}")
    return found[0]


def _load(file: Path) -> dict[str, list]:
    content = load_json(file)
    if not isinstance(content, dict):
        raise InputError(f"{file}: expected a COCO object with images, annotations and categories")
    problems = Problems(file)
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            problems.add(f"{key}: expected a list; is this a COCO file?")
    problems.raise_if_any()
    return content


def _entries(
    name: str, entries: list, refuse: Callable[[str, Any], None], id_types: tuple[type, ...]
) -> Iterator[tuple[str, dict]]:
    """Each entry with a usable `id` of its own, and how to call it in a message; of others `refuse` is told."""
    seen = set()
    for index, entry in enumerate(entries):
        key = entry.get("id") if isinstance(entry, dict) else None
        if type(key) not in id_types:
            allowed = " or ".join({int: "whole number", str: "string"}[kind] for kind in id_types)
            refuse(f"{name}[{index}]: expected an object with an id ({allowed})", entry)
        elif key in seen:
            refuse(f"{name}[{index}]: id {key} stands twice", entry)
        else:
            seen.add(key)
            yield f"{name} id {key}", entry


def _read_categories(entries: list, problems: Problems, warnings: list[str]) -> tuple[list[str], dict[int, int]]:
    """Class names in order of the category ids, and the class id (from 1) of each category id."""
    names: dict[int, str] = {}
    # Without a class it cannot be told what any annotation of it shows.
    for where, entry in _entries("categories", entries, lambda problem, _: problems.add(problem), (int,)):
        name = entry.get("name")
        if is_plain_text(name):
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
    entries: list,
    files: ImageFiles,
    patient_pattern: str | None,
    sizes: dict[Path, tuple[int, int]],
    problems: Problems,
    warnings: list[str],
) -> dict[int | str, dict[str, Any] | None]:
    """What `Record` holds of each image but its instances, by image id; None for an image with a problem.

    The sizes that entries state go to `sizes`.
    """
    images: dict[int | str, dict[str, Any] | None] = {}
    stated = []
    # Of two images with one id nobody knows whose the annotations are.
    for where, entry in _entries("images", entries, lambda problem, _: problems.add(problem), (int, str)):
        images[entry["id"]] = row = _read_image(entry, files, where, sizes, problems)
        stated += [_text(entry.get("patient_id"))] if row else []
    if not entries:
        problems.add("images: empty; expected at least one")
    rows = [row for row in images.values() if row is not None]
    # Two entries for one file could set the same picture into two splits.
    for path, count in Counter(row["path"] for row in rows).items():
        if count > 1:
            problems.add_passable(f"images: {path.name} stands in {count} entries; expected one", path)
    in_files, names = ([row[key] for row in rows] for key in ("patient_id", "file_name"))
    patients, found = name_patients(stated, names, patient_pattern, problems, in_files=in_files)
    warnings.extend(found)
    for row, patient in zip(rows, patients, strict=True):
        row |= with_patient(row, patient)
    return images


def _read_image(
    entry: dict, files: ImageFiles, where: str, sizes: dict[Path, tuple[int, int]], problems: Problems
) -> dict[str, Any] | None:
    path = None
    try:
        path = files.find(entry.get("file_name"))
    except ValueError as error:
        problems.add_passable(f"{where}: {error}")
    spacing = _read_spacing(entry.get("spacing_mm"), where, problems, path)
    height, width = (entry.get(side) for side in ("height", "width"))
    if any(type(side) is not int or side < 1 for side in (height, width)):
        problems.add_passable(f"{where}: height {height!r}, width {width!r}; expected pixels", path)
        height = width = None
    row = None if path is None else read_row(entry["file_name"], path, where, problems)
    if row is None:
        return None
    if (height, width) in ((row["height"], row["width"]), stored_size(row)):
        sizes[path] = height, width
    elif height is not None:
        problems.add_passable(
            f"{where}: {row['file_name']} has {row['width']}×{row['height']} pixels; expected {width}×{height}", path
        )
    row["label"] = _text(entry.get("label"))
    row["spacing_mm"] = spacing or row["spacing_mm"]
    return row


def _text(value: Any) -> str | None:
    return None if value is None or value == "" else whole_characters(str(value))


def _read_spacing(value: Any, where: str, problems: Problems, image: Path | None) -> Spacing | None:
    if value is None:
        return None
    pair = value if isinstance(value, list) else [value, value]
    if len(pair) == 2 and all(type(side) in (int, float) and 0 < side < _MOST_MM for side in pair):
        return float(pair[0]), float(pair[1])
    problems.add_passable(f"{where}: spacing_mm {value!r}; expected a number above 0 or [row, column]", image)
    return None


def _read_annotations(
    entries: list,
    images: dict[int | str, dict[str, Any] | None],
    class_of: dict[int, int],
    on_stored: set[Path],
    problems: Problems,
    warnings: list[str],
) -> tuple[list[int], list[int], list[bytes], list[str]]:
    """For each instance the position of its image, its class id, its run-length string, and how to call it."""
    position = {key: index for index, key in enumerate(key for key, row in images.items() if row is not None)}
    owners, class_ids, runs, wheres, crowds = [], [], [], [], 0
    doubtful: dict[str, list[str]] = {}

    def refuse(problem: str, entry: Any) -> None:
        image_id = entry.get("image_id") if isinstance(entry, dict) else None
        image = images.get(image_id) if type(image_id) in (int, str) else None
        problems.add_passable(problem, image["path"] if image else None)

    for where, entry in _entries("annotations", entries, refuse, (int, str)):
        image_id, category_id = entry.get("image_id"), entry.get("category_id")
        known = type(image_id) in (int, str) and image_id in images
        image = images[image_id] if known else None
        class_id = class_of.get(category_id) if type(category_id) is int else None
        if not known:
            refuse(f"{where}: image_id {image_id!r} is not among the images", entry)
        if class_id is None:
            refuse(f"{where}: category_id {category_id!r} is not among the categories", entry)
        if image is None or class_id is None:
            continue
        if entry.get("iscrowd") and not _is_from_cvat(entry):
            crowds += 1
            continue
        segmentation, size = entry.get("segmentation"), (image["height"], image["width"])
        size = stored_size(image) if image["path"] in on_stored else size
        if not segmentation and entry.get("bbox"):
            refuse(f"{where}: has a bbox and no segmentation; expected a mask as polygons or run lengths", entry)
            continue
        try:
            run = encode(segmentation, *size)
        except ValueError as error:
            refuse(f"{where}: segmentation {error}", entry)
            continue
        for doubt in doubts(segmentation, *size):
            doubtful.setdefault(doubt, []).append(where)
        runs.append(turn_runs(run, size, image["orientation"]) if image["path"] in on_stored else run)
        wheres.append(where)
        owners.append(position[image_id])
        class_ids.append(class_id)
    if crowds:
        warnings.append(f"{crowds} annotations mark crowds (iscrowd=1), not instances, and are left out")
    warnings += [naming(f"annotations {doubt}", found) for doubt, found in doubtful.items()]
    return owners, class_ids, runs, wheres


def _is_from_cvat(annotation: dict) -> bool:
    attributes = annotation.get("attributes")
    return isinstance(attributes, dict) and "occluded" in attributes

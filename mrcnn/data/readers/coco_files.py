"""Where the COCO JSON of a data set lies, or the several of which it is made up."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mrcnn.data.readers.json_file import json_files, load_json, read_bytes
from mrcnn.data.readers.problems import Problems
from mrcnn.errors import InputError

_SHOWN = 5
_USUAL_NAMES = ("annotations.json", "_annotations.coco.json")
_FOLDER = "annotations"  # in which COCO itself, CVAT and Label Studio's converters put the JSON
_OTHER_KINDS = ("captions_", "image_info_", "panoptic_", "person_keypoints_", "stuff_")
"""How files that COCO has beside those of its instances begin."""
_SPLIT = re.compile(r"(?:^|[^a-z])(train(?:ing)?|valid(?:ation)?|val|test(?:ing)?)(?:set)?(?:[^a-z]|$)", re.IGNORECASE)
_KEYS = (b'"annotations"', b'"images"', b'"categories"')


def is_coco_set(path: Path) -> bool:
    """Return whether there is a COCO JSON at `path`, or in it or the folders of its splits."""
    if path.is_file():
        return path.suffix.lower() == ".json"
    # A folder of another form may hold a JSON of its own, such as a description of the set.
    own = _own_files(path)
    return any(file.name in _USUAL_NAMES or _KEYS[0] in read_bytes(file) for file in own) or bool(_split_files(path))


def find_coco_files(path: Path) -> list[Path]:
    """Return the JSON at `path`, or of a folder its one JSON or those of its splits, by name.

    A folder has one JSON, or one for each split as `train.json`, `val.json`, itself or in its folder `annotations`; or
    else each of its folders has one, as Roboflow exports them.

    Raises:
        InputError: nothing is there, or it cannot be told which of several JSON files is meant.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(f"{path}: no such file or folder; expected a COCO JSON or a folder with annotations.json")
    found = _own_files(path) or _split_files(path)
    if not found or (len(found) > 1 and not _are_splits(found)):
        names = f"found {', '.join(file.name for file in found[:_SHOWN])}" if found else "found none"
        raise InputError(
            f"{path}: expected annotations.json or a single *.json, or one for each split as train.json and val.json; "
            f"{names}"
        )
    return found


def load_coco(file: Path) -> dict[str, list]:
    """Return the lists of a COCO object. Raises `InputError` where the file is none."""
    content: Any = load_json(file)
    if not isinstance(content, dict):
        raise InputError(f"{file}: expected a COCO object with images, annotations and categories")
    problems = Problems(file)
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            problems.add(f"{key}: expected a list; is this a COCO file?")
    problems.raise_if_any()
    return content


def image_folders(file: Path, files: Sequence[Path]) -> list[Path]:
    """Return the folders in which images of a JSON may lie, one of `files`."""
    root = file.parent.parent if file.parent.name == _FOLDER else file.parent
    split = re.sub(r"^instances_", "", file.stem)
    own = [folder for folder in (root / "images" / split, root / split) if len(files) > 1 and folder.is_dir()]
    return [*own, root, file.parent] if root != file.parent else [*own, root]


def _own_files(folder: Path) -> list[Path]:
    """The JSON files of a folder that may be the annotations."""
    for name in _USUAL_NAMES:
        if (folder / name).is_file():
            return [folder / name]
    found = json_files(folder, "*.json") or json_files(folder / _FOLDER, "*.json")
    if len(found) > 1:
        found = [file for file in found if not file.name.startswith(_OTHER_KINDS)]
    if len(found) > 1:  # beside them a description or a report may lie
        found = [file for file in found if all(key in read_bytes(file) for key in _KEYS)] or found
    return found


def _split_files(folder: Path) -> list[Path]:
    """The JSON files of the folders in a folder, where each has one."""
    found = [file for file in json_files(folder, "*/*.json") if all(key in read_bytes(file) for key in _KEYS)]
    return [file for each in dict.fromkeys(file.parent for file in found) for file in _own_files(each)]


def _are_splits(files: Sequence[Path]) -> bool:
    """Whether each file is of a folder of its own, or its name says of which split it is."""
    return len({file.parent for file in files}) == len(files) or all(_SPLIT.search(file.stem) for file in files)

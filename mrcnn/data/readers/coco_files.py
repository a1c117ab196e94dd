"""Find and load the COCO JSON files of a data set, and read their ids and categories."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mrcnn.data.names import normalize_text
from mrcnn.data.problems import Problems
from mrcnn.data.readers.image_files import files_below, is_valid_text, load_json, parse_integer, read_bytes
from mrcnn.errors import InputError

_SHOWN = 5
_USUAL_NAMES = ("annotations.json", "_annotations.coco.json")
_FOLDER = "annotations"  # folder of the JSON files of COCO, CVAT and Label Studio converters
_OTHER_KINDS = ("captions_", "image_info_", "panoptic_", "person_keypoints_", "stuff_")
"""Prefixes of COCO files with other content than instances."""
_SPLIT = re.compile(r"(?:^|[^a-z])(train(?:ing)?|valid(?:ation)?|val|test(?:ing)?)(?:set)?(?:[^a-z]|$)", re.IGNORECASE)
_KEYS = (b'"annotations"', b'"images"', b'"categories"')


def matches(path: Path) -> bool:
    """Check for a COCO JSON at `path`, or in it or its split folders."""
    if path.is_file():
        return path.suffix.lower() == ".json"
    # A folder of another format may contain other JSON files, such as a description.
    own = _own_files(path)
    return any(file.name in _USUAL_NAMES or _KEYS[0] in read_bytes(file) for file in own) or bool(_split_files(path))


def find_coco_files(path: Path) -> list[Path]:
    """Find the JSON at `path`, or the JSON files of a folder, sorted by name.

    A folder has one JSON, or one per split such as `train.json` and `val.json`, or several of different images,
    directly or in its folder `annotations`; or each of its folders has one, as in Roboflow exports.

    Raises:
        InputError: there is no JSON file, or the choice between several is ambiguous.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(f"{path}: no such file or folder; expected a COCO JSON or a folder with annotations.json")
    found = _own_files(path) or _split_files(path)
    if not found or (len(found) > 1 and not _are_splits(found) and not _list_different_images(found)):
        names = f"found {', '.join(file.name for file in found[:_SHOWN])}" if found else "found none"
        raise InputError(
            f"{path}: expected annotations.json or a single *.json, or one for each split as train.json and val.json, "
            f"or several of different images; {names}"
        )
    return found


def load_coco(file: Path) -> dict[str, list]:
    """Load a COCO object. Raises `InputError` if the file is not a COCO file."""
    content = _load(file)
    if not isinstance(content, dict):
        raise InputError(f"{file}: expected a COCO object with images, annotations and categories")
    problems = Problems(file)
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            problems.add(f"{key}: expected a list; is this a COCO file?")
    problems.raise_if_any()
    return content


def _load(file: Path) -> Any:
    """Load a JSON file. One of a single image without categories, as SA-1B has for each image, gets one class."""
    content = load_json(file)
    if not isinstance(content, dict) or "images" in content or not isinstance(content.get("image"), dict):
        return content
    entries = content.get("annotations")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        return content
    return {
        "images": [content["image"] | {"id": 1}],
        "annotations": [entry | {"image_id": 1, "category_id": 1} for entry in entries],
        "categories": [{"id": 1, "name": "object"}],
    }


def image_folders(file: Path, files: Sequence[Path]) -> list[Path]:
    """Return the folders that may contain the images of a JSON `file` among `files`."""
    root = file.parent.parent if file.parent.name == _FOLDER else file.parent
    split = re.sub(r"^instances_", "", file.stem)
    own = [folder for folder in (root / "images" / split, root / split) if len(files) > 1 and folder.is_dir()]
    return [*own, root, file.parent] if root != file.parent else [*own, root]


def _own_files(folder: Path) -> list[Path]:
    """Find the JSON files of a folder that may contain the annotations."""
    for name in _USUAL_NAMES:
        if (folder / name).is_file():
            return [folder / name]
    found = sorted(files_below(folder, "*.json")) or sorted(files_below(folder / _FOLDER, "*.json"))
    if len(found) > 1:
        found = [file for file in found if not file.name.startswith(_OTHER_KINDS)]
    if len(found) > 1:  # the others may be descriptions or reports
        found = [file for file in found if all(key in read_bytes(file) for key in _KEYS)] or found
    return found


def _split_files(folder: Path) -> list[Path]:
    """Find the JSON files of the direct subfolders."""
    found = [file for file in sorted(files_below(folder, "*/*.json")) if all(key in read_bytes(file) for key in _KEYS)]
    return [file for each in dict.fromkeys(file.parent for file in found) for file in _own_files(each)]


def _are_splits(files: Sequence[Path]) -> bool:
    """Check that each file has its own folder or the name of a split."""
    return len({file.parent for file in files}) == len(files) or all(_SPLIT.search(file.stem) for file in files)


def _list_different_images(files: Sequence[Path]) -> bool:
    """Check that no image is in two COCO files, such as those of several annotators; a backup has the same images."""
    seen: set[str] = set()
    for file in files:
        content = _load(file)
        entries = content.get("images") if isinstance(content, dict) else None
        listed = entries if isinstance(entries, list) else []
        names = {str(entry.get("file_name")).casefold() for entry in listed if isinstance(entry, dict)}
        if not names or names & seen:
            return False
        seen |= names
    return True


def identifier(value: Any) -> int | str | None:
    """Normalize an id: 7, 7.0 and "7" are equal, "07" is different; None for an invalid id."""
    if isinstance(value, str) and re.match(r"\s*[+-]?0\d", value):
        return value.strip()
    number = parse_integer(value)
    return value.strip() if number is None and isinstance(value, str) else number


def entries_by_id(
    name: str, entries: list, label: str, refuse: Callable[[str, Any], None], *, text_ids: bool = True
) -> Iterator[tuple[str, int | str, dict]]:
    """Yield name in messages, id and entry of each entry of the list `name` that has a unique id.

    `refuse` is called with the problem and the entry for the others. `label` is the prefix of messages about this file,
    and `text_ids` whether ids may be text other than numbers.
    """
    seen = set()
    for index, entry in enumerate(entries):
        key = identifier(entry.get("id")) if isinstance(entry, dict) else None
        if key is None or (isinstance(key, str) and not text_ids):
            allowed = "whole number or string" if text_ids else "whole number"
            refuse(f"{label}{name}[{index}]: expected an object with an id ({allowed})", entry)
        elif key in seen:
            refuse(f"{label}{name}[{index}]: id {key} stands twice", entry)
        else:
            seen.add(key)
            yield f"{label}{name} id {key}", key, entry


def read_categories(
    contents: Sequence[dict[str, list]], labels: Sequence[str], problems: Problems, warnings: list[str]
) -> tuple[list[str], list[dict[int | str, int]]]:
    """Read the categories of one or several COCO objects; categories with the same name are one class.

    Returns:
        Class names in order of the category ids, and for each object the 1-based class id of each category id.
    """
    class_names: dict[str, str] = {}  # by normalized name
    names_of = []
    for content, label in zip(contents, labels, strict=True):
        names = _read_names(content["categories"], label, problems)
        parents = _unused_parents(contents, names)
        keys = {key: unicodedata.normalize("NFKC", name) for key, name in names.items() if key not in parents}
        for key in sorted(keys):
            class_names.setdefault(keys[key], names[key])
        for name, count in Counter(keys.values()).items():
            if count > 1:
                warnings.append(f"{label}{count} categories are called {class_names[name]!r}; they count as one class")
        names_of.append(keys)
    positions = {name: number for number, name in enumerate(class_names, start=1)}
    return list(class_names.values()), [{key: positions[name] for key, name in keys.items()} for keys in names_of]


def _read_names(entries: list, label: str, problems: Problems) -> dict[int | str, str]:
    """Read the name of each category id."""
    names: dict[int | str, str] = {}
    # Fatal, because the class of its annotations is unknown.
    found = entries_by_id("categories", entries, label, lambda problem, _: problems.add(problem), text_ids=False)
    for where, key, entry in found:
        name = entry.get("name")
        text = normalize_text(name) if is_valid_text(name) else None
        if text is None:
            problems.add(f"{where}: name {name!r}; expected a text")
        else:
            names[key] = text
    if not entries:
        problems.add(f"{label}categories: empty; expected at least one")
    return names


def _unused_parents(contents: Sequence[dict[str, list]], names: dict[int | str, str]) -> set[int]:
    """Find the category 0 of Roboflow, the unused supercategory of the classes."""
    if 0 not in names or len(names) == 1:
        return set()
    for content in contents:
        for entry in content["categories"]:
            is_zero = isinstance(entry, dict) and identifier(entry.get("id")) == 0
            if is_zero and entry.get("supercategory") not in (None, "", "none"):
                return set()
        for entry in content["annotations"]:
            if isinstance(entry, dict) and identifier(entry.get("category_id")) == 0:
                return set()
    entries = [entry for content in contents for entry in content["categories"] if isinstance(entry, dict)]
    above = [entry.get("supercategory") for entry in entries if identifier(entry.get("id")) != 0]
    return {0} if any(isinstance(name, str) and normalize_text(name) == names[0] for name in above) else set()

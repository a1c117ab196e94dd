"""Read YOLO data sets, as Ultralytics, Roboflow, CVAT and Label Studio write them: text files with a line per object.

A line of `labels/**/a.txt` is the number of a class and an outline `x1 y1 x2 y2 …`, or a box `x y width height` around
a center, in shares of the width and height of the displayed image `images/**/a.jpg`. The label lies at the path of its
image with the last folder `images` replaced by `labels`, or beside the image. Names of classes come from a YAML file
such as `data.yaml`, or from a text file with a name a line. Splits come from the YAML file or the names of the folders.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from yaml import YAMLError

from mrcnn.data.problems import Problems, name_warnings
from mrcnn.data.readers.annotation_tools.annotated_images import AnnotatedImage, Shape, relative_name, split_of
from mrcnn.data.readers.annotation_tools.outlines import Encoded, encode_box, encode_polygons, numbers
from mrcnn.data.readers.image_files import (
    IMAGE_SUFFIXES,
    compose_unicode,
    files_below,
    images_below,
    parse_integer,
    read_text,
)
from mrcnn.errors import InputError
from mrcnn.safe_yaml import read_yaml

_SPLIT_KEYS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_NAME_FILES = ("classes.txt", "obj.names")
_OTHER_TEXTS = (*_NAME_FILES, "notes.txt", "readme.txt", "train.txt", "val.txt", "valid.txt", "test.txt")
_OVERSHOOT = 0.01  # share of a side; tools that round may exceed the border


def matches(path: Path) -> bool:
    """Check for text files beside images or in `labels`, and the names of the classes."""
    if not path.is_dir():
        return False
    named = _yaml_file(path) is not None or _names_file(path) is not None
    return named and any(_is_label(file, path) for file in files_below(path, "**/*.txt"))


def parse(path: Path, problems: Problems, warnings: list[str]) -> tuple[list[AnnotatedImage], list[str]]:
    """Read images and classes; see `annotated_images`."""
    names, listed = _read_names(path, problems)
    labels = {
        _label_key(file.with_suffix("")): file
        for file in sorted(files_below(path, "**/*.txt"))
        if _is_label(file, path)
    }
    label_of = {file: next((labels[k] for k in _label_keys(file) if k in labels), None) for file in images_below(path)}
    folders = {file.parent for file, label in label_of.items() if label is not None}
    images, bare, passed = [], [], []
    for file, label in label_of.items():
        name = relative_name(file, path)
        if label is None and file.parent not in folders and "images" not in name.lower().split("/")[:-1]:
            passed.append(name)  # a figure of a training, for example
            continue
        image = AnnotatedImage(name, file, split=_split(file, path, listed))
        if label is None:
            bare.append(name)
        else:
            image.shapes, image.faults = _read_label(label, relative_name(label, path), names)
        images.append(image)
    for label, count in Counter(label for label in label_of.values() if label is not None).items():
        if count > 1:
            problems.add(f"{relative_name(label, path)}: {count} images of that name; expected one")
    for label in sorted(set(labels.values()) - set(label_of.values())):
        problems.add_skippable(f"{relative_name(label, path)}: no image of that name; expected one in images")
    warnings += name_warnings("images have no label file and count as images without instances", bare)
    warnings += name_warnings("pictures lie outside images, have no label and are passed over", passed)
    return images, names


def _label_keys(image: Path) -> Iterator[str]:
    """Yield the places of the label of an image: in `labels`, or beside it."""
    parts = list(image.with_suffix("").parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index].lower() == "images":
            yield _label_key(Path(*parts[:index], "labels", *parts[index + 1 :]))
            break
    yield _label_key(image.with_suffix(""))


def _label_key(path: Path) -> str:
    parts = [part.lower() if part.lower() == "labels" else part for part in path.parts]
    return compose_unicode("/".join(parts))


def _is_label(file: Path, root: Path) -> bool:
    """Check for a text file in a folder `labels`, or beside an image of its name."""
    if file.name.lower() in _OTHER_TEXTS:
        return False
    if "labels" in [part.lower() for part in file.relative_to(root).parts[:-1]]:
        return True
    return any(file.with_suffix(suffix).is_file() for suffix in (*IMAGE_SUFFIXES, *map(str.upper, IMAGE_SUFFIXES)))


def _yaml_file(path: Path) -> Path | None:
    """Find the YAML file with names of classes, in the folder or in one below it."""
    for pattern in ("*.y*ml", "*/*.y*ml"):
        found = [file for file in sorted(files_below(path, pattern)) if re.search(r"^names\s*:", read_text(file), re.M)]
        if len(found) > 1 and len({tuple(_load(file)[0]) for file in found}) > 1:
            raise InputError(
                f"{path}: {' and '.join(file.name for file in found[:3])} name different classes; expected one YAML"
            )
        if found:
            return found[0]
    return None


def _names_file(path: Path) -> Path | None:
    for name in _NAME_FILES:
        for file in (path / name, *sorted(files_below(path, f"*/{name}"))):
            if file.is_file():
                return file
    return None


def _read_names(path: Path, problems: Problems) -> tuple[list[str], dict[str, str]]:
    """Read the names of the classes, and the split of each folder and file that the YAML file lists."""
    file = _yaml_file(path)
    if file is not None:
        names, content = _load(file)
        if content.get("kpt_shape"):
            raise InputError(f"{file}: kpt_shape is set, so labels are key points; expected outlines or boxes")
        count = content.get("nc")
        if count is not None and parse_integer(count) != len(names):
            problems.add(f"{file.name}: nc {count!r} and {len(names)} names; expected the same number")
        return names, _listed(file, content, path)
    file = _names_file(path)
    if file is None:
        raise InputError(f"{path}: expected data.yaml or classes.txt with the names of the classes")
    names = [line.strip() for line in read_text(file).splitlines()]
    while names and not names[-1]:
        names.pop()
    return _checked(names, file), {}


def _load(file: Path) -> tuple[list[str], dict[Any, Any]]:
    try:
        content = read_yaml(read_text(file), strings_only=True)
    except YAMLError as error:
        raise InputError(f"{file}: not a YAML file ({' '.join(str(error).split())})") from error
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, dict):
        numbered = {parse_integer(key): name for key, name in names.items()}
        if sorted(numbered, key=str) != sorted(range(len(names)), key=str):
            raise InputError(f"{file}: names has the numbers {list(names)[:20]}; expected 0, 1, 2, …")
        names = [numbered[number] for number in range(len(names))]
    if not isinstance(names, list):
        raise InputError(f"{file}: names {names!r}; expected a list of classes")
    return _checked([str(name) for name in names], file), content


def _checked(names: list[str], file: Path) -> list[str]:
    if not names or not all(name.strip() for name in names):
        raise InputError(f"{file}: a class has no name; expected one for each number")
    if len(set(names)) < len(names):
        raise InputError(f"{file}: two classes have one name; expected different names")
    return names


def _listed(file: Path, content: dict[Any, Any], path: Path) -> dict[str, str]:
    """Return the split of each folder and image that the YAML file lists, as paths below the data set.

    Paths may be those of another machine, so their last parts are searched below the folder.
    """
    found: dict[str, str] = {}
    for key, split in _SPLIT_KEYS.items():
        stated = content.get(key)
        for entry in stated if isinstance(stated, list) else [stated]:
            place = _below(entry, (file.parent, path)) if isinstance(entry, str) else None
            if place is None:
                continue
            if place.is_dir():
                found[relative_name(place, path)] = split
            elif place.suffix.lower() == ".txt":
                for line in read_text(place).splitlines():
                    image = _below(line.strip(), (place.parent, file.parent, path)) if line.strip() else None
                    if image is not None:
                        found[relative_name(image, path)] = split
    return found


def _below(stated: str, folders: Sequence[Path]) -> Path | None:
    """Find a stated path in one of the folders by its last parts, so that it never leads out of them."""
    parts = [part for part in stated.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    for start in range(len(parts)):
        for folder in folders:
            place = folder.joinpath(*parts[start:])
            if "\0" not in stated and os.path.exists(place):
                return place
    return None


def _split(image: Path, root: Path, listed: dict[str, str]) -> str | None:
    name = relative_name(image, root)
    for place in (name, *(parent.as_posix() for parent in Path(name).parents)):
        if place in listed:
            return listed[place]
    return split_of(image, root)


def _read_label(file: Path, where: str, names: Sequence[str]) -> tuple[list[Shape], list[str]]:
    """Read the objects of a label file, and its problems."""
    shapes: list[Shape] = []
    try:
        lines = read_text(file).splitlines()
    except InputError as error:
        return [], [str(error)]
    faults = []
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words:
            continue
        class_id, at = parse_integer(words[0]), f"{where}, line {number}"
        if class_id is None or not 0 <= class_id < len(names):
            faults.append(f"{at}: class {words[0][:40]}; expected a number from 0 to {len(names) - 1}")
            continue
        encode = partial(_encode_line, words[1:])
        shapes.append(Shape(at, names[class_id], encode, is_box=len(words) == 5))
    return shapes, faults


def _encode_line(words: Sequence[str], height: int, width: int) -> Encoded:
    values = numbers(words)
    if len(values) != 4 and (len(values) < 6 or len(values) % 2):
        raise ValueError(f"has {len(values)} coordinates; expected a box of 4, or an outline of at least 3 points x y")
    if any(not -_OVERSHOOT <= value <= 1 + _OVERSHOOT for value in values):
        wrong = next(value for value in values if not -_OVERSHOOT <= value <= 1 + _OVERSHOOT)
        raise ValueError(f"has the coordinate {wrong:g}; expected shares of the image from 0 to 1")
    scaled = [value * (height if index % 2 else width) for index, value in enumerate(values)]
    if len(scaled) == 4:
        x, y, across, down = scaled
        return encode_box((x - across / 2, y - down / 2, x + across / 2, y + down / 2), height, width)
    return encode_polygons([scaled], height, width)

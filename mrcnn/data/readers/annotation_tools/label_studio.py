"""Read Label Studio's JSON and JSON-MIN exports: polygons, brush masks, rectangles and ellipses.

Predictions and cancelled annotations are not read. A task without an annotation is not annotated and is left out.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mrcnn.data.names import find_patient
from mrcnn.data.problems import Problems, name_warnings
from mrcnn.data.readers.annotation_tools.annotated_images import AnnotatedImage, Shape, relative_name
from mrcnn.data.readers.annotation_tools.outlines import (
    Encoded,
    ellipse,
    encode_mask,
    encode_polygons,
    flatten_points,
    numbers,
    rectangle,
)
from mrcnn.data.readers.image_files import (
    IMAGE_SUFFIXES,
    ImageFiles,
    find_annotation_files,
    load_json,
    parse_integer,
    parse_number,
    read_bytes,
)
from mrcnn.errors import InputError

_KINDS = ("polygonlabels", "brushlabels", "rectanglelabels", "ellipselabels")
_AREAS = {"polygonlabels": "points", "brushlabels": "rle", "rectanglelabels": "width", "ellipselabels": "radiusX"}
_BITS = 8  # of a value of a brush mask


def matches(path: Path) -> bool:
    """Check for a JSON file with tasks at `path`, or in it."""
    return bool(_find_files(path))


def parse(path: Path, problems: Problems, warnings: list[str]) -> tuple[list[AnnotatedImage], None]:
    """Read one file, or the files of a folder; see `annotated_images`."""
    root = path if path.is_dir() else path.parent
    found = _find_files(path)
    if not found:
        raise InputError(f"{path}: expected a JSON export of Label Studio, a list of tasks with data and annotations")
    images, bare, passed = [], [], []
    for file in found:
        tasks = load_json(file)
        if not isinstance(tasks, list):
            raise InputError(f"{file}: expected a list of tasks")
        files = ImageFiles([file.parent, root])
        for number, task in enumerate(tasks):
            name = task.get("id", number) if isinstance(task, dict) else number
            where = f"{relative_name(file, root)}: task {name}"
            task = _from_min(task) if isinstance(task, dict) and "data" not in task else task
            data = task.get("data") if isinstance(task, dict) else None
            if not isinstance(data, dict):
                problems.add_skippable(f"{where}: expected an object with data and annotations")
                continue
            image = AnnotatedImage(where, _image_name(data), files, patient=find_patient(data))
            chosen = _choose(task.get("annotations", task.get("completions")), image)
            if chosen is not None:
                _read_results(chosen, image, passed)
                images.append(image)
            elif image.faults:
                images.append(image)
            else:
                bare.append(where)
    warnings += name_warnings("tasks have no annotation and are left out", bare)
    warnings += name_warnings("results have no area (key points, choices, text) and are passed over", passed)
    return images, None


def _find_files(path: Path) -> list[Path]:
    return find_annotation_files(path, ("*.json",), _is_export)


def _is_export(file: Path) -> bool:
    if file.suffix.lower() != ".json":
        return False
    content = read_bytes(file)
    if content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] != b"[":
        return False
    if b'"annotation_id"' in content and b'"original_width"' in content and b'"result"' not in content:
        return True  # JSON-MIN
    return all(key in content for key in (b'"data"', b'"result"')) and (
        b'"annotations"' in content or b'"completions"' in content
    )


def _from_min(task: dict[str, Any]) -> dict[str, Any]:
    """Convert an entry of a JSON-MIN export, which stands for one annotation, to a task.

    Its fields are those of the data and, for each control of the labeling interface, the values of the results.
    """
    results, data = [], {}
    for name, values in task.items():
        if not isinstance(values, list) or not any(isinstance(value, dict) for value in values):
            data[name] = values
            continue
        for value in values:
            fields = value if isinstance(value, dict) else {}
            kind = next((kind for kind in _KINDS if kind in fields), "labels")
            size = {key: fields.get(key) for key in ("original_width", "original_height", "image_rotation")}
            results.append({"type": kind, "value": value, **size})
    return {"id": task.get("id"), "data": data, "annotations": [{"result": results}]}


def _image_name(data: dict[str, Any]) -> Any:
    """Return the address of the image of a task, under whatever key the project has."""
    texts = [data[key] for key in ("image", "img", *data) if isinstance(data.get(key), str)]
    named = [text for text in texts if _address(text).lower().endswith(IMAGE_SUFFIXES)]
    return _address((named or texts)[0]) if texts else None


def _address(text: str) -> str:
    """Remove the signature of an address of cloud storage; a local file has its path in `?d=`."""
    return text if "?d=" in text else text.partition("?")[0]


def _choose(annotations: Any, image: AnnotatedImage) -> dict[str, Any] | None:
    """Choose the annotation of a task: the only one that is not cancelled, or the only ground truth."""
    if not isinstance(annotations, list) or not all(isinstance(each, dict) for each in annotations):
        image.faults.append(f"{image.where}: annotations are {type(annotations).__name__}; expected a list of objects")
        return None
    valid = [each for each in annotations if not (each.get("was_cancelled") or each.get("skipped"))]
    if len(valid) > 1:
        valid = [each for each in valid if each.get("ground_truth")] or valid
    if len(valid) > 1:
        image.faults.append(
            f"{image.where}: has {len(valid)} annotations; expected one, or one that is marked as ground truth"
        )
        return None
    return valid[0] if valid else None


def _read_results(annotation: dict[str, Any], image: AnnotatedImage, passed: list[str]) -> None:
    """Add the shapes of an annotation, and its size of the image, to `image`."""
    results = annotation.get("result")
    if not isinstance(results, list):
        image.faults.append(f"{image.where}: result is {type(results).__name__}; expected a list")
        return
    for number, result in enumerate(results):
        at = f"{image.where}, result {number}"
        value = result.get("value") if isinstance(result, dict) else None
        if not isinstance(value, dict):
            # Relations between results have no value.
            passed.append(at)
            continue
        kind = str(result.get("type", "")).lower()
        if kind == "labels":  # a label apart from the shape
            kind = next((each for each, name in _AREAS.items() if name in value), kind)
        if kind not in _KINDS:
            passed.append(at)
            continue
        height, width = parse_integer(result.get("original_height")), parse_integer(result.get("original_width"))
        if height is None or width is None:
            image.faults.append(f"{at}: expected original_width and original_height")
            continue
        size = height, width
        if image.size not in (None, size):
            image.faults.append(f"{at}: original size {size[1]}×{size[0]}; expected that of the other results")
            continue
        if parse_number(result.get("image_rotation") or 0) != 0:
            image.faults.append(f"{at}: image_rotation {result.get('image_rotation')!r}; expected 0, an image as it is")
            continue
        image.size = size
        labels = value.get(str(result.get("type", "")).lower(), value.get("labels"))
        name = labels[0] if isinstance(labels, list) and len(labels) == 1 else labels
        image.shapes.append(Shape(at, name, partial(_ENCODERS[kind], value)))


def _scaled(value: dict[str, Any], height: int, width: int, *names: str) -> list[float]:
    sides = {"x": width, "width": width, "radiusX": width, "y": height, "height": height, "radiusY": height}
    found = numbers([value.get(name) for name in names])
    return [number * sides[name] / 100 for name, number in zip(names, found, strict=True)]


def _angle(value: dict[str, Any]) -> float:
    return numbers([value.get("rotation") or 0])[0]


def _polygon(value: dict[str, Any], height: int, width: int) -> Encoded:
    return encode_polygons([flatten_points(value.get("points"), (width / 100, height / 100))], height, width)


def _rectangle(value: dict[str, Any], height: int, width: int) -> Encoded:
    x, y, across, down = _scaled(value, height, width, "x", "y", "width", "height")
    corners = rectangle(x, y, x + across, y + down, _angle(value), pivot=(x, y))  # Label Studio turns around the corner
    return encode_polygons([corners], height, width)


def _ellipse(value: dict[str, Any], height: int, width: int) -> Encoded:
    x, y, along, across = _scaled(value, height, width, "x", "y", "radiusX", "radiusY")
    return encode_polygons([ellipse(x, y, along, across, math.radians(_angle(value)))], height, width)


def _brush(value: dict[str, Any], height: int, width: int) -> Encoded:
    if value.get("format") != "rle":
        raise ValueError(f"has the format {value.get('format')!r}; expected rle")
    alpha = decode_brush(value.get("rle"), height * width * 4).reshape(height, width, 4)[..., 3]
    return encode_mask(alpha > 0, 0, 0, height, width)


_ENCODERS = {"polygonlabels": _polygon, "brushlabels": _brush, "rectanglelabels": _rectangle, "ellipselabels": _ellipse}


def decode_brush(data: Any, count: int) -> np.ndarray:
    """Decode the run lengths of a brush mask to `count` values uint8: rows of RGBA pixels.

    Format (thi.ng/rle-pack): 32 bits for the number of values, 5 for the bits of a value - 1, four times 4 for the bits
    of a run length - 1. Then for each run 1 bit, whether one value repeats, 2 bits for which of the four sizes its
    length has, the length - 1, and the value or values.

    Raises:
        ValueError: the data are invalid, or have another number of values.
    """
    try:
        content = bytes(data if isinstance(data, list) else [-1])
    except (ValueError, TypeError, MemoryError) as error:
        raise ValueError("has an rle that is not a list of numbers from 0 to 255") from error
    bits = np.unpackbits(np.frombuffer(content, np.uint8))
    place = 0

    def take(number: int) -> int:
        nonlocal place
        if place + number > len(bits):
            raise ValueError("has an rle that is cut short")
        place += number
        return int("".join(map(str, bits[place - number : place].tolist())), 2)

    stated, size = take(32), take(5) + 1
    if stated != count or size != _BITS:
        raise ValueError(f"has an rle of {stated} values of {size} bits; expected {count} of {_BITS}, as its size says")
    sizes = [take(4) + 1 for _ in range(4)]
    values, done = np.zeros(count, np.uint8), 0
    while done < count:
        repeats, length = take(1), take(sizes[take(2)]) + 1
        if done + length > count:
            raise ValueError(f"has an rle of more than {count} values")
        if repeats:
            values[done : done + length] = take(_BITS)
        else:
            end = place + length * _BITS
            if end > len(bits):
                raise ValueError("has an rle that is cut short")
            values[done : done + length] = np.packbits(bits[place:end])
            place = end
        done += length
    return values

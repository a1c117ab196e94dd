"""Write nnU-Net folders of 2-D images: `imagesTr/a_0000.png`, label maps `labelsTr/a.png` and `dataset.json`.

A label map holds the number of a class for each pixel, so it does not tell instances of one class apart that touch.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from scipy.ndimage import binary_dilation

from mrcnn.data.writers.form import Form, WrittenImage
from mrcnn.errors import InputError, counted

_CHANNEL = "_0000"
_TOUCHING = np.ones((3, 3), bool)
_COLORS = {"0": "R", "1": "G", "2": "B"}


def write(images: Sequence[WrittenImage], class_names: Sequence[str], folder: Path) -> list[str]:
    """Write the label maps and `dataset.json`; gray images among color images get three channels."""
    (folder / "labelsTr").mkdir(parents=True, exist_ok=True)
    joined = hidden = 0
    for image in images:
        labels, touched, covered = _label_map(image)
        joined, hidden = joined + touched, hidden + covered
        name = Path(image.path).name.removesuffix(f"{_CHANNEL}.png")
        _save(folder / "labelsTr" / f"{name}.png", labels)
    files = [folder / image.path for image in images]
    pixels = {file: _read(file).ndim == 3 for file in files}
    if any(pixels.values()):
        for file in (file for file, color in pixels.items() if not color):
            _save(file, np.dstack([_read(file)] * 3))
    content = {
        "channel_names": _COLORS if any(pixels.values()) else {"0": "image"},
        "labels": {"background": 0} | {name: number for number, name in enumerate(class_names, start=1)},
        "numTraining": len(images),
        "file_ending": ".png",
    }
    (folder / "dataset.json").write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
    warnings = []
    if joined:
        warnings.append(
            counted(joined, "instance touches another one of its", "instances touch another one of their")
            + " class; a label map of nnU-Net holds both as one piece"
        )
    if hidden:
        warnings.append(
            f"{counted(hidden, 'instance shares', 'instances share')} pixels with one of another class; a label map of "
            "nnU-Net holds the smaller one there"
        )
    return warnings


def _label_map(image: WrittenImage) -> tuple[np.ndarray, int, int]:
    """Draw the classes, smaller instances over larger ones.

    Returns:
        (H, W) uint8 or uint16, and the number of instances that touch another of their class, and that share pixels
        with one of another class.
    """
    _, height, width = image.masks.shape
    kind = np.uint8 if image.class_ids.max(initial=0) < 256 else np.uint16
    labels, owners = np.zeros((height, width), kind), np.zeros((height, width), np.int32)
    touching: set[int] = set()
    covering: set[int] = set()
    for index in np.argsort(-image.masks.areas, kind="stable").tolist():
        class_id, mask = int(image.class_ids[index]), image.masks.mask(index)
        under = owners[mask & (labels != class_id)]
        near = owners[binary_dilation(mask, _TOUCHING) & (labels == class_id)]
        for group, found in ((covering, under[under > 0]), (touching, near[near > 0])):
            if len(found):
                group |= {index, *(np.unique(found) - 1).tolist()}
        labels[mask], owners[mask] = class_id, index + 1
    return labels, len(touching), len(covering)


def _read(file: Path) -> np.ndarray:
    pixels = cv2.imdecode(np.frombuffer(file.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise InputError(f"{file.name}: is not a readable PNG file")
    return pixels


def _save(file: Path, pixels: np.ndarray) -> None:
    file.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())


def _image_path(name: str, split: str | None) -> str:
    stem, _, suffix = name.replace("/", "_").rpartition(".")
    return f"imagesTr/{stem}{_CHANNEL}.{suffix}"


FORM = Form("nnU-Net", write, _image_path, suffixes=(".png",))

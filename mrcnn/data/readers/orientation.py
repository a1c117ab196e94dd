"""Align annotations with images that have an EXIF orientation.

Browsers and most annotation tools display the oriented image; some programs display it as stored. The annotated size
shows which, unless the image is square.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from mrcnn.data.io.label_images import LabelImage
from mrcnn.data.io.pictures import UPRIGHT, orient, swaps_axes
from mrcnn.data.problems import Problems, name_warnings
from mrcnn.errors import InputError

REMEDY = "save the pictures upright, without EXIF orientation, and make sure that the annotations fit them"

Size = tuple[int, int]  # height, width


def stored_size(row: Mapping[str, Any]) -> Size:
    """Return height and width of an image as stored, before its EXIF orientation."""
    shown = row["height"], row["width"]
    return shown[::-1] if swaps_axes(row["orientation"]) else shown


def is_annotated_as_stored(size: Size, row: Mapping[str, Any]) -> bool | None:
    """Return whether an annotation of this size refers to the stored image; None if both sizes are equal."""
    shown, stored = (row["height"], row["width"]), stored_size(row)
    return None if shown == stored else size == stored


def find_annotated_as_stored(
    rows: Sequence[Mapping[str, Any]], sizes: Mapping[Path, Size], problems: Problems, warnings: list[str]
) -> set[Path]:
    """Find the files whose annotations refer to the stored image instead of the displayed one.

    Images with ambiguous sizes follow the other images of the set, or else the behavior of browsers, with a warning.

    Args:
        rows: fields of the images from `read_record_fields`.
        sizes: (height, width) in the annotations of each file, which fit the stored or displayed image.
        problems: collects ambiguous images of a set that mixes both.
        warnings: list to which warnings are appended.
    """
    oriented = [row for row in rows if row["orientation"] != UPRIGHT]
    told = {row["path"]: is_annotated_as_stored(sizes[row["path"]], row) for row in oriented if row["path"] in sizes}
    known = {each for each in told.values() if each is not None}
    unknown = [row for row in oriented if told.get(row["path"]) is None]
    if len(known) > 1:
        for row in unknown:
            problems.add_skippable(
                f"{row['file_name']}: EXIF orientation {row['orientation']}, and the sizes of other images say that "
                f"some were annotated as shown and some as stored; {REMEDY}",
                row["path"],
            )
    on_stored = {path for path, each in told.items() if each}
    if known == {True}:
        on_stored |= {row["path"] for row in unknown}
    if unknown and len(known) < 2:
        how = "as stored, as their sizes say of others" if known == {True} else "as browsers show them, turned"
        warnings += name_warnings(
            f"images have an EXIF orientation and count as annotated {how}; look at their pictures",
            [row["file_name"] for row in unknown],
        )
    return on_stored


def orient_run(run: bytes, size: Size, orientation: int) -> bytes:
    """Apply an EXIF orientation to a run-length string of a mask of the stored `size`."""
    mask = coco_mask.decode({"size": list(size), "counts": run})
    encoded = coco_mask.encode(np.asfortranarray(orient(mask, orientation)))
    return encoded["counts"]  # pyright: ignore[reportReturnType] - pycocotools encodes to bytes


def align_to_image(labels: LabelImage, row: Mapping[str, Any], where: str) -> np.ndarray:
    """Align the values of a mask with its displayed image, by the EXIF orientation or else the size of the mask.

    Raises:
        InputError: the sizes differ, or the image has an EXIF orientation and the size is ambiguous.
    """
    shown, values = (row["height"], row["width"]), labels.values
    readings = []
    if values.shape == shown:
        readings.append(values)
    if labels.orientation == UPRIGHT != row["orientation"] and values.shape == stored_size(row):
        readings.append(orient(values, row["orientation"]))
    if not readings:
        height, width = values.shape
        raise InputError(f"{where}: has {width}×{height} pixels; its image has {shown[1]}×{shown[0]}")
    if len(readings) > 1 and not np.array_equal(*readings):
        raise InputError(
            f"{where}: its image has EXIF orientation {row['orientation']}, and nothing tells whether the mask was "
            f"drawn on it as shown or as stored; {REMEDY}"
        )
    return readings[0]

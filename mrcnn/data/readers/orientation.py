"""Annotations of pictures whose EXIF orientation turns them: were they made on the picture as shown or as stored?

Browsers, and so most annotation tools, turn the picture; some programs do not. Sizes tell, where the sides differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from mrcnn.data.io.label_images import LabelImage
from mrcnn.data.io.orientation import UPRIGHT, swaps_sides, turned
from mrcnn.data.readers.problems import Problems, summarize_names
from mrcnn.errors import InputError

REMEDY = "save the pictures upright, without EXIF orientation, and make sure that the annotations fit them"

Size = tuple[int, int]  # height, width


def stored_size(row: Mapping[str, Any]) -> Size:
    """Height and width of the picture of a row as they are stored."""
    shown = row["height"], row["width"]
    return shown[::-1] if swaps_sides(row["orientation"]) else shown


def made_on_stored(size: Size, row: Mapping[str, Any]) -> bool | None:
    """Whether an annotation of this size was made on the stored picture; None where the size does not tell."""
    shown, stored = (row["height"], row["width"]), stored_size(row)
    return None if shown == stored else size == stored


def find_made_on_stored(
    rows: Sequence[Mapping[str, Any]], sizes: Mapping[Path, Size], problems: Problems, warnings: list[str]
) -> set[Path]:
    """Find the files whose annotations were made on the stored picture.

    What their sizes do not tell follows the others of the set, or without such what browsers do, with a warning.

    Args:
        rows: of the images, as `read_row` makes them.
        sizes: that the annotations state, which fit their picture one way or the other.
    """
    oriented = [row for row in rows if row["orientation"] != UPRIGHT]
    told = {row["path"]: made_on_stored(sizes[row["path"]], row) for row in oriented if row["path"] in sizes}
    known = {each for each in told.values() if each is not None}
    unknown = [row for row in oriented if told.get(row["path"]) is None]
    if len(known) > 1:
        for row in unknown:
            problems.add_passable(
                f"{row['file_name']}: EXIF orientation {row['orientation']}, and the sizes of other images say that "
                f"some were annotated as shown and some as stored; {REMEDY}",
                row["path"],
            )
    on_stored = {path for path, each in told.items() if each}
    if known == {True}:
        on_stored |= {row["path"] for row in unknown}
    if unknown and len(known) < 2:
        how = "as stored, as their sizes say of others" if known == {True} else "as browsers show them, turned"
        named = [row["file_name"] for row in unknown]
        warnings.append(
            summarize_names(
                f"images have an EXIF orientation and count as annotated {how}; look at their pictures", named
            )
        )
    return on_stored


def turn_runs(run: bytes, size: Size, orientation: int) -> bytes:
    """The run-length string of a mask that was made on the stored picture, of that size, on the shown one."""
    mask = coco_mask.decode({"size": list(size), "counts": run})
    return coco_mask.encode(np.asfortranarray(turned(mask, orientation)))["counts"]


def on_shown(labels: LabelImage, row: Mapping[str, Any], where: str) -> np.ndarray:
    """The values of a mask on its image as that is shown.

    The mask's own orientation says how it lies, or else its size does.

    Raises:
        InputError: its size is another, or says nothing while the image is turned.
    """
    shown, values = (row["height"], row["width"]), labels.values
    readings = []
    if values.shape == shown:
        readings.append(values)
    if labels.orientation == UPRIGHT != row["orientation"] and values.shape == stored_size(row):
        readings.append(turned(values, row["orientation"]))
    if not readings:
        height, width = values.shape
        raise InputError(f"{where}: has {width}×{height} pixels; its image has {shown[1]}×{shown[0]}")
    if len(readings) > 1 and not np.array_equal(*readings):
        raise InputError(
            f"{where}: its image has EXIF orientation {row['orientation']}, and nothing tells whether the mask was "
            f"drawn on it as shown or as stored; {REMEDY}"
        )
    return readings[0]

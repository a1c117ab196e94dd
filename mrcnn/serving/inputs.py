"""Images as somebody hands them to a served model: arrays, the nested lists that JSON brings, or files in base64."""

from __future__ import annotations

import base64
import binascii
from itertools import chain
from typing import NamedTuple

import numpy as np

from mrcnn.data.io.image_bytes import EXPECTED, MAX_PIXELS, check_pixel_count, decode_image
from mrcnn.data.sample import Spacing
from mrcnn.errors import InputError


class DecodedImage(NamedTuple):
    """`pixels` (H, W) or (H, W, C), and the (row, column) size of one in mm where the image's own file tells it."""

    pixels: np.ndarray
    spacing_mm: Spacing | None = None


def parse_images(model_input: object, most_pixels: int | None = None) -> list[DecodedImage]:
    """What `predict` was given as a list of images.

    One array is one image, or N of them where it has four dimensions. A list is always a list of images, each an array;
    nested lists of numbers, as JSON brings them, whole numbers from 0 to 255 being 8-bit pixels then; or the base64 of
    a whole image file as text. Text is never a path or an address.

    Args:
        most_pixels: rows times columns that an image may have; None: as many as an array has, and of a file those of
            `mrcnn.data.io.image_bytes`.

    Raises:
        InputError: names the image, its shape and what was expected.
    """
    if isinstance(model_input, np.ndarray) and model_input.dtype != object and model_input.ndim != 4:
        model_input = [model_input]
    if not isinstance(model_input, list | tuple | np.ndarray):
        raise InputError(f"{type(model_input).__name__}: expected an image as an array, or a list of images")
    given = []
    for number, item in enumerate(model_input, start=1):
        try:
            if isinstance(item, str):
                given.append(_of_text(item, MAX_PIXELS if most_pixels is None else most_pixels))
                continue
            image = _as_array(item)
            if most_pixels is not None:
                check_pixel_count(*image.shape[:2], most_pixels)
            given.append(DecodedImage(image))
        except InputError as error:
            raise InputError(f"image {number}: {error}") from error
    return given


def as_images(model_input: object) -> list[np.ndarray]:
    """The pixels of `parse_images`; models that were logged before there was more than pixels import it."""
    return [image.pixels for image in parse_images(model_input)]


def _of_text(text: str, most_pixels: int) -> DecodedImage:
    try:
        data = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"text that is no base64; expected that of {EXPECTED}, whole") from error
    return DecodedImage(*decode_image(data, most_pixels))


def _as_array(item: object) -> np.ndarray:
    if isinstance(item, list | tuple):
        _check_leaves(item)
    try:
        image = np.asarray(item)
    except (ValueError, OverflowError) as error:
        raise InputError("rows of different lengths, expected (H, W) or (H, W, C)") from error
    if image.ndim not in (2, 3) or 0 in image.shape or image.dtype.kind not in "buif":
        raise InputError(f"{image.dtype} array of shape {image.shape}, expected numbers as (H, W) or (H, W, C)")
    if not isinstance(item, np.ndarray) and image.dtype.kind == "i" and image.min() >= 0 and image.max() <= 255:
        return image.astype(np.uint8)
    return image


def _check_leaves(level: object) -> None:
    """Refuses text and the like in nested lists: one long word would have NumPy make all of them as long."""
    kinds = set(map(type, level))
    for _ in range(3):
        if not kinds <= {list, tuple}:
            break
        level = list(chain.from_iterable(level))
        kinds = set(map(type, level))
    for kind in kinds:
        if issubclass(kind, str | bytes | dict) or kind is type(None):
            raise InputError(f"holds {kind.__name__}, expected numbers as (H, W) or (H, W, C)")

"""Parse the images of a request: arrays, nested lists of JSON, or image files in base64."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from mrcnn.data.io.image_bytes import EXPECTED, MAX_PIXELS, check_pixel_count, decode_image
from mrcnn.data.sample import Spacing
from mrcnn.errors import InputError


class DecodedImage(NamedTuple):
    """Store `pixels` (H, W) or (H, W, C), and the (row, column) pixel size in mm if the image file has it."""

    pixels: np.ndarray
    spacing_mm: Spacing | None = None


def parse_images(model_input: object, most_pixels: int | None = None) -> list[DecodedImage]:
    """Convert the input of `predict` to a list of images.

    An array is one image, or N images if it has four dimensions. A list is always a list of images. Each is an array,
    nested lists of numbers (integers from 0 to 255 are 8-bit pixels), or the base64 text of an image file. Text is
    never a path or a URL.

    Args:
        model_input: one of these forms.
        most_pixels: maximum of rows × columns of an image; None: no limit for arrays, and for files that of
            `mrcnn.data.io.image_bytes`.

    Raises:
        InputError: reports the image's number, its shape and the expected form.
    """
    if isinstance(model_input, np.ndarray) and model_input.dtype != object and model_input.ndim != 4:
        model_input = [model_input]
    if not isinstance(model_input, list | tuple | np.ndarray):
        raise InputError(f"{type(model_input).__name__}: expected an image as an array, or a list of images")
    images = []
    for number, item in enumerate(model_input, start=1):
        try:
            if isinstance(item, str):
                images.append(_decode_base64(item, MAX_PIXELS if most_pixels is None else most_pixels))
                continue
            image = _as_array(item)
            if most_pixels is not None:
                height, width = image.shape[:2]
                check_pixel_count(height, width, most_pixels)
            images.append(DecodedImage(image))
        except InputError as error:
            raise InputError(f"image {number}: {error}") from error
    return images


def as_images(model_input: object) -> list[np.ndarray]:
    """Return the pixels of `parse_images`; models logged with earlier versions import this function."""
    return [image.pixels for image in parse_images(model_input)]


def _decode_base64(text: str, most_pixels: int) -> DecodedImage:
    try:
        data = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"text that is no base64; expected that of {EXPECTED}, whole") from error
    pixels, spacing_mm = decode_image(data, most_pixels)
    return DecodedImage(pixels, spacing_mm)


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


def _check_leaves(level: Iterable[Any]) -> None:
    """Reject text in nested lists: NumPy would allocate the length of the longest string for every element."""
    kinds = set(map(type, level))
    for _ in range(3):
        if not kinds <= {list, tuple}:
            break
        level = list(chain.from_iterable(level))
        kinds = set(map(type, level))
    for kind in kinds:
        if issubclass(kind, str | bytes | dict) or kind is type(None):
            raise InputError(f"holds {kind.__name__}, expected numbers as (H, W) or (H, W, C)")

"""Images as somebody hands them to a served model: arrays, or the nested lists that JSON brings."""

from __future__ import annotations

import numpy as np

from mrcnn.errors import InputError


def as_images(model_input: object) -> list[np.ndarray]:
    """What `predict` was given as a list of arrays (H, W) or (H, W, C).

    One array is one image, or N of them where it has four dimensions. A list is always a list of images, each an array
    or, as JSON brings it, nested lists of numbers; whole numbers from 0 to 255 are then 8-bit pixels.

    Raises:
        InputError: names the image, its shape and what was expected.
    """
    if isinstance(model_input, np.ndarray) and model_input.dtype != object and model_input.ndim != 4:
        model_input = [model_input]
    if not isinstance(model_input, list | tuple | np.ndarray):
        raise InputError(f"{type(model_input).__name__}: expected an image as an array, or a list of images")
    return [_as_image(item, number) for number, item in enumerate(model_input, start=1)]


def _as_image(item: object, number: int) -> np.ndarray:
    try:
        image = np.asarray(item)
    except ValueError as error:
        raise InputError(f"image {number}: rows of different lengths, expected (H, W) or (H, W, C)") from error
    if image.ndim not in (2, 3) or 0 in image.shape or image.dtype.kind not in "buif":
        raise InputError(
            f"image {number}: {image.dtype} array of shape {image.shape}, expected numbers as (H, W) or (H, W, C)"
        )
    if not isinstance(item, np.ndarray) and image.dtype.kind == "i" and image.min() >= 0 and image.max() <= 255:
        return image.astype(np.uint8)
    return image

"""What happens to an image's pixels before the network sees them: channels, size, normalisation."""

from __future__ import annotations

import numpy as np
from PIL import Image

from mrcnn.errors import InputError

LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as Pillow's mode L
CAFFE_MEAN = np.array([103.939, 116.779, 123.68], np.float32)  # blue, green, red; what keras.applications subtracts
TORCH_MEAN = np.array([0.485, 0.456, 0.406], np.float32)  # red, green, blue, of 0 … 1
TORCH_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
PERCENTILES = (0.5, 99.5)
_SQUARABLE = (1e-15, 1e15)  # float32 holds sums of as many squares as an image has pixels


def match_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """(H, W, C) to (H, W, `channels`): alpha is dropped, grey repeated, RGB made luminance.

    Raises:
        InputError: any other change of number, which would lose or invent data.
    """
    given = image.shape[2]
    if given == channels:
        return image
    # Only 8-bit images have alpha; four float channels are four modalities.
    if image.dtype == np.uint8 and given in (2, 4):
        return match_channels(image[..., :-1], channels)
    if given == 1:
        return np.broadcast_to(image, (*image.shape[:2], channels))
    if given == 3 and channels == 1:
        return (image @ LUMINANCE)[..., None]
    raise InputError(f"image has {given} channels; expected {channels} as the model's `channels`, or grey")


def resize(image: np.ndarray, height: int, width: int, scale: float) -> np.ndarray:
    """(H, W, C) uint8 or float32 to (height, width, C): output (y, x) covers y / scale … (y + 1) / scale, likewise x.

    Bilinear, with its support widened when shrinking so that nothing aliases. What lies beyond height / scale or
    width / scale, less than a pixel of the result, is cut off.
    """
    rows, columns = image.shape[:2]
    if (rows, columns) == (height, width):
        return image
    source = (0, 0, min(width / scale, columns), min(height / scale, rows))
    if image.dtype == np.uint8 and image.shape[2] == 3 and image.strides[2]:
        return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR, source))
    # A broadcast channel is resized once.
    distinct = image.shape[2] if image.strides[2] else 1
    planes = [
        np.asarray(
            Image.fromarray(np.ascontiguousarray(image[..., channel])).resize(
                (width, height), Image.Resampling.BILINEAR, source
            )
        )
        for channel in range(distinct)
    ]
    return np.broadcast_to(np.stack(planes, axis=-1), (height, width, image.shape[2]))


def standardize(image: np.ndarray) -> np.ndarray:
    """(H, W, C) to float32 with zero mean and unit variance in each channel; a constant channel becomes zeros."""
    height, width, channels = image.shape
    distinct = channels if image.strides[2] else 1
    pixels = image[..., :distinct].reshape(-1, distinct).astype(np.float32)
    corner = pixels[0].copy()
    if image.dtype != np.uint8:
        # The squares below must neither overflow nor vanish.
        peak = np.maximum(pixels.max(axis=0), -pixels.min(axis=0))
        extreme = (peak > 0) & ((peak < _SQUARABLE[0]) | (peak > _SQUARABLE[1]))
        if extreme.any():
            pixels /= np.where(extreme, peak, 1)
            corner /= np.where(extreme, peak, 1)
    pixels -= pixels.mean(axis=0, dtype=np.float64).astype(np.float32)
    deviation = np.sqrt(np.einsum("nc,nc->c", pixels, pixels) / len(pixels))
    # Rounding leaves a constant channel of large values with a tiny deviation, which must not be blown up to noise.
    size = np.abs(corner) + deviation
    flat = deviation <= 1e-6 * size
    pixels *= np.where(flat, 0, 1 / np.where(flat, 1, deviation))
    return np.broadcast_to(pixels.reshape(height, width, distinct), image.shape)


def identity(image: np.ndarray) -> np.ndarray:
    """(H, W, C), unchanged."""
    return image


def caffe_normalization(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) RGB in 0 … 255 to BGR float32 with ImageNet's mean subtracted, as keras.applications.resnet trained."""
    return image[..., ::-1].astype(np.float32) - CAFFE_MEAN


def torch_normalization(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) RGB in 0 … 255 to float32 of about zero mean and unit variance on ImageNet, as torchvision trained."""
    return (image.astype(np.float32) / np.float32(255) - TORCH_MEAN) / TORCH_DEVIATION


def rescale_to_uint8_range(image: np.ndarray) -> np.ndarray:
    """Float32 of any range to 0 … 255 between its 0.5 and 99.5 percentiles; uint8 as it is, a constant becomes 0."""
    if image.dtype == np.uint8:
        return image
    low, high = np.percentile(image, PERCENTILES)
    return np.clip((image - low) * (255 / max(high - low, 1e-12)), 0, 255).astype(np.float32)

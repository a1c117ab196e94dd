"""Convert the channels, equalize the histogram and normalize the pixels of network inputs."""

from __future__ import annotations

from functools import partial

import numpy as np

from mrcnn.errors import InputError

LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as Pillow's mode L
CAFFE_MEAN = np.array([103.939, 116.779, 123.68], np.float32)  # blue, green, red; what keras.applications subtracts
TORCH_MEAN = np.array([0.485, 0.456, 0.406], np.float32)  # red, green, blue, of 0 … 1
TORCH_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
SYMMETRIC_MEAN, SYMMETRIC_SCALE = np.float32(127), np.float32(128)
CLIP_LIMIT = 0.01
"""Clip limit of CLAHE, the largest share of a tile's pixels in one gray level; default of scikit-image. The side of a
tile is an eighth of the image side."""
PERCENTILES = (0.5, 99.5)
_SQUARABLE = (1e-15, 1e15)  # range in which float32 sums of squares over an image neither overflow nor vanish


def match_channels(image: np.ndarray, channels: int, context_slices: int = 0) -> np.ndarray:
    """Convert (H, W, C) to (H, W, channels): drop alpha, repeat gray, convert RGB to luminance.

    With `context_slices` the image has the channels of several slices, each of which is converted; a gray image stands
    for all of them. See `mrcnn.data.sample.read_with_context`.

    Raises:
        InputError: any other conversion, which would lose or invent data.
    """
    present, slices = image.shape[2], 2 * context_slices + 1
    if present == channels:
        return image
    if context_slices and present > 1:
        # Fewer gray slices than channels of a slice cannot be told from a slice alone.
        if present % slices or present == channels // slices:
            raise InputError(
                f"image has {present} channels; expected {channels}: those of {slices} slices, the present one in the "
                "middle"
            )
        parts = np.split(image, slices, axis=2)
        return np.concatenate([match_channels(part, channels // slices) for part in parts], axis=2)
    # Only 8-bit images have alpha; four float channels are four modalities.
    if image.dtype == np.uint8 and present in (2, 4):
        return match_channels(image[..., :-1], channels)
    if present == 1:
        return np.broadcast_to(image, (*image.shape[:2], channels))
    if present == 3 and channels == 1:
        return (image @ LUMINANCE)[..., None]
    raise InputError(f"image has {present} channels; expected {channels} as the model's `channels`, or gray")


def standardize(image: np.ndarray) -> np.ndarray:
    """Normalize each channel of (H, W, C) to float32 with zero mean and unit variance; constant channels become 0."""
    height, width, channels = image.shape
    distinct = channels if image.strides[2] else 1
    pixels = image[..., :distinct].reshape(-1, distinct).astype(np.float32)
    corner = pixels[0].copy()
    if image.dtype != np.uint8:
        # Prevents overflow and underflow of the squares below.
        peak = np.maximum(pixels.max(axis=0), -pixels.min(axis=0))
        extreme = (peak > 0) & ((peak < _SQUARABLE[0]) | (peak > _SQUARABLE[1]))
        if extreme.any():
            pixels /= np.where(extreme, peak, 1)
            corner /= np.where(extreme, peak, 1)
    pixels -= pixels.mean(axis=0, dtype=np.float64).astype(np.float32)
    deviation = np.sqrt(np.einsum("nc,nc->c", pixels, pixels) / len(pixels))
    # Rounding errors give a constant channel of large values a tiny deviation, which must not be amplified.
    size = np.abs(corner) + deviation
    flat = deviation <= 1e-6 * size
    pixels *= np.where(flat, 0, 1 / np.where(flat, 1, deviation))
    return np.broadcast_to(pixels.reshape(height, width, distinct), image.shape)


def identity(image: np.ndarray) -> np.ndarray:
    """Return the image (H, W, C) unchanged."""
    return image


def caffe_normalization(image: np.ndarray) -> np.ndarray:
    """Convert RGB (H, W, 3), 0 … 255, to BGR float32 minus the ImageNet mean, as in keras.applications.resnet."""
    return image[..., ::-1].astype(np.float32) - CAFFE_MEAN


def torch_normalization(image: np.ndarray) -> np.ndarray:
    """Normalize RGB (H, W, 3), 0 … 255, to float32 with ImageNet mean and deviation, as in torchvision."""
    return (image.astype(np.float32) / np.float32(255) - TORCH_MEAN) / TORCH_DEVIATION


def symmetric_normalization(image: np.ndarray) -> np.ndarray:
    """Scale pixels from 0 … 255 to -1 … 1 float32, as EfficientNet-Lite (`MEAN_RGB`, `STDDEV_RGB`) was trained with."""
    return (image.astype(np.float32) - SYMMETRIC_MEAN) / SYMMETRIC_SCALE


def rescale_to_uint8_range(image: np.ndarray) -> np.ndarray:
    """Rescale a float image from its 0.5 and 99.5 percentiles to 0 … 255 float32; uint8 is returned unchanged."""
    if image.dtype == np.uint8:
        return image
    low, high = np.percentile(image, PERCENTILES)
    return np.clip((image - low) * (255 / max(high - low, 1e-12)), 0, 255).astype(np.float32)


def equalize(image: np.ndarray, method: str) -> np.ndarray:
    """Equalize the histogram of an image.

    Each channel is equalized separately, which changes the color balance; repeated gray stays gray. A constant channel
    is returned unchanged.

    Args:
        image: (H, W, C) uint8 or float.
        method: `none`; `histogram`, over the whole image; or `clahe`, contrast-limited per tile (Zuiderveld 1994,
            Graphics Gems IV), which limits noise in flat regions.

    Returns:
        (H, W, C) float32 from 0 to 255; with `none` the image itself.
    """
    if method == "none":
        return image
    # Imported only if needed: it slows down the start of worker processes.
    from skimage import exposure

    planes = []
    for channel in range(image.shape[2] if image.strides[2] else 1):
        plane = image[..., channel].astype(np.float64)
        low, high = plane.min(), plane.max()
        if low == high:
            planes.append(plane)
            continue
        plane = (plane - low) / (high - low)
        clahe = partial(exposure.equalize_adapthist, clip_limit=CLIP_LIMIT)
        planes.append(255 * (exposure.equalize_hist if method == "histogram" else clahe)(plane))
    return np.broadcast_to(np.stack(planes, axis=-1).astype(np.float32), image.shape)

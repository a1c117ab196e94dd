"""Encode images and samples as arrays of the fixed shapes of the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from mrcnn.config import InputConfig, ModelConfig, pixel_normalization
from mrcnn.data.sample import Sample
from mrcnn.data.transforms.letterbox import CenteredLetterbox, prepare_centered
from mrcnn.data.transforms.normalization import (
    caffe_normalization,
    equalize,
    identity,
    match_channels,
    rescale_to_uint8_range,
    standardize,
    symmetric_normalization,
    torch_normalization,
)
from mrcnn.data.transforms.resizing import resize
from mrcnn.errors import InputError
from mrcnn.instance_masks import InstanceMasks

Batch = dict[str, np.ndarray]
"""Arrays by name, with the batch dimension first. Their shapes depend on the configuration and batch size alone, and
padded entries have a validity mask, so that one compiled step serves all batches."""
_NORMALIZATIONS = {
    "image": standardize,
    "none": identity,
    "caffe": caffe_normalization,
    "torch": torch_normalization,
    "symmetric": symmetric_normalization,
}


@dataclass(frozen=True)
class Letterbox:
    """Map coordinates between an image and the network input with the scaled image at its top-left corner.

    Attributes:
        scale: network pixels per image pixel, equal for both sides.
        height: height of the original image.
        width: width of the original image.
    """

    scale: float
    height: int
    width: int

    def to_network(self, boxes: np.ndarray) -> np.ndarray:
        """Map boxes (N, 4) from image pixels to network pixels, float32."""
        return np.asarray(boxes, np.float32) * np.float32(self.scale)

    def to_original(self, boxes: np.ndarray) -> np.ndarray:
        """Map boxes (N, 4) from network pixels to image pixels, float32."""
        return np.asarray(boxes, np.float32) / np.float32(self.scale)


def prepare_image(
    image: np.ndarray, config: ModelConfig | InputConfig
) -> tuple[np.ndarray, Letterbox | CenteredLetterbox]:
    """Prepare the network input of one image: resize, equalize, normalize and pad.

    Args:
        image: (H, W, C) or (H, W), any numeric type.
        config: input of the model.

    Returns:
        (H, W, C) float32 with H, W = config.input_shape and C = config.channels: the image with its aspect ratio,
        normalized over its own area, then padded with 0; and the letterbox that maps boxes in both directions.

    Raises:
        InputError: the channels do not fit the model, the image is empty, or pixels are not finite.
    """
    image = np.asarray(image)
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or 0 in image.shape:
        raise InputError(f"image has shape {image.shape}; expected (height, width, channels)")
    if image.dtype != np.uint8:
        with np.errstate(over="ignore"):
            image = image.astype(np.float32)
            low, high = image.min(), image.max()
            span = high - low
        if not (np.isfinite(low) and np.isfinite(high)):
            raise InputError("image has pixels that are NaN or infinite; expected finite numbers")
        if not np.isfinite(span):
            raise InputError(f"image has pixels from {low:g} to {high:g}; expected a range that 32 bits hold")
    if config.normalisation == "imagenet":
        image = rescale_to_uint8_range(image)
    image = match_channels(image, config.channels, config.context_slices)

    if config.conventions == "matterport":
        return prepare_centered(image, config.input_shape[0], config.equalise)
    canvas, (height, width) = config.input_shape, image.shape[:2]
    letterbox = Letterbox(min(canvas[0] / height, canvas[1] / width), height, width)
    # The small addition prevents rounding down of a side that fits exactly.
    rows, columns = (max(1, int(side * letterbox.scale + 1e-6)) for side in (height, width))
    image = equalize(resize(image, rows, columns, letterbox.scale), config.equalise)
    normalize = _NORMALIZATIONS[pixel_normalization(config)]
    prepared = np.zeros((*canvas, config.channels), np.float32)
    prepared[:rows, :columns] = normalize(image)
    return prepared, letterbox


def prepare_sample(
    sample: Sample, config: ModelConfig | InputConfig
) -> tuple[np.ndarray, Letterbox | CenteredLetterbox]:
    """Prepare the image of a sample like `prepare_image`; the message of an error names the sample."""
    try:
        return prepare_image(sample.image, config)
    except InputError as error:
        raise InputError(f"{sample.source}: {error}") from error


def make_batch(samples: Sequence[Sample], config: ModelConfig) -> Batch:
    """Encode B samples as a training batch of the network.

    With H, W = config.input_shape, M = config.max_instances and T = config.target_mask_size:

    - `image` (B, H, W, C) float32, see `prepare_image`;
    - `boxes` (B, M, 4) float32, tight around the masks, in network pixels;
    - `class_ids` (B, M) int32, 0 in padded slots; `valid` (B, M) bool, False in padded slots;
    - `masks` (B, M, T, T) uint8, 0 … 255, each mask cropped to its box.

    The largest M instances of a sample are used; empty masks are left out. For data sets with crowds also `ignore`, see
    `add_ignore_regions`.

    Raises:
        InputError: as in `prepare_image`; the message names the sample.
    """
    count, slots, side = len(samples), config.max_instances, config.target_mask_size
    batch = {
        "image": np.empty((count, *config.input_shape, config.channels), np.float32),
        "boxes": np.zeros((count, slots, 4), np.float32),
        "class_ids": np.zeros((count, slots), np.int32),
        "valid": np.zeros((count, slots), bool),
        "masks": np.zeros((count, slots, side, side), np.uint8),
    }
    letterboxes = []
    for row, sample in enumerate(samples):
        batch["image"][row], letterbox = prepare_sample(sample, config)
        letterboxes.append(letterbox)
        instances = sample.instances
        boxes = instances.boxes
        kept = _largest(instances, np.flatnonzero(boxes[:, 2] > 0), slots)
        batch["boxes"][row, : len(kept)] = letterbox.to_network(boxes[kept])
        batch["class_ids"][row, : len(kept)] = sample.class_ids[kept]
        batch["valid"][row, : len(kept)] = True
        for slot, index in enumerate(kept):
            batch["masks"][row, slot] = square(instances.crop(index).pixels, side)
    return add_ignore_regions(batch, samples, letterboxes)


def add_ignore_regions(
    batch: Batch, samples: Sequence[Sample], letterboxes: Sequence[Letterbox | CenteredLetterbox]
) -> Batch:
    """Add `ignore` (B, H, W) uint8, 1 in crowd regions, which are neither object nor background.

    It is added if the data set of the samples has any crowd, so that all its batches have the same arrays.
    """
    if not samples or samples[0].crowds is None:
        return batch
    canvas = batch["image"].shape[1:3]
    ignored = np.zeros((len(samples), *canvas), np.uint8)
    for row, (sample, letterbox) in enumerate(zip(samples, letterboxes, strict=True)):
        if sample.crowds is not None and len(sample.crowds):
            ignored[row] = mask_to_network(sample.crowds.union(), letterbox, canvas)
    return batch | {"ignore": ignored}


def mask_to_network(mask: np.ndarray, letterbox: Letterbox | CenteredLetterbox, canvas: tuple[int, int]) -> np.ndarray:
    """Resize a mask bool to the canvas (height, width) bool; it includes pixels that are at least half covered."""
    if isinstance(letterbox, CenteredLetterbox):
        top, left, height, width = letterbox.top, letterbox.left, letterbox.inner_height, letterbox.inner_width
    else:
        top, left = 0, 0
        height, width = (max(1, int(side * letterbox.scale + 1e-6)) for side in mask.shape)
    inside = np.zeros(canvas, bool)
    covered = resize(mask[..., None].astype(np.float32), height, width, letterbox.scale)
    inside[top : top + height, left : left + width] = covered[..., 0] >= 0.5
    return inside


def _largest(masks: InstanceMasks, indices: np.ndarray, limit: int) -> np.ndarray:
    """Select at most `limit` of `indices`, those with the largest areas, in their order."""
    if len(indices) <= limit:
        return indices
    return np.sort(indices[np.argsort(-masks.areas[indices], kind="stable")[:limit]])


def square(pixels: np.ndarray, size: int) -> np.ndarray:
    """Resize a mask cropped to its tight box, (h, w) bool, to (size, size) uint8, 0 … 255.

    Sides are averaged over areas when reduced and interpolated between pixel centers when enlarged. Resizing the result
    to the box and thresholding at 127.5 restores the mask almost exactly.
    """
    crop = Image.fromarray(pixels.astype(np.uint8) * np.uint8(255))
    crop = crop.resize((size, crop.height), _filter(crop.width, size))
    return np.asarray(crop.resize((size, size), _filter(crop.height, size)))


def _filter(pixels: int, size: int) -> Image.Resampling:
    return Image.Resampling.BOX if pixels >= size else Image.Resampling.BILINEAR

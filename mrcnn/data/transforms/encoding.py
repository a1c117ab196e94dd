"""Images and samples as arrays of the fixed shapes that the network takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mrcnn.config import ModelConfig
from mrcnn.data.sample import Sample
from mrcnn.data.transforms import normalization as pixels
from mrcnn.data.transforms.equalization import equalize
from mrcnn.data.transforms.letterbox import CenteredLetterbox, prepare_centered
from mrcnn.data.transforms.mask_crops import square
from mrcnn.errors import InputError
from mrcnn.instance_masks import InstanceMasks

Batch = dict[str, np.ndarray]
_NORMALISATIONS = {"image": pixels.standardize, "imagenet": pixels.caffe_normalization, "none": pixels.identity}


@dataclass(frozen=True)
class Letterbox:
    """How an image was fitted into the network's square: scaled, at the top-left corner, the rest padded.

    Attributes:
        scale: network pixels per image pixel, the same for both sides.
        height: of the original image.
        width: of the original image.
    """

    scale: float
    height: int
    width: int

    def to_network(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes (N, 4) in image pixels → network pixels, float32."""
        return np.asarray(boxes, np.float32) * np.float32(self.scale)

    def to_original(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes (N, 4) in network pixels → image pixels, float32."""
        return np.asarray(boxes, np.float32) / np.float32(self.scale)


def prepare_image(image: np.ndarray, config: ModelConfig) -> tuple[np.ndarray, Letterbox | CenteredLetterbox]:
    """The network's input of one image.

    Args:
        image: (H, W, C) or (H, W), any number type.

    Returns:
        (S, S, C) float32 with S = config.image_size and C = config.channels: the image with its aspect kept,
        equalised and normalised over its own area, then padded with 0; and the `Letterbox` that maps boxes there and
        back.

    Raises:
        InputError: channels that do not fit the model, no pixels, or pixels that are not finite.
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
        image = pixels.rescale_to_uint8_range(image)
    image = pixels.match_channels(image, config.channels)

    if config.conventions == "matterport":
        return prepare_centered(image, config.image_size, config.equalise)
    size, (height, width) = config.image_size, image.shape[:2]
    letterbox = Letterbox(size / max(height, width), height, width)
    # The tiny addition keeps a side that fits exactly from losing a pixel to rounding.
    inner = [max(1, int(side * letterbox.scale + 1e-6)) for side in (height, width)]
    image = equalize(pixels.resize(image, *inner, letterbox.scale), config.equalise)
    normalise = _NORMALISATIONS[config.normalisation]
    normalise = pixels.torch_normalization if config.conventions == "torchvision" else normalise
    prepared = np.zeros((size, size, config.channels), np.float32)
    prepared[: inner[0], : inner[1]] = normalise(image)
    return prepared, letterbox


def make_batch(samples: Sequence[Sample], config: ModelConfig) -> Batch:
    """What the network trains on, from B samples.

    With S = config.image_size, M = config.max_instances and T = config.target_mask_size:

    - `image` (B, S, S, C) float32, see `prepare_image`;
    - `boxes` (B, M, 4) float32, tight around the masks, in network pixels;
    - `class_ids` (B, M) int32, 0 where there is no instance; `valid` (B, M) bool, True where there is one;
    - `masks` (B, M, T, T) uint8, 0 … 255, each mask within its own box.

    Where a sample holds more than M instances, the largest M stay; masks without a pixel are left out. Where the data
    set has crowds also `ignore`, see `with_ignored`.

    Raises:
        InputError: as `prepare_image`, with the sample's source named.
    """
    count, slots, side = len(samples), config.max_instances, config.target_mask_size
    batch = {
        "image": np.empty((count, config.image_size, config.image_size, config.channels), np.float32),
        "boxes": np.zeros((count, slots, 4), np.float32),
        "class_ids": np.zeros((count, slots), np.int32),
        "valid": np.zeros((count, slots), bool),
        "masks": np.zeros((count, slots, side, side), np.uint8),
    }
    letterboxes = []
    for row, sample in enumerate(samples):
        try:
            batch["image"][row], letterbox = prepare_image(sample.image, config)
        except InputError as error:
            raise InputError(f"{sample.source}: {error}") from error
        letterboxes.append(letterbox)
        instances = sample.instances
        boxes = instances.boxes
        kept = _largest(instances, np.flatnonzero(boxes[:, 2] > 0), slots)
        batch["boxes"][row, : len(kept)] = letterbox.to_network(boxes[kept])
        batch["class_ids"][row, : len(kept)] = sample.class_ids[kept]
        batch["valid"][row, : len(kept)] = True
        for slot, index in enumerate(kept):
            batch["masks"][row, slot] = square(instances.crop(index).pixels, side)
    return with_ignored(batch, samples, letterboxes)


def with_ignored(
    batch: Batch, samples: Sequence[Sample], letterboxes: Sequence[Letterbox | CenteredLetterbox]
) -> Batch:
    """The batch with `ignore` (B, S, S) uint8, 1 where a crowd lies that is to be neither learnt nor background.

    It is there where the samples' data set has any crowd, so that all batches of a data set have the same arrays.
    """
    if not samples or samples[0].crowds is None:
        return batch
    size = batch["image"].shape[1]
    ignored = np.zeros((len(samples), size, size), np.uint8)
    for row, (sample, letterbox) in enumerate(zip(samples, letterboxes, strict=True)):
        if len(sample.crowds):
            ignored[row] = mask_to_network(sample.crowds.union(), letterbox, size)
    return batch | {"ignore": ignored}


def mask_to_network(mask: np.ndarray, letterbox: Letterbox | CenteredLetterbox, size: int) -> np.ndarray:
    """The (H, W) bool mask in the (S, S) network input: pixels of which it covers at least half."""
    if isinstance(letterbox, CenteredLetterbox):
        top, left, height, width = letterbox.top, letterbox.left, letterbox.inner_height, letterbox.inner_width
    else:
        top, left = 0, 0
        height, width = (max(1, int(side * letterbox.scale + 1e-6)) for side in mask.shape)
    inside = np.zeros((size, size), bool)
    covered = pixels.resize(mask[..., None].astype(np.float32), height, width, letterbox.scale)
    inside[top : top + height, left : left + width] = covered[..., 0] >= 0.5
    return inside


def _largest(masks: InstanceMasks, indices: np.ndarray, limit: int) -> np.ndarray:
    """Those of `indices` with the most pixels, `limit` at most, in their order."""
    if len(indices) <= limit:
        return indices
    return np.sort(indices[np.argsort(-masks.areas[indices], kind="stable")[:limit]])

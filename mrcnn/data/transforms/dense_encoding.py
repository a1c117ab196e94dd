"""Batches for networks that answer for every pixel, or for an image as a whole."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mrcnn.config import ClassifierConfig, InputConfig, ResUNetConfig
from mrcnn.data.dataset import Dataset, Record
from mrcnn.data.sample import Sample
from mrcnn.data.transforms.encoding import Batch, Letterbox, mask_to_network, prepare_image, with_ignored
from mrcnn.errors import InputError

OVERLAP = 0.01
"""Share of a class's pixels that another may hold too before the classes count as lying over one another: outlines
drawn by hand along a common border always share some."""


def make_dense_batch(samples: Sequence[Sample], config: ResUNetConfig) -> Batch:
    """What a `ResUNet` trains on, from B samples.

    With S = config.image_size: `image` (B, S, S, C) float32, see `prepare_image`; `maps` (B, S, S, M) uint8, 1 where
    a pixel is of a class. With `config.exclusive` the first map is the background, and exactly one holds at each pixel:
    of several the smallest instance's, which would else vanish behind the larger ones. Where the data set has crowds
    also `ignore`, see `with_ignored`.

    Raises:
        InputError: as `prepare_image`, with the sample's source named.
    """
    size, letterboxes = config.image_size, []
    batch = {
        "image": np.empty((len(samples), size, size, config.channels), np.float32),
        "maps": np.zeros((len(samples), size, size, config.maps), np.uint8),
    }
    for row, sample in enumerate(samples):
        batch["image"][row], letterbox = _prepare(sample, config)
        letterboxes.append(letterbox)
        target = batch["maps"][row]
        if config.exclusive:
            target[..., 0] = 1
        order = np.argsort(-sample.instances.areas, kind="stable")
        for index in order:
            inside = mask_to_network(sample.instances.mask(index), letterbox, size)
            if config.exclusive:
                target[inside] = 0
            target[inside, sample.class_ids[index] - 1 + config.exclusive] = 1
    return with_ignored(batch, samples, letterboxes)


def make_label_batch(samples: Sequence[Sample], config: ClassifierConfig) -> Batch:
    """What a `Classifier` trains on: `image` as above, and `positive` (B,) float32, 0 or 1.

    Raises:
        InputError: as `prepare_image`, with the sample's source named.
    """
    size = config.image_size
    batch = {
        "image": np.empty((len(samples), size, size, config.channels), np.float32),
        "positive": np.array([is_positive(sample, config) for sample in samples], np.float32),
    }
    for row, sample in enumerate(samples):
        batch["image"][row], _ = _prepare(sample, config)
    return batch


def is_positive(image: Sample | Record, config: ClassifierConfig) -> bool:
    """Whether an image is of the positive kind."""
    return image.label == config.class_names[1] if config.by_label else _is_filled(image)


def _is_filled(image: Sample | Record) -> bool:
    """Whether an image shows an instance, be it in a crowd."""
    return len(image.class_ids) > 0 or (image.crowd_ids is not None and len(image.crowd_ids) > 0)


def two_labels(records: Sequence[Record], class_names: Sequence[str]) -> tuple[tuple[str, str], bool]:
    """The negative and the positive label of the images, and whether the images themselves carry them.

    They do where every image has one of two labels and all images with instances have the same; that one is positive.
    Otherwise an image with an instance is positive, and named for the class where there is one class.
    """
    labels = {record.label for record in records}
    of_filled = {record.label for record in records if _is_filled(record)}
    if len(labels) == 2 and None not in labels and len(of_filled) == 1:
        (positive,) = of_filled
        (negative,) = labels - of_filled
        return (negative, positive), True
    positive = class_names[0] if len(class_names) == 1 else "instance"
    return (f"no {positive}", positive), False


def classes_overlap(dataset: Dataset) -> bool:
    """Whether a class shares more than `OVERLAP` of its pixels with another, in the images that hold both."""
    count = len(dataset.class_names)
    pixels, shared = np.zeros(count, np.int64), np.zeros(count, np.int64)
    for index, record in enumerate(dataset.records):
        present = np.unique(record.class_ids)
        if len(present) < 2:
            continue
        masks = dataset.instances(index)
        regions = np.stack([masks.select(record.class_ids == class_id).union() for class_id in present])
        several = regions.sum(axis=0) > 1
        pixels[present - 1] += regions.sum(axis=(1, 2))
        shared[present - 1] += (regions & several).sum(axis=(1, 2))
    return bool((shared > OVERLAP * pixels).any())


def _prepare(sample: Sample, config: InputConfig) -> tuple[np.ndarray, Letterbox]:
    try:
        return prepare_image(sample.image, config)
    except InputError as error:
        raise InputError(f"{sample.source}: {error}") from error

"""Encode batches for semantic segmentation and image classification networks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mrcnn.config import ClassifierConfig, ResUNetConfig
from mrcnn.data.dataset import Dataset, Record
from mrcnn.data.sample import Sample
from mrcnn.data.transforms.encoding import Batch, add_ignore_regions, mask_to_network, prepare_sample

OVERLAP = 0.01
"""Maximum share of a class's pixels in another class for classes to count as disjoint: manual outlines along a common
border always overlap slightly."""


def make_dense_batch(samples: Sequence[Sample], config: ResUNetConfig) -> Batch:
    """Encode B samples as a training batch of `ResUNet`.

    With H, W = config.input_shape: `image` (B, H, W, C) float32, see `prepare_image`; `maps` (B, H, W, M) uint8, 1 for
    pixels of a class. With `config.exclusive`, the first map is the background, and each pixel is in exactly one map;
    smaller instances are drawn over larger ones. For data sets with crowds also `ignore`, see `add_ignore_regions`.

    Raises:
        InputError: as in `prepare_image`; the message names the sample.
    """
    canvas, letterboxes = config.input_shape, []
    batch = {
        "image": np.empty((len(samples), *canvas, config.channels), np.float32),
        "maps": np.zeros((len(samples), *canvas, config.maps), np.uint8),
    }
    for row, sample in enumerate(samples):
        batch["image"][row], letterbox = prepare_sample(sample, config)
        letterboxes.append(letterbox)
        target = batch["maps"][row]
        if config.exclusive:
            target[..., 0] = 1
        order = np.argsort(-sample.instances.areas, kind="stable")
        for index in order:
            inside = mask_to_network(sample.instances.mask(index), letterbox, canvas)
            if config.exclusive:
                target[inside] = 0
            target[inside, sample.class_ids[index] - 1 + config.exclusive] = 1
    return add_ignore_regions(batch, samples, letterboxes)


def make_label_batch(samples: Sequence[Sample], config: ClassifierConfig) -> Batch:
    """Encode B samples as a training batch of `Classifier`.

    `image` is as in `make_dense_batch`; `positive` (B,) float32 is 0 or 1.

    Raises:
        InputError: as in `prepare_image`; the message names the sample.
    """
    batch = {
        "image": np.empty((len(samples), *config.input_shape, config.channels), np.float32),
        "positive": np.array([is_positive(sample, config) for sample in samples], np.float32),
    }
    for row, sample in enumerate(samples):
        batch["image"][row], _ = prepare_sample(sample, config)
    return batch


def is_positive(image: Sample | Record, config: ClassifierConfig) -> bool:
    """Return whether an image belongs to the positive class."""
    return image.label == config.class_names[1] if config.by_label else _is_filled(image)


def _is_filled(image: Sample | Record) -> bool:
    """Return whether an image has instances or crowd regions."""
    return len(image.class_ids) > 0 or (image.crowd_ids is not None and len(image.crowd_ids) > 0)


def infer_binary_labels(records: Sequence[Record], class_names: Sequence[str]) -> tuple[tuple[str, str], bool]:
    """Determine negative and positive label, and whether they are image-level labels.

    Image-level labels are used if every image has one of two labels and all images with instances have the same one,
    which is positive. Otherwise images with instances are positive; the label is the name of a single class.
    """
    labels = {record.label for record in records if record.label is not None}
    of_filled = {record.label for record in records if _is_filled(record) and record.label is not None}
    if len(labels) == 2 and len(of_filled) == 1 and all(record.label is not None for record in records):
        (positive,) = of_filled
        (negative,) = labels - of_filled
        return (negative, positive), True
    positive = class_names[0] if len(class_names) == 1 else "instance"
    return (f"no {positive}", positive), False


def classes_overlap(dataset: Dataset) -> bool:
    """Check whether a class shares more than `OVERLAP` of its pixels with another, in images with both."""
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

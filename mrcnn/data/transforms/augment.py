"""Augment images and masks with imgaug; boxes are computed from the masks afterwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import imgaug.augmenters
import numpy as np
from imgaug.augmentables.segmaps import SegmentationMapsOnImage
from scipy.ndimage import find_objects

from mrcnn.data.sample import Sample
from mrcnn.data.transforms.augmentation import Augmentation
from mrcnn.instance_masks import EMPTY, Crop, InstanceMasks

iaa: Any = imgaug.augmenters
"""Augmenters. They have no annotations, and type checkers infer wrong ones from their default values."""
Augmenter = Callable[..., Any]
_MIN_PIXELS = 4
_MIN_SHARE = 0.1
# imgaug draws displacements uniform in ±alpha and averages them over 2 sigma × 2 sigma pixels, which leaves a standard
# deviation of alpha / (√3 · 2 sigma); with less smoothing than this outlines fray instead of bending.
_ELASTIC_SIGMA = 32
_ELASTIC_ALPHA = 3**0.5 * 2 * _ELASTIC_SIGMA


def augment(
    sample: Sample, augmentation: Augmentation, rng_seed: tuple[int, int, int], mirrored_ids: np.ndarray | None = None
) -> Sample:
    """Augment a sample; the result depends on the arguments only.

    Pixels from outside the image get its minimum value, for floats that of each channel. Instances that lose more than
    nine tenths of their area, or keep fewer than 4 pixels (or than they had), are removed. `rng_seed` is (seed, epoch,
    index of the sample), each 0 or more; `mirrored_ids` are those of `Augmentation.mirrored_ids`.
    """
    # One seed per augmentation, so that disabling one does not change the others.
    drawn = np.random.SeedSequence(rng_seed).generate_state(len(Augmentation.model_fields))
    seeds = {name: int(seed) for name, seed in zip(Augmentation.model_fields, drawn, strict=True)}
    image, masks, class_ids = sample.image, sample.instances, sample.class_ids
    is_float = image.dtype != np.uint8
    warps, recolorings = _geometric_augmenters(augmentation, seeds), _color_augmenters(augmentation, seeds, is_float)
    inverted = _happens(augmentation.invert, seeds["invert"])
    if not (warps or recolorings or inverted):
        return sample

    low, span = np.float32(0), np.float32(1)
    if is_float:
        # imgaug expects floats in 0 … 1 and pads with 0, the minimum after scaling. Channels are scaled separately,
        # because they may be modalities with different ranges, but each alike in all slices.
        slices = image.reshape(*image.shape[:2], 2 * sample.context_slices + 1, -1)
        low, span = slices.min(axis=(0, 1, 2)), np.maximum(np.ptp(slices, axis=(0, 1, 2)), np.float32(1e-12))
        low, span = (np.tile(each, slices.shape[2]) for each in (low, span))
        image = (image - low) / span
    if inverted:
        image = (1 if is_float else 255) - image
    crowds, crowd_ids, count = sample.crowds, sample.crowd_ids, len(masks)
    if warps:
        # Crowd regions are transformed like instances but never removed.
        together = masks if crowds is None else masks + crowds
        image, moved, kept = _warp(image, together, iaa.Sequential(warps, seed=0))
        masks, class_ids = moved.select(np.flatnonzero(kept[:count])), class_ids[kept[:count]]
        crowds = None if crowds is None else moved.select(np.arange(count, len(moved)))
    if recolorings:
        image = iaa.Sequential(recolorings, seed=0)(image=image)
    if is_float:
        image = np.clip(image, 0, 1).astype(np.float32) * span + low
    if mirrored_ids is not None and _happens(augmentation.flip_horizontal, seeds["flip_horizontal"]):
        class_ids = mirrored_ids[class_ids]
        crowd_ids = None if crowd_ids is None else mirrored_ids[crowd_ids]
    return replace(sample, image=image, masks=masks, class_ids=class_ids, crowd_masks=crowds, crowd_ids=crowd_ids)


def _warp(image: np.ndarray, masks: InstanceMasks, warps: Augmenter) -> tuple[np.ndarray, InstanceMasks, np.ndarray]:
    """Apply geometric augmentation to image and masks; also return (N,) bool, which masks are large enough."""
    if not len(masks):
        return warps(image=image), masks, np.zeros(0, bool)
    planes, before = pack_label_planes(masks), masks.areas
    image, warped = warps(image=image, segmentation_maps=SegmentationMapsOnImage(planes, shape=image.shape))
    masks = unpack_label_planes(warped.arr, len(before))
    kept = masks.areas >= np.maximum(_MIN_SHARE * before, np.clip(before, 1, _MIN_PIXELS))
    return image, masks, kept


def _geometric_augmenters(augmentation: Augmentation, seeds: dict[str, int]) -> list[Augmenter]:
    warps = []
    if _happens(augmentation.flip_horizontal, seeds["flip_horizontal"]):
        warps.append(iaa.Fliplr(1.0))
    if augmentation.flip_vertical:
        warps.append(iaa.Flipud(augmentation.flip_vertical, seed=seeds["flip_vertical"]))
    if augmentation.rotate_degrees or augmentation.scale or augmentation.translate or augmentation.shear_degrees:
        # One affine transform, so that the image is interpolated once.
        shift, shear = (
            (-augmentation.translate, augmentation.translate),
            (-augmentation.shear_degrees, augmentation.shear_degrees),
        )
        warps.append(
            iaa.Affine(
                scale=(1 - augmentation.scale, 1 + augmentation.scale),
                translate_percent={"x": shift, "y": shift},
                rotate=(-augmentation.rotate_degrees, augmentation.rotate_degrees),
                shear={"x": shear, "y": shear},
                seed=seeds["rotate_degrees"],
            )
        )
    if augmentation.elastic:
        # Linear, because cubic interpolation exceeds the value range.
        alpha = (0, augmentation.elastic * _ELASTIC_ALPHA)
        warps.append(iaa.ElasticTransformation(alpha, _ELASTIC_SIGMA, order=1, seed=seeds["elastic"]))
    return warps


def _happens(probability: float, seed: int) -> bool:
    """Decide on a left-right flip, with which class ids may change, or an inversion."""
    return np.random.default_rng(seed).random() < probability


def _color_augmenters(augmentation: Augmentation, seeds: dict[str, int], is_float: bool) -> list[Augmenter]:
    white = 1.0 if is_float else 255.0
    augmenters = []
    if augmentation.gamma:
        augmenters.append(iaa.GammaContrast((1 - augmentation.gamma, 1 + augmentation.gamma), seed=seeds["gamma"]))
    # imgaug scales contrast around 0 for floats and around 127 for uint8, so floats are shifted by half the range.
    center = 0.5 if is_float and augmentation.contrast else 0.0
    if center:
        augmenters.append(iaa.Add(-center, seed=0))
    if augmentation.contrast:
        augmenters.append(
            iaa.LinearContrast((1 - augmentation.contrast, 1 + augmentation.contrast), seed=seeds["contrast"])
        )
    if augmentation.brightness or center:
        added = augmentation.brightness * white
        augmenters.append(iaa.Add((center - added, center + added), seed=seeds["brightness"]))
    if augmentation.blur_sigma:
        augmenters.append(iaa.GaussianBlur((0, augmentation.blur_sigma), seed=seeds["blur_sigma"]))
    if augmentation.noise:
        augmenters.append(iaa.AdditiveGaussianNoise(scale=(0, augmentation.noise * white), seed=seeds["noise"]))
    return augmenters


def pack_label_planes(masks: InstanceMasks) -> np.ndarray:
    """Pack N masks into label planes (H, W, P) int32.

    Instance i has the label i + 1 in one plane; overlapping instances are in different planes.
    """
    planes: list[np.ndarray] = []
    for index, crop in enumerate(masks):
        plane = next((plane for plane in planes if not plane[crop.slices][crop.pixels].any()), None)
        if plane is None:
            plane = np.zeros(masks.shape[1:], np.int32)
            planes.append(plane)
        plane[crop.slices][crop.pixels] = index + 1
    return np.stack(planes, axis=-1) if planes else np.zeros((*masks.shape[1:], 0), np.int32)


def unpack_label_planes(planes: np.ndarray, count: int) -> InstanceMasks:
    """Unpack `count` masks from label planes (H, W, P)."""
    crops = [EMPTY] * count
    for plane in np.moveaxis(planes, -1, 0):
        for index, region in enumerate(find_objects(plane, count)):
            if region is not None:
                rows, columns = region
                crops[index] = Crop(rows.start, columns.start, plane[region] == index + 1)
    height, width = planes.shape[:2]
    return InstanceMasks(height, width, crops)

"""Random changes of a sample that leave its diagnosis as it is; image and masks only, boxes follow from the masks."""

from __future__ import annotations

from dataclasses import replace

import imgaug.augmenters as iaa
import numpy as np
from imgaug.augmentables.segmaps import SegmentationMapsOnImage

from mrcnn.data.sample import Sample
from mrcnn.data.transforms.augmentation import Augmentation
from mrcnn.data.transforms.mask_crops import pack_label_planes, unpack_label_planes
from mrcnn.instance_masks import InstanceMasks

_LEAST_PIXELS = 4
_LEAST_SHARE = 0.1
# imgaug draws displacements uniform in ±alpha and averages them over 2 sigma × 2 sigma pixels, which leaves a standard
# deviation of alpha / (√3 · 2 sigma); with less smoothing than this outlines fray instead of bending.
_ELASTIC_SIGMA = 32
_ELASTIC_ALPHA = 3**0.5 * 2 * _ELASTIC_SIGMA


def augment(
    sample: Sample, augmentation: Augmentation, rng_seed: tuple[int, int, int], mirrored_ids: np.ndarray | None = None
) -> Sample:
    """The sample, changed at random by imgaug; the same seed gives the same result wherever and whenever.

    Pixels that come from outside the image are its darkest value, in floats that of each channel. Instances of which
    less than a tenth, or fewer than 4 pixels (unless they had fewer before), remain are dropped.

    Args:
        rng_seed: (seed, epoch, index of the sample), each 0 or more.
        mirrored_ids: what each class id becomes in a left-right mirror image (`Augmentation.mirrored_ids`); None where
            no class tells a side.
    """
    # A seed for each kind of change, so that switching one off leaves the others as they were.
    drawn = np.random.SeedSequence(rng_seed).generate_state(len(Augmentation.model_fields))
    seeds = {name: int(seed) for name, seed in zip(Augmentation.model_fields, drawn, strict=True)}
    image, masks, class_ids = sample.image, sample.instances, sample.class_ids
    is_float = image.dtype != np.uint8
    warps, recolourings = _warps(augmentation, seeds), _recolourings(augmentation, seeds, is_float)
    if not warps and not recolourings:
        return sample

    low, span = np.float32(0), np.float32(1)
    if is_float:
        # imgaug wants floats in 0 … 1, and fills what comes from outside the image with 0, here its darkest value. Each
        # channel for itself: they may be modalities, whose ranges have nothing to do with each other.
        low, span = image.min(axis=(0, 1)), np.maximum(np.ptp(image, axis=(0, 1)), np.float32(1e-12))
        image = (image - low) / span
    crowds, crowd_ids, count = sample.crowds, sample.crowd_ids, len(masks)
    if warps:
        # Crowds move with the instances, and stay however little of them remains.
        together = masks if crowds is None else masks + crowds
        image, moved, kept = _warp(image, together, iaa.Sequential(warps, seed=0))
        masks, class_ids = moved.select(np.flatnonzero(kept[:count])), class_ids[kept[:count]]
        crowds = None if crowds is None else moved.select(np.arange(count, len(moved)))
    if recolourings:
        image = iaa.Sequential(recolourings, seed=0)(image=image)
    if is_float:
        image = np.clip(image, 0, 1).astype(np.float32) * span + low
    if mirrored_ids is not None and _flips(augmentation, seeds):
        class_ids = mirrored_ids[class_ids]
        crowd_ids = None if crowd_ids is None else mirrored_ids[crowd_ids]
    return replace(sample, image=image, masks=masks, class_ids=class_ids, crowd_masks=crowds, crowd_ids=crowd_ids)


def _warp(
    image: np.ndarray, masks: InstanceMasks, warps: iaa.Augmenter
) -> tuple[np.ndarray, InstanceMasks, np.ndarray]:
    """Image and masks moved alike; which of the masks still show enough to be kept, (N,) bool."""
    if not len(masks):
        return warps(image=image), masks, np.zeros(0, bool)
    planes, before = pack_label_planes(masks), masks.areas
    image, warped = warps(image=image, segmentation_maps=SegmentationMapsOnImage(planes, shape=image.shape))
    masks = unpack_label_planes(warped.arr, len(before))
    kept = masks.areas >= np.maximum(_LEAST_SHARE * before, np.clip(before, 1, _LEAST_PIXELS))
    return image, masks, kept


def _warps(strength: Augmentation, seeds: dict[str, int]) -> list[iaa.Augmenter]:
    warps = []
    if _flips(strength, seeds):
        warps.append(iaa.Fliplr(1.0))
    if strength.flip_vertical:
        warps.append(iaa.Flipud(strength.flip_vertical, seed=seeds["flip_vertical"]))
    if strength.rotate_degrees or strength.scale or strength.translate or strength.shear_degrees:
        # One warp for all four: cheaper, and the image is interpolated once.
        shift, shear = (-strength.translate, strength.translate), (-strength.shear_degrees, strength.shear_degrees)
        warps.append(
            iaa.Affine(
                scale=(1 - strength.scale, 1 + strength.scale),
                translate_percent={"x": shift, "y": shift},
                rotate=(-strength.rotate_degrees, strength.rotate_degrees),
                shear={"x": shear, "y": shear},
                seed=seeds["rotate_degrees"],
            )
        )
    if strength.elastic:
        # Linear, since cubic interpolation would leave the value range.
        alpha = (0, strength.elastic * _ELASTIC_ALPHA)
        warps.append(iaa.ElasticTransformation(alpha, _ELASTIC_SIGMA, order=1, seed=seeds["elastic"]))
    return warps


def _flips(strength: Augmentation, seeds: dict[str, int]) -> bool:
    """Whether the image is mirrored left-right; drawn here, since classes may change with it."""
    return np.random.default_rng(seeds["flip_horizontal"]).random() < strength.flip_horizontal


def _recolourings(strength: Augmentation, seeds: dict[str, int], is_float: bool) -> list[iaa.Augmenter]:
    white = 1.0 if is_float else 255.0
    recolourings = []
    if strength.gamma:
        recolourings.append(iaa.GammaContrast((1 - strength.gamma, 1 + strength.gamma), seed=seeds["gamma"]))
    # imgaug turns contrast about 0 in floats, about 127 in bytes; so floats are shifted by half the range meanwhile.
    centre = 0.5 if is_float and strength.contrast else 0.0
    if centre:
        recolourings.append(iaa.Add(-centre, seed=0))
    if strength.contrast:
        recolourings.append(iaa.LinearContrast((1 - strength.contrast, 1 + strength.contrast), seed=seeds["contrast"]))
    if strength.brightness or centre:
        added = strength.brightness * white
        recolourings.append(iaa.Add((centre - added, centre + added), seed=seeds["brightness"]))
    if strength.blur_sigma:
        recolourings.append(iaa.GaussianBlur((0, strength.blur_sigma), seed=seeds["blur_sigma"]))
    if strength.noise:
        recolourings.append(iaa.AdditiveGaussianNoise(scale=(0, strength.noise * white), seed=seeds["noise"]))
    return recolourings

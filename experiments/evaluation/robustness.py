"""Measure how much a model loses on changed images: other gray levels, resolution, noise, writing, aspect."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter
from skimage.transform import resize

from experiments.evaluation.evaluate import Change, evaluate
from experiments.evaluation.tables import difference_text
from mrcnn.data import Dataset, Sample
from mrcnn.data.transforms.resizing import downscale_sample
from mrcnn.inference.ensemble import Detector

NOISE, BLUR_SIGMA, JPEG_QUALITY, WIDER = 0.1, 2.0, 20, 1.25
"""Standard deviation of the noise as a share of the value range, blur in pixels, quality, and factor of the width."""
SCORES = ("dice", "mask_ap50", "mask_ap", "recall")
UNCHANGED = "unchanged"
ROBUSTNESS = "robustness.json"
"""Artifact of a run: the result of `robustness`."""

Levels = Callable[[np.ndarray], np.ndarray]
"""Function of an image (H, W, C) float32 in 0 … 1."""


def _with_levels(change: Levels) -> Change:
    """Return a change of the gray levels, which sees the value range of each image as 0 … 1."""

    def changed(sample: Sample) -> Sample:
        image, is_integer = sample.image, sample.image.dtype == np.uint8
        low, high = (0.0, 255.0) if is_integer else (image.min(axis=(0, 1)), image.max(axis=(0, 1)))
        span = np.maximum(np.subtract(high, low), 1e-12)
        found = np.clip(change(((image - low) / span).astype(np.float32)), 0, 1) * span + low
        return replace(sample, image=np.rint(found).astype(np.uint8) if is_integer else found.astype(image.dtype))

    return changed


def _noisy(image: np.ndarray) -> np.ndarray:
    return image + np.random.default_rng(0).normal(0, NOISE, image.shape).astype(np.float32)


def _compressed(image: np.ndarray) -> np.ndarray:
    planes = []
    for plane in np.moveaxis(np.rint(image * 255).astype(np.uint8), -1, 0):
        Image.fromarray(plane).save(file := io.BytesIO(), "JPEG", quality=JPEG_QUALITY)
        planes.append(np.asarray(Image.open(file), np.float32) / 255)
    return np.stack(planes, axis=-1)


def _lettered(image: np.ndarray) -> np.ndarray:
    """Burn in white letters as devices do, above on the left and below on the right."""
    height, width = image.shape[:2]
    drawn = Image.new("L", (width, height))
    pen, font = ImageDraw.Draw(drawn), ImageFont.load_default(max(height / 16, 8))
    pen.text((width * 0.02, height * 0.02), "PORTABLE  R", 255, font)
    pen.text((width * 0.98, height * 0.98), "12:47  DEPTH 4.0", 255, font, anchor="rs")
    return np.maximum(image, np.asarray(drawn, np.float32)[..., None] / 255)


def _halved(sample: Sample) -> Sample:
    height, width = sample.image.shape[:2]
    return downscale_sample(sample, (max(height // 2, 1), max(width // 2, 1)))


def _stretched(rows: float, columns: float) -> Change:
    """Return a change that enlarges the height by the factor `rows` and the width by `columns`."""

    def changed(sample: Sample) -> Sample:
        before = sample.image.shape[:2]
        height, width = round(before[0] * rows), round(before[1] * columns)
        nearest = np.ix_(np.arange(height) * before[0] // height, np.arange(width) * before[1] // width)
        image = resize(sample.image, (height, width), order=1, preserve_range=True, anti_aliasing=False)
        masks, crowds = sample.masks[:, *nearest], sample.crowd_masks
        crowds = None if crowds is None else crowds[:, *nearest]
        spacing = sample.spacing_mm and (sample.spacing_mm[0] / rows, sample.spacing_mm[1] / columns)
        image = np.asarray(image).astype(sample.image.dtype)
        return replace(sample, image=image, masks=masks, crowd_masks=crowds, spacing_mm=spacing)

    return changed


CHANGES: dict[str, Change] = {
    "inverted": _with_levels(lambda image: 1 - image),
    "gamma 0.5": _with_levels(np.sqrt),
    "gamma 2": _with_levels(np.square),
    "half resolution": _halved,
    "double resolution": _stretched(2, 2),
    f"noise {NOISE:g}": _with_levels(_noisy),
    f"blur {BLUR_SIGMA:g} px": _with_levels(lambda image: gaussian_filter(image, (BLUR_SIGMA, BLUR_SIGMA, 0))),
    f"JPEG quality {JPEG_QUALITY}": _with_levels(_compressed),
    "letters burned in": _with_levels(_lettered),
    f"{WIDER:g} times as wide": _stretched(1, WIDER),
}
"""Changes of an image and its instances, by their names in the report."""


def robustness(
    model: Detector, dataset: Dataset, confidence: float, unchanged: Mapping[str, float], *, batch_size: int
) -> dict[str, dict[str, float]]:
    """Evaluate a model on a data set under each of `CHANGES`, with one threshold; `unchanged` are its scores without.

    Returns:
        `SCORES` by the name of the change, `UNCHANGED` first.
    """
    found = {UNCHANGED: unchanged}
    for name, change in CHANGES.items():
        found[name] = evaluate(model, dataset, batch_size=batch_size, change=change).summary(confidence)
    return {name: {score: scores[score] for score in SCORES} for name, scores in found.items()}


def robustness_rows(found: Mapping[str, Mapping[str, float]]) -> list[tuple[str, str, str, str]]:
    """Format each change with its Dice, what it loses against the unchanged images, and its mask AP50."""
    unchanged = found[UNCHANGED]["dice"]
    return [
        (name, f"{scores['dice']:.3f}", "" if name == UNCHANGED else difference_text(scores["dice"] - unchanged),
         f"{scores['mask_ap50']:.3f}")
        for name, scores in found.items()
    ]  # fmt: skip

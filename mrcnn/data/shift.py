"""Compare a data set with the one that a model was trained on, from their fingerprints."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mrcnn.data.duplicates import thumbnail
from mrcnn.data.film_polarity import find_negatives
from mrcnn.data.fingerprint import gray_levels
from mrcnn.errors import counted

LARGEST_RATIO = 1.5
"""Ratio of two medians above which sizes differ. Training varies the scale by less (see `augment.scale`)."""
LARGEST_DISTANCE = 0.15
"""Distance of two gray-level histograms above which they differ. In seven public sets a random fifth of the patients
was at most 0.12 from the rest; sets of different origin were 0.07 (two parts of DDTI) to 0.62 apart."""
LARGEST_GAP = 0.1
"""Difference above which shares of images differ."""
LARGEST_IMAGE_DISTANCE = 0.4
"""As `LARGEST_DISTANCE`, for a single image: in five of six public sets 95 % of the images were at most 0.37 from the
rest of their set; chest radiographs were 0.47 from thyroid ultrasound in the median, brain MRI only 0.29."""
_NOT_RECORDED = "not recorded"


@dataclass(frozen=True)
class Shift:
    """A property of both data sets.

    Attributes:
        name: the property.
        training: its value in the training data, as text.
        evaluated: its value in the evaluated data, as text.
        sentence: how the two differ; empty if they do not, or if one is unknown.
    """

    name: str
    training: str
    evaluated: str
    sentence: str = ""


def find_shifts(training: Mapping[str, Any], evaluated: Mapping[str, Any], negatives: int | None) -> list[Shift]:
    """Compare the fingerprints (`Fingerprint.as_dict`) of the training data and of the evaluated data.

    Args:
        training: empty if unknown.
        evaluated: of the evaluated images.
        negatives: evaluated images with the opposite polarity of the training images (`film_polarity`); None if the
            polarity of the training images is not recorded.

    Example:
        >>> counts = {"images": 10, "images_without_instances": 0}
        >>> before = {"whole": counts, "image_sizes": {"100×100": 10}, "relative_sides": {"50%": 20.0}}
        >>> after = {"whole": counts, "image_sizes": {"400×400": 10}, "relative_sides": {"50%": 22.0}}
        >>> [shift.sentence for shift in find_shifts(before, after, None) if shift.sentence]
        ['Images are larger than in training: 400 against 100 pixels in the median (square root of the area).']
    """
    return [
        _image_sizes(training, evaluated),
        _gray_levels(training, evaluated),
        _polarity(evaluated, negatives),
        _instance_sizes(training, evaluated),
        _empty_images(training, evaluated),
    ]


def image_warnings(training: Mapping[str, Any], image: np.ndarray) -> list[str]:
    """Describe how an image differs from the training images in size, gray levels and polarity.

    These properties are coarse: an image without a warning may still be of another kind.

    Args:
        training: `Fingerprint.as_dict` of the training data; properties that it lacks are not compared.
        image: (H, W, C) of any type.

    Example:
        >>> image_warnings({"image_sizes": {"400×400": 3, "640×480": 9}}, np.zeros((1200, 1600, 1), np.uint8))
        ['The image has 1600 × 1200 pixels, the training images had 400×400 to 640×480.']
    """
    found, small = [], thumbnail(image)[None]
    height, width = image.shape[:2]
    sizes = sorted(training.get("image_sizes", {}), key=_side)
    if sizes and not _side(sizes[0]) / LARGEST_RATIO <= math.sqrt(width * height) <= _side(sizes[-1]) * LARGEST_RATIO:
        trained = sizes[0] if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
        found.append(f"The image has {width} × {height} pixels, the training images had {trained}.")
    before = training.get("gray_levels")
    if before and (distance := histogram_distance(before, gray_levels(small))) > LARGEST_IMAGE_DISTANCE:
        found.append(
            f"The gray levels are unlike those of the training images: {distance:.0%} of them would have to change."
        )
    if training.get("polarity") and find_negatives(small, training["polarity"])[0]:
        found.append("The image looks like a negative of the training images; invert it.")
    return found


def histogram_distance(first: Any, second: Any) -> float:
    """Compute the total variation distance of two histograms, half the sum of |p − q|, from 0 to 1.

    Example:
        >>> histogram_distance((0.5, 0.5, 0.0), (0.25, 0.5, 0.25))
        0.25
    """
    return float(np.abs(np.subtract(first, second)).sum() / 2)


def _image_sizes(training: Mapping[str, Any], evaluated: Mapping[str, Any]) -> Shift:
    before, after = _median_side(training), _median_side(evaluated)
    sentence = _ratio_sentence("Images", before, after, "pixels in the median (square root of the area)")
    return Shift("image size", _sizes_text(training), _sizes_text(evaluated), sentence)


def _median_side(facts: Mapping[str, Any]) -> float | None:
    sides = []
    for size, count in facts.get("image_sizes", {}).items():
        sides += [_side(size)] * count
    return float(np.median(sides)) if sides else None


def _side(size: str) -> float:
    """Return the square root of the area of a size such as `640×480`."""
    width, height = map(int, size.split("×"))
    return math.sqrt(width * height)


def _sizes_text(facts: Mapping[str, Any]) -> str:
    sizes = list(facts.get("image_sizes", {}).items())
    if not sizes:
        return _NOT_RECORDED
    most, further = ", ".join(f"{size} ({count})" for size, count in sizes[:2]), len(sizes) - 2
    return most + (f" and {further} other sizes" if further > 0 else "")


def _gray_levels(training: Mapping[str, Any], evaluated: Mapping[str, Any]) -> Shift:
    before, after = training.get("gray_levels"), evaluated.get("gray_levels")
    sentence = ""
    if before and after and (distance := histogram_distance(before, after)) > LARGEST_DISTANCE:
        gap = _mean_level(after) - _mean_level(before)
        how = "brighter" if gap > 0.03 else "darker" if gap < -0.03 else "of another contrast"
        sentence = (
            f"Images are {how}: {distance:.0%} of the gray levels would have to change to match the training images."
        )
    first, second = (
        f"mean {_mean_level(each):.0%} of the range" if each else _NOT_RECORDED for each in (before, after)
    )
    return Shift("gray levels", first, second, sentence)


def _mean_level(histogram: Any) -> float:
    centers = (np.arange(len(histogram)) + 0.5) / len(histogram)
    return float(np.average(centers, weights=histogram))


def _polarity(evaluated: Mapping[str, Any], negatives: int | None) -> Shift:
    if negatives is None:
        return Shift("polarity", _NOT_RECORDED, "not compared")
    sentence = ""
    if negatives:
        images = evaluated["whole"]["images"]
        sentence = f"{negatives} of {images} images look like negatives of the training images; invert them."
    return Shift("polarity", "as recorded", counted(negatives, "negative") if negatives else "the same", sentence)


def _instance_sizes(training: Mapping[str, Any], evaluated: Mapping[str, Any]) -> Shift:
    before, after = (each.get("relative_sides", {}) for each in (training, evaluated))
    first, second = (
        f"{each['50%']:g} % of the side of the image" if each else _NOT_RECORDED for each in (before, after)
    )
    what = "% of the side of the image in the median"
    return Shift(
        "instance size", first, second, _ratio_sentence("Instances", before.get("50%"), after.get("50%"), what)
    )


def _ratio_sentence(what: str, before: float | None, after: float | None, unit: str) -> str:
    if not before or not after or 1 / LARGEST_RATIO <= after / before <= LARGEST_RATIO:
        return ""
    how = "larger" if after > before else "smaller"
    return f"{what} are {how} than in training: {after:.3g} against {before:.3g} {unit}."


def _empty_images(training: Mapping[str, Any], evaluated: Mapping[str, Any]) -> Shift:
    before, after = _empty_share(training), _empty_share(evaluated)
    sentence = ""
    if before is not None and after is not None and abs(after - before) > LARGEST_GAP:
        how = "More" if after > before else "Fewer"
        sentence = f"{how} images than in training have no instance: {after:.0%} against {before:.0%}."
    first, second = (_NOT_RECORDED if each is None else f"{each:.0%}" for each in (before, after))
    return Shift("images without instances", first, second, sentence)


def _empty_share(facts: Mapping[str, Any]) -> float | None:
    whole = facts.get("whole")
    return whole["images_without_instances"] / whole["images"] if whole and whole["images"] else None

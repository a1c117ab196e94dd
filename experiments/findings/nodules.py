"""Measure thyroid nodules on ultrasound: size, shape, and ranges of ACR TI-RADS points with their sources.

Height is measured along the columns of the image, width along its rows, which is across the neck on a transverse view;
on other views `shape` is not that of TI-RADS.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.spatial import ConvexHull
from skimage.measure import find_contours

from experiments.findings.echogenicity import echogenicity_points
from experiments.findings.measures import Measures, Spacing, main_component, measure
from experiments.findings.tirads import TABLE, Points, assess, read, unknown
from mrcnn.detections import Detections
from mrcnn.errors import InputError
from mrcnn.instance_masks import Crop

NOTICE = "Research use only"
ReaderInput = Mapping[str, Any] | Sequence[Mapping[str, Any] | None]


def nodules(
    image: np.ndarray,
    detections: Detections,
    class_names: Sequence[str],
    spacing_mm: Spacing | None = None,
    reader_input: ReaderInput | None = None,
) -> dict[str, Any]:
    """Measure each nodule and compute its TI-RADS points, in the order of the detections.

    Args:
        image: (H, W) or (H, W, C).
        detections: detected nodules.
        class_names: names of the classes.
        spacing_mm: (row, column) size of a pixel; without it sizes are in pixels, pixels count as square, and
            there is no advice, which needs millimeters.
        reader_input: features that a reader reports, from `tirads.TABLE`, such as
            `{"composition": "solid", "echogenic_foci": ["punctate"]}`: one mapping for all nodules, or a list with one
            (or None) for each. They replace measured features.

    Returns:
        `unit`, `nodules` and `notice`; for each nodule `class`, `score`, `longest`, `perpendicular`, `height`,
        `width`, `area`, `shape_ratio` (height / width), `axis_ratio` (perpendicular / longest) and `tirads`, see
        `tirads.assess`. For a detection without pixels sizes and `tirads` are None.

    Raises:
        InputError: the input of the reader has another number of nodules, or features that the table lacks.
    """
    given = _input_of_each(reader_input, len(detections))
    instances, found = detections.instances, []
    covered = np.zeros(instances.shape[1:], np.int32)
    for crop in instances:
        covered[crop.slices] += crop.pixels
    for index, (score, class_id, reader) in enumerate(zip(detections.scores, detections.class_ids, given, strict=True)):
        mask = instances.mask(index)
        name = class_names[int(class_id) - 1]
        sizes = measure(mask, spacing_mm) if mask.any() else None
        nodule: dict[str, Any] = {"class": name, "score": float(score), **_sizes(sizes), "tirads": None}
        if sizes is not None:
            others = covered - mask > 0
            categories = {
                "composition": unknown("composition"),
                "echogenicity": echogenicity_points(image, mask, others, name),
                "shape": shape_points(sizes),
                "margin": margin_points(mask),
                "echogenic_foci": unknown("echogenic_foci"),
            }
            categories |= {category: read(category, word) for category, word in reader.items()}
            nodule["tirads"] = assess(categories, sizes.longest if spacing_mm else None)
        found.append(nodule)
    return {"unit": "mm" if spacing_mm else "px", "nodules": found, "notice": NOTICE}


def nodule_rows(finding: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Build a table row for each nodule."""
    rows = []
    for number, nodule in enumerate(finding["nodules"], start=1):
        row = {"nodule": number, **{key: value for key, value in nodule.items() if key != "tirads"}}
        tirads = nodule["tirads"] or {"points": (None, None), "level": (None, None), "advice": None}
        for name in ("points", "level", "advice"):
            row[f"{name}_low"], row[f"{name}_high"] = tirads[name] or (None, None)
        rows.append({**row, "unit": finding["unit"], "notice": finding["notice"]})
    return rows


def shape_points(sizes: Measures) -> Points:
    """Return 3 for taller-than-wide, else 0, by the extents along the axes of the image."""
    seen = "taller-than-wide" if sizes.height > sizes.width else "wider-than-tall"
    points = TABLE["shape"][seen]
    return Points(points, points, "measured", seen)


SMOOTH_BELOW = 0.03
IRREGULAR_FROM = 0.06
LEAST_PIXELS = 250
"""In smaller masks the steps between pixels are as large as lobules."""


def margin_points(mask: np.ndarray) -> Points:
    """Return 0 for smooth; 2 to 3 for lobulated or irregular, with possible extension; 0 to 3 between them."""
    component = main_component(mask)
    if np.count_nonzero(component) < LEAST_PIXELS:
        return unknown("margin")
    deficit = hull_deficit(component)
    if deficit < SMOOTH_BELOW:
        return Points(0, 0, "measured", "smooth")
    if deficit < IRREGULAR_FROM:
        return Points(0, 3, "measured", "between smooth and irregular")
    return Points(2, 3, "measured", "lobulated or irregular")


def hull_deficit(component: np.ndarray) -> float:
    """Compute the fraction of the convex hull outside the outline of a component, midway between pixels in and out.

    It is 0 for an ellipse of any size, orientation and pixel shape, and larger with deeper notches between lobules or
    spicules. On drawn outlines 20 to 160 pixels wide, ellipses reach 0.025, four lobules of ±12 % of the radius
    0.03–0.05, five of ±20 % 0.13, and spicules 0.07–0.26. The mask of a network is smoother than the nodule because its
    grid is coarse: irregular masks are irregular nodules, but smooth masks need not be smooth nodules. A mask does not
    show extrathyroidal extension.
    """
    inside = Crop(0, 0, component).tight().pixels
    outline = max(find_contours(np.pad(inside, 1).astype(np.float64), 0.5), key=len)[:-1]
    y, x = outline.T
    area = abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
    return float(1 - area / ConvexHull(outline).volume)  # `volume` of a polygon is the area


def _sizes(sizes: Measures | None) -> dict[str, float | None]:
    names = ("longest", "perpendicular", "height", "width", "area", "shape_ratio", "axis_ratio")
    if sizes is None:
        return dict.fromkeys(names)
    ratios = sizes.height / sizes.width, sizes.perpendicular / sizes.longest
    lengths = (sizes.longest, sizes.perpendicular, sizes.height, sizes.width, sizes.area)
    return {name: round(value, 3) for name, value in zip(names, (*lengths, *ratios), strict=True)}


def _input_of_each(reader_input: ReaderInput | None, count: int) -> list[Mapping[str, Any]]:
    """Return the input of the reader for each of `count` nodules."""
    given = [reader_input] * count if reader_input is None or isinstance(reader_input, Mapping) else reader_input
    if isinstance(given, str) or not isinstance(given, Sequence) or len(given) != count:
        raise InputError(f"reader_input: expected a mapping, or a list with one for each of the {count} nodules")
    for each in given:
        if each is not None and not (isinstance(each, Mapping) and each.keys() <= TABLE.keys()):
            raise InputError(f"reader_input: {each!r}: expected a mapping with keys among {', '.join(TABLE)}")
    return [each or {} for each in given]

"""Draw instances on images, ground truth beside predictions, and contact sheets.

The colors are those of Okabe and Ito (2008, Color Universal Design), which remain distinct with common forms of color
blindness. The first have the highest contrast on gray images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import binary_erosion

from mrcnn.data.sample import Sample
from mrcnn.data.transforms.normalization import LUMINANCE
from mrcnn.detections import Detections
from mrcnn.instance_masks import Crop, InstanceMasks
from mrcnn.metrics.case import make_case

PALETTE = (
    (230, 159, 0),  # orange
    (86, 180, 233),  # sky blue
    (240, 228, 66),  # yellow
    (204, 121, 167),  # reddish purple
    (0, 158, 115),  # bluish green
    (213, 94, 0),  # vermilion
    (0, 114, 178),  # blue
)
FOOTER = "Research use only"
TRUE, FALSE, MISSED = "true", "false", "missed"
MIN_WIDTH = 512
"""Smallest width of a picture in pixels; narrower images are enlarged so that labels are legible."""

_FILL = 0.25
_MAX_LABEL_AREA = 0.12  # largest fraction of the picture for labels after the first
_GAP = 8  # pixels between pictures
_STRIP = (24, 24, 24)
_INK = (235, 235, 235)


Color = tuple[int, int, int]
Extent = tuple[int, int, int, int]  # x1, y1, x2, y2 in pixels, x2 and y2 exclusive
Entry = tuple[float, str, Color | None]  # of a strip: x, text, color of the square before it


def overlay(
    image: np.ndarray,
    masks: np.ndarray | InstanceMasks,
    class_ids: np.ndarray,
    class_names: Sequence[str],
    *,
    scores: np.ndarray | None = None,
    boxes: np.ndarray | None = None,
    marks: Sequence[str] | None = None,
) -> np.ndarray:
    """Draw instances on an image, each with an outline, a translucent fill and a label.

    The outline covers pixels of the mask. The best scores are labeled first, until labels would cover too much of the
    picture; the other instances have their color only.

    Args:
        image: (H, W) or (H, W, C) of any type, converted by `to_display`.
        masks: (N, H, W) bool, as an array or as `InstanceMasks`.
        class_ids: (N,), 1-based indices of `class_names`.
        class_names: names for the labels.
        scores: (N,), for labels of predictions, which also get the footer.
        boxes: (N, 4) as (x1, y1, x2, y2), drawn if present.
        marks: (N,), see `match_marks`; before the label, and dashed outlines for false and missed ones.

    Returns:
        (H', W', 3) uint8, enlarged to `MIN_WIDTH` if narrower, with additional rows for the footer.

    Raises:
        ValueError: the size of the masks is not that of the image.
    """
    painted = _paint(image, masks, class_ids, class_names, scores, boxes, marks)
    return painted if scores is None else captioned(painted, class_names)


def side_by_side(sample: Sample, detections: Detections, class_names: Sequence[str]) -> np.ndarray:
    """Draw ground truth (left) and prediction (right) with titles and footer, (H', 2 · W' + gap, 3) uint8.

    Labels and outlines show the `match_marks`.
    """
    of_truth, of_detections = match_marks(sample, detections, len(class_names))
    truth = _paint(sample.image, sample.instances, sample.class_ids, class_names, marks=of_truth)
    found = _paint(
        sample.image, detections.instances, detections.class_ids, class_names, detections.scores, marks=of_detections
    )
    height, width = truth.shape[:2]
    gap = np.full((height, _GAP, 3), _STRIP, np.uint8)
    panels = np.concatenate([truth, gap, found], axis=1)
    font = _font(width)
    title = _strip(panels.shape[1], font, [(0, "truth (dashed: missed)", None),
                                             (width + _GAP, "prediction (dashed: false)", None)])  # fmt: skip
    return np.concatenate([title, panels, _footer(panels.shape[1], font, class_names)])


def match_marks(sample: Sample, detections: Detections, class_count: int) -> tuple[list[str], list[str]]:
    """Mark missed instances of the truth, and true and false detections, at mask IoU 0.5 (`mrcnn.metrics.case`).

    Returns:
        A mark for each instance and each detection; empty for found instances, and for detections in a crowd.
    """
    case = make_case(sample, detections, class_count)
    of_truth = ["" if index in case.matched else MISSED for index in range(len(sample.class_ids))]
    of_detections = [""] * len(detections)
    order = np.argsort(-detections.scores, kind="stable")
    for index, matched, ignored in zip(order.tolist(), case.matched >= 0, case.ignored, strict=True):
        of_detections[index] = TRUE if matched else "" if ignored else FALSE
    return of_truth, of_detections


def captioned(image: np.ndarray, class_names: Sequence[str]) -> np.ndarray:
    """Add the footer to a picture, enlarged to `MIN_WIDTH` if narrower; (H', W', 3) uint8."""
    picture = _enlarge(image)
    width = picture.shape[1]
    return np.concatenate([picture, _footer(width, _font(width), class_names)])


def contact_sheet(images: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """Arrange images in a grid with `columns` columns and cells of the largest image; (H', W', 3) uint8.

    Args:
        images: (H, W) or (H, W, C) of any type and size; may be empty.
        columns: largest number of images in a row.

    Raises:
        ValueError: `columns` is less than 1.
    """
    if columns < 1:
        raise ValueError(f"columns={columns}: expected at least 1")
    shown = [to_display(image) for image in images]
    columns = min(columns, max(len(shown), 1))
    rows = max(math.ceil(len(shown) / columns), 1)
    height = max((image.shape[0] for image in shown), default=1) + _GAP
    width = max((image.shape[1] for image in shown), default=1) + _GAP
    sheet = np.full((rows * height - _GAP, columns * width - _GAP, 3), _STRIP, np.uint8)
    for index, image in enumerate(shown):
        top, left = index // columns * height, index % columns * width
        sheet[top : top + image.shape[0], left : left + image.shape[1]] = image
    return sheet


def to_display(image: np.ndarray) -> np.ndarray:
    """Convert an image to (H, W, 3) uint8; types other than uint8 are windowed to the 1st and 99th percentile.

    Of images with other than 3 channels the first channel is shown.
    """
    image = _to_uint8(image)
    return np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], 3)))


def _to_uint8(image: np.ndarray) -> np.ndarray:
    """Convert an image as `to_display` does, but to (H, W, 1) if it shows one channel."""
    image = np.asarray(image)
    if image.ndim == 2:
        image = image[..., None]
    if image.shape[2] != 3:
        image = image[..., :1]
    if image.dtype != np.uint8:
        values = image.astype(np.float64)
        finite = values[np.isfinite(values)]
        low, high = np.percentile(finite, (1, 99)) if finite.size else (0.0, 0.0)
        if high <= low:  # a few bright pixels on a constant background
            low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
        values = np.nan_to_num((values - low) / ((high - low) or 1.0), nan=0.0, posinf=1.0, neginf=0.0)
        image = np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8)
    return image


def _enlarge(image: np.ndarray) -> np.ndarray:
    """Convert an image by `to_display`, enlarged to `MIN_WIDTH` if narrower; (H', W', 3) uint8, a copy."""
    image = _to_uint8(image)
    height, width = image.shape[:2]
    if width < MIN_WIDTH:
        size = MIN_WIDTH, round(MIN_WIDTH / width * height)
        # One channel takes a third of the time of three equal ones.
        picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
        enlarged = np.asarray(picture.resize(size, Image.Resampling.BICUBIC))
        image = enlarged[..., None] if enlarged.ndim == 2 else enlarged
    return np.array(np.broadcast_to(image, (*image.shape[:2], 3)), order="C")


def class_color(class_id: int) -> Color:
    """Return the RGB color of a class (1-based); colors repeat after the seventh."""
    return PALETTE[(int(class_id) - 1) % len(PALETTE)]


def _paint(
    image: np.ndarray,
    masks: np.ndarray | InstanceMasks,
    class_ids: np.ndarray,
    class_names: Sequence[str],
    scores: np.ndarray | None = None,
    boxes: np.ndarray | None = None,
    marks: Sequence[str] | None = None,
) -> np.ndarray:
    canvas, masks = _enlarge(image), InstanceMasks.from_array(masks)
    if masks.shape != (len(class_ids), *image.shape[:2]):
        raise ValueError(f"masks are {masks.shape}, expected {(len(class_ids), *image.shape[:2])}")
    height, width = canvas.shape[:2]
    scale = width / image.shape[1]
    if scale > 1:
        enlarged = [_enlarge_mask(masks.mask(index), width, height) for index in range(len(masks))]
        masks = InstanceMasks(height, width, enlarged)
    colors = [class_color(int(class_id)) for class_id in class_ids]
    extents: list[Extent | None] = [(x1, y1, x2, y2) if x2 else None for x1, y1, x2, y2 in masks.boxes.tolist()]
    # Large instances first, so that instances within others stay visible.
    for index in np.argsort(-masks.areas, kind="stable").tolist():
        if extents[index] is not None:
            dashed = marks is not None and marks[index] in (FALSE, MISSED)
            _tint(canvas, masks.crop(index), colors[index], dashed=dashed)

    picture = Image.fromarray(canvas)
    pen = ImageDraw.Draw(picture)
    if boxes is not None:
        scaled = np.rint(np.asarray(boxes, np.float64).reshape(-1, 4) * scale).astype(int)
        extents = [(x1, y1, x2, y2) for x1, y1, x2, y2 in scaled.tolist()]
        for (x1, y1, x2, y2), color in zip(scaled.tolist(), colors, strict=True):
            pen.rectangle((x1, y1, max(x2 - 1, x1), max(y2 - 1, y1)), outline=color)
    labels = [class_names[int(class_id) - 1] for class_id in class_ids]
    if scores is not None:
        labels = [f"{label} {score:.2f}" for label, score in zip(labels, scores, strict=True)]
    if marks is not None:
        labels = [f"{mark}: {label}" if mark else label for mark, label in zip(marks, labels, strict=True)]
    order = range(len(labels)) if scores is None else np.argsort(-np.asarray(scores), kind="stable").tolist()
    shown = [(extent, labels[i], colors[i]) for i in order if (extent := extents[i])]
    _write_labels(pen, picture.size, shown)
    return np.array(picture)


def _enlarge_mask(mask: np.ndarray, width: int, height: int) -> Crop:
    """Enlarge a mask with a smooth outline; single pixels remain."""
    picture = Image.fromarray(mask.astype(np.uint8) * 255)
    smooth = np.array(picture.resize((width, height), Image.Resampling.BILINEAR)) >= 128
    if not smooth.any() and mask.any():
        smooth = np.array(picture.resize((width, height), Image.Resampling.NEAREST)) > 0
    crop = Crop(0, 0, smooth).tight()
    return crop._replace(pixels=crop.pixels.copy())


def _tint(canvas: np.ndarray, crop: Crop, color: Color, *, dashed: bool = False) -> None:
    """Fill and outline one mask in place."""
    inside, part = crop.pixels, canvas[crop.slices]
    part[inside] = np.rint((1 - _FILL) * part[inside] + _FILL * np.array(color)).astype(np.uint8)
    width = max(2, round(canvas.shape[1] / 320))
    outline = inside & ~binary_erosion(inside, iterations=width)
    if dashed:  # diagonal stripes across the outline
        outline &= np.add.outer(*map(np.arange, inside.shape)) // (4 * width) % 2 == 0
    part[outline] = color


def _write_labels(
    pen: ImageDraw.ImageDraw, size: tuple[int, int], entries: Sequence[tuple[Extent, str, Color]]
) -> None:
    """Write the label (extent, text, color) of each instance beside it within the picture.

    Labels do not overlap, and avoid other instances where possible.
    """
    font = _font(size[0])
    ascent, descent = font.getmetrics()
    height, free = ascent + descent + 2, _MAX_LABEL_AREA * size[0] * size[1]
    taken: list[Extent] = []
    everything = np.array([extent for extent, *_ in entries]).reshape(-1, 4)
    for index, (extent, text, color) in enumerate(entries):
        text = _shorten(text, font, size[0] - 6)
        width = math.ceil(font.getlength(text)) + 6
        if taken and width * height > free:
            continue
        written, others = np.array(taken).reshape(-1, 4), np.delete(everything, index, axis=0)
        places = [place for place in _label_positions(extent, width, height, size) if not _overlaps(place, written)]
        place = next((place for place in places if not _overlaps(place, others)), places[0] if places else None)
        if place is None:
            continue
        free -= width * height
        taken.append(place)
        pen.rectangle((place[0], place[1], place[2] - 1, place[3] - 1), fill=color)
        pen.text((place[0] + 3, place[1] + 1), text, font=font, fill=_text_color(color))


def _label_positions(extent: Extent, width: int, height: int, size: tuple[int, int]) -> list[Extent]:
    """Return possible positions of a label beside an instance, best first, within the picture if it fits."""
    x1, y1, x2, y2 = extent
    corners = [(x1, y1 - height), (x1, y2), (x2 - width, y1 - height), (x2 - width, y2)]
    corners += [(x2, y1), (x1 - width, y1), (x1, y1)]
    inside = [(max(min(x, size[0] - width), 0), max(min(y, size[1] - height), 0)) for x, y in corners]
    return [(x, y, x + width, y + height) for x, y in inside if y + height <= size[1]]


def _overlaps(place: Extent, others: np.ndarray) -> bool:
    """Return whether an extent overlaps any of the extents (N, 4)."""
    x1, y1, x2, y2 = others.T
    return bool(((place[0] < x2) & (x1 < place[2]) & (place[1] < y2) & (y1 < place[3])).any())


def _footer(width: int, font: ImageFont.FreeTypeFont, class_names: Sequence[str]) -> np.ndarray:
    """Draw the strip below a picture with the intended use and the legend, in as many lines as necessary."""
    lines: list[list[Entry]] = [[(0, FOOTER, None)]]
    x = font.getlength(FOOTER) + 36
    for class_id, name in enumerate(class_names, start=1):
        needed = font.getlength(name) + font.size + 24
        if x + needed > width:
            lines.append([])
            x = 0
        lines[-1].append((x, name, class_color(class_id)))
        x += needed
    return np.concatenate([_strip(width, font, line) for line in lines if line])


def _strip(width: int, font: ImageFont.FreeTypeFont, entries: Sequence[Entry]) -> np.ndarray:
    """Draw a dark strip with texts; each is truncated at the next."""
    height = sum(font.getmetrics()) + 8
    picture = Image.new("RGB", (width, height), _STRIP)
    pen = ImageDraw.Draw(picture)
    ends = [entry[0] for entry in entries[1:]] + [width]
    for (x, text, color), end in zip(entries, ends, strict=True):
        x += 6
        if color is not None:
            pen.rectangle((x, height / 2 - font.size / 2, x + font.size, height / 2 + font.size / 2), fill=color)
            x += font.size + 6
        pen.text((x, 4), _shorten(text, font, end - x), font=font, fill=_INK)
    return np.array(picture)


def _shorten(text: str, font: ImageFont.FreeTypeFont, max_length: float) -> str:
    while len(text) > 1 and font.getlength(text) > max_length:
        text = text[:-2] + "…"
    return text


def _text_color(color: Color) -> Color:
    """Return black or white, the one with the higher contrast (ITU-R BT.601 luma)."""
    luma = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]
    return (0, 0, 0) if luma > 110 else (255, 255, 255)


@lru_cache(maxsize=32)
def _font(width: int) -> ImageFont.FreeTypeFont:
    """Load a font with a legible size for a picture `width` pixels wide."""
    # Pillow's font has no accents. Matplotlib includes one with accents; finding its file avoids the slow import.
    matplotlib = find_spec("matplotlib")
    assert matplotlib is not None and matplotlib.origin is not None  # a dependency
    fonts = Path(matplotlib.origin).parent / "mpl-data" / "fonts" / "ttf"
    return ImageFont.truetype(fonts / "DejaVuSans.ttf", int(np.clip(round(width / 42), 13, 26)))


_MAX_GRAY_DIFFERENCE = 12
"""Largest difference between the channels of a gray picture; compression tints gray images slightly."""


def color_splash(image: np.ndarray, masks: np.ndarray | InstanceMasks, class_ids: np.ndarray) -> np.ndarray:
    """Convert an image to gray except for its instances, (H, W, 3) uint8.

    In a gray image the instances take the color of their class (`PALETTE`) with the brightness of the image; where
    instances overlap, the smallest determines the color.

    Args:
        image: (H, W) or (H, W, C) of any type, converted by `to_display`.
        masks: (N, H, W) bool.
        class_ids: (N,), 1-based.

    Raises:
        ValueError: the size of the masks is not that of the image.
    """
    shown, masks = to_display(image), InstanceMasks.from_array(masks)
    if masks.shape != (len(class_ids), *shown.shape[:2]):
        raise ValueError(f"masks are {masks.shape}, expected {(len(class_ids), *shown.shape[:2])}")
    luma = np.rint(shown @ LUMINANCE).clip(0, 255)
    splash = np.repeat(luma.astype(np.uint8)[..., None], 3, axis=2)
    if np.ptp(shown, axis=2).max() > _MAX_GRAY_DIFFERENCE:
        inside = masks.union()
        splash[inside] = shown[inside]
        return splash
    for index in np.argsort(-masks.areas, kind="stable").tolist():
        color = np.array(class_color(int(class_ids[index])), np.float32)
        crop = masks.crop(index)
        bright = luma[crop.slices][crop.pixels][:, None]
        splash[crop.slices][crop.pixels] = np.rint(bright * (color / color.max())).astype(np.uint8)
    return splash

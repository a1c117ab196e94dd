"""Pictures for people: instances drawn on an image, truth beside prediction, many pictures on one sheet.

Colours are those of Okabe and Ito (2008, Color Universal Design), which people with any common colour blindness can
tell apart, in an order that starts with those that stand out most on grey images.
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
MIN_WIDTH = 512
"""Narrower images are enlarged to at least this width, so that text beside small structures can be read."""

_FILL = 0.25
_LABELLED = 0.12  # largest share of the picture that labels may cover; the first stands anyway
_GAP = 8  # pixels between pictures
_STRIP = (24, 24, 24)
_INK = (235, 235, 235)


Colour = tuple[int, int, int]
Extent = tuple[int, int, int, int]  # x1, y1, x2, y2 in pixels, x2 and y2 exclusive
Entry = tuple[float, str, Colour | None]  # of a strip: x, text, colour of the square before it


def overlay(
    image: np.ndarray,
    masks: np.ndarray | InstanceMasks,
    class_ids: np.ndarray,
    class_names: Sequence[str],
    *,
    scores: np.ndarray | None = None,
    boxes: np.ndarray | None = None,
) -> np.ndarray:
    """An image with its instances: a strong outline, a translucent fill and a label each.

    The outline lies on the mask's own pixels. Labels go to the best scores first and stop where they would hide the
    picture; without one, an instance is known by its colour.

    Args:
        image: (H, W) or (H, W, C) of any type; of other than 3 channels the first is shown. What is not uint8 is
            shown between its 1st and 99th percentile.
        masks: (N, H, W) bool, as an array or as `InstanceMasks`.
        class_ids: (N,) 1-based positions in `class_names`.
        scores: (N,); their presence makes it a picture of predictions, which carries the footer.
        boxes: (N, 4) as (x1, y1, x2, y2); drawn when given.

    Returns:
        (H', W', 3) uint8: the image's size, or enlarged to `MIN_WIDTH` if it is narrower; the footer adds rows below.

    Raises:
        ValueError: the masks are not of the image's size.
    """
    painted = _paint(image, masks, class_ids, class_names, scores, boxes)
    if scores is None:
        return painted
    width = painted.shape[1]
    return np.concatenate([painted, _footer(width, _font(width), class_names)])


def side_by_side(sample: Sample, detections: Detections, class_names: Sequence[str]) -> np.ndarray:
    """Truth on the left, prediction on the right, titled, as (H', 2 · W' + gap, 3) uint8 with the footer."""
    truth = _paint(sample.image, sample.instances, sample.class_ids, class_names)
    found = _paint(sample.image, detections.instances, detections.class_ids, class_names, detections.scores)
    height, width = truth.shape[:2]
    gap = np.full((height, _GAP, 3), _STRIP, np.uint8)
    panels = np.concatenate([truth, gap, found], axis=1)
    font = _font(width)
    title = _strip(panels.shape[1], font, [(0, "truth", None), (width + _GAP, "prediction", None)])
    return np.concatenate([title, panels, _footer(panels.shape[1], font, class_names)])


def captioned(image: np.ndarray, class_names: Sequence[str]) -> np.ndarray:
    """A finished picture with the footer below it, enlarged to `MIN_WIDTH` if it is narrower; (H', W', 3) uint8."""
    picture = to_display(image)
    if picture.shape[1] < MIN_WIDTH:
        height = round(MIN_WIDTH / picture.shape[1] * picture.shape[0])
        picture = np.array(Image.fromarray(picture).resize((MIN_WIDTH, height), Image.Resampling.BICUBIC))
    width = picture.shape[1]
    return np.concatenate([picture, _footer(width, _font(width), class_names)])


def contact_sheet(images: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """Images in rows of `columns`, each in the corner of a cell that holds the largest; (H', W', 3) uint8.

    Args:
        images: (H, W), (H, W, C) of any type and size; there may be none.
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
    """(H, W, 3) uint8 for the screen: uint8 as it is, anything else windowed between its 1st and 99th percentile."""
    image = np.asarray(image)
    if image.ndim == 2:
        image = image[..., None]
    if image.shape[2] != 3:
        image = image[..., :1]
    if image.dtype != np.uint8:
        values = image.astype(np.float64)
        finite = values[np.isfinite(values)]
        low, high = np.percentile(finite, (1, 99)) if finite.size else (0.0, 0.0)
        if high <= low:  # a few bright pixels on an even ground: the percentiles see only the ground
            low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
        values = np.nan_to_num((values - low) / ((high - low) or 1.0), nan=0.0, posinf=1.0, neginf=0.0)
        image = np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], 3)))


def class_color(class_id: int) -> Colour:
    """Red, green and blue of a class (1-based); they repeat after the seventh."""
    return PALETTE[(int(class_id) - 1) % len(PALETTE)]


def _paint(
    image: np.ndarray,
    masks: np.ndarray | InstanceMasks,
    class_ids: np.ndarray,
    class_names: Sequence[str],
    scores: np.ndarray | None = None,
    boxes: np.ndarray | None = None,
) -> np.ndarray:
    canvas = np.array(to_display(image))  # a copy: it is painted on, and the image may be a read-only cached one
    masks = InstanceMasks.from_array(masks)
    if masks.shape != (len(class_ids), *canvas.shape[:2]):
        raise ValueError(f"masks are {masks.shape}, expected {(len(class_ids), *canvas.shape[:2])}")
    scale = max(MIN_WIDTH / canvas.shape[1], 1.0)
    if scale > 1:
        width, height = MIN_WIDTH, round(scale * canvas.shape[0])
        canvas = np.array(Image.fromarray(canvas).resize((width, height), Image.Resampling.BICUBIC))
        enlarged = [_enlarge(masks.mask(index), width, height) for index in range(len(masks))]
        masks = InstanceMasks(height, width, enlarged)
    extents = [tuple(box) if box[2] else None for box in masks.boxes.tolist()]
    # Large ones first, so that one within another stays visible.
    for index in np.argsort(-masks.areas, kind="stable"):
        if extents[index] is not None:
            _tint(canvas, masks.crop(index), class_color(class_ids[index]))

    picture = Image.fromarray(canvas)
    pen = ImageDraw.Draw(picture)
    if boxes is not None:
        scaled = np.rint(np.asarray(boxes, np.float64).reshape(-1, 4) * scale).astype(int)
        extents = [tuple(box) for box in scaled.tolist()]
        for (x1, y1, x2, y2), class_id in zip(extents, class_ids, strict=True):
            pen.rectangle((x1, y1, max(x2 - 1, x1), max(y2 - 1, y1)), outline=class_color(class_id))
    labels = [class_names[class_id - 1] for class_id in class_ids]
    if scores is not None:
        labels = [f"{label} {score:.2f}" for label, score in zip(labels, scores, strict=True)]
    order = range(len(labels)) if scores is None else np.argsort(-np.asarray(scores), kind="stable")
    _write_labels(pen, picture.size, [(extents[i], labels[i], class_color(class_ids[i])) for i in order if extents[i]])
    return np.array(picture)


def _enlarge(mask: np.ndarray, width: int, height: int) -> Crop:
    """A mask at the size of the enlarged picture, with a smooth outline; a lone pixel never vanishes."""
    picture = Image.fromarray(mask.astype(np.uint8) * 255)
    smooth = np.array(picture.resize((width, height), Image.Resampling.BILINEAR)) >= 128
    if not smooth.any() and mask.any():
        smooth = np.array(picture.resize((width, height), Image.Resampling.NEAREST)) > 0
    crop = Crop(0, 0, smooth).tight()
    return crop._replace(pixels=crop.pixels.copy())


def _tint(canvas: np.ndarray, crop: Crop, colour: Colour) -> None:
    """Fills and outlines one mask in place; only its own rectangle is touched."""
    inside, part = crop.pixels, canvas[crop.slices]
    part[inside] = np.rint((1 - _FILL) * part[inside] + _FILL * np.array(colour)).astype(np.uint8)
    core = binary_erosion(inside, iterations=max(2, round(canvas.shape[1] / 320)))
    part[inside & ~core] = colour


def _write_labels(
    pen: ImageDraw.ImageDraw, size: tuple[int, int], entries: Sequence[tuple[Extent, str, Colour]]
) -> None:
    """Writes (extent, text, colour) of each instance beside it: inside the picture, clear of labels already written
    and, where there is such a place, of other instances."""
    font = _font(size[0])
    ascent, descent = font.getmetrics()
    height, free = ascent + descent + 2, _LABELLED * size[0] * size[1]
    taken: list[Extent] = []
    everything = np.array([extent for extent, *_ in entries]).reshape(-1, 4)
    for index, (extent, text, colour) in enumerate(entries):
        text = _shorten(text, font, size[0] - 6)
        width = math.ceil(font.getlength(text)) + 6
        if taken and width * height > free:
            continue
        written, others = np.array(taken).reshape(-1, 4), np.delete(everything, index, axis=0)
        places = [place for place in _places(extent, width, height, size) if not _meets(place, written)]
        place = next((place for place in places if not _meets(place, others)), places[0] if places else None)
        if place is None:
            continue
        free -= width * height
        taken.append(place)
        pen.rectangle((place[0], place[1], place[2] - 1, place[3] - 1), fill=colour)
        pen.text((place[0] + 3, place[1] + 1), text, font=font, fill=_ink_on(colour))


def _places(extent: Extent, width: int, height: int, size: tuple[int, int]) -> list[Extent]:
    """Where a label of a size may stand, best first, all within the picture as far as it is large enough."""
    x1, y1, x2, y2 = extent
    corners = [(x1, y1 - height), (x1, y2), (x2 - width, y1 - height), (x2 - width, y2)]
    corners += [(x2, y1), (x1 - width, y1), (x1, y1)]
    inside = [(max(min(x, size[0] - width), 0), max(min(y, size[1] - height), 0)) for x, y in corners]
    return [(x, y, x + width, y + height) for x, y in inside if y + height <= size[1]]


def _meets(place: Extent, others: np.ndarray) -> bool:
    """Whether a place shares a pixel with any of the extents (N, 4)."""
    x1, y1, x2, y2 = others.T
    return bool(((place[0] < x2) & (x1 < place[2]) & (place[1] < y2) & (y1 < place[3])).any())


def _footer(width: int, font: ImageFont.FreeTypeFont, class_names: Sequence[str]) -> np.ndarray:
    """The strip below a clinical picture: what it may be used for, and the legend, on as many lines as it needs."""
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
    """A dark strip with texts; each is cut where the next one begins."""
    height = sum(font.getmetrics()) + 8
    picture = Image.new("RGB", (width, height), _STRIP)
    pen = ImageDraw.Draw(picture)
    ends = [entry[0] for entry in entries[1:]] + [width]
    for (x, text, colour), end in zip(entries, ends, strict=True):
        x += 6
        if colour is not None:
            pen.rectangle((x, height / 2 - font.size / 2, x + font.size, height / 2 + font.size / 2), fill=colour)
            x += font.size + 6
        pen.text((x, 4), _shorten(text, font, end - x), font=font, fill=_INK)
    return np.array(picture)


def _shorten(text: str, font: ImageFont.FreeTypeFont, room: float) -> str:
    while len(text) > 1 and font.getlength(text) > room:
        text = text[:-2] + "…"
    return text


def _ink_on(colour: Colour) -> Colour:
    """Black or white, whichever stands out more (ITU-R BT.601 luma)."""
    luma = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
    return (0, 0, 0) if luma > 110 else (255, 255, 255)


@lru_cache(maxsize=32)
def _font(width: int) -> ImageFont.FreeTypeFont:
    """Of a size that can be read on a picture `width` pixels wide."""
    # Pillow's own font has no accents; matplotlib brings one that has, found here without the time of importing it.
    fonts = Path(find_spec("matplotlib").origin).parent / "mpl-data" / "fonts" / "ttf"
    return ImageFont.truetype(fonts / "DejaVuSans.ttf", int(np.clip(round(width / 42), 13, 26)))


_GREY = 12
"""Largest difference between the channels of a picture that counts as grey: compression tints grey films slightly."""


def color_splash(image: np.ndarray, masks: np.ndarray | InstanceMasks, class_ids: np.ndarray) -> np.ndarray:
    """An image in grey whose instances keep their colour, as (H, W, 3) uint8.

    A grey image has no colour to keep: its instances take that of their class (`mrcnn.inference.drawing.PALETTE`), as
    bright as the
    image is; where instances overlap, that of the smallest.

    Args:
        image: (H, W) or (H, W, C) of any type; shown as `mrcnn.inference.drawing.to_display` does.
        masks: (N, H, W) bool.
        class_ids: (N,) 1-based.

    Raises:
        ValueError: the masks are not of the image's size.
    """
    shown, masks = to_display(image), InstanceMasks.from_array(masks)
    if masks.shape != (len(class_ids), *shown.shape[:2]):
        raise ValueError(f"masks are {masks.shape}, expected {(len(class_ids), *shown.shape[:2])}")
    luma = np.rint(shown @ LUMINANCE).clip(0, 255)
    splash = np.repeat(luma.astype(np.uint8)[..., None], 3, axis=2)
    if np.ptp(shown, axis=2).max() > _GREY:
        inside = masks.union()
        splash[inside] = shown[inside]
        return splash
    for index in np.argsort(-masks.areas, kind="stable"):
        colour = np.array(class_color(class_ids[index]), np.float32)
        crop = masks.crop(index)
        bright = luma[crop.slices][crop.pixels][:, None]
        splash[crop.slices][crop.pixels] = np.rint(bright * (colour / colour.max())).astype(np.uint8)
    return splash

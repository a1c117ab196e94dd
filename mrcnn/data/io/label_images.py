"""Read the stored values of label images (masks), which image decoders change for display, and analyze them.

Palette pixels are indices, 0 stays 0 if it is displayed white (TIFF WhiteIsZero, inverting lookup table of ImageJ),
gray of 2 or 4 bits is not scaled to 255, and alpha is checked instead of dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError

import numpy as np
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile
from scipy.ndimage import maximum_filter, minimum_filter

from mrcnn.data.io.deep_png import read_deep_png
from mrcnn.data.io.pictures import (
    DECODING_ERRORS,
    FORMATS,
    JPEGS,
    TIFF_SUFFIXES,
    UPRIGHT,
    changes_values,
    check_runs,
    open_picture,
    orient,
    page_orientation,
    page_values,
    png_kind,
    read_orientation,
    single_page,
)
from mrcnn.errors import InputError

LABEL_SUFFIXES = (".png", *TIFF_SUFFIXES, ".bmp", ".gif", ".npy")
LOSSY_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif")
LOSSY = "JPEG changes the values of a mask; expected PNG, TIFF, BMP, GIF or NPY"

_COMPRESSION, _JPEG_IN_TIFF = 259, (6, 7)  # TIFF 6.0, section 22, and its technical note 2
_DEEP_WITH_ALPHA = ((16, 4), (16, 6))  # PNG: depth and color type
_SCALE = {"2": 85, "4": 17}  # factor by which Pillow multiplies gray of so many bits
_SHOWN = 4
_LEAST_JPEG = 128  # lower values may be codes of classes


@dataclass(frozen=True)
class LabelImage:
    """Hold a label image.

    Attributes:
        values: (H, W) nonnegative integers or bool, with `orientation` applied.
        orientation: EXIF orientation of the file.
        from_alpha: whether the values are from the alpha channel, because the color is constant.
        lossy: whether a JPEG file was thresholded at half of its largest value.
        color: the only color of the objects, on black, if it is not gray.
    """

    values: np.ndarray
    orientation: int = UPRIGHT
    from_alpha: bool = False
    lossy: bool = False
    color: tuple[int, ...] | None = None


def read_label_image(path: Path, *, binary: bool = False) -> LabelImage:
    """Read the stored values of a PNG, TIFF, BMP, GIF or NPY file, or whether pixels are an object.

    Args:
        path: the file.
        binary: whether all objects are of one class; then JPEG files are thresholded, and one color on black is read.

    Raises:
        InputError: the file cannot be read, does not contain one plane of nonnegative integers, or is JPEG-compressed
            and has several classes or values.
    """
    try:
        if path.suffix.lower() in LOSSY_SUFFIXES:
            if not binary:
                raise InputError(f"{path}: {LOSSY}")
            return _read_jpeg(path)
        if path.suffix.lower() == ".npy":
            array, orientation = np.lib.format.open_memmap(path, mode="r"), UPRIGHT  # fails if the file is cut short
        else:
            array, orientation = _read_picture(path)
    except InputError:
        raise
    except (*DECODING_ERRORS, TokenError) as error:  # NumPy tokenizes the header of an NPY file
        raise InputError(f"{path}: expected a readable mask ({error})") from error
    if array.dtype.kind not in "buif":
        raise InputError(f"{path}: holds {array.dtype}; expected whole numbers")
    if binary and (color := _only_color(array)) is not None:
        return LabelImage(np.asarray(array[..., :3].any(axis=-1)), orientation, color=color)
    values, from_alpha = _single_plane(path, array)
    if values.dtype.kind == "f" and not (np.mod(values, 1) == 0).all():
        raise InputError(f"{path}: expected whole numbers")
    if values.dtype.kind in "if" and (values < 0).any():
        raise InputError(f"{path}: holds {values.min()}; expected numbers from 0, the background")
    return LabelImage(values, orientation, from_alpha)


def _only_color(array: np.ndarray) -> tuple[int, ...] | None:
    """Return the only color besides black of an array (H, W, 3), or (H, W, 4) without transparency."""
    if array.ndim != 3 or array.dtype != np.uint8 or array.shape[2] not in (3, 4) or not array.size:
        return None
    if (array[..., 3:] != array[:1, :1, 3:]).any():
        return None
    drawn = array[..., :3][array[..., :3].any(axis=-1)]
    if not len(drawn) or (drawn != drawn[0]).any() or len(set(drawn[0].tolist())) == 1:
        return None
    return tuple(drawn[0].tolist())


def _read_jpeg(path: Path) -> LabelImage:
    with open_picture(path) as image:
        orientation = read_orientation(image)
        values = orient(np.asarray(image.convert("L")), orientation)
    if not values.any():
        return LabelImage(values > 0, orientation, lossy=True)
    found = threshold_blended(values) if values.max() >= _LEAST_JPEG else None
    if found is None:
        raise InputError(f"{path}: {LOSSY}; a JPEG is read if its objects have one value, from {_LEAST_JPEG}, on 0")
    return LabelImage(found, orientation, lossy=True)


def _read_picture(path: Path) -> tuple[np.ndarray, int]:
    """Read stored values (H, W) or (H, W, C) with the orientation applied, and the orientation."""
    try:
        image = open_picture(path, (*FORMATS, "GIF"))
    except Image.UnidentifiedImageError:
        if path.suffix.lower() not in TIFF_SUFFIXES:
            raise
        return single_page(path, lambda page: (page_values(page), page_orientation(page)))
    with image:
        is_tiff = isinstance(image, TiffImageFile)
        orientation = read_orientation(image)
        if image.format in JPEGS or (is_tiff and image.tag_v2.get(_COMPRESSION) in _JPEG_IN_TIFF):
            raise InputError(f"{path}: {LOSSY}")
        if (frames := getattr(image, "n_frames", 1)) > 1:
            raise InputError(f"{path}: holds {frames} pages or frames; expected a single mask")
        if image.format == "PNG" and (kind := png_kind(path))[0] == 16 and kind[1] in (2, 4, 6):
            if kind in _DEEP_WITH_ALPHA:
                raise InputError(f"{path}: holds 16 bits with alpha; expected values without alpha")
            return orient(read_deep_png(path, gray=False), orientation), orientation
        if is_tiff and changes_values(image):
            return single_page(path, lambda page: (page_values(page), page_orientation(page)))
        check_runs(image)
        array = _undo_display(image, _raw_mode(image))
        return array if is_tiff else orient(array, orientation), orientation  # Pillow orients a TIFF


def _raw_mode(image: ImageFile) -> str:
    """Return Pillow's raw mode of the stored samples, which is lost when the image is loaded."""
    arguments = image.tile[0].args if image.tile else ""
    return arguments if isinstance(arguments, str) else str(arguments[0]) if arguments else ""


def _undo_display(image: Image.Image, raw_mode: str) -> np.ndarray:
    """Undo Pillow's inversion of WhiteIsZero gray and its scaling of gray with fewer than 8 bits."""
    array = np.array(image)
    depth = raw_mode.partition(";")[2]
    if image.mode == "1":
        return ~array if "I" in depth else array
    if image.mode == "L":
        array = 255 - array if "I" in depth else array
        return array // _SCALE.get(depth[:1], 1)
    return array


def _single_plane(path: Path, array: np.ndarray) -> tuple[np.ndarray, bool]:
    """Reduce an array of one value per pixel to (H, W), and return whether it is the alpha channel."""
    if array.ndim == 2:
        return array, False
    if array.ndim != 3 or not array.size:
        raise InputError(f"{path}: has the shape {array.shape}; expected values of (H, W)")
    alpha = array[..., -1] if array.dtype == np.uint8 and array.shape[2] in (2, 4) else None
    color = array if alpha is None else array[..., :-1]
    varies = alpha is not None and (alpha.min() < alpha.max() or not alpha.max())
    if alpha is not None and varies and (color == color[:1, :1]).all():
        return alpha, True
    if not (color == color[..., :1]).all():
        found = np.unique(color.reshape(-1, color.shape[2]), axis=0)[:_SHOWN].tolist() if color.shape[2] == 3 else []
        shown = f", such as the colors {', '.join(map(str, found))}" if found else ""
        raise InputError(f"{path}: has the shape {array.shape}{shown}; expected one value a pixel, or a palette")
    values = color[..., 0]
    if alpha is None or alpha.min() == alpha.max():
        return values, False
    if len(np.unique(alpha)) == 2 and ((values > 0) == (alpha > 0)).all():
        return values, False  # drawn on a transparent background
    raise InputError(
        f"{path}: its alpha channel and its values contradict each other; expected a mask without alpha, "
        "or one whose values are 0 wherever it is transparent"
    )


VOID = 255
_MOST_BESIDE_VOID = 128  # a label image of larger values may have an object of value 255
_RING_SHARE = 0.5  # of an outline
_MANY_BETWEEN, _SOME_BETWEEN, _SOME_ALONE, _FEW_ALONE = 0.2, 0.05, 0.03, 0.005  # of the pixels at edges
_LOW, _HIGH = 0.1, 0.9  # of the largest value
_SOLID_SHARE = 0.01


def nonzero_values(values: np.ndarray) -> list[int]:
    """Return the sorted distinct values above 0 of a label image."""
    if values.dtype == bool:
        return [1] if values.any() else []
    if values.dtype == np.uint8:  # without sorting all pixels
        return (np.flatnonzero(np.bincount(values.ravel(), minlength=256)[1:]) + 1).tolist()
    return [int(value) for value in np.unique(values) if value > 0]


def is_blended(values: np.ndarray) -> bool:
    """Detect edges blended by JPEG or interpolation.

    Blended edges have many pixels between a lower and a higher neighbor, or with a unique value; in a label image these
    occur only where three regions meet. After high-quality JPEG, all values are near 0 or the maximum.
    """
    values = _around(values)
    if len(nonzero_values(values)) < 2:
        return False
    lowest, highest = minimum_filter(values, 3), maximum_filter(values, 3)
    edge = (values > 0) & (lowest < highest)
    at_edges = np.count_nonzero(edge)
    between = np.count_nonzero(edge & (lowest < values) & (values < highest)) / at_edges
    alone = np.count_nonzero(edge & ~_has_twin(values)) / at_edges
    if between > _MANY_BETWEEN or (between > _SOME_BETWEEN and alone > _SOME_ALONE):
        return True
    top = values.max()
    near = (values < _LOW * top) | (values > _HIGH * top)
    return bool(alone > _FEW_ALONE and near.all() and not minimum_filter((values > 0) & (values < top / 2), 5).any())


def threshold_blended(values: np.ndarray) -> np.ndarray | None:
    """Threshold a blended mask at half of its value to (H, W) bool; None if it has areas of several values."""
    top = float(np.median(values[values > values.max() / 2]))
    found, middle = values > top / 2, (values > _LOW * top) & (values < _HIGH * top)
    solid = np.count_nonzero(minimum_filter(middle, 3))
    return None if solid > _SOLID_SHARE * np.count_nonzero(found) else found


def ringed_values(values: np.ndarray, classes: int) -> list[int]:
    """Find classes that occur only along outlines of higher classes, as in interpolated masks."""
    values, found = _around(values), []
    for value in range(1, classes):
        higher = values > value
        outline = _outline(higher)
        lining = (values == value) & maximum_filter(higher, 5) & maximum_filter(values < value, 5)
        if lining.any() and np.count_nonzero(outline & maximum_filter(lining, 3)) > _RING_SHARE * outline.sum():
            found.append(value)
    return found


def solid_values(values: np.ndarray, classes: int) -> set[int]:
    """Find classes that fill a 5×5 neighborhood somewhere."""
    return {value for value in range(1, classes + 1) if minimum_filter(values == value, 5).any()}


def has_void_border(values: np.ndarray) -> bool:
    """Detect a border of 255 around objects of smaller values, the void label of PASCAL VOC."""
    objects, void = (values > 0) & (values < VOID), values == VOID
    if not void.any() or not objects.any() or values[objects].max() > _MOST_BESIDE_VOID:
        return False
    if all(side.any() for side in (void[0], void[-1], void[:, 0], void[:, -1])):  # a white background
        return False
    outline = _outline(objects)
    # JPEG artifacts beside an object of 255 touch the background.
    within = outline & maximum_filter(void, 3) & ~maximum_filter(values == 0, 3)
    return bool(np.count_nonzero(within) > _RING_SHARE * outline.sum())


def _outline(region: np.ndarray) -> np.ndarray:
    return region & ~minimum_filter(region, 3)


def _has_twin(values: np.ndarray) -> np.ndarray:
    """Check for each pixel whether one of its eight neighbors has the same value."""
    found = np.zeros(values.shape, bool)
    for one, other in (
        (np.s_[1:, :], np.s_[:-1, :]),
        (np.s_[:, 1:], np.s_[:, :-1]),
        (np.s_[1:, 1:], np.s_[:-1, :-1]),
        (np.s_[1:, :-1], np.s_[:-1, 1:]),
    ):
        same = values[one] == values[other]
        found[one] |= same
        found[other] |= same
    return found


def _around(values: np.ndarray) -> np.ndarray:
    """Crop `values` to its nonzero part with a margin of three pixels."""
    rows, columns = (np.flatnonzero((values > 0).any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return values[:0, :0]
    return values[max(rows[0] - 3, 0) : rows[-1] + 4, max(columns[0] - 3, 0) : columns[-1] + 4]

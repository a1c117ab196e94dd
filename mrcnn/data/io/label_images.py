"""Label images (masks) as the values that they store, which the decoders of pictures change for display.

Palette entries are indices, 0 is 0 also where it is shown white (TIFF WhiteIsZero, ImageJ's inverting look-up table),
gray of 2 or 4 bits is not scaled to 255, and alpha is neither applied nor dropped unseen.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError

import numpy as np
from PIL import Image
from scipy.ndimage import maximum_filter, minimum_filter

from mrcnn.data.io.orientation import UPRIGHT, orientation_of, turned
from mrcnn.data.io.pictures import (
    DECODING_ERRORS,
    FORMATS,
    JPEGS,
    TIFF_SUFFIXES,
    changes_values,
    check_runs,
    open_picture,
    page_orientation,
    page_values,
    png_kind,
    single_page,
)
from mrcnn.errors import InputError

LABEL_SUFFIXES = (".png", *TIFF_SUFFIXES, ".bmp", ".gif", ".npy")
LOSSY_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif")
LOSSY = "JPEG changes the values of a mask; expected PNG, TIFF, BMP, GIF or NPY"

_COMPRESSION, _JPEG_IN_TIFF = 259, (6, 7)  # TIFF 6.0, section 22, and its technical note 2
_DEEP_WITH_ALPHA = ((16, 4), (16, 6))  # PNG: depth and color type
_SCALE = {"2": 85, "4": 17}  # by which Pillow multiplies gray of so many bits
_SHOWN = 4


@dataclass(frozen=True)
class LabelImage:
    """A label image.

    Attributes:
        values: (H, W) whole numbers from 0, or bool, turned as `orientation` says.
        orientation: EXIF orientation in the file.
        from_alpha: whether the values were in the alpha channel, as the color is the same everywhere.
    """

    values: np.ndarray
    orientation: int = UPRIGHT
    from_alpha: bool = False


def read_label_image(path: Path) -> LabelImage:
    """Read the stored values of a PNG, TIFF, BMP, GIF or NPY file.

    Raises:
        InputError: it cannot be read, holds anything but one plane of whole numbers from 0, or went through JPEG.
    """
    if path.suffix.lower() in LOSSY_SUFFIXES:
        raise InputError(f"{path}: {LOSSY}")
    try:
        array, orientation = _read_npy(path) if path.suffix.lower() == ".npy" else _read_picture(path)
    except InputError:
        raise
    except (*DECODING_ERRORS, TokenError) as error:  # NumPy takes the header of an NPY apart as Python
        raise InputError(f"{path}: expected a readable mask ({error})") from error
    if array.dtype.kind not in "buif":
        raise InputError(f"{path}: holds {array.dtype}; expected whole numbers")
    values, from_alpha = _single_plane(path, array)
    if values.dtype.kind == "f" and not (np.mod(values, 1) == 0).all():
        raise InputError(f"{path}: expected whole numbers")
    if values.dtype.kind in "if" and (values < 0).any():
        raise InputError(f"{path}: holds {values.min()}; expected numbers from 0, the background")
    return LabelImage(values, orientation, from_alpha)


def _read_npy(path: Path) -> tuple[np.ndarray, int]:
    return np.lib.format.open_memmap(path, mode="r"), UPRIGHT  # which is no longer than its header says


def _read_picture(path: Path) -> tuple[np.ndarray, int]:
    """Stored values, (H, W) or (H, W, C), turned, and the orientation by which."""
    try:
        image = open_picture(path, (*FORMATS, "GIF"))
    except Image.UnidentifiedImageError:
        if path.suffix.lower() not in TIFF_SUFFIXES:
            raise
        return single_page(path, lambda page: (page_values(page), page_orientation(page)))
    with image:
        is_tiff, orientation = image.format == "TIFF", orientation_of(image)
        if image.format in JPEGS or (is_tiff and image.tag_v2.get(_COMPRESSION) in _JPEG_IN_TIFF):
            raise InputError(f"{path}: {LOSSY}")
        if getattr(image, "n_frames", 1) > 1:
            raise InputError(f"{path}: holds {image.n_frames} pages or frames; expected a single mask")
        if image.format == "PNG" and (kind := png_kind(path))[0] == 16 and kind[1] in (2, 4, 6):
            if kind in _DEEP_WITH_ALPHA:
                raise InputError(f"{path}: holds 16 bits with alpha; expected values without alpha")
            from mrcnn.data.io.pictures import read_deep_png

            return turned(read_deep_png(path, grey=False), orientation), orientation
        if is_tiff and changes_values(image):
            return single_page(path, lambda page: (page_values(page), page_orientation(page)))
        check_runs(image)
        array = _undo_display(image, _raw_mode(image))
        return array if is_tiff else turned(array, orientation), orientation  # of a TIFF Pillow has turned it


def _raw_mode(image: Image.Image) -> str:
    """Pillow's name of how the stored samples become those of the image; loading it forgets that."""
    arguments = image.tile[0].args if image.tile else ""
    return arguments if isinstance(arguments, str) else str(arguments[0]) if arguments else ""


def _undo_display(image: Image.Image, raw_mode: str) -> np.ndarray:
    """The values before Pillow inverted gray whose 0 is white, and scaled that of fewer than 8 bits."""
    array = np.array(image)
    depth = raw_mode.partition(";")[2]
    if image.mode == "1":
        return ~array if "I" in depth else array
    if image.mode == "L":
        array = 255 - array if "I" in depth else array
        return array // _SCALE.get(depth[:1], 1)
    return array


def _single_plane(path: Path, array: np.ndarray) -> tuple[np.ndarray, bool]:
    """(H, W) of an array of one value a pixel, and whether that was the alpha."""
    if array.ndim == 2:
        return array, False
    if array.ndim != 3 or not array.size:
        raise InputError(f"{path}: has the shape {array.shape}; expected values of (H, W)")
    alpha = array[..., -1] if array.dtype == np.uint8 and array.shape[2] in (2, 4) else None
    color = array if alpha is None else array[..., :-1]
    is_constant = alpha is not None and (color == color[:1, :1]).all()
    varies = alpha is not None and (alpha.min() < alpha.max() or not alpha.max())
    if is_constant and varies:
        return alpha, True
    if not (color == color[..., :1]).all():
        found = np.unique(color.reshape(-1, color.shape[2]), axis=0)[:_SHOWN].tolist() if color.shape[2] == 3 else []
        shown = f", such as the colors {', '.join(map(str, found))}" if found else ""
        raise InputError(f"{path}: has the shape {array.shape}{shown}; expected one value a pixel, or a palette")
    values = color[..., 0]
    if not varies:
        return values, False
    if len(np.unique(alpha)) == 2 and ((values > 0) == (alpha > 0)).all():
        return values, False  # drawn on a transparent background
    raise InputError(
        f"{path}: its alpha channel and its values contradict each other; expected a mask without alpha, "
        "or one whose values are 0 wherever it is transparent"
    )


VOID = 255
_MOST_BESIDE_VOID = 128  # a map of more values than that may have an object of value 255
_RING_SHARE = 0.5  # of an outline
_MANY_BETWEEN, _SOME_BETWEEN, _SOME_ALONE, _FEW_ALONE = 0.2, 0.05, 0.03, 0.005  # of the pixels at edges
_LOW, _HIGH = 0.1, 0.9  # of the largest value
_SOLID_SHARE = 0.01


def values_above_zero(values: np.ndarray) -> list[int]:
    """The different values of a label image but 0, in order."""
    if values.dtype == bool:
        return [1] if values.any() else []
    if values.dtype == np.uint8:  # without sorting all pixels
        return (np.flatnonzero(np.bincount(values.ravel(), minlength=256)[1:]) + 1).tolist()
    return [int(value) for value in np.unique(values) if value > 0]


def is_blended(values: np.ndarray) -> bool:
    """Whether edges were blended, as JPEG and resizing do.

    At edges there are then many pixels between a lower and a higher neighbor, or pixels of a value of their own; in a
    map of labels they are only where three regions meet. Or all values are near 0 or the largest, as after a fine JPEG.
    """
    values = _around(values)
    if len(values_above_zero(values)) < 2:
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
    """The object of a blended mask, (H, W) bool, from half of its value; None where it has areas of several values."""
    top = float(np.median(values[values > values.max() / 2]))
    found, middle = values > top / 2, (values > _LOW * top) & (values < _HIGH * top)
    solid = np.count_nonzero(minimum_filter(middle, 3))
    return None if solid > _SOLID_SHARE * np.count_nonzero(found) else found


def ringed_values(values: np.ndarray, classes: int) -> list[int]:
    """The classes that only line the outline of higher ones, as where a mask of classes was resized."""
    values, found = _around(values), []
    for value in range(1, classes):
        higher = values > value
        outline = _outline(higher)
        lining = (values == value) & maximum_filter(higher, 5) & maximum_filter(values < value, 5)
        if lining.any() and np.count_nonzero(outline & maximum_filter(lining, 3)) > _RING_SHARE * outline.sum():
            found.append(value)
    return found


def solid_values(values: np.ndarray, classes: int) -> set[int]:
    """The classes with a pixel all of whose 5×5 neighbors are of it."""
    return {value for value in range(1, classes + 1) if minimum_filter(values == value, 5).any()}


def has_void_border(values: np.ndarray) -> bool:
    """Whether 255 lies around objects of smaller values, as the void border of PASCAL VOC does."""
    objects, void = (values > 0) & (values < VOID), values == VOID
    if not void.any() or not objects.any() or values[objects].max() > _MOST_BESIDE_VOID:
        return False
    outline = _outline(objects)
    # What JPEG leaves beside an object of 255 reaches the background.
    within = outline & maximum_filter(void, 3) & ~maximum_filter(values == 0, 3)
    return bool(np.count_nonzero(within) > _RING_SHARE * outline.sum())


def _outline(region: np.ndarray) -> np.ndarray:
    return region & ~minimum_filter(region, 3)


def _has_twin(values: np.ndarray) -> np.ndarray:
    """Whether one of a pixel's eight neighbors has its value."""
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
    """The part of `values` that is not 0, with three pixels around it."""
    rows, columns = (np.flatnonzero((values > 0).any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return values[:0, :0]
    return values[max(rows[0] - 3, 0) : rows[-1] + 4, max(columns[0] - 3, 0) : columns[-1] + 4]

"""The masks of an image as what their boxes hold or as run lengths: thousands on a large image take megabytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import MISSING
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as coco_mask

from mrcnn.errors import InputError

MAX_MASK_BYTES = 1 << 35
"""Instances times rows times columns of the masks that are made one array of; 32 GiB."""
_KEPT = 1 << 16  # pixels of a box up to which what was decoded is kept


class Crop(NamedTuple):
    """A mask within a box: the row and column where that begins, and its pixels (h, w) bool."""

    top: int
    left: int
    pixels: np.ndarray

    def tight(self) -> Crop:
        """The same within the smallest box; one without pixels is of 0 × 0."""
        rows = np.flatnonzero(self.pixels.any(axis=1))
        if not len(rows):
            return EMPTY
        part = self.pixels[rows[0] : rows[-1] + 1]
        columns = np.flatnonzero(part.any(axis=0))
        return Crop(
            self.top + int(rows[0]), self.left + int(columns[0]), part[:, columns[0] : columns[-1] + 1]
        )  # fmt: skip

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns in the image."""
        height, width = self.pixels.shape
        return np.s_[self.top : self.top + height, self.left : self.left + width]


EMPTY = Crop(0, 0, np.zeros((0, 0), bool))
"""A mask without a pixel."""


class InstanceMasks:
    """N masks of an image, of which an array is made where one is asked for.

    Args:
        height: pixels of the image.
        width: pixels of the image.
        items: for each mask a `Crop`, or COCO's run-length string.

    Attributes:
        shape: (N, height, width).
        dtype: that of the array.
    """

    dtype = np.dtype(bool)

    def __init__(self, height: int, width: int, items: Sequence[Crop | bytes]) -> None:
        self._items: list[Crop | bytes] = list(items)
        self._array: np.ndarray | None = None
        self.shape = (len(self._items), int(height), int(width))

    @classmethod
    def from_array(cls, masks: InstanceMasks | np.ndarray) -> InstanceMasks:
        """Those of an array (N, H, W), which is not copied, or what are such masks already."""
        if isinstance(masks, InstanceMasks):
            return masks
        masks = np.asarray(masks)
        made = cls.__new__(cls)
        made._items, made._array, made.shape, made.dtype = [None] * len(masks), masks, masks.shape, masks.dtype
        return made

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Crop]:
        return (self.crop(index) for index in range(len(self)))

    def __add__(self, others: InstanceMasks) -> InstanceMasks:
        """These masks and then `others`, of the same image."""
        return InstanceMasks(*self.shape[1:], [*self, *others])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.to_array(), dtype, copy=copy)

    def __getstate__(self) -> dict[str, Any]:
        """Without the array, where that can be made again."""
        return self.__dict__ | ({} if None in self._items else {"_array": None})

    def crop(self, index: int) -> Crop:
        """A mask within its tight box."""
        item = self._items[index]
        if item is None:
            item = Crop(0, 0, np.asarray(self._array[index], bool)).tight()
            self._items[index] = item  # a view
        elif isinstance(item, bytes):
            item = _decode(item, *self.shape[1:])
            if item.pixels.size <= _KEPT:
                self._items[index] = item
        return item

    @property
    def boxes(self) -> np.ndarray:
        """(N, 4) int64 (x1, y1, x2, y2), x2 and y2 exclusive, tight around the pixels; zeros for an empty mask."""
        corners = [(left, top, left + part.shape[1], top + part.shape[0]) for top, left, part in self]
        return np.array(corners, np.int64).reshape(-1, 4)

    @property
    def areas(self) -> np.ndarray:
        """(N,) int64 pixels."""
        return np.array([np.count_nonzero(part) for *_, part in self], np.int64)

    def mask(self, index: int) -> np.ndarray:
        """(H, W) bool of one mask."""
        whole = np.zeros(self.shape[1:], bool)
        crop = self.crop(index)
        whole[crop.slices] = crop.pixels
        return whole

    def region(self, index: int, top: int, bottom: int, left: int, right: int) -> np.ndarray:
        """(bottom - top, right - left) bool: what a mask has there."""
        crop = self.crop(index)
        height, width = crop.pixels.shape
        found = np.zeros((bottom - top, right - left), bool)
        y1, y2 = max(top, crop.top), min(bottom, crop.top + height)
        x1, x2 = max(left, crop.left), min(right, crop.left + width)
        if y1 < y2 and x1 < x2:
            found[y1 - top : y2 - top, x1 - left : x2 - left] = crop.pixels[
                y1 - crop.top : y2 - crop.top, x1 - crop.left : x2 - crop.left
            ]
        return found

    def union(self) -> np.ndarray:
        """(H, W) bool: the pixels that any mask has."""
        found = np.zeros(self.shape[1:], bool)
        for crop in self:
            found[crop.slices] |= crop.pixels
        return found

    def select(self, indices: np.ndarray | Sequence[int]) -> InstanceMasks:
        """The masks at `indices`, positions or (N,) bool, in that order."""
        chosen = np.arange(len(self))[np.asarray(indices)]
        items = [self.crop(index) if self._items[index] is None else self._items[index] for index in chosen.tolist()]
        return InstanceMasks(*self.shape[1:], items)

    def flip(self, *, vertical: bool = False, horizontal: bool = False) -> InstanceMasks:
        """The masks of the image upside down, or left to right."""
        _, height, width = self.shape
        crops = []
        for top, left, pixels in self:
            rows, columns = pixels.shape
            if vertical:
                top, pixels = height - top - rows, pixels[::-1]
            if horizontal:
                left, pixels = width - left - columns, pixels[:, ::-1]
            crops.append(Crop(top, left, pixels))
        return InstanceMasks(height, width, crops)

    def to_rle(self) -> list[bytes]:
        """COCO's run-length string of each, as pycocotools encodes the whole mask."""
        height, width = self.shape[1:]
        return [encode_crop(crop, height, width) for crop in self]

    def compressed(self) -> InstanceMasks:
        """The same as run lengths, the smallest form."""
        return InstanceMasks(*self.shape[1:], self.to_rle())

    def to_array(self) -> np.ndarray:
        """(N, H, W) bool; made once.

        Raises:
            InputError: it would be larger than `MAX_MASK_BYTES`.
        """
        if self._array is None:
            count, height, width = self.shape
            if count * height * width > MAX_MASK_BYTES:
                raise InputError(
                    f"{count} masks of {width}×{height} pixels: {count * height * width / 2**30:.0f} GiB as one array, "
                    f"expected at most {MAX_MASK_BYTES / 2**30:.0f}; `instances` gives them one by one"
                )
            array = np.zeros(self.shape, bool)
            for whole, crop in zip(array, self, strict=True):
                whole[crop.slices] = crop.pixels
            self._array = array
        return self._array


class MasksField:
    """A dataclass's field of masks: an array (N, H, W) for who reads it, made of `InstanceMasks` of another name.

    Args:
        form: that name.
        default: None where the field may be left out.
    """

    def __init__(self, form: str, default: Any = MISSING) -> None:
        self._form, self._default = form, default

    def __get__(self, owner: Any, kind: type | None = None) -> np.ndarray | None:
        if owner is None:  # dataclasses look for a default
            if self._default is MISSING:
                raise AttributeError
            return self._default
        held = owner.__dict__[self._form]
        return None if held is None else held.to_array()

    def __set__(self, owner: Any, masks: InstanceMasks | np.ndarray | None) -> None:
        owner.__dict__[self._form] = None if masks is None else InstanceMasks.from_array(masks)


def encode_crop(crop: Crop, height: int, width: int) -> bytes:
    """COCO's run-length string of a mask in its image, the bytes that pycocotools makes of the whole."""
    rows, columns = crop.pixels.shape
    if not crop.pixels.any():
        counts = np.array([height * width])
    else:
        # A background pixel on either side makes every run start and end at a change.
        pixels = np.zeros(columns * height + 2, bool)
        pixels[1:-1].reshape(columns, height)[:, crop.top : crop.top + rows] = crop.pixels.T
        changes = np.flatnonzero(pixels[1:] != pixels[:-1]) + crop.left * height
        counts = np.diff(changes, prepend=0, append=height * width)
        if counts[-1] == 0:
            counts = counts[:-1]
    return coco_mask.frPyObjects({"size": [height, width], "counts": counts.tolist()}, height, width)["counts"]


def _decode(runs: bytes, height: int, width: int) -> Crop:
    ends = np.cumsum(run_lengths(runs))
    starts, ends = ends[0::2][: len(ends) // 2], ends[1::2]
    inside = ends > starts
    starts, ends = starts[inside], ends[inside]
    if not len(starts):
        return EMPTY
    first, last = int(starts[0] // height), int((ends[-1] - 1) // height) + 1
    steps = np.zeros((last - first) * height + 1, np.int8)
    steps[starts - first * height] += 1
    steps[ends - first * height] -= 1
    strip = np.cumsum(steps[:-1], dtype=np.int8).view(bool).reshape(last - first, height).T
    crop = Crop(0, first, strip).tight()
    return crop._replace(pixels=crop.pixels.copy())


def run_lengths(compressed: bytes) -> np.ndarray:
    """(R,) run lengths, background first, of a compressed string; pycocotools decodes but never checks their sum.

    The format (maskApi.c of COCO's API, rleToString): five bits a character from 48 on, lowest first, bit 5 = more
    follow, bit 4 of the last = sign; from the fourth number on the difference to the number two before.

    Raises:
        ValueError: it is no such string, in words that follow "segmentation".
    """
    codes = np.frombuffer(compressed, np.uint8).astype(np.int64) - 48
    if not len(codes) or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        raise ValueError("has counts that are not a compressed run-length string")
    ends = np.flatnonzero(codes & 32 == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    digits = ends - starts + 1
    if digits.max() > 12:
        raise ValueError("has counts that are not a compressed run-length string")
    place = 5 * (np.arange(len(codes)) - np.repeat(starts, digits))
    lengths = np.add.reduceat((codes & 31) << place, starts)
    lengths -= (codes[ends] >> 4 & 1) << 5 * digits
    lengths[1::2] = np.cumsum(lengths[1::2])
    lengths[2::2] = np.cumsum(lengths[2::2])
    return lengths

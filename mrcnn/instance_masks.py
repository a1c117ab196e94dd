"""Store the masks of an image as crops or run-length encodings; thousands of a large image need megabytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import MISSING
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from pycocotools import mask as coco_mask

from mrcnn.errors import InputError

MAX_MASK_BYTES = 1 << 35
"""Largest size of an array of masks (N, H, W); 32 GiB."""
_MAX_CACHED_PIXELS = 1 << 16  # larger crops are decoded at each use


class Crop(NamedTuple):
    """A mask within a box: its first row, its first column and its pixels (h, w) bool."""

    top: int
    left: int
    pixels: np.ndarray

    def tight(self) -> Crop:
        """Return the mask within its smallest box, 0 × 0 for an empty mask."""
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
        """Rows and columns of the box in the image, as slices."""
        height, width = self.pixels.shape
        return np.s_[self.top : self.top + height, self.left : self.left + width]


EMPTY = Crop(0, 0, np.zeros((0, 0), bool))
"""An empty mask."""


class InstanceMasks:
    """N masks of an image, converted to an array (N, H, W) only on request.

    Args:
        height: height of the image in pixels.
        width: width of the image in pixels.
        items: for each mask a `Crop` or a COCO run-length string.

    Attributes:
        shape: (N, height, width).
        dtype: dtype of the array.
    """

    dtype = np.dtype(bool)

    def __init__(self, height: int, width: int, items: Sequence[Crop | bytes]) -> None:
        self._items: list[Crop | bytes | None] = list(items)  # None: not yet cut from the array
        self._array: np.ndarray | None = None
        self.shape = (len(self._items), int(height), int(width))

    @classmethod
    def from_array(cls, masks: InstanceMasks | np.ndarray) -> InstanceMasks:
        """Wrap an array (N, H, W) without a copy; return `InstanceMasks` unchanged."""
        if isinstance(masks, InstanceMasks):
            return masks
        masks = np.asarray(masks)
        wrapped = cls.__new__(cls)
        wrapped._items, wrapped._array = [None] * len(masks), masks
        wrapped.shape, wrapped.dtype = masks.shape, masks.dtype
        return wrapped

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Crop]:
        return (self.crop(index) for index in range(len(self)))

    def __add__(self, others: InstanceMasks) -> InstanceMasks:
        """Concatenate with other masks of the same image."""
        return InstanceMasks(*self.shape[1:], [*self, *others])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.to_array(), dtype, copy=copy)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the array if the items suffice."""
        return self.__dict__ | ({} if None in self._items else {"_array": None})

    def crop(self, index: int) -> Crop:
        """Return one mask within its smallest box."""
        item = self._items[index]
        if item is None:
            assert self._array is not None  # only `from_array` leaves out items
            item = Crop(0, 0, np.asarray(self._array[index], bool)).tight()
            self._items[index] = item  # a view
        elif isinstance(item, bytes):
            item = _decode(item, *self.shape[1:])
            if item.pixels.size <= _MAX_CACHED_PIXELS:
                self._items[index] = item
        return item

    @property
    def boxes(self) -> np.ndarray:
        """Bounding boxes (N, 4) int64 (x1, y1, x2, y2), x2 and y2 exclusive; zeros for an empty mask."""
        corners = [(left, top, left + part.shape[1], top + part.shape[0]) for top, left, part in self]
        return np.array(corners, np.int64).reshape(-1, 4)

    @property
    def areas(self) -> np.ndarray:
        """Areas (N,) int64 in pixels."""
        return np.array([np.count_nonzero(part) for *_, part in self], np.int64)

    def mask(self, index: int) -> np.ndarray:
        """Return one mask (H, W) bool."""
        whole = np.zeros(self.shape[1:], bool)
        crop = self.crop(index)
        whole[crop.slices] = crop.pixels
        return whole

    def region(self, index: int, top: int, bottom: int, left: int, right: int) -> np.ndarray:
        """Return a region of one mask, (bottom - top, right - left) bool."""
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

    def window(self, top: int, bottom: int, left: int, right: int) -> InstanceMasks:
        """Return the masks of a region of the image, N masks of (bottom - top, right - left)."""
        crops = []
        for index, crop in enumerate(self):
            rows, columns = crop.pixels.shape
            y1, y2 = max(top, crop.top), min(bottom, crop.top + rows)
            x1, x2 = max(left, crop.left), min(right, crop.left + columns)
            inside = y1 < y2 and x1 < x2
            crops.append(Crop(y1 - top, x1 - left, self.region(index, y1, y2, x1, x2)).tight() if inside else EMPTY)
        return InstanceMasks(bottom - top, right - left, crops)

    def union(self) -> np.ndarray:
        """Return the union of all masks, (H, W) bool."""
        found = np.zeros(self.shape[1:], bool)
        for crop in self:
            found[crop.slices] |= crop.pixels
        return found

    def select(self, indices: np.ndarray | Sequence[int]) -> InstanceMasks:
        """Return the masks at `indices`, integers or (N,) bool, in that order."""
        chosen = np.arange(len(self))[np.asarray(indices)]
        items = [self.crop(at) if (item := self._items[at]) is None else item for at in chosen.tolist()]
        return InstanceMasks(*self.shape[1:], items)

    def flip(self, *, vertical: bool = False, horizontal: bool = False) -> InstanceMasks:
        """Return the masks of the flipped image."""
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
        """Return the COCO run-length string of each mask, equal to that of pycocotools."""
        height, width = self.shape[1:]
        return [encode_crop(crop, height, width) for crop in self]

    def compressed(self) -> InstanceMasks:
        """Return the masks stored as run-length strings, the smallest form; those that are strings stay as they are."""
        height, width = self.shape[1:]
        items = [item if isinstance(item, bytes) else encode_crop(self.crop(index), height, width)
                 for index, item in enumerate(self._items)]  # fmt: skip
        return InstanceMasks(height, width, items)

    def to_array(self) -> np.ndarray:
        """Return the masks as a cached array (N, H, W) bool.

        Raises:
            InputError: the array would be larger than `MAX_MASK_BYTES`.
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


Array = TypeVar("Array", np.ndarray, "np.ndarray | None")


class MasksField(Generic[Array]):
    """Dataclass field that reads as an array (N, H, W) and stores `InstanceMasks` under another attribute.

    Args:
        attribute: name of that attribute.
        default: None for an optional field.
    """

    def __init__(self, attribute: str, default: Any = MISSING) -> None:
        self._attribute, self._default = attribute, default

    def __get__(self, owner: Any, kind: type | None = None) -> Array:
        if owner is None:  # dataclasses request the default
            if self._default is MISSING:
                raise AttributeError
            return self._default
        masks = owner.__dict__[self._attribute]
        return masks if masks is None else masks.to_array()  # pyright: ignore[reportReturnType] - as `__set__` accepts

    def __set__(self, owner: Any, masks: InstanceMasks | Array) -> None:
        owner.__dict__[self._attribute] = None if masks is None else InstanceMasks.from_array(masks)


class WithMasks:
    """Base of dataclasses whose required field `masks` is a `MasksField`."""

    masks: MasksField[np.ndarray] = MasksField("instances")

    @property
    def instances(self) -> InstanceMasks:
        """`masks` as `InstanceMasks`, without an array."""
        return self.__dict__["instances"]


def encode_crop(crop: Crop, height: int, width: int) -> bytes:
    """Encode a mask as a COCO run-length string, equal to that of pycocotools for the full image."""
    rows, columns = crop.pixels.shape
    if not crop.pixels.any():
        counts = np.array([height * width])
    else:
        # With a background pixel at both ends every run begins and ends at a change.
        pixels = np.zeros(columns * height + 2, bool)
        pixels[1:-1].reshape(columns, height)[:, crop.top : crop.top + rows] = crop.pixels.T
        changes = np.flatnonzero(pixels[1:] != pixels[:-1]) + crop.left * height
        counts = np.diff(changes, prepend=0, append=height * width)
        if counts[-1] == 0:
            counts = counts[:-1]
    encoded = coco_mask.frPyObjects({"size": [height, width], "counts": counts.tolist()}, height, width)
    return encoded["counts"]  # pyright: ignore[reportReturnType] - pycocotools always encodes to bytes


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
    """Decode a COCO run-length string to run lengths (R,), background first, with validation.

    Format (maskApi.c of COCO's API, rleToString): five bits per character from code 48 on, lowest first; bit 5 marks a
    continuation, bit 4 of the last character the sign. From the fourth number on, the difference to the number two
    before is stored. pycocotools does not check such strings.

    Raises:
        ValueError: the string is invalid; the message continues a sentence that begins with "segmentation".
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

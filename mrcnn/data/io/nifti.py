"""Read NIfTI files of any orientation as stacks of axial slices, and write label maps.

A stack is (slices, rows, columns): slices from inferior to superior, rows from anterior to posterior, columns from the
right to the left of the patient, as radiologists display axial slices.
"""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.filebasedimages import ImageFileError
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from mrcnn.errors import InputError

SUFFIXES = (".nii", ".nii.gz")
_STACK = axcodes2ornt(("L", "P", "S"))
_SAME_PLACE = 1e-3  # tolerance in mm of affines, which are float32 and rounded differently by different programs
# Errors of nibabel, gzip and zlib for damaged, truncated or other files.
_UNREADABLE = (
    OSError, EOFError, ValueError, zlib.error, ImageFileError, HeaderDataError, WrapStructError, struct.error,
    ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError,
)  # fmt: skip
_MOST_VOXELS = 1 << 30
_MOST_SWELLING = 1040  # maximum expansion of deflate, 1032, plus a margin for headers


@dataclass(frozen=True, eq=False)
class Nifti:
    """Hold the header of a volume; voxels are read on access.

    Attributes:
        path: NIfTI file.
        image: nibabel image of one volume, or of several along its fourth axis.
        channel: position along the fourth axis, or None.
    """

    path: Path
    image: nibabel.Nifti1Image
    channel: int | None = None

    @property
    def affine(self) -> np.ndarray:
        """Transform (4, 4) float64 from voxel indices to mm."""
        affine = self.image.affine
        assert affine is not None  # nibabel computes it for every image that it reads
        return affine

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the stack: (slices, rows, columns)."""
        order = np.argsort(self._to_stack()[:, 0])
        columns, rows, slices = (int(self.image.shape[axis]) for axis in order)
        return slices, rows, columns

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size in mm along slices, rows and columns."""
        sides = voxel_sizes(self.affine)
        columns, rows, slices = (float(sides[axis]) for axis in np.argsort(self._to_stack()[:, 0]))
        return slices, rows, columns

    def stack(self) -> np.ndarray:
        """Read the voxels (slices, rows, columns), in the type of the file, or float64 if it has a scale.

        Raises:
            InputError: the file is truncated or damaged, or a voxel is not finite.
        """
        try:
            several = self.channel is not None and len(self.image.shape) == 4
            chosen = self.image.dataobj[..., self.channel] if several else self.image.dataobj
            voxels = np.asanyarray(chosen).reshape(self.image.shape[:3])
        except _UNREADABLE as error:
            raise unreadable(self.path, error) from error
        if voxels.dtype.kind == "f" and not np.isfinite(voxels.sum(dtype=np.float64)):
            raise InputError(f"{self.path}: voxels are NaN or infinite; expected finite numbers")
        return self.to_stack(voxels)

    def to_stack(self, voxels: np.ndarray) -> np.ndarray:
        """Reorder an array with the axes of the file to (slices, rows, columns)."""
        return apply_orientation(voxels, self._to_stack()).transpose(2, 1, 0)

    def from_stack(self, stack: np.ndarray) -> np.ndarray:
        """Reorder a (slices, rows, columns) array to the axes of the file, without a fourth axis of channels."""
        there = io_orientation(self.affine)
        shape = self.image.shape if math.prod(self.image.shape[3:]) == 1 else self.image.shape[:3]
        return apply_orientation(stack.transpose(2, 1, 0), ornt_transform(_STACK, there)).reshape(shape)

    def has_same_grid(self, other: Nifti) -> bool:
        """Check that two volumes have the same voxel grid."""
        corners = np.array([[0, 0, 0, 1], [*self.image.shape[:3], 1]], np.float64).T
        apart = (self.affine - other.affine) @ corners
        return self.image.shape[:3] == other.image.shape[:3] and bool((np.abs(apart) < _SAME_PLACE).all())

    def grid(self) -> str:
        """Describe size, axes and origin for messages."""
        size = "×".join(map(str, self.image.shape[:3]))
        sides = "×".join(f"{side:.4g}" for side in voxel_sizes(self.affine))
        origin = ", ".join(f"{place:.4g}" for place in self.affine[:3, 3])
        axes = "".join(nibabel.aff2axcodes(self.affine))
        return f"{size} voxels of {sides} mm, axes {axes}, origin {origin}"

    def _to_stack(self) -> np.ndarray:
        return ornt_transform(io_orientation(self.affine), _STACK)


def open_nifti(path: Path, channel: int | None = None) -> Nifti:
    """Open a NIfTI file, or `channel` along its fourth axis if it has several volumes, and check its header.

    Raises:
        InputError: the file is missing, is not NIfTI, does not contain one image or volume or the channel, or has an
            invalid affine.
    """
    try:
        size = path.stat().st_size
        if not size:
            raise ValueError("empty, 0 bytes")
        image = nibabel.Nifti1Image.from_filename(path)
        opened = Nifti(path, image, channel)
        _check(opened, size)
        if len(image.shape) == 2:  # an image, such as a frame of ultrasound
            pixels = np.asanyarray(image.dataobj)[..., None]
            opened = Nifti(path, nibabel.Nifti1Image(pixels, image.affine, image.header), channel)
    except _UNREADABLE as error:
        raise unreadable(path, error) from error
    return opened


def count_channels(path: Path) -> int | None:
    """Return the length of the fourth axis of a NIfTI file; None if it has three, or cannot be read."""
    try:
        shape = nibabel.Nifti1Image.from_filename(path).shape
    except _UNREADABLE:
        return None
    return shape[3] if len(shape) == 4 else None


def _check(opened: Nifti, size: int) -> None:
    """Raise `InputError` unless the header describes one volume, or `channel`, that fits into `size` bytes."""
    path, image, channel = opened.path, opened.image, opened.channel
    several = channel is not None and len(image.shape) == 4
    if channel is not None and channel >= (count := image.shape[3] if len(image.shape) == 4 else 1):
        raise InputError(f"{path}: has {count} channels along its fourth axis; expected at least {channel + 1}")
    if len(image.shape) < 2 or min(image.shape) < 1 or (any(side != 1 for side in image.shape[3:]) and not several):
        raise InputError(f"{path}: has shape {image.shape}; expected one volume of three dimensions")
    kind, voxels = np.dtype(image.get_data_dtype()), math.prod(image.shape)
    if kind.kind not in "buif":
        raise InputError(f"{path}: has voxels of the type {kind}; expected a number each")
    # nibabel allocates memory for all voxels before it reads the first.
    if voxels > _MOST_VOXELS or voxels * kind.itemsize > size * _MOST_SWELLING:
        shape = "×".join(map(str, image.shape[:3]))
        expected = f"expected a whole file of at most {_MOST_VOXELS:,}"
        raise InputError(f"{path}: has {shape} voxels in {size} bytes; {expected}")
    # The axes are unknown without a valid affine.
    affine = opened.affine
    if not np.isfinite(affine).all() or np.isnan(io_orientation(affine)).any() or min(voxel_sizes(affine)) <= 0:
        raise InputError(f"{path}: its affine does not place every axis; expected an invertible one")


def unreadable(path: Path, error: Exception) -> InputError:
    """Convert an error of reading a file to `InputError`."""
    if isinstance(error, InputError):
        return error
    if isinstance(error, FileNotFoundError):
        return InputError(f"{path}: no such file")
    return InputError(f"{path}: expected a readable NIfTI file ({error})")


DESCRIPTION = "medmrcnn; research use only"
"""Header field `descrip`, at most 79 characters."""


def write_label_map(path: Path, labels: np.ndarray, like: Path | Nifti) -> None:
    """Write a label map (slices, rows, columns) uint8 or uint16 with the voxel grid of its source volume or NIfTI file.

    Raises:
        InputError: `like` cannot be read, or its size differs.
    """
    source = like if isinstance(like, Nifti) else open_nifti(like, 0)
    if labels.shape != source.shape:
        raise InputError(
            f"{source.path}: has {source.shape} slices, rows and columns; expected {labels.shape}, as the labels"
        )
    header = source.image.header.copy()
    kind = np.uint8 if labels.max(initial=0) < 256 else np.uint16
    header.set_data_dtype(kind)
    header.set_slope_inter(1, 0)
    header["cal_min"] = header["cal_max"] = 0  # the display window of the source intensities
    header["descrip"] = DESCRIPTION
    # Text fields may name the patient; an extension may contain the whole DICOM header.
    header["db_name"] = header["aux_file"] = header["intent_name"] = b""
    header.extensions.clear()
    nibabel.Nifti1Image(source.from_stack(labels.astype(kind)), source.image.affine, header).to_filename(path)

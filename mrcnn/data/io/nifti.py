"""NIfTI files as stacks of axial slices, however they lie in the file, and back.

A stack is (slices, rows, columns): slices run from the feet to the head, rows from front to back, columns from the
patient's right to the left. So a slice looks as radiologists show it, the patient's right on the left.
"""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform

from mrcnn.errors import InputError

SUFFIXES = (".nii", ".nii.gz")
_STACK = axcodes2ornt(("L", "P", "S"))
_SAME_PLACE = 1e-3  # mm by which affines may differ: they are float32, and rounded differently by different programs
# What nibabel, gzip and zlib raise on files that are damaged, cut short or something else.
_UNREADABLE = (
    OSError, EOFError, ValueError, zlib.error, nibabel.filebasedimages.ImageFileError,
    nibabel.spatialimages.HeaderDataError, nibabel.wrapstruct.WrapStructError, struct.error,
    ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError,
)  # fmt: skip
_MOST_VOXELS = 1 << 30
_MOST_SWELLING = 1040  # deflate makes at most 1032 bytes of one; the rest is for headers


@dataclass(frozen=True, eq=False)
class Nifti:
    """A volume whose header is read and whose voxels are not.

    Attributes:
        path: its file.
        image: nibabel's, with one volume.
    """

    path: Path
    image: nibabel.Nifti1Image

    @property
    def shape(self) -> tuple[int, int, int]:
        """(slices, rows, columns) of the stack."""
        order = np.argsort(self._to_stack()[:, 0])
        columns, rows, slices = (int(self.image.shape[axis]) for axis in order)
        return slices, rows, columns

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """From slice to slice, row to row, column to column."""
        sides = nibabel.affines.voxel_sizes(self.image.affine)
        columns, rows, slices = (float(sides[axis]) for axis in np.argsort(self._to_stack()[:, 0]))
        return slices, rows, columns

    def stack(self) -> np.ndarray:
        """The voxels (slices, rows, columns), of the file's own type, or float64 where it states a scale.

        Raises:
            InputError: the file is cut short or damaged, or a voxel is not a finite number.
        """
        try:
            voxels = np.asanyarray(self.image.dataobj).reshape(self.image.shape[:3])
        except _UNREADABLE as error:
            raise unreadable(self.path, error) from error
        if voxels.dtype.kind == "f" and not np.isfinite(voxels.sum(dtype=np.float64)):
            raise InputError(f"{self.path}: voxels are NaN or infinite; expected finite numbers")
        return apply_orientation(voxels, self._to_stack()).transpose(2, 1, 0)

    def from_stack(self, stack: np.ndarray) -> np.ndarray:
        """A (slices, rows, columns) array as it lies in the file, of the file's shape."""
        there = io_orientation(self.image.affine)
        return apply_orientation(stack.transpose(2, 1, 0), ornt_transform(_STACK, there)).reshape(self.image.shape)

    def lies_as(self, other: Nifti) -> bool:
        """Whether voxel by voxel both show the same place."""
        corners = np.array([[0, 0, 0, 1], [*self.image.shape[:3], 1]], np.float64).T
        apart = (self.image.affine - other.image.affine) @ corners
        return self.image.shape[:3] == other.image.shape[:3] and bool((np.abs(apart) < _SAME_PLACE).all())

    def grid(self) -> str:
        """Size and origin in words, for messages."""
        size = "×".join(map(str, self.image.shape[:3]))
        sides = "×".join(f"{side:.4g}" for side in nibabel.affines.voxel_sizes(self.image.affine))
        origin = ", ".join(f"{place:.4g}" for place in self.image.affine[:3, 3])
        axes = "".join(nibabel.aff2axcodes(self.image.affine))
        return f"{size} voxels of {sides} mm, axes {axes}, origin {origin}"

    def _to_stack(self) -> np.ndarray:
        return ornt_transform(io_orientation(self.image.affine), _STACK)


def open_nifti(path: Path) -> Nifti:
    """Reads the header.

    Raises:
        InputError: the file is missing, no NIfTI, not one three-dimensional volume, or lies nowhere.
    """
    try:
        size = path.stat().st_size
        if not size:
            raise ValueError("empty, 0 bytes")
        image = nibabel.Nifti1Image.from_filename(path)
        _check(path, image, size)
    except _UNREADABLE as error:
        raise unreadable(path, error) from error
    return Nifti(path, image)


def _check(path: Path, image: nibabel.Nifti1Image, size: int) -> None:
    """Raises `InputError` unless the header is that of one volume that a file of so many bytes can hold."""
    if len(image.shape) < 3 or min(image.shape) < 1 or any(side != 1 for side in image.shape[3:]):
        raise InputError(f"{path}: has shape {image.shape}; expected one volume of three dimensions")
    kind, voxels = image.get_data_dtype(), math.prod(image.shape)
    if kind.kind not in "buif":
        raise InputError(f"{path}: has voxels of the type {kind}; expected a number each")
    # nibabel makes room for all voxels before it reads the first.
    if voxels > _MOST_VOXELS or voxels * kind.itemsize > size * _MOST_SWELLING:
        shape = "×".join(map(str, image.shape[:3]))
        expected = f"expected a whole file of at most {_MOST_VOXELS:,}"
        raise InputError(f"{path}: has {shape} voxels in {size} bytes; {expected}")
    # Without an orientation or a size nobody can say which axis runs to the head.
    sides = nibabel.affines.voxel_sizes(image.affine)
    if not np.isfinite(image.affine).all() or np.isnan(io_orientation(image.affine)).any() or min(sides) <= 0:
        raise InputError(f"{path}: its affine does not place every axis; expected an invertible one")


def unreadable(path: Path, error: Exception) -> InputError:
    if isinstance(error, InputError):
        return error
    if isinstance(error, FileNotFoundError):
        return InputError(f"{path}: no such file")
    return InputError(f"{path}: expected a readable NIfTI file ({error})")


DESCRIPTION = "medmrcnn; research use only"
"""Of at most 79 letters, in the header's field for it."""


def write_label_map(path: Path, labels: np.ndarray, like: Path) -> None:
    """Writes labels with the affine and header of the volume that they belong to, voxel for voxel.

    Args:
        path: to be written; ends in .nii or .nii.gz.
        labels: (slices, rows, columns) uint8, as `mrcnn.data.io.nifti` orders them.
        like: a NIfTI file of the volume.

    Raises:
        InputError: `like` cannot be read, or is of another size.
    """
    source = open_nifti(like)
    if labels.shape != source.shape:
        raise InputError(f"{like}: has {source.shape} slices, rows and columns; expected {labels.shape}, as the labels")
    header = source.image.header.copy()
    header.set_data_dtype(np.uint8)
    header.set_slope_inter(1, 0)
    header["cal_min"] = header["cal_max"] = 0  # the window of the picture's intensities, not of labels
    header["descrip"] = DESCRIPTION
    # Texts of whoever made the volume, which may name its patient; an extension may be its whole DICOM header.
    header["db_name"] = header["aux_file"] = header["intent_name"] = b""
    header.extensions.clear()
    nibabel.Nifti1Image(source.from_stack(labels.astype(np.uint8)), source.image.affine, header).to_filename(path)

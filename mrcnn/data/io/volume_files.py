"""Open the files of a volume, NIfTI, TIFF or DICOM, as channels on one voxel grid, and cut them along a plane."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import nibabel
import numpy as np
import pydicom
import tifffile
from pydicom.pixels.processing import apply_modality_lut

from mrcnn.data.digest import cached_file_digest, cached_files_digest
from mrcnn.data.io.dicom_file import (
    check_image,
    decode_pixels,
    element_integer,
    element_numbers,
    open_dicom,
    translate_errors,
)
from mrcnn.data.io.nifti import Nifti, open_nifti
from mrcnn.data.io.pictures import DECODING_ERRORS, TIFF_SUFFIXES, check_size
from mrcnn.errors import InputError

Plane = Literal["axial", "coronal", "sagittal"]
PLANES: tuple[Plane, ...] = ("axial", "coronal", "sagittal")
_MOST_VOXELS = 1 << 30
_SAME_STEP = 0.05  # share of the distance between slices by which one may differ
DICOM_TO_NIFTI = np.diag([-1.0, -1.0, 1.0, 1.0])
"""DICOM counts to the left and to the back, NIfTI to the right and to the front."""


@dataclass(frozen=True)
class VolumeFiles:
    """Name the files of a volume.

    Attributes:
        files: NIfTI files or TIFF stacks of one channel each, one NIfTI file of all `channels`, or the DICOM slices of
            one channel, or one DICOM file of several frames.
        channels: positions along the last axis of a single NIfTI file of four dimensions; empty for other files.
        dicom: whether the files are DICOM.
    """

    files: tuple[Path, ...]
    channels: tuple[int, ...] = ()
    dicom: bool = False

    @property
    def count(self) -> int:
        """Number of channels."""
        return 1 if self.dicom else len(self.channels) or len(self.files)

    def digest(self) -> str:
        """Compute the digest of the files and of the chosen channels."""
        stacks = [file for file in self.files if file.suffix.lower() in TIFF_SUFFIXES]
        digest = cached_files_digest([*self.files, *(file for file in map(_spacing_file, stacks) if file.is_file())])
        return f"{digest[:48]}{'-'.join(map(str, self.channels))}" if self.channels else digest

    def open(self) -> list[Nifti]:
        """Open each channel.

        Raises:
            InputError: a file cannot be read, or the channels lie on different grids.
        """
        if self.dicom:
            return [open_series(self.files)]
        if self.channels:
            return [open_nifti(self.files[0], channel) for channel in self.channels]
        opened = [open_volume(file) for file in self.files]
        for other in opened[1:]:
            check_same_grid(opened[0], other)
        return opened


def open_volume(path: Path) -> Nifti:
    """Open a NIfTI file of one volume, or a TIFF stack. Raises `InputError` if it is none."""
    return open_tiff_stack(path) if path.suffix.lower() in TIFF_SUFFIXES else open_nifti(path)


def is_tiff_stack(path: Path) -> bool:
    """Check for a TIFF file of several gray pages."""
    if path.suffix.lower() not in TIFF_SUFFIXES:
        return False
    try:
        with tifffile.TiffFile(path) as tiff:
            return len(tiff.pages) > 1 and tiff.pages.first.samplesperpixel == 1
    except DECODING_ERRORS:
        return False


def _spacing_file(path: Path) -> Path:
    return path.with_name(re.sub(r"_\d{4}$", "", path.stem) + ".json")


def open_tiff_stack(path: Path) -> Nifti:
    """Read a TIFF file of nnU-Net, whose pages are axial slices, as a volume in memory.

    `a.json` beside `a_0000.tif` or `a.tif` has the size of a voxel: {"spacing": [slice, row, column]} in mm.

    Raises:
        InputError: the file is damaged or no stack of gray pages, or the sizes are missing or invalid.
    """
    if not is_tiff_stack(path):
        raise InputError(f"{path}: is no TIFF file of several gray pages; expected a stack of slices")
    facts = _spacing_file(path)
    try:
        with tifffile.TiffFile(path) as tiff:
            page = tiff.pages.first
            check_size(page.imagelength, page.imagewidth, 1)
            if page.imagelength * page.imagewidth * len(tiff.pages) > _MOST_VOXELS:
                raise ValueError(f"{len(tiff.pages)} pages; expected at most {_MOST_VOXELS:,} voxels")
            voxels = tiff.asarray()
        stated = json.loads(facts.read_bytes())
        spacing = [float(side) for side in stated["spacing"]]
    except FileNotFoundError:
        raise InputError(f'{facts}: is missing; expected {{"spacing": [slice, row, column]}} in mm') from None
    except (*DECODING_ERRORS, RecursionError, KeyError, TypeError) as error:
        raise InputError(f"{path}, {facts.name}: expected a readable stack and its spacing ({error})") from error
    if len(spacing) != 3 or not all(1e-6 <= side <= 1e4 for side in spacing):
        raise InputError(f"{facts}: spacing {spacing}; expected the sides of a voxel in mm: slice, row, column")
    if voxels.ndim != 3 or voxels.dtype.kind not in "buif":
        raise InputError(f"{path}: holds {voxels.dtype} of shape {voxels.shape}; expected slices of gray values")
    affine = np.diag([-spacing[2], -spacing[1], spacing[0], 1])
    return Nifti(path, nibabel.Nifti1Image(voxels.transpose(2, 1, 0), affine, dtype=voxels.dtype))


def check_same_grid(one: Nifti, other: Nifti) -> None:
    """Raise `InputError`, which describes both grids, unless two volumes have the same."""
    if not other.has_same_grid(one):
        raise InputError(f"{one.path} and {other.path.name}: expected one grid, found {one.grid()} and {other.grid()}")


def to_plane(stack: np.ndarray, plane: Plane) -> np.ndarray:
    """Reorder an axial stack (slices, rows, columns) so that its slices lie in a plane, with the head up.

    Returns:
        Coronal: slices from front to back, columns to the patient's left. Sagittal: slices to the patient's left,
        columns from front to back. Both have rows from superior to inferior.
    """
    if plane == "axial":
        return stack
    return stack[::-1].transpose((1, 0, 2) if plane == "coronal" else (2, 0, 1))


def from_plane(stack: np.ndarray, plane: Plane) -> np.ndarray:
    """Undo `to_plane`."""
    if plane == "axial":
        return stack
    return stack.transpose((1, 0, 2) if plane == "coronal" else (1, 2, 0))[::-1]


def plane_sizes(sizes: Sequence[float], plane: Plane) -> tuple:
    """Reorder a shape or spacing along (slices, rows, columns) like `to_plane`."""
    slices, rows, columns = sizes
    return {"axial": (slices, rows, columns), "coronal": (rows, slices, columns),
            "sagittal": (columns, slices, rows)}[plane]  # fmt: skip


def best_plane(spacing_mm: Sequence[float]) -> Plane:
    """Return the plane with the finest pixels, across the axis of the largest spacing; axial if no axis stands out.

    The spacing is that along the slices, rows and columns of an axial stack.
    """
    order = np.argsort(spacing_mm)
    coarse, next_coarse = spacing_mm[order[-1]], spacing_mm[order[-2]]
    return PLANES[int(order[-1])] if coarse > 1.5 * next_coarse else "axial"


def open_series(files: Sequence[Path]) -> Nifti:
    """Read a DICOM series in the units of the scanner (CT: Hounsfield units) as a volume in memory.

    Args:
        files: one per slice in the order of their positions, or one file with several frames in that order.

    Raises:
        InputError: a file is damaged, slices are missing, or frames have no position.
    """
    planes, grids = [], []
    for path in files:
        with translate_errors(path):
            dataset = open_dicom(path)
            check_image(dataset)
            for frame in range(element_integer(dataset, "NumberOfFrames", 1)):
                groups = frame_groups(dataset, frame)
                planes.append(_rescaled(dataset, frame, groups, len(files) == 1))
                grids.append(_grid(groups))
    normal = np.cross(grids[0][1][:3], grids[0][1][3:])
    steps = np.diff([normal @ position for position, _, _ in grids])
    if len(steps) < 1 or np.ptp(steps) > _SAME_STEP * abs(np.median(steps)) or (np.abs(steps) < 1e-3).any():
        apart = f"{steps.min():.3g} to {steps.max():.3g} mm apart" if len(steps) else "alone"
        raise InputError(f"{files[0]}: the slices of its series are {apart}; expected a whole series, equally spaced")
    affine = np.eye(4)
    position, direction, spacing = grids[0]
    affine[:3, 0], affine[:3, 1] = direction[:3] * spacing[1], direction[3:] * spacing[0]
    affine[:3, 2] = (grids[-1][0] - position) / len(steps)
    affine[:3, 3] = position
    voxels = np.stack(planes).transpose(2, 1, 0)
    return Nifti(files[0], nibabel.Nifti1Image(voxels, DICOM_TO_NIFTI @ affine, dtype=voxels.dtype))


def frame_groups(dataset: pydicom.Dataset, frame: int) -> list[pydicom.Dataset]:
    """Return the data sets that describe a frame, those of the frame itself first (PS3.3, C.7.6.16)."""
    found: list[pydicom.Dataset] = []
    for keyword, index in (("PerFrameFunctionalGroupsSequence", frame), ("SharedFunctionalGroupsSequence", 0)):
        groups: Sequence[pydicom.Dataset] = dataset.get(keyword) or ()
        for element in groups[index] if index < len(groups) else ():
            found += list(element.value or ())[:1] if element.VR == "SQ" else []
    return [*found, dataset]


def has_frame_positions(dataset: pydicom.Dataset) -> bool:
    """Check whether the frames of a file state their position in the patient, as in enhanced CT and MR."""
    return any("ImagePositionPatient" in group for group in frame_groups(dataset, 0)[:-1])


def _first(groups: Sequence[pydicom.Dataset], keyword: str, count: int) -> np.ndarray:
    for group in groups:
        if len(found := element_numbers(group, keyword)) == count:
            return np.array(found)
    raise InputError(f"{keyword} (DICOM): is missing; expected {count} numbers, as a slice of a volume has")


def _grid(groups: Sequence[pydicom.Dataset]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    names = (("ImagePositionPatient", 3), ("ImageOrientationPatient", 6), ("PixelSpacing", 2))
    position, direction, spacing = (_first(groups, *name) for name in names)
    return position, direction, spacing


def _rescaled(dataset: pydicom.Dataset, frame: int, groups: Sequence[pydicom.Dataset], one: bool) -> np.ndarray:
    pixels = decode_pixels(dataset, frame if one and "NumberOfFrames" in dataset else None)
    if pixels.ndim != 2:
        raise InputError(f"DICOM slice of shape {pixels.shape}; expected gray values")
    for group in groups[:-1]:
        if "RescaleSlope" in group:
            return pixels * float(group.RescaleSlope) + float(group.RescaleIntercept)
    return np.asarray(apply_modality_lut(pixels, dataset))


def labels_digest(files: Sequence[Path]) -> str:
    """Compute the digest of the label files of a volume."""
    return cached_file_digest(files[0]) if len(files) == 1 else cached_files_digest(files)

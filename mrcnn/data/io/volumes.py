"""Read single slices of volumes from a cache of scaled slices.

A compressed NIfTI file can only be read sequentially, but training reads slices in random order. So the first access
scales the whole volume and saves each slice, compressed separately, in the cache folder. `benchmarks/volumes.py`
measures time and size.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from mrcnn.cache_folder import cache_folder
from mrcnn.data.digest import required_cache, write_whole
from mrcnn.data.io.images import read_image
from mrcnn.data.io.volume_files import Plane, VolumeFiles, to_plane
from mrcnn.errors import InputError

Window = tuple[float, float]
"""Center and width of the displayed intensities."""

_VERSION = 1  # increase when the same files give other slices
_LIMIT = 6e4  # standard deviations; within the range of float16
_PERCENTILES = (0.5, 99.5)
_CACHE_ERRORS = (OSError, KeyError, ValueError, EOFError, zlib.error, zipfile.BadZipFile)


@dataclass(frozen=True)
class Scaling:
    """Define how the intensities of a volume become pixel values.

    Attributes:
        method: `none`: as stored; `zscore`: each channel with zero mean and unit variance over its foreground, float32;
            `percentiles`: the 0.5 and 99.5 percentiles of the foreground become 0 and 255; `window`: the edges of the
            window do. The foreground is all that differs from the value in the corners.
        window: center and width for `window`.
    """

    method: Literal["none", "zscore", "percentiles", "window"] = "zscore"
    window: Window | None = None


ZSCORE, UNSCALED = Scaling(), Scaling("none")


@dataclass(frozen=True)
class Volume:
    """Describe a volume of one or several channels on one voxel grid, cut along a plane.

    Attributes:
        source: its files.
        shape: (slices, rows, columns) along the plane; see `mrcnn.data.io.volume_files.to_plane` for the directions.
        digest: digest of the files, and of plane and scaling if they are not the default.
        channels: names of the channels.
        label_codes: codes of its label map if it is of BraTS; see `mrcnn.data.readers.volumes.brats`.
        class_values: value of each class in its label map, if it is not of BraTS.
    """

    source: VolumeFiles
    shape: tuple[int, int, int]
    digest: str
    channels: tuple[str, ...] = ()
    label_codes: str | None = None
    class_values: tuple[int, ...] = ()
    plane: Plane = "axial"
    scaling: Scaling = ZSCORE

    @property
    def files(self) -> tuple[Path, ...]:
        """Files of the volume."""
        return self.source.files

    def read_slice(self, index: int) -> np.ndarray:
        """Read a slice (rows, columns, C), scaled: float32, or uint8 for one or three channels of 0 … 255.

        Raises:
            InputError: a file cannot be read, or the cache folder cannot be written.
        """
        path = cache_folder() / "volumes" / f"{self.digest[:32]}-{_VERSION}.npz"
        try:
            return self._read(path, index)
        except _CACHE_ERRORS:  # missing or damaged
            self._prepare(path)
            return self._read(path, index)

    def _read(self, path: Path, index: int) -> np.ndarray:
        byte = self.scaling.method != "zscore" and self.source.count in (1, 3)
        image = np.empty((*self.shape[1:], self.source.count), np.uint8 if byte else np.float32)
        with np.load(path) as stored:
            image[:] = stored["background"]
            if str(index) in stored:
                top, bottom, left, right = stored["box"]
                image[top:bottom, left:right] = stored[str(index)]
        return image

    def _prepare(self, path: Path) -> None:
        stacks, background, foreground = [], [], np.zeros(self.shape, bool)
        for channel in self.source.open():
            stack = to_plane(channel.stack(), self.plane).astype(np.float32, copy=False)
            outside = background_value(stack)
            inside = stack != outside
            foreground |= inside
            subtracted, divisor, limits, kind = self._scale(stack[inside])
            stacks.append(_rounded(((stack - subtracted) / divisor).clip(*limits), kind))
            background.append(_rounded(np.float32((outside - subtracted) / divisor).clip(*limits), kind))
        rows, columns = (np.asarray(foreground.any(axis=axes)) for axes in ((0, 2), (0, 1)))
        (top, bottom), (left, right) = _extent(rows), _extent(columns)
        slices = {
            str(index): np.stack([stack[index, top:bottom, left:right] for stack in stacks], axis=-1)
            for index in np.flatnonzero(foreground.any(axis=(1, 2)))
        }
        frame = {"background": np.array(background), "box": np.array([top, bottom, left, right])}
        with required_cache(path.parent), write_whole(path) as draft:  # several workers may write at once
            np.savez_compressed(draft, **(frame | slices))  # pyright: ignore[reportArgumentType] - for allow_pickle

    def _scale(self, values: np.ndarray) -> tuple[np.float32, np.float32, tuple[float, float], type]:
        """Return what is subtracted and divided by, the limits of the result and its type."""
        if self.scaling.method == "zscore":
            return *_moments(values), (-_LIMIT, _LIMIT), np.float16
        if self.scaling.method == "window" and self.scaling.window is not None:
            center, width = self.scaling.window
            low, high = center - width / 2, center + width / 2
        else:
            low, high = np.percentile(values, _PERCENTILES) if len(values) else (0.0, 1.0)
        return np.float32(low), np.float32(max(high - low, 1e-6) / 255), (0, 255), np.uint8


@dataclass(frozen=True)
class Pictures:
    """Describe images without a voxel grid: one of several files with a channel each, or the frames of a DICOM file.

    Attributes:
        files: one per channel, or the DICOM file.
        shape: (images, rows, columns).
        digest: digest of the files.
        frames: whether the file has several frames.
    """

    files: tuple[Path, ...]
    shape: tuple[int, int, int]
    digest: str
    channels: tuple[str, ...] = ()
    frames: bool = False
    label_codes: str | None = None
    class_values: tuple[int, ...] = ()
    plane: Plane = "axial"
    scaling: Scaling = UNSCALED

    def read_slice(self, index: int) -> np.ndarray:
        """Read the (H, W, C) pixels of image `index`. Raises `InputError` like `read_image`."""
        if self.frames:
            from mrcnn.data.io.dicom import read_dicom_frame

            return read_dicom_frame(self.files[0], index)
        images = [read_image(file) for file in self.files]
        for file, image in zip(self.files, images, strict=True):
            if image.shape[:2] != images[0].shape[:2]:
                raise InputError(f"{file}: is of another size than {self.files[0].name}; expected one size")
        return np.concatenate(images, axis=2)


def volume_digest(source: VolumeFiles, plane: Plane, scaling: Scaling) -> str:
    """Compute `Volume.digest`: that of the files alone for axial slices with `zscore`."""
    digest = source.digest()
    if plane == "axial" and scaling == ZSCORE:
        return digest
    return hashlib.sha256(f"{digest} {plane} {scaling.method} {scaling.window}".encode()).hexdigest()


def background_value(stack: np.ndarray) -> float:
    """Return the background value of a skull-stripped volume (slices, rows, columns).

    This is the common value of all eight corners, which is not 0 in normalized volumes; 0 if they differ.
    """
    corners = stack[np.ix_(*[(0, side - 1) for side in stack.shape])]
    return float(corners[0, 0, 0]) if (corners == corners[0, 0, 0]).all() else 0.0


def _moments(values: np.ndarray) -> tuple[np.float32, np.float32]:
    """Compute mean and standard deviation; 0 and 1 for no values, deviation 1 for a constant."""
    if not len(values):
        return np.float32(0), np.float32(1)
    mean, deviation = values.mean(dtype=np.float64), values.std(dtype=np.float64)
    return np.float32(mean), np.float32(deviation if deviation > 1e-6 * abs(mean) else 1)


def _rounded(values: np.ndarray, kind: type) -> np.ndarray:
    return (np.rint(values) if kind is np.uint8 else values).astype(kind)


def _extent(covered: np.ndarray) -> tuple[int, int]:
    """Return the range [first, last + 1) of True positions; (0, 0) if there are none."""
    positions = np.flatnonzero(covered)
    return (int(positions[0]), int(positions[-1]) + 1) if len(positions) else (0, 0)

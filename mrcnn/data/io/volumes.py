"""Read single slices of multi-modality volumes from a cache of normalized slices.

A compressed NIfTI file can only be read sequentially, but training reads slices in random order. So the first access
normalizes the whole volume, crops it to the brain, and saves each slice, compressed separately, in the cache folder.
`benchmarks/volumes.py` measures time and size.
"""

from __future__ import annotations

import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mrcnn.cache_folder import cache_folder
from mrcnn.data.io.nifti import open_nifti
from mrcnn.errors import InputError

_VERSION = 1  # increase when the same files give other slices
_LIMIT = 6e4  # standard deviations; within the range of float16
_CACHE_ERRORS = (OSError, KeyError, ValueError, EOFError, zlib.error, zipfile.BadZipFile)


@dataclass(frozen=True)
class Volume:
    """Describe a volume of several modalities on one voxel grid.

    Attributes:
        files: NIfTI files, one per channel.
        shape: (slices, rows, columns); see `mrcnn.data.io.nifti` for the directions.
        digest: digest of the files.
        label_codes: codes of its label map; see `mrcnn.data.readers.brats_cases`.
    """

    files: tuple[Path, ...]
    shape: tuple[int, int, int]
    digest: str
    label_codes: str

    def read_slice(self, index: int) -> np.ndarray:
        """Read a slice (rows, columns, C) float32, each channel with zero mean and unit variance over the brain.

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
        image = np.empty((*self.shape[1:], len(self.files)), np.float32)
        with np.load(path) as stored:
            image[:] = stored["background"]
            if str(index) in stored:
                top, bottom, left, right = stored["box"]
                image[top:bottom, left:right] = stored[str(index)]
        return image

    def _prepare(self, path: Path) -> None:
        stacks, background, brain = [], [], np.zeros(self.shape, bool)
        for file in self.files:
            stack = open_nifti(file).stack().astype(np.float32, copy=False)
            outside = background_value(stack)
            inside = stack != outside
            brain |= inside
            mean, deviation = _moments(stack[inside])
            stacks.append(((stack - mean) / deviation).clip(-_LIMIT, _LIMIT).astype(np.float16))
            background.append(np.float32((outside - mean) / deviation).clip(-_LIMIT, _LIMIT))
        rows, columns = (np.asarray(brain.any(axis=axes)) for axes in ((0, 2), (0, 1)))
        (top, bottom), (left, right) = _extent(rows), _extent(columns)
        slices = {
            str(index): np.stack([stack[index, top:bottom, left:right] for stack in stacks], axis=-1)
            for index in np.flatnonzero(brain.any(axis=(1, 2)))
        }
        frame = {"background": np.array(background, np.float16), "box": np.array([top, bottom, left, right])}
        try:
            _write(path, frame | slices)
        except OSError as error:
            raise InputError(
                f"{path.parent}: cannot be written ({error.strerror}); set MRCNN_CACHE to another folder"
            ) from error


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


def _extent(covered: np.ndarray) -> tuple[int, int]:
    """Return the range [first, last + 1) of True positions; (0, 0) if there are none."""
    positions = np.flatnonzero(covered)
    return (int(positions[0]), int(positions[-1]) + 1) if len(positions) else (0, 0)


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write to a temporary file and rename it, because several workers may write at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}-") as scratch:
        fresh = Path(scratch) / path.name
        np.savez_compressed(fresh, **arrays)  # pyright: ignore[reportArgumentType] - taken for allow_pickle
        fresh.replace(path)

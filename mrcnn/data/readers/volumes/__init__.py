"""Read annotated volumes. The reader is imported on use: nibabel takes half a second."""

from __future__ import annotations

from pathlib import Path

from mrcnn.data.dataset import Dataset
from mrcnn.data.reader_options import VolumesOptions
from mrcnn.data.readers.image_files import files_below

_SUFFIXES = (".nii", ".gz", ".dcm", ".dicom", ".ima", "")


def read(path: Path, *, patient_pattern: str | None, options: VolumesOptions) -> Dataset:
    """Read NIfTI or DICOM volumes; see `reader.read`."""
    from mrcnn.data.readers.volumes import reader

    return reader.read(path, patient_pattern=patient_pattern, options=options)


def matches(path: Path) -> bool:
    """Check for volumes with labels; only a folder with files of their kinds is looked through."""
    if not path.is_dir():
        return False
    described = any(True for pattern in ("", "*/", "*/*/") for _ in path.glob(f"{pattern}dataset.json"))
    if not described and all(file.suffix.lower() not in _SUFFIXES for file in files_below(path, "**/*")):
        return False
    from mrcnn.data.readers.volumes import reader

    return reader.matches(path)

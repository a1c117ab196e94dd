"""What was found in a volume, as a NIfTI file that lies where the volume does."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np

from mrcnn.data.nifti import open_nifti
from mrcnn.errors import InputError

DESCRIPTION = "medmrcnn; research use only"
"""Of at most 79 letters, in the header's field for it."""


def write_label_map(path: Path, labels: np.ndarray, like: Path) -> None:
    """Writes labels with the affine and header of the volume that they belong to, voxel for voxel.

    Args:
        path: to be written; ends in .nii or .nii.gz.
        labels: (slices, rows, columns) uint8, as `mrcnn.data.nifti` orders them.
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

"""Readers of annotated image sets, one file for each form in which people have them."""

from __future__ import annotations

import os
from pathlib import Path

from mrcnn.data.dataset import Dataset
from mrcnn.data.readers import coco
from mrcnn.errors import InputError

READERS = {"coco": coco.read}


def read_dataset(path: str | os.PathLike, reader: str = "coco", *, patient_pattern: str | None = None) -> Dataset:
    """Reads the annotations of a data set; its images are opened only when asked for.

    Args:
        path: folder of the data set, or its annotation file.
        reader: the form it is in; one of `READERS`.
        patient_pattern: regular expression searched in the file name of each image that names no patient; its first
            group, or all of the match when it has no group, is the patient.

    Raises:
        InputError: lists everything that is wrong with the annotations and image files.
    """
    if reader not in READERS:
        raise InputError(f"reader={reader!r}: expected one of {', '.join(sorted(READERS))}")
    return READERS[reader](Path(path), patient_pattern=patient_pattern)

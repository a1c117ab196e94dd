"""Readers of annotated image sets, one file for each form in which people have them."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

from mrcnn.data.dataset import Dataset
from mrcnn.errors import InputError

READERS = ("brats", "coco", "lgg")
"""Each the module here whose `read` it is, imported when it is asked for: a form's library may take a second."""


def read_dataset(path: str | os.PathLike, reader: str = "coco", **options: Any) -> Dataset:
    """Reads the annotations of a data set; its images are opened only when asked for.

    Args:
        path: folder of the data set, or its annotation file.
        reader: the form it is in; one of `READERS`.
        options: what `read` of that form's module takes. All take `patient_pattern`: regular expression searched in the
            name of each image, or case, that names no patient; its first group, or all of the match when it has no
            group, is the patient.

    Raises:
        InputError: an option that this form has not; or lists all that is wrong with the annotations and image files.
    """
    if reader not in READERS:
        raise InputError(f"reader={reader!r}: expected one of {', '.join(READERS)}")
    read = _function(reader)
    known = list(signature(read).parameters)[1:]
    for name in options:
        if name not in known:
            raise InputError(f"{name}: reader={reader!r} does not take it; expected {', '.join(known)}")
    return read(Path(path), **options)


def _function(reader: str) -> Callable[..., Dataset]:
    return import_module(f"{__name__}.{reader}").read

"""Readers of annotated image sets, one file for each form in which people have them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from pydantic import ValidationError

from mrcnn.data.dataset import Dataset
from mrcnn.data.io.file_types import files_below
from mrcnn.data.readers import coco, lgg, masks, via
from mrcnn.data.readers.options import BratsOptions, MasksOptions, ReaderOptions, ViaOptions
from mrcnn.errors import InputError


@dataclass(frozen=True)
class Reader:
    """One form.

    Attributes:
        read: (path, patient_pattern=…) → data set; takes `options` too where it has any.
        recognises: (path) → whether this form is there, found without reading all of it.
        options: what else can be said to it, or None.
    """

    read: Callable[..., Dataset]
    recognises: Callable[[Path], bool]
    options: type[ReaderOptions] | None = None


def _of_module(name: str) -> Callable[..., Dataset]:
    """`read` of a module here, imported when it is called: a form's library may take a second."""

    def read(path: Path, *, options: ReaderOptions | None = None, **given: Any) -> Dataset:
        told = options.model_dump() if options else {}
        return import_module(f"{__name__}.{name}").read(path, **given, **told)

    return read


def _below(*patterns: str) -> Callable[[Path], bool]:
    """Whether a folder holds a file of one of the patterns."""
    return lambda path: path.is_dir() and any(True for pattern in patterns for _ in files_below(path, f"**/{pattern}"))


READERS: Mapping[str, Reader] = MappingProxyType(
    {
        "via": Reader(via.read, via.recognises, ViaOptions),
        "coco": Reader(coco.read, coco.recognises),
        "brats": Reader(
            _of_module("brats"), _below("*seg.nii", "*seg.nii.gz", "*_gtv.nii", "*_gtv.nii.gz"), BratsOptions
        ),
        "lgg": Reader(lgg.read, lgg.recognises),
        "masks": Reader(masks.read, masks.recognises, MasksOptions),
    }
)
"""In the order in which they are asked whether they recognise a folder."""


def read_dataset(
    path: str | os.PathLike,
    reader: str = "auto",
    *,
    patient_pattern: str | None = None,
    on_error: Literal["fail", "skip"] = "fail",
    **options: Any,
) -> Dataset:
    """Reads the annotations of a data set; its images are opened only when asked for.

    Args:
        path: folder of the data set, or its annotation file.
        reader: the form it is in, one of `READERS`, or `auto`.
        patient_pattern: regular expression searched in the file name of each image whose annotations name no patient;
            its first group, or all of the match when it has no group, is the patient.
        on_error: whether images that cannot be read or are wrongly annotated make it fail, or are left out; then
            `Dataset.skipped` tells them.
        options: of that reader; see `mrcnn.data.readers.options`.

    Raises:
        InputError: an option that this form has not; or lists all that is wrong with the annotations and image files.
    """
    found = read_all(path, reader, patient_pattern=patient_pattern, **options)
    if on_error == "fail" and found.problems is not None:
        found.problems.raise_if_any()
    return found.without_spoilt()


def read_all(
    path: str | os.PathLike, reader: str = "auto", *, patient_pattern: str | None = None, **options: Any
) -> Dataset:
    """As `read_dataset`, with what is wrong in `Dataset.problems` and the images that it spoils still there.

    Raises:
        InputError: an option that this form has not; or there is something wrong that all the rest depends on.
    """
    path = Path(path)
    try:
        return _read_with(path, reader, patient_pattern, options)
    except RecursionError as error:
        raise InputError(f"{path}: the annotations are nested too deep; expected a known form") from error


def _read_with(path: Path, reader: str, patient_pattern: str | None, options: Mapping[str, Any]) -> Dataset:
    name = find_reader(path) if reader == "auto" else reader
    if name not in READERS:
        raise InputError(f"reader={reader!r}: expected auto or one of {', '.join(sorted(READERS))}")
    chosen = READERS[name]
    if chosen.options is not None:
        return chosen.read(path, patient_pattern=patient_pattern, options=_check(chosen.options, options, name))
    if options:
        raise InputError(f"{next(iter(options))}: expected no such option with reader {name}")
    return chosen.read(path, patient_pattern=patient_pattern)


def find_reader(path: Path) -> str:
    """The name of the first reader that recognises what is at `path`.

    Raises:
        InputError: none does, or nothing is there.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; expected a data set")
    for name, reader in READERS.items():
        if reader.recognises(path):
            return name
    raise InputError(f"{path}: no known form of annotations is there; expected one of {', '.join(sorted(READERS))}")


def _check(options: type[ReaderOptions], given: Mapping[str, Any], reader: str) -> ReaderOptions:
    try:
        return options(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        known = ", ".join(options.model_fields)
        raise InputError(f"{name}: {first['msg'].lower()} with reader {reader}, which has {known}") from error

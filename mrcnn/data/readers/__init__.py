"""Read annotated image sets; one module per annotation format."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from pydantic import ValidationError

from mrcnn.data.annotation_formats import FORMATS
from mrcnn.data.dataset import Dataset
from mrcnn.data.reader_options import ReaderOptions
from mrcnn.data.readers.annotation_tools.annotated_images import read_tool
from mrcnn.data.readers.recognition import explain_unrecognized
from mrcnn.errors import InputError


def read_dataset(
    path: str | os.PathLike,
    reader: str = "auto",
    *,
    patient_pattern: str | None = None,
    on_error: Literal["fail", "skip"] = "fail",
    **options: Any,
) -> Dataset:
    """Read the annotations of a data set; images are opened on access.

    Args:
        path: folder of the data set, or its annotation file.
        reader: annotation format, one of `mrcnn.data.annotation_formats.FORMATS`, or `auto`.
        patient_pattern: regular expression searched in the file name of each image whose annotations name no patient;
            its first group, or the whole match without a group, is the patient.
        on_error: `fail` raises an error for invalid images and annotations; `skip` leaves these images out and lists
            the problems in `Dataset.skipped`.
        options: options of the reader; see `mrcnn.data.reader_options`.

    Raises:
        InputError: an option is invalid, or the annotations or images are; the message lists all problems.
    """
    found = read_all(path, reader, patient_pattern=patient_pattern, **options)
    if on_error == "fail" and found.problems is not None:
        found.problems.raise_if_any()
    return found.without_invalid()


def read_all(
    path: str | os.PathLike, reader: str = "auto", *, patient_pattern: str | None = None, **options: Any
) -> Dataset:
    """Read a data set like `read_dataset`, but include invalid images and list their problems in `Dataset.problems`.

    Raises:
        InputError: an option is invalid, or a problem is fatal.
    """
    path = Path(path)
    try:
        return _read_with(path, reader, patient_pattern, options)
    except RecursionError as error:
        raise InputError(f"{path}: the annotations are nested too deep; expected a known form") from error


def _read_with(path: Path, reader: str, patient_pattern: str | None, options: Mapping[str, Any]) -> Dataset:
    name = find_reader(path) if reader == "auto" else reader
    if name not in FORMATS:
        raise InputError(f"reader={reader!r}: expected auto or one of {', '.join(sorted(FORMATS))}")
    chosen, module = FORMATS[name], _module(name)
    if chosen.options is not None:
        return module.read(path, patient_pattern=patient_pattern, options=_validate(chosen.options, options, name))
    if options:
        raise InputError(f"{next(iter(options))}: expected no such option with reader {name}")
    if hasattr(module, "parse"):
        return read_tool(module.parse, path, patient_pattern=patient_pattern, name_unlisted=chosen.name_unlisted)
    return module.read(path, patient_pattern=patient_pattern)


def _module(name: str) -> ModuleType:
    return import_module(f"mrcnn.data.readers.{FORMATS[name].module}")


def find_reader(path: Path) -> str:
    """Find the name of the first reader that matches the data at `path`.

    Raises:
        InputError: the path does not exist, or no reader matches.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; expected a data set")
    for name in FORMATS:
        if _module(name).matches(path):
            return name
    raise InputError(explain_unrecognized(path))


def _validate(options: type[ReaderOptions], values: Mapping[str, Any], reader: str) -> ReaderOptions:
    try:
        return options(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        known = ", ".join(options.model_fields)
        raise InputError(f"{name}: {first['msg'].lower()} with reader {reader}, which has {known}") from error

"""Read annotated image sets; one module per annotation format."""

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
from mrcnn.data.reader_options import MasksOptions, ReaderOptions, ViaOptions, VolumesOptions
from mrcnn.data.readers import coco, coco_files, lgg, masks
from mrcnn.data.readers.annotation_tools import via
from mrcnn.data.readers.annotation_tools.annotated_images import read_tool
from mrcnn.data.readers.image_files import files_below
from mrcnn.data.readers.recognition import explain_unrecognized
from mrcnn.errors import InputError


@dataclass(frozen=True)
class Reader:
    """Describe the reader of one annotation format.

    Attributes:
        read: (path, patient_pattern=…) → data set; also takes `options` if the format has any.
        matches: (path) → whether the folder or file has this format, without reading all of it.
        options: class of the options, or None.
    """

    read: Callable[..., Dataset]
    matches: Callable[[Path], bool]
    options: type[ReaderOptions] | None = None


def _read_volumes(path: Path, *, patient_pattern: str | None, options: VolumesOptions) -> Dataset:
    from mrcnn.data.readers.volumes import reader  # imports nibabel, which takes half a second

    return reader.read(path, patient_pattern=patient_pattern, options=options)


_VOLUME_SUFFIXES = (".nii", ".gz", ".dcm", ".dicom", ".ima", "")


def _matches_volumes(path: Path) -> bool:
    if not path.is_dir():
        return False
    described = any(True for pattern in ("", "*/", "*/*/") for _ in path.glob(f"{pattern}dataset.json"))
    if not described and all(file.suffix.lower() not in _VOLUME_SUFFIXES for file in files_below(path, "**/*")):
        return False
    from mrcnn.data.readers.volumes import reader

    return reader.matches(path)


def _tool(module: str, **options: bool) -> Reader:
    """Return the reader of an annotation tool, with options of `read_tool`.

    Its module is imported on use: a served model reads no annotations.
    """

    def tool() -> Any:
        return import_module(f"mrcnn.data.readers.annotation_tools.{module}")

    return Reader(
        lambda path, **others: read_tool(tool().parse, path, **options, **others),
        lambda path: tool().matches(path),
    )


READERS: Mapping[str, Reader] = MappingProxyType(
    {
        "supervisely": _tool("supervisely"),
        "labelme": _tool("labelme"),
        "label_studio": _tool("label_studio", name_unlisted=True),
        "panoptic": _tool("panoptic"),
        "cvat": _tool("cvat", name_unlisted=True),
        "via": Reader(via.read, via.matches, ViaOptions),
        "coco": Reader(coco.read, coco_files.matches),
        "volumes": Reader(_read_volumes, _matches_volumes, VolumesOptions),
        "lgg": Reader(lgg.read, lgg.matches),
        "voc": _tool("voc"),
        "yolo": _tool("yolo"),
        "masks": Reader(masks.read, masks.matches, MasksOptions),
        "csv": _tool("tables", name_unlisted=True),
    }
)
"""Readers by name, in the order in which `find_reader` tries them."""


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
        reader: annotation format, one of `READERS`, or `auto`.
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
    if name not in READERS:
        raise InputError(f"reader={reader!r}: expected auto or one of {', '.join(sorted(READERS))}")
    chosen = READERS[name]
    if chosen.options is not None:
        return chosen.read(path, patient_pattern=patient_pattern, options=_validate(chosen.options, options, name))
    if options:
        raise InputError(f"{next(iter(options))}: expected no such option with reader {name}")
    return chosen.read(path, patient_pattern=patient_pattern)


def find_reader(path: Path) -> str:
    """Find the name of the first reader that matches the data at `path`.

    Raises:
        InputError: the path does not exist, or no reader matches.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; expected a data set")
    for name, reader in READERS.items():
        if reader.matches(path):
            return name
    raise InputError(explain_unrecognized(path, READERS))


def _validate(options: type[ReaderOptions], values: Mapping[str, Any], reader: str) -> ReaderOptions:
    try:
        return options(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        known = ", ".join(options.model_fields)
        raise InputError(f"{name}: {first['msg'].lower()} with reader {reader}, which has {known}") from error

"""Write annotated image sets; one module per annotation form."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from mrcnn.data.dataset import Dataset, Record
from mrcnn.data.writers import coco, cvat, label_studio, labelme, nnunet, yolo
from mrcnn.data.writers.form import Form, WrittenImage, lost_fields, new_folder, place_image
from mrcnn.errors import InputError, counted

__all__ = ["FORMS", "WrittenImage", "new_folder", "place_image", "write_dataset", "written_stems"]

FORMS: Mapping[str, Form] = MappingProxyType(
    {
        "coco": coco.FORM,
        "yolo": yolo.FORM,
        "labelme": labelme.FORM,
        "nnunet": nnunet.FORM,
        "label_studio": label_studio.FORM,
        "cvat": cvat.FORM,
    }
)
"""Forms by name."""
_NO_NAME = re.compile(r'[\\:*?"<>|\x00-\x1f]')
"""Characters that file names of some systems exclude; a colon stands before the number of a slice."""


def write_dataset(dataset: Dataset, folder: Path, form: str) -> list[str]:
    """Write a data set with its images in another form, and return warnings about what that form does not hold.

    Images are copied; DICOM files, slices, and images with an EXIF orientation become PNG. The folder is renamed from a
    temporary one, so it is complete or absent.

    Args:
        dataset: images with annotations.
        folder: new or empty folder.
        form: one of `FORMS`.

    Raises:
        InputError: the form is unknown, the folder contains files, or an image cannot be read or written.
    """
    if form not in FORMS:
        raise InputError(f"{form}: no form that is written; expected one of {', '.join(FORMS)}")
    with new_folder(folder) as fresh:
        return _write(dataset, fresh, FORMS[form])


def _write(dataset: Dataset, folder: Path, form: Form) -> list[str]:
    images, scaled, stems = [], 0, written_stems([record.file_name for record in dataset.records])
    for index, (record, stem) in enumerate(zip(dataset.records, stems, strict=True)):
        name = stem + (".png" if record.volume else form.suffix(record.path, record.orientation))
        path = form.image_path(name, record.split)
        source = None if record.volume else record.path
        scaled += place_image(folder / path, source, record.orientation, lambda index=index: dataset.image(index))
        crowds = dataset.crowds(index)
        images.append(
            WrittenImage(
                path=path,
                masks=dataset.instances(index),
                class_ids=record.class_ids,
                patient_id=None if _is_own_patient(record) else record.patient_id,
                spacing_mm=record.spacing_mm,
                label=record.label,
                split=record.split,
                crowds=crowds,
                crowd_ids=record.crowd_ids if crowds is not None else (),
            )
        )
    warnings = lost_fields(form, images) + form.write(images, dataset.class_names, folder)
    if scaled:
        shown = counted(scaled, "image has", "images have")
        warnings.append(f"{shown} values that a PNG file cannot hold, scaled to 8 bits each")
    return warnings


def _is_own_patient(record: Record) -> bool:
    """Check whether the patient is only the name of the image, since nothing names one."""
    return record.patient_id == record.file_name


def written_stems(names: Sequence[str]) -> list[str]:
    """Return a path without suffix for each image, within the folder, free of special characters and unique."""
    taken: set[str] = set()
    stems = []
    for name in names:
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
        if len(parts) > 1 and parts[0].lower() == "images":
            parts = parts[1:]
        stem = re.sub(r"(?<=.)(\.nii\.gz|\.[a-z]{2,5})(?=$|:)", "", "/".join(parts), flags=re.IGNORECASE)
        stem = unique = _NO_NAME.sub("_", stem) or "image"
        number = 1
        while _key(unique) in taken:
            number += 1
            unique = f"{stem}_{number}"
        taken.add(_key(unique))
        stems.append(unique)
    return stems


def _key(stem: str) -> str:
    return stem.replace("/", "_").casefold()

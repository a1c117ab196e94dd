"""Open the dataset of a task, or its phantoms."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from experiments.config.schema import DataOptions
from mrcnn.cache_folder import cache_folder
from mrcnn.errors import InputError

if TYPE_CHECKING:
    from mrcnn.data import Dataset


def open_dataset(options: DataOptions) -> Dataset:
    """Read the dataset of `options`; without one, phantoms, which are created on first use.

    Errors of single images are in its `problems`, which `experiments.preparation.data_check` reports.

    Raises:
        InputError: the dataset does not exist or cannot be read; or the cache folder cannot be written.
    """
    # Imported here, because the readers import many libraries, which the options of a command do not need.
    from mrcnn.data.readers import find_reader, read_all
    from mrcnn.phantoms import PHANTOM_KINDS, write_dataset

    if options.dataset is not None:
        path = dataset_path(options.dataset)
        reader = find_reader(path) if options.reader == "auto" else options.reader
        section = getattr(options, reader, None)
        arguments = section.model_dump() if section else {}
        found = read_all(path, reader=reader, patient_pattern=options.patient_pattern, **arguments)
        _check_slices(found, options)
        return found.with_spacing(spacing) if (spacing := options.spacing_mm) else found
    folder = cache_folder() / "phantoms" / f"{options.phantoms}-{options.phantom_images}-{options.phantom_seed}"
    try:
        written = write_dataset(options.phantoms, folder, images=options.phantom_images, seed=options.phantom_seed)
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({error.strerror}); set MRCNN_CACHE to another folder"
        ) from error
    made = PHANTOM_KINDS[options.phantoms]
    found = read_all(written, made.reader, patient_pattern=made.patient_pattern)
    _check_slices(found, options)
    return found


def _check_slices(found: Dataset, options: DataOptions) -> None:
    """Raise `InputError` if the images have no neighboring slices and `data.context_slices` requests some."""
    if options.context_slices and all(record.slice_count == 1 for record in found.records):
        raise InputError(
            f"data.context_slices={options.context_slices}: the images of {dataset_name(options)} have no neighboring "
            "slices; expected volumes of several slices or folders of numbered slices (lgg), or data.context_slices=0"
        )


def with_volume_options(options: DataOptions, dataset: Dataset) -> DataOptions:
    """Return options with the channels, plane and scaling that the volumes of a dataset were read with.

    A prediction must put the same sequences into the same channels, and scale and cut volumes alike.
    """
    volume = dataset.records[0].volume if len(dataset) else None
    if volume is None:
        return options
    found: dict[str, object] = {"modalities": volume.channels, "plane": volume.plane}
    if options.volumes.window is None:
        found["scaling"] = volume.scaling.method
    return options.model_copy(update={"reader": "volumes", "volumes": options.volumes.model_copy(update=found)})


def dataset_name(options: DataOptions) -> str:
    """Return the name of the folder, or `thyroid phantoms`."""
    if options.dataset is None:
        return f"{options.phantoms} phantoms"
    path = dataset_path(options.dataset)
    return path.parent.name if path.suffix else path.name


def dataset_path(text: str) -> Path:
    """Return the path of a dataset; see `data_path`."""
    return data_path("dataset", text)


def data_path(option: str, text: str) -> Path:
    """Return the path that an option names, relative to the folder in which the command was called.

    Raises:
        InputError: the path does not exist.
    """
    path = standing_folder() / Path(text).expanduser()
    if not path.exists():
        expected = "a JSON file" if option == "splits" else "a folder or a JSON file"
        raise InputError(f"--data.{option} {text}: expected {expected}, {path} does not exist")
    return path.resolve()


def standing_folder() -> Path:
    """Return the working folder, or under `mlflow run`, which changes it, the folder of that command."""
    here = Path.cwd()
    if "MLFLOW_RUN_ID" not in os.environ:
        return here
    try:
        for parent in psutil.Process().parents():
            if any(Path(word).name == "mlflow" for word in parent.cmdline()):
                return Path(parent.cwd())
    except psutil.Error:  # a process of another user, or one that has just ended
        return here
    return here

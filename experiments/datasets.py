"""The images that a task trains on: a person's own, or phantoms."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

from experiments.config import DataOptions
from mrcnn.data import Dataset, read_dataset
from mrcnn.errors import InputError
from mrcnn.phantoms import write_dataset


def open_dataset(options: DataOptions) -> Dataset:
    """Read the dataset that `options` name; without one, phantoms, which are made on first use.

    Raises:
        InputError: nothing is there, or it cannot be read; or the cache folder cannot be written.
    """
    if options.dataset is not None:
        found = read_dataset(
            dataset_path(options.dataset), reader=options.reader, patient_pattern=options.patient_pattern
        )
        return found.with_spacing(spacing) if (spacing := options.spacing_mm) else found
    folder = cache_folder() / "phantoms" / f"{options.phantoms}-{options.phantom_images}-{options.phantom_seed}"
    try:
        written = write_dataset(options.phantoms, folder, images=options.phantom_images, seed=options.phantom_seed)
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({error.strerror}); set MRCNN_CACHE to another folder"
        ) from error
    return read_dataset(written)


def dataset_name(options: DataOptions) -> str:
    """What a person would call it: the folder's name, or `thyroid phantoms`."""
    if options.dataset is None:
        return f"{options.phantoms} phantoms"
    path = dataset_path(options.dataset)
    return path.parent.name if path.suffix else path.name


def dataset_path(text: str) -> Path:
    """The path that `text` names, as seen from where the person stands.

    Raises:
        InputError: there is nothing.
    """
    path = standing_folder() / Path(text).expanduser()
    if not path.exists():
        raise InputError(f"--data.dataset {text}: expected a folder or a JSON file, {path} does not exist")
    return path.resolve()


def cache_folder() -> Path:
    """`$MRCNN_CACHE`, or `~/.cache/medmrcnn`."""
    chosen = os.environ.get("MRCNN_CACHE")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "medmrcnn"


def standing_folder() -> Path:
    """The working folder, or under `mlflow run`, which enters the project first, the one from which that was called."""
    here = Path.cwd()
    if "MLFLOW_RUN_ID" not in os.environ:
        return here
    try:
        for parent in psutil.Process().parents():
            if any(Path(word).name == "mlflow" for word in parent.cmdline()):
                return Path(parent.cwd())
    except psutil.Error:  # another user's process, or one that has just ended
        return here
    return here

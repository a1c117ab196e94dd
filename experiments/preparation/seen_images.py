"""Find the images of a data set that a training has seen: the same patient, the same pixels, or a near-duplicate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments.config.schema import DataOptions
from experiments.preparation.data_check import CheckedData
from mrcnn.cache_folder import cache_folder
from mrcnn.data import Dataset
from mrcnn.data.dataset import Record
from mrcnn.data.duplicates import find_near_copies, make_thumbnails
from mrcnn.data.problems import Problems

PATIENT, PIXELS, NEAR_DUPLICATE = "patient", "pixels", "near-duplicate"


@dataclass(frozen=True)
class SeenImages:
    """Images that a training used for training or validation.

    Attributes:
        where: the data set, in which a patient has one name.
        patients: their patients.
        contents: digests of their pixels.
        thumbnails: (N, SIDE, SIDE) uint8 of `mrcnn.data.duplicates`; None if near-duplicates are not searched.
    """

    where: str
    patients: frozenset[str] = frozenset()
    contents: frozenset[str] = frozenset()
    thumbnails: np.ndarray | None = None

    @classmethod
    def of(cls, checked: CheckedData, options: DataOptions) -> SeenImages:
        """Collect all images outside the test split.

        Images that were subsampled from the training split count, because other images of their patients were used.
        """
        test = set(checked.splits["test"].tolist())
        used = checked.whole.subset(index for index in range(len(checked.whole)) if index not in test)
        return cls(
            data_location(options),
            frozenset(record.patient_id for record in used.records),
            frozenset(record.content_digest() for record in used.records),
            None if checked.groups is None else _thumbnails(used),
        )


def data_location(options: DataOptions) -> str:
    """Identify the data set that `options` name."""
    return options.dataset or f"{options.phantoms} phantoms {options.phantom_images} {options.phantom_seed}"


def find_seen(dataset: Dataset, seen: Sequence[SeenImages], where: str | None = None) -> dict[str, np.ndarray]:
    """Find the images of `dataset` that any training has seen.

    Args:
        dataset: the images.
        seen: of each training.
        where: the data set of the images: names of patients are compared only with those of the same data set. None:
            with those of every data set, except names that the reader made of the names of files.

    Returns:
        (I,) bool for each of `PATIENT`, `PIXELS` and `NEAR_DUPLICATE`.
    """
    records = dataset.records
    found = {name: np.zeros(len(records), bool) for name in (PATIENT, PIXELS, NEAR_DUPLICATE)}
    thumbnails = None if all(each.thumbnails is None for each in seen) else _thumbnails(dataset)
    contents = [record.content_digest() for record in records]
    for each in seen:
        if where is None or where == each.where:
            found[PATIENT] |= [
                record.patient_id in each.patients and (where is not None or _is_named(record)) for record in records
            ]
        found[PIXELS] |= [content in each.contents for content in contents]
        if thumbnails is not None and each.thumbnails is not None:
            found[NEAR_DUPLICATE] |= find_near_copies(thumbnails, each.thumbnails, cache_folder() / "thumbnails")
    return found


def _is_named(record: Record) -> bool:
    return record.patient_id != record.file_name and not record.file_name.startswith(f"{record.patient_id}.rf.")


def _thumbnails(dataset: Dataset) -> np.ndarray:
    return make_thumbnails(dataset, cache_folder() / "thumbnails", Problems("images"))

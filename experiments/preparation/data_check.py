"""What a data set holds and what is wrong with it: the first step of every training, and all of `mrcnn check`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from rich.console import Console

from experiments.config.schema import TaskConfig
from experiments.evaluation.tables import data_table, data_text
from experiments.preparation.datasets import dataset_name, open_dataset
from mrcnn.cache_folder import cache_folder
from mrcnn.data import Dataset, fingerprint, split_by_patient, subsample_negatives
from mrcnn.data.duplicates import cached_groups, make_thumbnails
from mrcnn.data.film_polarity import MODALITY, find_rarer_polarity, mean_film
from mrcnn.data.fingerprint import Fingerprint
from mrcnn.data.problems import Problems
from mrcnn.data.validation import constant_warnings, find_constant, validate_images
from mrcnn.errors import InputError

DEVELOPMENT = "folds"
"""Name of what a cross-validation divides: all that a single training would train and validate on."""
SHOWN = 5
"""Films that a warning names."""


@dataclass(frozen=True)
class CheckedData:
    """A data set that could be read, and how it would be split.

    Attributes:
        name: what a person would call it.
        whole: all of it.
        splits: positions of the images of each split; empty where it cannot be split.
        groups: (N,) of near-duplicates, or None where they were not looked for.
        found: what it holds.
        problems: why it cannot be trained on, one line each.
    """

    name: str
    whole: Dataset
    splits: Mapping[str, np.ndarray]
    groups: np.ndarray | None
    found: Fingerprint
    problems: tuple[str, ...]

    def raise_if_wrong(self) -> None:
        """Raises one `InputError` that holds all problems."""
        if self.problems:
            raise InputError("\n  ".join(self.problems))

    def split_lists(self) -> dict[str, list[dict[str, str]]]:
        """File and patient of each image of each split."""
        records = self.whole.records
        return {
            name: [
                {"file_name": records[index].file_name, "patient_id": records[index].patient_id} for index in indices
            ]
            for name, indices in self.splits.items()
        }


def check_data(config: TaskConfig) -> CheckedData:
    """Reads the data of a task, looks for near-duplicates, splits by patient and counts.

    Raises:
        InputError: it cannot be read; lists all that is wrong with annotations and image files.
    """
    whole, name = open_dataset(config.data), dataset_name(config.data)
    whole, groups = validate_dataset_images(whole, config)
    problems = []
    train, val, test = config.data.split
    try:
        splits = split_by_patient(whole, train=train, val=val, test=test, seed=config.split_seed, groups=groups)
    except InputError as error:
        splits = {}
        problems.append(f"{name}: {error}")
    if splits and config.data.folds:
        splits = {DEVELOPMENT: np.union1d(splits["train"], splits["val"]), "test": splits["test"]}
    elif splits and config.data.empty_share is not None:
        splits["train"] = subsample_negatives(whole, splits["train"], config.data.empty_share, config.split_seed)
    problems += splits_without_instances(whole, splits, name)
    found = fingerprint(whole, splits, groups)
    if config.modality == MODALITY:
        found = with_polarity(found, whole, splits.get("train", splits.get(DEVELOPMENT, ())))
    return CheckedData(name, whole, splits, groups, found, tuple(problems))


def with_polarity(found: Fingerprint, whole: Dataset, train: Sequence[int]) -> Fingerprint:
    """`found` with the mean picture of the films that train, and a warning of films whose polarity is another."""
    thumbnails = make_thumbnails(whole, cache_folder() / "thumbnails", Problems("images"))
    mixed = find_rarer_polarity(thumbnails)
    warnings = [
        f"{len(mixed)} of {len(whole)} films look like negatives of the others, black and white exchanged: "
        f"{', '.join(whole.records[index].file_name for index in mixed[:SHOWN])}{', …' if len(mixed) > SHOWN else ''}; "
        "invert them, or leave them out"
    ] * bool(len(mixed))
    picture = mean_film(thumbnails[np.asarray(train, np.int64)])
    return replace(found, polarity=picture, warnings=(*found.warnings, *warnings))


def validate_dataset_images(whole: Dataset, config: TaskConfig) -> tuple[Dataset, np.ndarray | None]:
    """The images that can be trained on, each opened once, and their groups of near-duplicates if they are wanted.

    Raises:
        InputError: lists all that is wrong, unless that can be and is to be skipped.
    """
    groups, problems = None, whole.problems
    if config.data.near_duplicates == "together":
        cache = cache_folder() / "thumbnails"
        thumbnails = make_thumbnails(whole, cache, problems)
        groups = cached_groups(thumbnails, cache)
        even = np.flatnonzero(~thumbnails.any(axis=(1, 2))).tolist()
        constant = find_constant(whole, even, Problems("images"))  # those that cannot be read are told already
    else:
        constant = validate_images(whole, problems, cache_folder() / "opened")
    whole = whole.with_warnings(constant_warnings(whole, constant))
    if config.data.on_error == "fail":
        problems.raise_if_any()
    return whole.without_invalid(), None if groups is None else groups[whole.valid_indices()]


def splits_without_instances(whole: Dataset, splits: Mapping[str, np.ndarray], name: str) -> list[str]:
    """A line for each split that has images and no instance."""
    return [
        f"{name}: no instance in the {len(indices)} images of the {split} split; expected at least one, "
        "which another seed or data.split may give"
        for split, indices in splits.items()
        if len(indices) and not any(len(whole.records[index].class_ids) for index in indices)
    ]


def show(checked: CheckedData, console: Console) -> None:
    """Prints what was found: the splits, sizes, warnings."""
    console.print(f"\nData: {checked.name}", style="bold", markup=False, soft_wrap=True)
    console.print(data_table(checked.found))
    console.print(data_text(checked.found), markup=False, soft_wrap=True)
    for warning in checked.found.warnings:
        console.print(f"warning: {warning}", style="yellow", markup=False, soft_wrap=True)
    for problem in checked.found.skipped:
        console.print(f"warning: left out: {problem}", style="yellow", markup=False, soft_wrap=True)

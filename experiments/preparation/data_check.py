"""Check a dataset: the first step of every training, and all of `mrcnn check`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from rich.console import Console

from experiments.config.schema import BY_PATIENT, TaskConfig
from experiments.evaluation.tables import data_table, data_text
from experiments.preparation.datasets import data_path, dataset_name, open_dataset
from experiments.terminal import count_progress, phase, warn
from mrcnn.cache_folder import cache_folder
from mrcnn.data import Dataset, split_by_patient, subsample_negatives
from mrcnn.data.duplicates import cached_groups, make_thumbnails
from mrcnn.data.film_polarity import MODALITY, find_rarer_polarity, mean_film
from mrcnn.data.fingerprint import Fingerprint, fingerprint, gray_levels
from mrcnn.data.problems import Problems
from mrcnn.data.split_files import read_splits
from mrcnn.data.splits import find_stated_splits
from mrcnn.data.validation import constant_warnings, find_constant, validate_images
from mrcnn.errors import InputError, counted

DEVELOPMENT = "folds"
"""Name of the split that a cross-validation divides: training and validation images of a single training."""
MAX_NAMED = 5
"""Number of films that a warning names."""


@dataclass(frozen=True)
class CheckedData:
    """A readable dataset and its splits.

    Attributes:
        name: of the dataset.
        whole: the dataset.
        splits: positions of the images of each split; empty if it cannot be split.
        groups: (N,) groups of near-duplicates, or None if they were not searched.
        found: summary of the content.
        problems: reasons why it cannot be used for training, one line each.
        held_out: positions of the images of each fold of a cross-validation, if the user gave folds.
    """

    name: str
    whole: Dataset
    splits: Mapping[str, np.ndarray]
    groups: np.ndarray | None
    found: Fingerprint
    problems: tuple[str, ...]
    held_out: tuple[np.ndarray, ...] = ()

    def raise_if_wrong(self) -> None:
        """Raise one `InputError` with all problems."""
        if self.problems:
            raise InputError("\n  ".join(self.problems))

    def split_lists(self) -> dict[str, list[dict[str, str]]]:
        """Return file and patient of each image of each split."""
        records = self.whole.records
        return {
            name: [
                {"file_name": records[index].file_name, "patient_id": records[index].patient_id} for index in indices
            ]
            for name, indices in self.splits.items()
        }


def check_data(config: TaskConfig, console: Console | None = None) -> CheckedData:
    """Read the data of a task, search near-duplicates, split by patient and summarize; `console` shows the progress.

    Raises:
        InputError: lists all errors of annotations and image files.
    """
    console, name = console or Console(quiet=True), dataset_name(config.data)
    text = f"Reading {name}" if config.data.dataset else f"Reading the {name}, which the first run makes"
    with phase(console, text):
        opened = open_dataset(config.data)
    whole, groups = validate_dataset_images(opened, config, console)
    problems: list[str] = []
    held_out: tuple[np.ndarray, ...] = ()
    train, val, test = config.data.split
    try:
        if config.data.splits not in (None, BY_PATIENT):
            splits, held_out, warnings = given_splits(config, whole, groups, opened)
        else:
            stated, warnings = find_stated_splits(whole, groups) if config.data.splits is None else (None, [])
            splits = stated or split_by_patient(
                whole, train=train, val=val, test=test, seed=config.split_seed, groups=groups
            )
        whole = whole.with_warnings(warnings)
    except InputError as error:
        splits = {}
        problems.append(f"{name}: {error}")
    if splits and config.data.folds:
        splits = {DEVELOPMENT: np.union1d(splits["train"], splits["val"]), "test": splits["test"]}
    elif splits and config.data.empty_share is not None:
        splits["train"] = subsample_negatives(whole, splits["train"], config.data.empty_share, config.split_seed)
    problems += splits_without_instances(whole, splits, name)
    found = fingerprint(whole, splits, groups)
    if groups is not None or config.modality == MODALITY:
        train = splits.get("train", splits.get(DEVELOPMENT, ()))
        found = with_gray_levels(found, whole, list(train), polarity=config.modality == MODALITY)
    return CheckedData(name, whole, splits, groups, found, tuple(problems), held_out)


def given_splits(
    config: TaskConfig, whole: Dataset, groups: np.ndarray | None, opened: Dataset
) -> tuple[dict[str, np.ndarray], tuple[np.ndarray, ...], list[str]]:
    """Read the splits of `data.splits` for the images `whole`; `opened` contains those that were left out, too.

    Returns:
        The splits; the held-out images of each fold, if the file has folds and `data.folds` is set; and warnings.
        Without `data.folds`, the first of several folds is used.

    Raises:
        InputError: the file is invalid, or its folds do not fit `data.folds`.
    """
    path, count = data_path("splits", config.data.splits or ""), config.data.folds
    valid = {record.file_name for record in whole.records}
    left_out = [record.file_name for record in opened.records if record.file_name not in valid]
    folds, warnings = read_splits(path, whole, groups, left_out)
    if len(folds) == 1 or count is None:
        if len(folds) > 1:
            warnings.append(f"{path.name}: fold 1 of {len(folds)} is used; --folds {len(folds)} trains all of them")
        return folds[0], (), warnings
    if len(folds) != count:
        raise InputError(f"{path}: has {len(folds)} folds; expected --folds {len(folds)}, not {count}")
    development = np.union1d(folds[0]["train"], folds[0]["val"])
    for number, fold in enumerate(folds, start=1):
        if not np.array_equal(np.union1d(fold["train"], fold["val"]), development):
            raise InputError(f"{path}: fold {number} has other images than fold 1; expected the same in train and val")
    held_out = tuple(fold["val"] for fold in folds)
    if len(np.unique(np.concatenate(held_out))) != sum(map(len, held_out)):
        raise InputError(f"{path}: an image is in val of several folds; expected each in one at most")
    return {"train": development, "val": held_out[0][:0], "test": folds[0]["test"]}, held_out, warnings


def with_gray_levels(found: Fingerprint, whole: Dataset, train: Sequence[int], *, polarity: bool) -> Fingerprint:
    """Add the gray-level histogram of the training images to a fingerprint.

    With `polarity` also their mean radiograph, and a warning about radiographs of the rarer polarity.
    """
    thumbnails = make_thumbnails(whole, cache_folder() / "thumbnails", Problems("images"))
    training = thumbnails[np.asarray(train, np.int64)]
    found = replace(found, gray_levels=gray_levels(training) if len(training) else None)
    if not polarity:
        return found
    mixed = find_rarer_polarity(thumbnails)
    names = [whole.records[index].file_name for index in mixed]
    warnings = [
        f"{len(mixed)} of {len(whole)} films look like negatives of the others, black and white exchanged: "
        f"{', '.join(names[:MAX_NAMED])}{', …' if len(names) > MAX_NAMED else ''}; invert them, or leave them out"
    ] * bool(names)
    return replace(found, polarity=mean_film(training), warnings=(*found.warnings, *warnings))


def validate_dataset_images(
    whole: Dataset, config: TaskConfig, console: Console | None = None
) -> tuple[Dataset, np.ndarray | None]:
    """Open each image once; return the valid ones and their groups of near-duplicates if configured.

    Raises:
        InputError: lists all errors, unless `on_error` is to skip them.
    """
    console = console or Console(quiet=True)
    groups, problems = None, Problems("images") if whole.problems is None else whole.problems
    if config.data.near_duplicates == "together":
        cache = cache_folder() / "thumbnails"
        with count_progress(console, "Checking images", len(whole)) as advance:
            thumbnails = make_thumbnails(whole, cache, problems, advance)
        groups = cached_groups(thumbnails, cache)
        even = np.flatnonzero(~thumbnails.any(axis=(1, 2))).tolist()
        constant = find_constant(whole, even, Problems("images"))  # unreadable images are reported already
    else:
        with count_progress(console, "Checking images", len(whole)) as advance:
            constant = validate_images(whole, problems, cache_folder() / "opened", advance)
    whole = whole.with_warnings(constant_warnings(whole, constant))
    if config.data.on_error == "fail":
        problems.raise_if_any()
    return whole.without_invalid(), None if groups is None else groups[whole.valid_indices()]


def splits_without_instances(whole: Dataset, splits: Mapping[str, np.ndarray], name: str) -> list[str]:
    """Return a line for each split with images but no instance."""
    return [
        f"{name}: no instance in the {counted(len(indices), 'image')} of the {split} split; expected at least one, "
        "which another seed or data.split may give"
        for split, indices in splits.items()
        if len(indices) and not any(len(whole.records[index].class_ids) for index in indices)
    ]


def show(checked: CheckedData, console: Console) -> None:
    """Print splits, sizes and warnings."""
    console.print(f"\nData: {checked.name}", style="bold", markup=False)
    console.print(data_table(checked.found))
    console.print(data_text(checked.found), markup=False)
    for warning in checked.found.warnings:
        warn(console, warning)
    for problem in checked.found.skipped:
        warn(console, f"left out: {problem}")

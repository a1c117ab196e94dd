"""Split the patients for each fold of a cross-validation, and average the scores over the folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from experiments.config.schema import TaskConfig
from experiments.evaluation.tables import ROWS
from experiments.preparation.data_check import DEVELOPMENT, CheckedData, splits_without_instances
from mrcnn.data import folds_by_patient, split_by_patient, subsample_negatives
from mrcnn.data.fingerprint import fingerprint
from mrcnn.errors import InputError

HELD_OUT = "held_out"


def divide(checked: CheckedData, config: TaskConfig) -> list[CheckedData]:
    """Return for each fold the data with its splits `train`, `val` and `held_out`.

    Each patient outside the test share is held out once. The other patients of the fold are divided into training and
    validation in the proportion of `data.split`, so no held-out patient decides the best checkpoint or the threshold.
    Groups of near-duplicates stay in one split.

    Raises:
        InputError: there are too few patients, or a split has no instance.
    """
    whole, groups, options = checked.whole, checked.groups, config.data
    development = checked.splits[DEVELOPMENT]
    train, val, _ = options.split
    shares = {"train": train / (train + val), "val": val / (train + val), "test": 0.0}

    def within(positions: np.ndarray) -> dict:
        return {"seed": config.split_seed, "groups": None if groups is None else groups[positions]}

    try:
        held_out = [np.searchsorted(development, chosen) for chosen in checked.held_out] or folds_by_patient(
            whole.subset(development), options.folds or 0, **within(development)
        )
    except InputError as error:
        raise InputError(f"data.folds={options.folds}: {error}") from error
    folds, problems = [], []
    for number, chosen in enumerate(held_out, start=1):
        rest = np.delete(development, chosen)
        try:
            inner = split_by_patient(whole.subset(rest), **shares, **within(rest))
        except InputError as error:
            raise InputError(f"fold {number} of {options.folds}: {error}") from error
        splits = {"train": rest[inner["train"]], "val": rest[inner["val"]], HELD_OUT: development[chosen]}
        if options.empty_share is not None:
            splits["train"] = subsample_negatives(whole, splits["train"], options.empty_share, config.split_seed)
        problems += splits_without_instances(whole, splits, f"fold {number}")
        # Polarity and gray levels are those of all development images.
        found = replace(
            fingerprint(whole, splits, groups), polarity=checked.found.polarity, gray_levels=checked.found.gray_levels
        )
        folds.append(replace(checked, splits=splits, found=found))
    if problems:
        raise InputError("\n  ".join(problems))
    return folds


def spread(scores: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, float]]:
    """Compute mean and standard deviation (n - 1) of each main score that is defined in at least two of `scores`."""
    moments = {}
    for name in dict.fromkeys(name for each in scores for name in each):
        values = [each[name] for each in scores if name in each]
        if name.partition("/")[0] in ROWS and len(values) > 1:
            moments[name] = float(np.mean(values)), float(np.std(values, ddof=1))
    return moments

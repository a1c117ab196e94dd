"""Check, split and record the data of a training; choose the split that the results are reported on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rich.console import Console

from experiments.config.schema import TaskConfig
from experiments.evaluation.figures import labels_figure
from experiments.findings import FINDINGS
from experiments.preparation.data_check import CheckedData, check_data, show
from mrcnn.data import Dataset, Loader
from mrcnn.data.dataset import names_patients
from mrcnn.detections import Detections
from mrcnn.errors import counted
from mrcnn.inference.drawing import contact_sheet, overlay
from trackers.runs.reader import EXTERNAL
from trackers.runs.run import Run

TITLES = {
    "test": "Test split",
    EXTERNAL: "External data set",
    "held_out": "Held-out fold",
    "out_of_fold": "All folds, each predicted by the model that never saw it",
    "val": "Validation split (there is no test split)",
}
"""Titles of the splits that results may be reported on, in order of preference."""

LABELS, AUGMENTED = "labels", "augmented"
"""Names of the figures of the data of a training."""
BATCH_SHOWN = 8
"""Images in the picture of a batch."""


@dataclass(frozen=True)
class Data:
    """Splits of a dataset.

    Attributes:
        splits: those that are not empty, by name.
        facts: fingerprint of the dataset.
        files: file and patient of each image of each split.
    """

    name: str
    splits: Mapping[str, Dataset]
    facts: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, object] = field(default_factory=dict)

    @property
    def reported(self) -> str:
        """Name of the split that the results are reported on."""
        return next(split for split in TITLES if split in self.splits)


def read_data(config: TaskConfig, run: Run, console: Console) -> Data:
    """Check the data, print a summary, split them and record them in `run`."""
    checked = check_data(config, console)
    show(checked, console)
    checked.raise_if_wrong()
    data = usable_data(checked, config)
    record_data(data, config, run)
    return data


def usable_data(checked: CheckedData, config: TaskConfig) -> Data:
    """Return the splits of checked data; raise `InputError` where the classes do not fit the findings."""
    # Computed for an empty image, so that classes which do not fit the findings are reported before the training.
    FINDINGS[config.findings](
        np.zeros((1, 1, 1), np.uint8), Detections.empty(1, 1), checked.whole.class_names, None, None
    )
    splits = {split: checked.whole.subset(chosen) for split, chosen in checked.splits.items() if len(chosen)}
    return Data(checked.name, splits, checked.found.as_dict(), checked.split_lists())


def record_data(data: Data, config: TaskConfig, run: Run) -> None:
    """Record the splits in `run`."""
    for split, part in data.splits.items():
        run.dataset(data.name, part.digest, data.facts, split, source=config.data.dataset)
    run.json(data.facts, "fingerprint.json")
    run.json(data.files, "splits.json")
    run.metrics({"data/skipped": len(data.facts.get("skipped", ()))})
    records = [record for part in data.splits.values() for record in part.records]
    if any(len(record.class_ids) for record in records):
        run.figure(labels_figure(records, next(iter(data.splits.values())).class_names), f"figures/{LABELS}.png")


def log_augmented_batch(loader: Loader, run: Run) -> None:
    """Log a picture of the first images of a training as the loader augments them, with their instances."""
    names = loader.dataset.class_names
    samples = [each.present() for each in loader.samples(BATCH_SHOWN)]
    pictures = [overlay(each.image, each.instances, each.class_ids, names) for each in samples]
    run.image(contact_sheet(pictures, columns=4), f"figures/{AUGMENTED}.jpg")


def validation_subset(validation: Dataset, limit: int | None, seed: int, *, whole_patients: bool) -> Dataset:
    """Return at most `limit` images drawn at random, or patients until there are so many; None: all.

    The subset has an instance wherever the split has one, so that its metrics are defined.
    """
    if limit is None or limit >= len(validation):
        return validation
    records = validation.records
    rng = np.random.default_rng((seed, len(records)))
    order = rng.permutation(len(records))
    if whole_patients:
        names = np.array([record.patient_id for record in records])
        counts = Counter(names.tolist())
        drawn = list(dict.fromkeys(names[order].tolist()))
        ends = np.cumsum([counts[name] for name in drawn])
        chosen = np.flatnonzero(np.isin(names, drawn[: int(np.searchsorted(ends, limit)) + 1]))
    else:
        chosen = np.sort(order[:limit])
    return validation.subset(chosen) if any(len(records[index].class_ids) for index in chosen) else validation


def split_title(data: Data) -> str:
    """Describe the reported split: name, number of images, and of patients if any is named."""
    part = data.splits[data.reported]
    named = names_patients(part.records)
    patients = f", patients: {len({record.patient_id for record in part.records})}" if named else ""
    return f"{TITLES[data.reported]}: {counted(len(part), 'image')}{patients}"

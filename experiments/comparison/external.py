"""Compare external evaluations: the images that all of them evaluated, with the detections that their runs hold."""

from __future__ import annotations

import json
from collections.abc import Sequence

from experiments.comparison.candidates import Candidate
from experiments.comparison.joint_test_set import TestSet
from experiments.preparation.data_check import validate_dataset_images
from experiments.preparation.datasets import dataset_name, open_dataset
from mrcnn.data import Dataset
from mrcnn.errors import InputError
from trackers.runs.reader import artifacts


def evaluated_images(candidates: Sequence[Candidate]) -> TestSet:
    """Read the data of the evaluations again, and select the images that all of them evaluated.

    Raises:
        InputError: the evaluations are of different data sets or classes, the images have changed, or they share none.
    """
    first = candidates[0]
    for each in candidates[1:]:
        if each.config.data.dataset != first.config.data.dataset:
            raise InputError(
                f"--models: {first.title} is of {first.config.data.dataset}, {each.title} of "
                f"{each.config.data.dataset}; expected evaluations of one data set"
            )
        if each.evaluation != first.evaluation and _classes(each) != _classes(first):
            raise InputError(
                f"--models: {first.title} has the classes {', '.join(_classes(first).values())}, {each.title} "
                f"{', '.join(_classes(each).values())}; expected the same; evaluate with --map or --class-agnostic"
            )
    evaluated = [_evaluated_files(each) for each in candidates]
    names = set.intersection(*evaluated)
    whole, _ = validate_dataset_images(open_dataset(first.config.data), first.config)
    shared = [index for index, record in enumerate(whole.records) if record.file_name in names]
    if not shared:
        raise InputError(f"--models: {' and '.join(each.title for each in candidates)} share no evaluated image")
    images = _with_classes(whole.subset(shared), _classes(first))
    most = max(map(len, evaluated))
    name = f"{dataset_name(first.config.data)}, evaluated by {', '.join(each.label for each in candidates)}"
    labels = tuple(each.label for each in candidates)
    return TestSet(name, first.config.task, first.config, labels, images.digest, images, most - len(shared))


def _classes(candidate: Candidate) -> dict[str, str]:
    """Map each class of the data to that of the evaluation."""
    return {} if candidate.evaluation is None else dict(candidate.evaluation.classes)


def _with_classes(images: Dataset, classes: dict[str, str]) -> Dataset:
    names = tuple(dict.fromkeys(classes.values()))
    return images.with_classes(names, [0, *(names.index(classes[name]) + 1 for name in images.class_names)])


def _evaluated_files(candidate: Candidate) -> set[str]:
    with artifacts(str(candidate.evaluation and candidate.evaluation.run_id), "coco") as folder:
        truth = json.loads((folder / "coco" / "ground_truth.json").read_text(encoding="utf-8"))
    return {image["file_name"] for image in truth["images"]}

"""Measure the models on the test sets: scores, from saved or new predictions, and speed."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from experiments.comparison.candidates import Candidate
from experiments.comparison.joint_test_set import TestSet
from experiments.prediction.detector import Detector
from experiments.prediction.results import coco_to_detections
from mrcnn.data import Sample
from mrcnn.detections import Detections
from mrcnn.errors import InputError
from mrcnn.metrics import Evaluator
from trackers.runs.reader import artifacts, read_run
from trackers.runs.writer import LONGEST_DATASET_DIGEST

SAVED_PREDICTIONS = "coco"
"""Artifact folder of a training."""
ANY_CLASS = ("any",)
TIMED_IMAGES = 6
TIMED_ROUNDS = 3


@dataclass(frozen=True)
class LoadedModel:
    """A candidate, its loaded network, and the size of its files in bytes."""

    candidate: Candidate
    detector: Detector
    bytes: int


@dataclass(frozen=True)
class Measurement:
    """The results of a model on a test set.

    Attributes:
        by_class: None if the model and the test set have different classes.
        any_class: all instances and detections in one class.
        confidence: the model's confidence threshold.
        source: `kept` for predictions in the artifacts of the training, `asked` for new predictions.
    """

    by_class: Evaluator | None
    any_class: Evaluator
    confidence: float
    source: str


def measure(model: LoadedModel, test_set: TestSet) -> Measurement:
    """Evaluate a model on a test set.

    Raises:
        InputError: the model cannot process the images.
    """
    names, detector, evaluation = test_set.images.class_names, model.detector, model.candidate.evaluation
    # An external evaluation holds its detections in the classes of the evaluation.
    model_names = detector.class_names if evaluation is None else names
    confidence = detector.confidence if evaluation is None else evaluation.confidence
    same = sorted(names) == sorted(model_names)
    volumes = test_set.config.evaluate.volumes
    by_class = Evaluator(names, volumes=volumes) if same else None
    any_class = Evaluator(ANY_CLASS)
    saved = _load_predictions(model, test_set, model_names)
    if saved is None and evaluation is not None:
        raise InputError(f"{model.candidate.title}: its run holds no detections of these images")
    # The model and the data can have the class names in different orders.
    ids = np.array([0, *(names.index(name) + 1 for name in model_names if same)], np.int32)
    results = _predict(detector, test_set) if saved is None else zip(test_set.images, saved, strict=True)
    for sample, detections in results:
        if by_class is not None:
            by_class.add(sample, detections.with_classes(ids[detections.class_ids]))
        any_class.add(to_any_class(sample), detections.with_classes(np.ones_like(detections.class_ids)))
    if saved is None and volumes:
        any_class = any_class.without_short_objects(confidence, detector.min_slices)
        by_class = by_class and by_class.without_short_objects(confidence, detector.min_slices)
    return Measurement(by_class, any_class, confidence, "asked" if saved is None else "kept")


def to_any_class(sample: Sample) -> Sample:
    """Return a sample with all instances in one class."""
    ones = np.ones_like(sample.class_ids)
    return replace(sample, class_ids=ones, masks=sample.instances, crowd_masks=sample.crowds)


def group_by_image(results: Sequence[Mapping[str, Any]]) -> dict[int, list[Mapping[str, Any]]]:
    """Group COCO results by image id."""
    grouped: dict[int, list[Mapping[str, Any]]] = {}
    for one in results:
        grouped.setdefault(one["image_id"], []).append(one)
    return grouped


def _predict(detector: Detector, test_set: TestSet) -> Iterator[tuple[Sample, Detections]]:
    images, context = test_set.images, detector.context_slices
    for start in range(0, len(images), detector.batch_size):
        numbers = range(start, min(start + detector.batch_size, len(images)))
        samples = [images.sample(index, context) for index in numbers]
        found = detector.find([sample.image for sample in samples])
        yield from zip([sample.present() for sample in samples], found, strict=True)


def _load_predictions(model: LoadedModel, test_set: TestSet, names: Sequence[str]) -> list[Detections] | None:
    """Load the predictions that the run saved for these images; None if they are missing or incomplete."""
    run_id = model.candidate.run_id
    of_test = read_run(run_id).digest("test") == test_set.digest[:LONGEST_DATASET_DIGEST]
    if model.candidate.evaluation is None and not of_test:
        return None
    with artifacts(run_id, SAVED_PREDICTIONS) as folder:
        files = [folder / SAVED_PREDICTIONS / name for name in ("ground_truth.json", "results.json")]
        if not all(file.is_file() for file in files):
            return None
        truth, results = (json.loads(file.read_text(encoding="utf-8")) for file in files)
    if [category["name"] for category in truth["categories"]] != list(names):
        return None
    images, by_image = {image["file_name"]: image for image in truth["images"]}, group_by_image(results)
    if len(images) != len(truth["images"]):
        return None
    found = []
    for record in test_set.images.records:
        image = images.get(record.file_name)
        if image is None or (image["height"], image["width"]) != (record.height, record.width):
            return None
        found.append(coco_to_detections(by_image.get(image["id"], []), record.height, record.width))
    return found


def measure_all(
    models: Sequence[LoadedModel], sets: Sequence[TestSet]
) -> tuple[dict[tuple[str, int], Measurement], list[str]]:
    """Evaluate all models on all test sets.

    Returns:
        The measurements by label and position of the test set, and a line for each model that cannot process the
        images of a test set.
    """
    found, notes = {}, []
    for position, test_set in enumerate(sets):
        for each in models:
            try:
                found[each.candidate.label, position] = measure(each, test_set)
            except InputError as error:
                first = str(error).splitlines()[0]
                notes.append(f"{each.candidate.title} on {test_set.name}: cannot take these images: {first}")
    return found, notes


def seconds_per_image(
    finders: Mapping[str, Callable[[Sequence[Any]], object]], images: Sequence[Any]
) -> dict[str, float]:
    """Measure the median time of a call with one image, by the names of `finders`.

    Each model processes each image once before, so compilation is not measured. The models take turns, and each round
    begins with another model, so all of them have the same load.
    """
    order = list(finders)
    for name in order:
        for image in images:
            finders[name]([image])
    times: dict[str, list[float]] = {name: [] for name in order}
    for turn in range(TIMED_ROUNDS):
        for image in images:
            for name in order[turn % len(order) :] + order[: turn % len(order)]:
                started = time.perf_counter()
                finders[name]([image])
                times[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in times.items() if values}

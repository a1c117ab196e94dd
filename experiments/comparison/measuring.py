"""What each model finds in each test set, from what its training kept or asked anew."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts

from experiments.comparison.candidates import Candidate
from experiments.comparison.joint_test_set import TestSet, recorded_digest
from experiments.prediction.detector import Detector
from mrcnn.data import Sample
from mrcnn.detections import Detections
from mrcnn.errors import InputError
from mrcnn.instance_masks import InstanceMasks
from mrcnn.metrics import Evaluator
from trackers.runs.writer import LONGEST_DATASET_DIGEST

KEPT = "coco"
ANY_CLASS = ("any",)


@dataclass(frozen=True)
class Opened:
    """A candidate whose network is loaded.

    Attributes:
        bytes: of its files.
    """

    candidate: Candidate
    detector: Detector
    bytes: int


@dataclass(frozen=True)
class Measured:
    """What a model found in a test set.

    Attributes:
        by_class: None where the model's classes are others than the test set's.
        any_class: every instance and every detection counts as of one class.
        confidence: the model's working threshold.
        source: `kept`: read from the artifacts of its training; `asked`: found just now.
    """

    by_class: Evaluator | None
    any_class: Evaluator
    confidence: float
    source: str


def measure(opened: Opened, test_set: TestSet) -> Measured:
    """What `opened` finds in `test_set`.

    Raises:
        InputError: the model cannot take its images.
    """
    names, detector = test_set.images.class_names, opened.detector
    same = sorted(names) == sorted(detector.class_names)
    volumes = test_set.config.evaluate.volumes
    by_class = Evaluator(names, volumes=volumes) if same else None
    any_class = Evaluator(ANY_CLASS)
    kept = _kept(opened, test_set)
    # Class ids count in the order of the names, which the data may have in another one.
    ids = np.array([0, *(names.index(name) + 1 for name in detector.class_names)], np.int32) if same else None
    found = _asked(detector, test_set) if kept is None else zip(test_set.images, kept, strict=True)
    for sample, detections in found:
        if by_class is not None:
            by_class.add(sample, _as(detections, ids[detections.class_ids]))
        one = replace(
            sample,
            class_ids=np.ones_like(sample.class_ids),
            masks=sample.instances,
            crowd_masks=sample.crowds,
        )
        any_class.add(one, _as(detections, np.ones_like(detections.class_ids)))
    return Measured(by_class, any_class, detector.confidence, "asked" if kept is None else "kept")


def _as(detections: Detections, class_ids: np.ndarray) -> Detections:
    return replace(detections, class_ids=class_ids, masks=detections.instances)


def detections_of(results: Sequence[Mapping[str, Any]], height: int, width: int) -> Detections:
    """COCO results of one image as detections, best score first."""
    if not results:
        return Detections.empty(height, width)
    ordered = sorted(results, key=lambda one: -one["score"])
    corners = np.array([one["bbox"] for one in ordered], np.float64)
    corners[:, 2:] += corners[:, :2]
    masks = InstanceMasks(height, width, [one["segmentation"]["counts"].encode("ascii") for one in ordered])
    return Detections(
        corners.astype(np.float32),
        np.array([one["score"] for one in ordered], np.float32),
        np.array([one["category_id"] for one in ordered], np.int32),
        masks,
    )


def by_image(results: Sequence[Mapping[str, Any]]) -> dict[int, list[Mapping[str, Any]]]:
    """COCO results by the id of their image."""
    grouped: dict[int, list[Mapping[str, Any]]] = {}
    for one in results:
        grouped.setdefault(one["image_id"], []).append(one)
    return grouped


def _asked(detector: Detector, test_set: TestSet) -> Iterator[tuple[Sample, Detections]]:
    images = test_set.images
    for start in range(0, len(images), detector.batch_size):
        samples = [images[index] for index in range(start, min(start + detector.batch_size, len(images)))]
        yield from zip(samples, detector.find([sample.image for sample in samples]), strict=True)


def _kept(opened: Opened, test_set: TestSet) -> list[Detections] | None:
    """What the model's own training found in these images; None where it did not see all of them, or kept nothing."""
    run_id, names = opened.candidate.run_id, opened.detector.class_names
    if recorded_digest(run_id, "test") != test_set.digest[:LONGEST_DATASET_DIGEST]:
        return None
    present = {Path(each.path).name for each in MlflowClient().list_artifacts(run_id, KEPT)}
    if not {"ground_truth.json", "results.json"} <= present:
        return None
    with tempfile.TemporaryDirectory() as folder:
        where = Path(download_artifacts(artifact_uri=f"runs:/{run_id}/{KEPT}", dst_path=folder))
        truth = json.loads((where / "ground_truth.json").read_text(encoding="utf-8"))
        results = by_image(json.loads((where / "results.json").read_text(encoding="utf-8")))
    if [category["name"] for category in truth["categories"]] != list(names):
        return None
    images = {image["file_name"]: image for image in truth["images"]}
    if len(images) != len(truth["images"]):
        return None
    found = []
    for record in test_set.images.records:
        image = images.get(record.file_name)
        if image is None or (image["height"], image["width"]) != (record.height, record.width):
            return None
        found.append(detections_of(results.get(image["id"], []), record.height, record.width))
    return found


def measure_all(opened: Sequence[Opened], sets: Sequence[TestSet]) -> tuple[dict[tuple[str, int], Measured], list[str]]:
    """By label and position of the test set, and a line for each model that cannot take the images of one."""
    found, notes = {}, []
    for position, test_set in enumerate(sets):
        for each in opened:
            try:
                found[each.candidate.label, position] = measure(each, test_set)
            except InputError as error:
                first = str(error).splitlines()[0]
                notes.append(f"{each.candidate.title} on {test_set.name}: cannot take these images: {first}")
    return found, notes

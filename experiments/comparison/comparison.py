"""The results of a comparison, and their JSON form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from experiments.comparison.candidates import Candidate, version_scores
from experiments.comparison.champions import AliasDecision, head_to_head, task_scores
from experiments.comparison.joint_test_set import LEAST_PATIENTS, TestSet
from experiments.comparison.measurements import LoadedModel, Measurement
from experiments.comparison.paired_difference import (
    RESAMPLES,
    PairedDifference,
    has_enough_patients,
    paired_difference,
    scores,
    shared_evaluators,
)
from experiments.config.resolve import parameters, shareable
from experiments.evaluation.analysis import patient_rows
from experiments.evaluation.tables import ROWS, duration_text
from experiments.preparation.datasets import dataset_name
from trackers.packaging.served import NOTICE
from trackers.runs.reader import read_run

METHOD = (
    "Intervals: 95 %, percentile bootstrap over patients (Efron & Tibshirani 1993, chapter 13), for differences the "
    f"same patients drawn for both models; {RESAMPLES} resamples. p-values, two-sided: paired permutation test that "
    "exchanges the predictions of two models for whole patients (Fisher 1935; Good 2005; Phipson & Smyth 2010); for "
    "AP, IoU, HD95 and FROC, marked b, the paired bootstrap (Efron & Tibshirani 1993, section 15.4). They are not "
    f"adjusted for the number of scores and models. Both need at least {LEAST_PATIENTS} patients."
)
SIZES = ("small", "medium", "large")


@dataclass(frozen=True)
class Comparison:
    """Models, test sets and measurements.

    Attributes:
        models: the others are compared with the first.
        measured: by label and position of the test set, without models that cannot process the images.
        seconds: time per image by label and position of the test set.
        notes: a line for each excluded model or test set.
    """

    modality: str
    models: tuple[LoadedModel, ...]
    sets: tuple[TestSet, ...]
    measured: Mapping[tuple[str, int], Measurement]
    seconds: Mapping[tuple[str, int], float]
    verdicts: tuple[AliasDecision, ...]
    notes: tuple[str, ...]

    @property
    def labels(self) -> list[str]:
        return [each.candidate.label for each in self.models]

    def on(self, position: int) -> dict[str, Measurement]:
        """Return the measurements on a test set by label."""
        return {label: self.measured[label, position] for label in self.labels if (label, position) in self.measured}

    @cached_property
    def facts(self) -> dict[str, Any]:
        """All numbers, serializable as JSON."""
        candidates = [each.candidate for each in self.models]
        return {
            "modality": self.modality,
            "models": [self._model(each) for each in self.models],
            "test_sets": [self._set(position) for position in range(len(self.sets))],
            "tasks": {
                task: {"metric": metric, "means": values}
                for task, (metric, values) in task_scores(candidates, self.sets, self.measured).items()
            },
            "head_to_head": head_to_head(candidates, self.sets, self.measured),
            "verdicts": [asdict(each) for each in self.verdicts],
            "differing_settings": differing_settings(candidates),
            "versions": version_scores(candidates),
            "notes": list(self.notes),
            "method": METHOD,
            "notice": NOTICE,
        }

    def _model(self, model: LoadedModel) -> dict[str, Any]:
        candidate, detector = model.candidate, model.detector
        seconds = {self.sets[position].name: self.seconds[label, position]
                   for label, position in self.seconds if label == candidate.label}  # fmt: skip
        return {
            "label": candidate.label,
            "title": candidate.title,
            "aliases": list(candidate.aliases),
            "task": candidate.config.task,
            "run": candidate.run_id,
            "classes": list(detector.class_names),
            "confidence": detector.confidence,
            "weights": detector.weights,
            "megabytes": model.bytes / 1e6,
            "seconds_per_image": seconds,
        }

    def _set(self, position: int) -> dict[str, Any]:
        test_set, measured = self.sets[position], self.on(position)
        patients = [record.patient_id for record in test_set.images.records]
        volumes = test_set.config.evaluate.volumes
        shared = {label: each.by_class or each.any_class for label, each in measured.items()}
        # The same measure for all models: by class only if all have the classes.
        if any(each.by_class is None for each in measured.values()):
            shared = {label: each.any_class for label, each in measured.items()}
        first = next(iter(measured), "")
        # The files are shared, so patients have numbers, the same for each model.
        numbers = {patient: str(number) for number, patient in enumerate(dict.fromkeys(patients), start=1)}
        return {
            "name": test_set.name,
            "task": test_set.task,
            "digest": test_set.digest,
            "held_back_by": list(test_set.labels),
            "classes": list(test_set.images.class_names),
            "images": len(test_set.images),
            "patients": len(set(patients)),
            "left_out": test_set.left_out,
            "enough_patients": has_enough_patients(patients),
            "instances_by_size": _sizes(test_set),
            "source": {label: each.source for label, each in measured.items()},
            "by_class": {
                label: scores(each.by_class, each.confidence)
                for label, each in measured.items()
                if each.by_class is not None
            },
            "any_class": {label: scores(each.any_class, each.confidence) for label, each in measured.items()},
            "differences": [
                {
                    "first": first,
                    "second": label,
                    "by_class": shared_evaluators(measured[first], each)[0] is measured[first].by_class,
                    "scores": {
                        name: asdict(one)
                        for name, one in paired_difference(measured[first], each, volumes=volumes).items()
                        if name.partition("/")[0] in ROWS
                    },
                }
                for label, each in measured.items()
                if label != first
            ],
            "dice_of_patients": {
                label: {
                    numbers[row["patient"]]: row["dice"]
                    for row in patient_rows(evaluator.per_case(measured[label].confidence))
                    if row["dice"] is not None
                }
                for label, evaluator in shared.items()
            },
        }


def differing_settings(candidates: Sequence[Candidate]) -> list[tuple[str, ...]]:
    """List what differs between the trainings: data, duration and configuration; name, then a text for each model."""
    rows = {"name of the data": [dataset_name(each.config.data) for each in candidates]}
    runs = [read_run(each.run_id) for each in candidates]
    for split in sorted({split for run in runs for split in run.data}):
        rows[f"digest of the {split} split"] = [run.data.get(split, ("", "–"))[1] for run in runs]
    rows["duration of the training"] = [
        "–" if run.ended is None else duration_text((run.ended - run.started) / 1000) for run in runs
    ]
    settings = [parameters(each.config) for each in candidates]
    for name in dict.fromkeys(name for each in settings for name in each):
        rows[name] = [shareable(each.get(name, "–")) for each in settings]
    return [(name, *texts) for name, texts in rows.items() if len(set(texts)) > 1]


def _sizes(test_set: TestSet) -> dict[str, int]:
    """Count small, medium and large instances by the limits of COCO."""
    areas: Sequence[int] = [int(area) for record in test_set.images.records for area in record.areas]
    small, large = 32**2, 96**2
    return {
        "small": sum(area < small for area in areas),
        "medium": sum(small <= area < large for area in areas),
        "large": sum(area >= large for area in areas),
    }


def read_differences(facts: Mapping[str, Any], second: str) -> dict[str, PairedDifference]:
    """Return the differences between the model `second` and the first from the facts of a test set."""
    for each in facts["differences"]:
        if each["second"] == second:
            return {name: PairedDifference(**values) for name, values in each["scores"].items()}
    return {}

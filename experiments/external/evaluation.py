"""Evaluate a trained model on another data set: `evaluate_external` is the whole job."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from rich.console import Console

from experiments.commands.arguments import EvaluateArgs
from experiments.config.resolve import resolved_yaml
from experiments.config.schema import TaskConfig
from experiments.evaluation.analysis import curves, patient_rows
from experiments.evaluation.evaluate_on_test import Result, evaluate_on_test
from experiments.evaluation.report import log_report
from experiments.external.class_mapping import ClassMapping, map_classes
from experiments.external.opened_model import MappedPredictor, OpenedModel, open_model, training_images
from experiments.external.recalibration import recalibrate, register_version
from experiments.external.subgroups import Subgroup, measure_subgroups, read_attributes, subgroups_table
from experiments.preparation.data_check import validate_dataset_images, with_gray_levels
from experiments.preparation.datasets import dataset_name, dataset_path, open_dataset, standing_folder
from experiments.preparation.seen_images import find_seen
from experiments.terminal import Terminal, phase, print_addresses
from experiments.training.training_data import Data
from mrcnn.cache_folder import cache_folder
from mrcnn.data import Dataset
from mrcnn.data.duplicates import make_thumbnails
from mrcnn.data.film_polarity import find_negatives
from mrcnn.data.fingerprint import fingerprint
from mrcnn.data.problems import Problems
from mrcnn.data.shift import Shift, find_shifts
from mrcnn.errors import InputError, counted
from mrcnn.inference.ensemble import Predictor
from trackers.packaging.served import NOTICE
from trackers.runs.reader import EXTERNAL, artifacts
from trackers.runs.run import Run, tracked_run

PAGE, NUMBERS = "report.html", "evaluation.json"
AS_TRAINED = ("modalities", "plane", "scaling", "window")
"""Options of volumes that are those of the training unless they are given."""
TABLES = ("per_case.csv", "per_patient.csv")


@dataclass(frozen=True)
class Evaluation:
    """The results of an external evaluation.

    Attributes:
        scores: scores by name; see `mrcnn.metrics.Evaluator.summary`.
        intervals: their 95 % intervals over patients, `<name>_lo` and `<name>_hi`.
        confidence: the operating point.
        shifts: properties of the evaluated images beside those of the training images.
        excluded: number of images that the training has seen, by reason.
        subgroups: by attribute, the worst first.
        notes: what a reader must know, one sentence each.
        facts: everything, as in `evaluation.json`.
        run_id: MLflow run of the evaluation.
        folder: folder of `report.html` and `evaluation.json`.
        version: number of the recalibrated version; None if the threshold was not chosen anew.
    """

    scores: Mapping[str, float]
    intervals: Mapping[str, float]
    confidence: float
    shifts: Sequence[Shift]
    excluded: Mapping[str, int]
    subgroups: Mapping[str, Sequence[Subgroup]]
    notes: Sequence[str]
    facts: Mapping[str, Any]
    run_id: str
    folder: Path
    version: str | None = None


@dataclass(frozen=True)
class EvaluatedData:
    """The images to evaluate.

    Attributes:
        images: in the classes of the evaluation, without those that the training has seen.
        attributes: values of each image by name.
        facts: `Fingerprint.as_dict`.
        excluded: number of left-out images by reason.
        shifts: see `mrcnn.data.shift`.
        notes: what a reader must know.
        classes: class of the data → class of the evaluation.
    """

    name: str
    images: Dataset
    classes: Mapping[str, str]
    attributes: Mapping[str, Sequence[str]]
    facts: Mapping[str, Any]
    excluded: Mapping[str, int]
    shifts: Sequence[Shift]
    notes: Sequence[str]

    def subset(self, indices: np.ndarray) -> EvaluatedData:
        """Select images, with their attributes."""
        attributes = {name: [values[index] for index in indices] for name, values in self.attributes.items()}
        images = self.images.subset(indices)
        facts = {**self.facts, "whole": fingerprint(images, {}).as_dict()["whole"]}
        return replace(self, images=images, attributes=attributes, facts=facts)


def evaluate_external(args: EvaluateArgs) -> Evaluation:
    """Evaluate a model on a data set, print and log the results, and write the report.

    Raises:
        InputError: model or data are invalid, a class has no counterpart, or the training has seen all images.
    """
    console = Terminal()
    folder = args.output or standing_folder() / f"evaluate-{dataset_name(args.data).replace(' ', '-')}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--output {folder}: cannot be written ({error.strerror})") from error
    with tempfile.TemporaryDirectory(prefix="medmrcnn-") as scratch:
        with phase(console, "Loading the model"):
            model = open_model(args.model, task=args.task, folder=Path(scratch))
        if args.recalibrate is not None and model.name is None:
            raise InputError(
                f"--recalibrate: {args.model} is not registered; expected a version such as models:/mrcnn-xray@champion"
            )
        config = _config(model, args)
        with phase(console, f"Reading {dataset_name(config.data)}"):
            opened = open_dataset(config.data)
        whole, _ = validate_dataset_images(opened, config, console)
        mapping = map_classes(
            whole.class_names, model.predictor.config.class_names, args.classes, class_agnostic=args.class_agnostic
        )
        with phase(console, "Comparing the images with the training data"):
            data = _prepare(whole, mapping, model, config, args)
        for note in data.notes:
            console.print(f"note: {note}", style="yellow", markup=False)
        sentences = [shift.sentence for shift in data.shifts if shift.sentence]
        for sentence in sentences or ["No difference from the training data was found."]:
            console.print(f"shift: {sentence}", style="yellow" if sentences else None, markup=False)
        config = _for_classes(config, mapping, data.images, model)
        with tracked_run(
            task=f"evaluate-{config.task}", modality=config.modality, seed=config.seed,
            backend=keras.backend.backend(), run_name=f"{model.title} on {data.name}",
            tags=_provenance(model, data, mapping),
        ) as run:  # fmt: skip
            console.print(f"Evaluating {model.title} on {data.name}; run {run.id}", markup=False)
            predictor = MappedPredictor(model.predictor, mapping.names, mapping.of_model)
            recalibration, version, site, confidence = None, None, data, model.confidence
            if args.recalibrate is not None:
                recalibration = recalibrate(predictor, data.images, args.recalibrate, confidence, config)
                data, confidence = site.subset(recalibration.measured), recalibration.confidence
            result, subgroups = _measure(predictor, confidence, data, config, run, console)
            facts = _facts(model, data, mapping, result, subgroups, run)
            if recalibration is not None:
                version = register_version(model, recalibration, site.images, data.name, run)
                scores_before = result.evaluator.summary(recalibration.before)
                facts["recalibration"] = recalibration.facts(scores_before) | {"version": version}
                console.print(
                    f"Registered {model.name} version {version}: threshold {confidence:g} in place of "
                    f"{recalibration.before:g}; no alias has moved",
                )
            run.text(resolved_yaml(config), "config.yaml")
            run.json(facts, NUMBERS)
            log_report(run)
            _write(run.id, folder)
    print_addresses(console, run, [folder])
    return Evaluation(
        result.scores, result.intervals, result.confidence, data.shifts, data.excluded, subgroups, data.notes, facts,
        run.id, folder, version,
    )  # fmt: skip


def _config(model: OpenedModel, args: EvaluateArgs) -> TaskConfig:
    """Return the configuration of the training with the data set of the evaluation."""
    trained = model.config or TaskConfig(task="unknown", modality="unknown")
    # The slices are read with the neighbors that the model saw.
    data = args.data.model_copy(update={"context_slices": model.predictor.config.context_slices})
    if "near_duplicates" not in data.model_fields_set:
        data = data.model_copy(update={"near_duplicates": trained.data.near_duplicates})
    if trained.data.reader == "volumes":
        # The channels must be in the order of the training, and the volumes cut and scaled as there.
        given, of_training = data.volumes.model_fields_set, trained.data.volumes
        taken = {name: getattr(of_training, name) for name in AS_TRAINED if name not in given}
        data = data.model_copy(update={"volumes": data.volumes.model_copy(update=taken)})
    return trained.model_copy(update={"data": data})


def _for_classes(config: TaskConfig, mapping: ClassMapping, images: Dataset, model: OpenedModel) -> TaskConfig:
    """Adapt findings, volumes and augmentation to the classes and images of the evaluation."""
    same_classes = mapping.names == tuple(model.predictor.config.class_names)
    evaluate = config.evaluate.model_copy(
        update={
            "volumes": config.evaluate.volumes and all(record.place is not None for record in images.records),
            "tta": False,  # the predictor contains the views
        }
    )
    findings = config.findings if same_classes else "none"
    return config.model_copy(update={"findings": findings, "evaluate": evaluate})


def _prepare(
    whole: Dataset, mapping: ClassMapping, model: OpenedModel, config: TaskConfig, args: EvaluateArgs
) -> EvaluatedData:
    """Map the classes, read the attributes, leave out what the training has seen, and compare with its data."""
    name = dataset_name(config.data)
    attributes = read_attributes(whole, dataset_path(str(config.data.dataset)), args.subgroups)
    seen, notes = training_images(model)
    found = find_seen(whole, seen)
    excluded = {reason: int(mask.sum()) for reason, mask in found.items() if mask.any()}
    kept = np.flatnonzero(~np.any(list(found.values()), axis=0))
    if not len(kept):
        raise InputError(f"{name}: the model was trained or validated on all {len(whole)} images or their patients")
    images = whole.subset(kept).with_classes(mapping.names, mapping.of_data)
    if not any(len(record.class_ids) for record in images.records):
        raise InputError(f"{name}: no instance in the {counted(len(images), 'image')} that the training has not seen")
    if left_out := len(whole) - len(kept):
        reasons = ", ".join(f"{reason}: {count}" for reason, count in excluded.items())
        notes = [
            f"{left_out} of {len(whole)} images are left out, because the model was trained or validated on them "
            f"({reasons}; an image can have several reasons).",
            *notes,
        ]
    facts = fingerprint(images, {})
    negatives = None
    if config.data.near_duplicates == "together":
        facts = with_gray_levels(facts, images, range(len(images)), polarity=False)
        if (polarity := model.tracked.polarity) is not None:
            thumbnails = make_thumbnails(images, cache_folder() / "thumbnails", Problems("images"))
            negatives = int(find_negatives(thumbnails, polarity).sum())
    notes += [note for note in (mapping.note,) if note]
    if model.tracked.confidence is None:
        notes.append(f"{model.title} has no recorded threshold; the score threshold of the network is used.")
    classes = {
        one: mapping.names[number - 1] for one, number in zip(whole.class_names, mapping.of_data[1:], strict=True)
    }
    return EvaluatedData(
        name,
        images,
        classes,
        {attribute: [values[index] for index in kept] for attribute, values in attributes.items()},
        facts.as_dict(),
        excluded,
        find_shifts(model.tracked.fingerprint, facts.as_dict(), negatives),
        notes,
    )


def _provenance(model: OpenedModel, data: EvaluatedData, mapping: ClassMapping) -> dict[str, str]:
    """Return the tags that name the model, the data and how they differ from those of the training."""
    sentences = [shift.sentence for shift in data.shifts if shift.sentence]
    return {
        "evaluated_model": model.title,
        "evaluated_run": model.run_id or "",
        "model_digest": model.digest,
        "data_digest": data.images.digest,
        "class_mapping": ", ".join(f"{one}={other}" for one, other in mapping.pairs) or "class-agnostic",
        "shift": " ".join(sentences) or "no difference found",
        "excluded_images": str(sum(data.excluded.values())),
    }


def _measure(
    predictor: Predictor, confidence: float, data: EvaluatedData, config: TaskConfig, run: Run, console: Console
) -> tuple[Result, dict[str, list[Subgroup]]]:
    """Evaluate as after a training, then by subgroup."""
    files = {
        EXTERNAL: [{"file_name": record.file_name, "patient_id": record.patient_id} for record in data.images.records]
    }
    measured = Data(data.name, {EXTERNAL: data.images}, data.facts, files)
    run.dataset(data.name, data.images.digest, data.facts, EXTERNAL, source=config.data.dataset)
    result = evaluate_on_test(predictor, config, measured, run, console, step=0, confidence=confidence)
    subgroups = {}
    for name, values in data.attributes.items():
        subgroups[name] = measure_subgroups(
            result.evaluator, values, result.confidence, resamples=config.evaluate.resamples, seed=config.seed,
            metric=config.evaluate.metric, higher_is_better=config.higher_is_better,
        )  # fmt: skip
        console.print(subgroups_table(name, subgroups[name], config.evaluate.metric))
        for each in subgroups[name]:
            run.metrics(
                {f"{name}/{each.value}/{score}": value for score, value in (each.scores | each.intervals).items()}
            )
    return result, subgroups


def _facts(
    model: OpenedModel,
    data: EvaluatedData,
    mapping: ClassMapping,
    result: Result,
    subgroups: Mapping[str, Sequence[Subgroup]],
    run: Run,
) -> dict[str, Any]:
    """Collect all results for JSON; patients and images have numbers, not names."""
    evaluator, confidence = result.evaluator, result.confidence
    numbers = {patient: number for number, patient in enumerate(dict.fromkeys(evaluator.patients), start=1)}
    rows = evaluator.per_case(confidence)
    return {
        "notice": NOTICE,
        "model": {
            "title": model.title, "name": model.name, "version": model.version, "run": model.run_id,
            "digest": model.digest, "confidence": model.confidence, "address": model.address,
        },
        "data": {"name": data.name, "digest": data.images.digest, "excluded": data.excluded, **data.facts["whole"]},
        "classes": {
            "names": list(mapping.names), "mapping": [list(pair) for pair in mapping.pairs], "of_data": data.classes
        },
        "notes": list(data.notes),
        "shift": [vars(each) for each in data.shifts],
        "confidence": confidence,
        "scores": dict(result.scores),
        "intervals": dict(result.intervals),
        **curves(evaluator, confidence),
        "subgroups": {
            name: [
                {
                    "value": each.value, "images": len(each.indices), "patients": each.patients,
                    "scores": each.scores, "intervals": each.intervals,
                }
                for each in found
            ]
            for name, found in subgroups.items()
        },
        "images": [
            {"image": number, "patient": numbers[row["patient_id"]]}
            | {key: value for key, value in row.items() if key not in ("source", "patient_id")}
            for number, row in enumerate(rows, start=1)
        ],
        "patients": [
            row | {"patient": numbers[row["patient"]]} for row in patient_rows(rows)
        ],
        "run": run.id,
    }  # fmt: skip


def _write(run_id: str, folder: Path) -> None:
    """Copy the report, the numbers and the tables of the run to the folder of the person."""
    with artifacts(run_id, PAGE, NUMBERS, *TABLES) as found:
        try:
            for file in found.iterdir():
                (folder / file.name).write_bytes(file.read_bytes())
        except OSError as error:
            raise InputError(f"--output {folder}: cannot be written ({error.strerror})") from error

"""Log the artifacts of an evaluation: COCO files, tables, curves, label maps and overlays."""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from experiments.evaluation.analysis import log_figures, patient_rows
from experiments.evaluation.figures import froc_figure, precision_recall_figure
from mrcnn.data import Dataset
from mrcnn.data.io.nifti import write_label_map
from mrcnn.data.io.volume_files import from_plane
from mrcnn.data.io.volumes import Volume
from mrcnn.data.readers.volumes.brats import label_map
from mrcnn.data.readers.volumes.labels import label_map_of_regions
from mrcnn.errors import counted
from mrcnn.inference.drawing import side_by_side
from mrcnn.metrics import Evaluator
from trackers.runs.run import Run


def log_evaluation(run: Run, evaluator: Evaluator, confidence: float, split: str, folder: str = "") -> None:
    """Log the COCO files (truth and results), the tables of cases, instances and patients, and all figures.

    `folder` is the artifact folder, such as `out_of_fold/`.
    """
    run.json(evaluator.coco_ground_truth(), f"{folder}coco/ground_truth.json")
    run.json(evaluator.coco_results(), f"{folder}coco/results.json")
    cases = evaluator.per_case(confidence)
    run.text(csv_text(cases), f"{folder}per_case.csv")
    run.text(csv_text(patient_rows(cases)), f"{folder}per_patient.csv")
    run.text(csv_text(evaluator.per_instance(confidence)), f"{folder}per_instance.csv")
    images = counted(len(evaluator), f"{split} image")
    run.figure(
        precision_recall_figure(
            evaluator.pr_curves(), f"Precision and recall at mask IoU 0.5, {images}", evaluator.class_names
        ),
        f"{folder}figures/precision_recall.png",
    )
    run.figure(froc_figure(*evaluator.froc_curve(), f"FROC, {images}"), f"{folder}figures/froc.png")
    log_figures(run, evaluator, confidence, images, folder)


def log_volumes(run: Run, evaluator: Evaluator, dataset: Dataset, confidence: float) -> None:
    """Log the table of volumes, and a NIfTI label map of the detections in each volume on a voxel grid."""
    run.text(csv_text(evaluator.per_volume(confidence)), "per_volume.csv")
    volumes = {
        record.place.volume: record.volume
        for record in dataset.records
        if record.volume is not None and record.place is not None
    }
    for name, volume in volumes.items():
        if not isinstance(volume, Volume):
            continue
        regions = evaluator.predicted_regions(name, confidence, volume.shape)
        if volume.label_codes is not None:
            labels = label_map(regions, volume.label_codes)
        else:
            labels = label_map_of_regions(regions, volume.class_values)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, f"{name.replace('/', '_')}_seg.nii.gz")
            like = volume.source.open()[0] if volume.source.dicom else volume.files[0]
            write_label_map(path, from_plane(labels, volume.plane), like)
            run.artifact(path, "volumes")


def log_overlays(run: Run, dataset: Dataset, evaluator: Evaluator, confidence: float, count: int) -> None:
    """Log truth and prediction side by side for `count` best, median and worst cases by Dice.

    `evaluator` has the images of `dataset` in its order; `confidence` is the operating point.
    """
    dice = [case["dice"] for case in evaluator.per_case(confidence)]
    for kind, chosen in notable(dice, count).items():
        for rank, index in enumerate(chosen, 1):
            sample = dataset[index]
            found = evaluator.cases[index].detections(confidence)
            picture = side_by_side(sample, found, dataset.class_names)
            place = sample.place
            name = PurePath(sample.source).stem if place is None else f"{place.volume}_{place.index:03d}"
            run.image(picture, f"overlays/{kind}_{rank}_dice_{dice[index]:.2f}_{name}.png")


def notable(scores: Sequence[float | None], count: int) -> dict[str, list[int]]:
    """Return the positions of the `count` best, median and worst of `scores`, without overlap; None is ignored.

    With fewer than three times `count` scores each kind gets a third; the worst get theirs first.
    """
    order = [index for _, index in sorted((score, index) for index, score in enumerate(scores) if score is not None)]
    share = min(count, -(-len(order) // 3))
    worst, best = order[:share], order[share:][-share:][::-1] if share else []
    between = order[len(worst) : len(order) - len(best)]
    share = min(share, len(between))
    start = (len(between) - share) // 2
    return {"best": best, "median": between[start : start + share], "worst": worst}


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Format rows with the same keys as CSV; None is an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()

"""Convert detections to JSON answers and back, and write the files of all inputs together."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from experiments.evaluation.artifacts import csv_text
from experiments.findings import ROWS
from experiments.prediction.output_formats import ANNOTATION_FORMATS
from experiments.prediction.progress_record import ProgressRecord
from mrcnn.data.writers import FORMS, WrittenImage
from mrcnn.data.writers.coco import CocoFile
from mrcnn.detections import Detections
from mrcnn.instance_masks import InstanceMasks
from trackers.packaging.served import NOTICE, as_dict
from trackers.runs.serialization import json_text

Row = dict[str, Any]


def to_answer(detections: Detections, class_names: Sequence[str], findings: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the detections of an image to `{"width", "height", "instances", "findings", "notice"}`, as served."""
    _, height, width = detections.instances.shape
    return as_dict(detections, height, width, tuple(class_names), dict(findings))


def to_detections(answer: Mapping[str, Any], class_names: Sequence[str]) -> Detections:
    """Convert an answer back to detections; the inverse of `to_answer`."""
    results = [{**each, "category_id": class_names.index(each["class"]) + 1} for each in answer["instances"]]
    return coco_to_detections(results, answer["height"], answer["width"])


def coco_to_detections(results: Sequence[Mapping[str, Any]], height: int, width: int) -> Detections:
    """Convert the COCO results of one image (x, y, w, h boxes; RLE masks) to detections, best score first."""
    if not results:
        return Detections.empty(height, width)
    results = sorted(results, key=lambda result: -result["score"])
    boxes = np.array([result["bbox"] for result in results], np.float64)
    boxes[:, 2:] += boxes[:, :2]
    return Detections(
        boxes.astype(np.float32),
        np.array([result["score"] for result in results], np.float32),
        np.array([result["category_id"] for result in results], np.int32),
        InstanceMasks(height, width, [result["segmentation"]["counts"].encode("ascii") for result in results]),
    )


def write_summary_files(
    record: ProgressRecord, formats: Sequence[str], class_names: Sequence[str], findings: str
) -> list[Row]:
    """Write the files of all items in the record: COCO, annotation tools, findings; return the rows of the table."""
    for name in ANNOTATION_FORMATS.intersection(formats):
        _write_annotations(record, name, class_names)
    if "coco" in formats:
        record.write("coco.json", json_text(coco_dataset(read_answers(record), class_names), indent=None))
    if findings == "none":
        return []
    all_findings: list[Row] = []
    for source, frame, answer in read_answers(record):
        location: Row = {"source": source} if frame is None else {"source": source, "frame": frame}
        all_findings.append({**location, **answer["findings"]})
    rows = []
    if findings in ROWS:
        for each in all_findings:
            location = {"source": each["source"], "frame": each.get("frame")}
            rows += [{**location, **row} for row in ROWS[findings](each)]
    if "findings" in formats:
        record.write("findings.json", json_text(all_findings))
        record.write("findings.csv", csv_text(rows))
    return rows


def _write_annotations(record: ProgressRecord, name: str, class_names: Sequence[str]) -> None:
    """Write the annotation files of a form beside the images of all items that have been placed for it."""
    images = []
    for item in sorted((item for item in record.done.values() if name in item.files), key=lambda item: item.name):
        answer = json.loads((record.folder / item.files["json"]).read_text(encoding="utf-8"))
        found = to_detections(answer, class_names)
        path = item.files[name].removeprefix(f"{name}/")
        images.append(WrittenImage(path, found.instances, found.class_ids, found.scores))
    if images:
        FORMS[name].write(images, class_names, record.folder / name)


def read_answers(record: ProgressRecord) -> Iterator[tuple[str, int | None, Mapping[str, Any]]]:
    """Yield (source, frame number or None for a single image, answer), sorted by the names of the items."""
    for item in sorted(record.done.values(), key=lambda item: item.name):
        content = json.loads((record.folder / item.files["json"]).read_text(encoding="utf-8"))
        if "frames" not in content:
            yield item.source, None, content
        for frame in content.get("frames", ()):
            yield item.source, frame["frame"], frame


def coco_dataset(
    answers: Iterator[tuple[str, int | None, Mapping[str, Any]]], class_names: Sequence[str]
) -> dict[str, Any]:
    """Build a COCO data set. Its annotations have a `score`, so they can be read as results too (`COCO.loadRes`)."""
    file = CocoFile(class_names, f"medmrcnn predictions. {NOTICE}")
    for source, frame, answer in answers:
        file.add_image(source if frame is None else f"{source}:{frame}", answer["height"], answer["width"])
        for each in answer["instances"]:
            class_id, area = class_names.index(each["class"]) + 1, float(coco_mask.area(each["segmentation"]))
            file.add(class_id, each["bbox"], area, each["segmentation"], score=each["score"])
    return file.content

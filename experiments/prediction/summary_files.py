"""The files that hold what was found in all inputs: COCO, findings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pycocotools import mask as coco_mask

from experiments.evaluation.artifacts import csv_text
from experiments.findings import ROWS
from experiments.prediction.answers import frames_of
from experiments.prediction.progress_record import ProgressRecord
from trackers.packaging.served import NOTICE
from trackers.runs.serialization import json_text

Row = dict[str, Any]


def write_summary_files(
    record: ProgressRecord, forms: Sequence[str], class_names: Sequence[str], findings: str
) -> list[Row]:
    """Writes `coco.json`, `findings.json` and `findings.csv` of all that the record holds; returns the table's rows.

    Args:
        forms: those asked for.
        findings: one of `experiments.findings.FINDINGS`.
    """
    if "coco" in forms:
        record.write("coco.json", json_text(coco_form(answers(record), class_names), indent=None))
    if findings == "none":
        return []
    found = [{**_place(source, frame), **answer["findings"]} for source, frame, answer in answers(record)]
    rows = []
    if findings in ROWS:
        for finding in found:
            where = {"source": finding["source"], "frame": finding.get("frame")}
            rows += [{**where, **row} for row in ROWS[findings](finding)]
    if "findings" in forms:
        record.write("findings.json", json_text(found))
        record.write("findings.csv", csv_text(rows))
    return rows


def answers(record: ProgressRecord) -> Iterator[tuple[str, int | None, Mapping[str, Any]]]:
    """(source, number of the frame or None, answer) of each frame of each item, in the order of the items' names."""
    for done in sorted(record.done.values(), key=lambda done: done.name):
        written = json.loads((record.folder / done.files["json"]).read_text(encoding="utf-8"))
        for frame, answer in frames_of(written):
            yield done.source, frame, answer


def coco_form(found: Iterator[tuple[str, int | None, Mapping[str, Any]]], class_names: Sequence[str]) -> dict[str, Any]:
    """A COCO data set whose annotations carry a `score`, so that they are results too (`COCO.loadRes`)."""
    ids = {name: class_id for class_id, name in enumerate(class_names, start=1)}
    images, annotations = [], []
    for source, frame, answer in found:
        name = source if frame is None else f"{source}:{frame}"
        size = {"width": answer["width"], "height": answer["height"]}
        images.append({"id": len(images) + 1, "file_name": name, **size})
        for instance in answer["instances"]:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": len(images),
                    "category_id": ids[instance["class"]],
                    "bbox": instance["bbox"],
                    "area": float(coco_mask.area(instance["segmentation"])),
                    "segmentation": instance["segmentation"],
                    "iscrowd": 0,
                    "score": instance["score"],
                }
            )
    return {
        "info": {"description": f"medmrcnn predictions. {NOTICE}"},
        "images": images,
        "categories": [{"id": class_id, "name": name} for name, class_id in ids.items()],
        "annotations": annotations,
    }


def _place(source: str, frame: int | None) -> Row:
    return {"source": source} if frame is None else {"source": source, "frame": frame}

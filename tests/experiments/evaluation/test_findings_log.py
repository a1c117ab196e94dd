"""What a run keeps of the findings of a split."""

import csv
import io
import json
from typing import get_args

import numpy as np

from experiments.config.schema import TaskConfig
from experiments.evaluation.findings_log import FindingsLog
from experiments.findings import FINDINGS, ROWS, SUMMARIES
from mrcnn.data.sample import Sample
from mrcnn.detections import Detections
from trackers.runs.serialization import json_text


class Kept:
    """Stands in for a run: keeps what is logged."""

    def __init__(self):
        self.files, self.numbers = {}, {}

    def json(self, value, file):
        self.files[file] = json.loads(json_text(value))

    def text(self, text, file):
        self.files[file] = list(csv.DictReader(io.StringIO(text)))

    def metrics(self, values, step):
        self.numbers |= {name: (value, step) for name, value in values.items()}


def sample(source, spacing):
    none = np.zeros((0, 40, 60), bool), np.zeros(0, np.int32)
    return Sample(np.full((40, 60, 1), 90, np.uint8), *none, f"patient of {source}", source, spacing)


def found(*scores):
    """One detection of class 1 a score, all the left half of the image."""
    masks = np.zeros((len(scores), 40, 60), bool)
    masks[:, 5:30, 2:30] = True
    count = len(scores)
    return Detections(np.zeros((count, 4), np.float32), np.float32(scores), np.ones(count, np.int32), masks)


def test_the_configuration_names_the_findings_there_are():
    assert set(get_args(TaskConfig.model_fields["findings"].annotation)) == FINDINGS.keys()
    assert ROWS.keys() | SUMMARIES.keys() <= FINDINGS.keys()


def test_nodules_of_a_split():
    log, run = FindingsLog("nodules", 0.5, ("iso",)), Kept()
    log.add(sample("a.png", (0.1, 0.1)), found(0.9, 0.5, 0.4))
    log.add(sample("b.png", None), found(0.3))
    log.log(run, "test", 7)
    first, second = run.files["findings.json"]
    assert (first["source"], first["unit"], len(first["nodules"])) == ("a.png", "mm", 2)
    assert (second["patient_id"], second["unit"], second["nodules"]) == ("patient of b.png", "px", [])
    rows = run.files["findings.csv"]
    assert [(row["source"], row["nodule"], float(row["width"])) for row in rows] == [
        ("a.png", "1", 2.8),
        ("a.png", "2", 2.8),
    ]
    assert run.numbers == {}


def test_lungs_of_a_split():
    log, run = FindingsLog("lungs", 0.5, ("left_lung", "right_lung")), Kept()
    log.add(sample("a.png", None), found(0.9))
    log.add(sample("b.png", None), found(0.3))
    log.log(run, "val", 3)
    assert run.numbers["val/detection_rate_one"] == run.numbers["val/detection_rate_none"] == (0.5, 3)
    assert run.numbers["val/detection_images_both"] == (0, 3)
    assert [row["found"] for row in run.files["findings.csv"]] == ["one", "none"]


def test_nothing_is_kept_where_nothing_is_read():
    log, run = FindingsLog("none", 0.5, ("iso",)), Kept()
    log.add(sample("a.png", None), found(0.9))
    log.log(run, "test", 1)
    assert (run.files, run.numbers, log.summary()) == ({}, {}, {})

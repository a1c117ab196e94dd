import json

import numpy as np
import pytest

from experiments.external.subgroups import NOT_STATED, measure_subgroups, read_attributes
from mrcnn.data import read_dataset
from mrcnn.data.sample import Sample
from mrcnn.detections import Detections
from mrcnn.errors import InputError
from mrcnn.metrics import Evaluator


@pytest.fixture
def data(phantom_folder, tmp_path):
    """A COCO set whose images name a scanner, all but the first; returns the data set and its folder."""
    content = json.loads((phantom_folder / "annotations.json").read_text())
    for number, image in enumerate(content["images"][1:], start=1):
        image["scanner"] = "AB"[number % 2]
    (tmp_path / "images").symlink_to(phantom_folder / "images")
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    return read_dataset(tmp_path), tmp_path


def test_fields_of_the_images(data):
    dataset, folder = data
    values = read_attributes(dataset, folder, ["scanner"])["scanner"]
    assert values == [NOT_STATED, *("AB"[number % 2] for number in range(1, len(dataset)))]


@pytest.mark.parametrize("key", [lambda r: r.file_name, lambda r: r.path.name, lambda r: r.path.stem])
def test_columns_of_a_csv_by_file_name(data, key):
    dataset, folder = data
    lines = [f"{number},{key(record)},{'FM'[number % 2]}" for number, record in enumerate(dataset.records)]
    (folder / "clinic.csv").write_text("\n".join(["number,file,sex", *reversed(lines)]))
    assert read_attributes(dataset, folder, ["sex"])["sex"] == ["FM"[n % 2] for n in range(len(dataset))]


def test_columns_of_a_csv_by_patient(data):
    dataset, folder = data
    patients = sorted({record.patient_id for record in dataset.records})
    (folder / "patients.csv").write_text(
        "\n".join(["Patient ID,sex", *(f"{patient},{'F' if patient == patients[0] else 'M'}" for patient in patients)])
    )
    found = read_attributes(dataset, folder, ["sex"])["sex"]
    assert found == ["F" if record.patient_id == patients[0] else "M" for record in dataset.records]


def test_bad_columns_are_told_in_a_line(data):
    dataset, folder = data
    with pytest.raises(InputError, match=r"--subgroups view: no such column; expected one of .*scanner"):
        read_attributes(dataset, folder, ["view"])
    record = dataset.records[0]
    (folder / "clinic.csv").write_text(f"file,view,number\n{record.file_name},PA,1\n{record.file_name},AP,1\n")
    with pytest.raises(InputError, match=r"--subgroups view: clinic.csv has AP and PA for .*; expected one"):
        read_attributes(dataset, folder, ["view"])
    rows = [f"{each.file_name},{number}" for number, each in enumerate(dataset.records)] + [
        f"x{n},{n}" for n in range(9)
    ]
    (folder / "clinic.csv").write_text("\n".join(["file,age", *rows]))
    assert len(set(read_attributes(dataset, folder, ["age"])["age"])) == 20
    (folder / "clinic.csv").write_text("file,age\nother.png,3\n")
    with pytest.raises(InputError, match=r"--subgroups age: no column of clinic.csv holds the images' file names"):
        read_attributes(dataset, folder, ["age"])


def test_scores_of_a_subgroup_are_those_of_its_images_and_the_worst_is_first():
    mask, ids = np.zeros((1, 8, 8), bool), np.array([1], np.int32)
    mask[0, 2:5, 2:5] = True
    found = Detections(np.array([[2, 2, 5, 5]], np.float32), np.array([0.9], np.float32), ids, mask)
    whole, alone = Evaluator(("a",)), Evaluator(("a",))
    for number, (view, detected) in enumerate(
        [("PA", True), ("AP", False), ("PA", True), ("AP", True), ("none", None)]
    ):
        empty = detected is None
        sample = Sample(
            np.zeros((8, 8, 1), np.uint8), mask[:0] if empty else mask, ids[:0] if empty else ids, f"p{number}", view
        )
        detections = found if detected else Detections.empty(8, 8)
        whole.add(sample, detections)
        if view == "AP":
            alone.add(sample, detections)
    subgroups = measure_subgroups(
        whole, [case.source for case in whole.cases], 0.5, resamples=50, seed=0, metric="dice", higher_is_better=True
    )
    assert [(each.value, each.patients, len(each.indices)) for each in subgroups] == [
        ("AP", 2, 2), ("PA", 2, 2), ("none", 1, 1)
    ]  # fmt: skip
    assert subgroups[0].scores == alone.summary(0.5)
    assert subgroups[0].intervals == alone.intervals(0.5, 50, 0) and subgroups[2].intervals == {}

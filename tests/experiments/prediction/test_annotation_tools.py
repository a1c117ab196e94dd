"""Predictions in the forms of annotation tools come back by the reader of each form."""

import json

import numpy as np
import pytest
from PIL import Image

from experiments.prediction.results import write_summary_files
from mrcnn.data import read_dataset

NAMES = ("dim", "bright")


def accept(folder):
    """What Label Studio exports after an annotator has submitted each prediction as it is."""
    tasks = json.loads((folder / "tasks.json").read_text())
    for task in tasks:
        task["annotations"] = task.pop("predictions")
    (folder / "tasks.json").write_text(json.dumps(tasks))
    return tasks


@pytest.mark.parametrize("form", ["yolo", "labelme", "label_studio", "cvat"])
def test_they_come_back_equal_to_the_pixel(predicted, pictures, form, tmp_path):
    (pictures / "below").mkdir()
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.open(pictures / "0.png").save(pictures / "below/turned.jpg", exif=turned, quality=100)
    report, record = predicted(pictures, forms=("coco", form))
    assert report.problems == []
    write_summary_files(record, ("coco", form), NAMES, "none")
    if form == "label_studio":
        for result in (each for task in accept(record.folder / form) for each in task["annotations"][0]["result"]):
            assert result["score"] == pytest.approx({"dim": 0.6, "bright": 0.9}[result["value"]["brushlabels"][0]])
    dataset = read_dataset(record.folder / form)
    assert len(dataset) == 7
    for index, entry in enumerate(dataset.records):
        answer = json.loads((record.folder / f"json/{entry.file_name.removeprefix('images/')}").with_suffix(".json")
                            .read_text())  # fmt: skip
        assert (entry.width, entry.height) == (answer["width"], answer["height"])
        pixels = dataset.image(index)[..., 0].astype(int)
        if "turned" in entry.file_name:
            assert pixels.shape == (56, 40)
            continue
        for class_id, mask in zip(entry.class_ids, dataset.masks(index), strict=True):
            expected = pixels == (230 if dataset.class_names[class_id - 1] == "bright" else 120)
            np.testing.assert_array_equal(mask, expected)
    assert sum(len(entry.class_ids) for entry in dataset.records) == sum(
        len(json.loads(file.read_text())["instances"]) for file in (record.folder / "json").rglob("*.json")
    )
    again, _ = predicted(pictures, forms=("coco", form))
    assert (again.predicted, again.skipped) == (0, 7)

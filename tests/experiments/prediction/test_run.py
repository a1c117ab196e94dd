import errno
import json
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from experiments.prediction.progress_record import ProgressRecord
from experiments.prediction.results import write_summary_files
from mrcnn.data.duplicates import thumbnail
from mrcnn.data.film_polarity import mean_film
from mrcnn.errors import InputError

ROOT = Path(__file__).parents[3]
HERE = Path(__file__).parent


def scene(shift):
    dim, bright = np.zeros((2, 40, 56), bool)
    dim[5:25, 6 + shift : 30 + shift] = True
    bright[10:18, 12 + shift : 22 + shift] = True
    return dim & ~bright, bright


def test_what_is_written_is_what_was_found(predicted, pictures):
    report, record = predicted(pictures, forms=("coco", "mask", "overlay", "splash"))
    assert (report.predicted, report.skipped, report.problems) == (6, 0, [])
    write_summary_files(record, ("coco",), ("dim", "bright"), "none")
    coco = COCO(record.folder / "coco.json")
    assert [image["file_name"] for image in coco.loadImgs(coco.getImgIds())] == [f"{n}.png" for n in range(6)]
    assert {each["id"]: each["name"] for each in coco.loadCats(coco.getCatIds())} == {1: "dim", 2: "bright"}
    for number in range(6):
        dim, bright = scene(number)
        answer = json.loads((record.folder / f"json/{number}.json").read_text())
        assert answer.keys() == {"width", "height", "instances", "findings", "notice"}
        assert (answer["width"], answer["height"], answer["notice"]) == (56, 40, "Research use only")
        masks = {each["class"]: coco_mask.decode(each["segmentation"]) for each in answer["instances"]}
        np.testing.assert_array_equal(masks["dim"], dim)
        np.testing.assert_array_equal(masks["bright"], bright)
        of_image = coco.loadAnns(coco.getAnnIds(imgIds=[number + 1]))
        np.testing.assert_array_equal(
            sum(coco.annToMask(each) * each["category_id"] for each in of_image), dim + 2 * bright
        )
        assert sorted(each["area"] for each in of_image) == sorted([dim.sum(), bright.sum()])
        labels = np.asarray(Image.open(record.folder / f"mask/{number}.png"))
        np.testing.assert_array_equal(labels, dim + 2 * bright)
        for form in ("overlay", "splash"):
            picture = Image.open(record.folder / f"{form}/{number}.png")
            assert picture.width == 512 and picture.height > round(40 / 56 * 512)  # enlarged, the notice below
    results = coco.loadRes(coco.loadAnns(coco.getAnnIds()))
    assert len(results.getAnnIds()) == 12


def test_the_threshold_and_the_size_of_a_pixel_count(predicted, pictures, squares):
    nodules = replace(squares, findings="nodules")
    _, record = predicted(pictures / "0.png", detector=nodules, confidence=0.7, spacing_mm=(0.5, 0.25))
    answer = json.loads((record.folder / "json/0.json").read_text())
    assert [each["class"] for each in answer["instances"]] == ["bright"]
    (nodule,) = answer["findings"]["nodules"]
    assert (nodule["height"], nodule["width"]) == (8 * 0.5, 10 * 0.25)
    rows = write_summary_files(record, ("findings",), ("dim", "bright"), "nodules")
    assert [(row["source"], row["unit"]) for row in rows] == [("0.png", "mm")]
    assert "Research use only" in (record.folder / "findings.csv").read_text()
    assert json.loads((record.folder / "findings.json").read_text())[0]["source"] == "0.png"


def test_an_unreadable_image_loses_no_other(predicted, pictures):
    (pictures / "2.png").write_bytes(b"no picture")
    report, record = predicted(pictures)
    assert report.predicted == 5
    (problem,) = report.problems
    assert problem.startswith(f"{pictures}/2.png: expected a readable") and "\n" not in problem
    assert not (record.folder / "json/2.json").exists()
    assert "2" not in record.done
    # Mended, it alone is done.
    Image.fromarray(np.full((9, 9), 130, np.uint8)).save(pictures / "2.png")
    report, _ = predicted(pictures)
    assert (report.predicted, report.skipped, report.problems) == (1, 5, [])


def test_an_image_that_the_model_cannot_take_is_named_and_loses_no_other(predicted, pictures, squares):
    def find(images):
        if any(image.shape[:2] == (9, 9) for image in images):
            raise InputError("image has 2 channels; expected 3")
        return squares.find(images)

    Image.fromarray(np.zeros((9, 9), np.uint8)).save(pictures / "2.png")
    report, _ = predicted(pictures, detector=replace(squares, find=find))
    assert (report.predicted, report.problems) == (5, ["2.png: image has 2 channels; expected 3"])


def test_nothing_is_done_twice_and_what_changed_is_done_again(predicted, pictures):
    predicted(pictures)
    report, _ = predicted(pictures)
    assert (report.predicted, report.skipped) == (0, 6)
    Image.fromarray(np.zeros((40, 56), np.uint8)).save(pictures / "3.png")
    report, record = predicted(pictures)
    assert (report.predicted, report.skipped) == (1, 5)
    assert json.loads((record.folder / "json/3.json").read_text())["instances"] == []
    report, _ = predicted(pictures, forms=("coco", "mask"))  # a form more
    assert report.predicted == 6
    (record.folder / "mask/1.png").unlink()
    report, _ = predicted(pictures, forms=("coco", "mask"))
    assert (report.predicted, report.skipped) == (1, 5)


def test_what_fails_the_second_time_leaves_only_what_is_true(predicted, pictures, squares):
    predicted(pictures)

    def find(images):
        raise InputError("no memory")

    failing = replace(squares, find=find)
    report, record = predicted(pictures, forms=("coco", "mask"), detector=failing)  # the same images, a form more
    assert len(report.problems) == 6 and len(record.done) == 6
    Image.fromarray(np.zeros((40, 56), np.uint8)).save(pictures / "3.png")
    report, record = predicted(pictures, detector=failing)
    assert report.problems == ["3.png: no memory"] and sorted(record.done) == ["0", "1", "2", "4", "5"]
    assert not (record.folder / "json/3.json").exists()
    write_summary_files(record, ("coco",), ("dim", "bright"), "none")
    assert len(json.loads((record.folder / "coco.json").read_text())["images"]) == 5


KILLED = """
import os, sys
sys.path.insert(0, {here!r})
from dataclasses import replace
from conftest import *
from pathlib import Path
folder = Path({folder!r})
left = [2]
def find(images):
    if not left[0]:
        os.kill(os.getpid(), 9)
    left[0] -= 1
    return find_squares(images)
detector = Detector(find=find, class_names=NAMES, channels=3, confidence=0.5, digest="d" * 64, batch_size=2)
items = find_inputs([str(folder / "pictures")], base=folder, output=folder / "out", fetch=None).items
record = ProgressRecord(folder / "out", {{"model": detector.digest, "confidence": 0.5}})
predict_items(items, detector, Options(0.5, ("coco", "mask")), record, Console(quiet=True))
"""


@pytest.mark.slow
def test_a_process_that_is_killed_loses_the_batch_being_written_at_most(predicted, pictures, squares, tmp_path):
    script = KILLED.format(here=str(HERE), folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    seen = []

    def find(images):
        seen.extend(images)
        return squares.find(images)

    report, record = predicted(pictures, forms=("coco", "mask"), detector=replace(squares, find=find))
    assert 2 <= report.skipped <= 4 and report.predicted == len(seen) == 6 - report.skipped
    assert len((record.folder / "done.jsonl").read_text().splitlines()) == 6
    assert not [path for path in record.folder.rglob(".part-*")]


def background_threads():
    return [each.name for each in threading.enumerate() if each.name.startswith(("prefetch", "writer"))]


def test_one_batch_is_written_while_the_next_is_computed_and_an_interrupt_loses_neither_order_nor_files(
    predicted, pictures, squares
):
    written = []

    def find(images):
        if len(written) == 1:  # the first batch is being written
            file = pictures.parent / "out" / "json" / "1.json"
            end = time.monotonic() + 20
            while not file.exists() and time.monotonic() < end:
                time.sleep(0.01)
            written.append(file.exists())
            raise KeyboardInterrupt
        written.append(len(images))
        return squares.find(images)

    with pytest.raises(KeyboardInterrupt):
        predicted(pictures, forms=("mask", "overlay"), detector=replace(squares, find=find, batch_size=2))
    assert written == [2, True] and not background_threads()
    report, record = predicted(pictures, forms=("mask", "overlay"))
    assert (report.skipped, report.predicted) == (2, 4)
    lines = (record.folder / "done.jsonl").read_text().splitlines()
    assert [json.loads(line)["name"] for line in lines] == list("012345")
    assert not [path for path in record.folder.rglob(".part-*")]


def test_a_full_disk_ends_the_prediction(predicted, pictures, squares, monkeypatch):
    write, calls = ProgressRecord.write, []

    def fail(self, relative, text):
        if relative == "json/1.json":
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, relative, text)

    def find(images):
        calls.append(len(images))
        return squares.find(images)

    monkeypatch.setattr(ProgressRecord, "write", fail)
    with pytest.raises(OSError, match="No space left"):
        predicted(pictures, detector=replace(squares, find=find, batch_size=2))
    assert sum(calls) <= 4 and not background_threads()
    monkeypatch.undo()
    report, _ = predicted(pictures)
    assert (report.skipped, report.predicted) == (1, 5)


def test_a_line_cut_short_does_not_count(predicted, pictures):
    _, record = predicted(pictures)
    path = record.folder / "done.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    report, _ = predicted(pictures)
    assert (report.predicted, report.skipped) == (1, 5)
    assert len(path.read_text().splitlines()) == 6


def test_another_model_or_threshold_does_not_mix(predicted, pictures, squares):
    predicted(pictures, forms=("coco", "mask"))
    with pytest.raises(
        InputError, match=r"out: contains predictions with confidence=0\.5, these have confidence=0\.7; exp"
    ):
        predicted(pictures, confidence=0.7)
    other = replace(squares, digest="e" * 64)
    with pytest.raises(InputError, match="contains predictions with model=ddd"):
        predicted(pictures, detector=other)
    report, record = predicted(pictures / "0.png", detector=other, overwrite=True)
    assert report.predicted == 1
    assert [path.name for path in (record.folder / "json").iterdir()] == ["0.json"]
    assert not list((record.folder / "mask").iterdir())


def test_a_folder_of_something_else_is_left_alone(predicted, pictures, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.doc").touch()
    for options in ({}, {"overwrite": True}):
        with pytest.raises(InputError, match="out: contains other files; expected a new folder"):
            predicted(pictures, **options)


def test_overwriting_removes_nothing_outside_the_folder(predicted, pictures, tmp_path):
    _, record = predicted(pictures / "0.png")
    line = json.loads((record.folder / "done.jsonl").read_text())
    line["files"]["mask"] = "../pictures/1.png"
    (record.folder / "done.jsonl").write_text(json.dumps(line) + "\n")
    predicted(pictures / "0.png", overwrite=True)
    assert (pictures / "1.png").exists()


def test_images_of_another_polarity_are_counted(predicted, pictures, squares):
    shown = [np.asarray(Image.open(pictures / f"{number % 6}.png"))[..., None] for number in range(12)]
    films = replace(squares, polarity=mean_film(np.stack([thumbnail(image) for image in shown])))
    for number in (1, 4):
        Image.fromarray(255 - shown[number][..., 0]).save(pictures / f"{number}.png")
    report, _ = predicted(pictures, detector=films)
    assert (report.predicted, report.negatives) == (6, 2)
    report, _ = predicted(pictures, detector=squares, overwrite=True)  # packaged before that was kept
    assert report.negatives == 0

"""The report of a training, of runs that were recorded without one: the model is made up, the record is real."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from rich.console import Console

from experiments.config.resolve import parameters, resolve, resolved_yaml
from experiments.evaluation.evaluate_on_test import evaluate_on_test
from experiments.evaluation.report import log_report
from experiments.evaluation.report_numbers import anonymize_warnings
from experiments.training.training_data import read_data
from mrcnn.config import ModelConfig
from mrcnn.detections import Detections
from trackers.runs.run import tracked_run

HOSTILE = "<img src=x onerror=\"document.title='owned'\">"
SECTIONS = ["results", "threshold", "figures", "cases", "errors", "patients", "findings", "training", "data", "repeat",
            "configuration"]  # fmt: skip
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Finds:
    """Stands for a model: the same box, or nothing, in every image."""

    def __init__(self, class_names, *, anything=True):
        self.config = ModelConfig(class_names=class_names)
        self._anything = anything

    def detect(self, images, batch_size=None):
        return [self._in(*image.shape[:2]) for image in images]

    def _in(self, height, width):
        if not self._anything:
            return Detections.empty(height, width)
        mask = np.zeros((1, height, width), bool)
        mask[:, height // 4 : height // 2, width // 4 : width // 2] = True
        box = np.array([[width // 4, height // 4, width // 2, height // 2]], np.float32)
        return Detections(box, np.array([0.9], np.float32), np.array([1], np.int32), mask)


@pytest.fixture(scope="module")
def reported(tmp_path_factory, empty_store):
    """Makes the report of a run with the given options; returns it as text."""
    folder = tmp_path_factory.mktemp("store")
    patch = pytest.MonkeyPatch()
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        patch.delenv(name)
    patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    patch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    patch.setenv("MRCNN_CACHE", str(folder / "cache"))
    patch.chdir(folder)
    (folder / "mlflow.db").write_bytes(empty_store)
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")

    def make(*words, anything=True, epochs=3):
        config = resolve([*words, "--resamples", "20", "--overlays", "2"]).config
        console = Console(file=open(os.devnull, "w"))
        with tracked_run(task=config.task, modality=config.modality, seed=0, backend="tensorflow") as run:
            data = read_data(config, run, console)
            run.params(parameters(config))
            run.text(resolved_yaml(config), "config.yaml")
            names = data.splits["train"].class_names
            for epoch in range(1, epochs + 1):
                run.metrics({"train/loss": 2 / epoch, "train/head_mask": 1 / epoch, "train/learning_rate": 0.01}, epoch)
                run.metrics({"val/loss": 3 / epoch, "val/head_mask": 2 / epoch, "val/dice": epoch / 10}, epoch)
                run.metrics({f"val/dice/{name}": epoch / 10 for name in names}, epoch)
            run.metrics({"epochs": epochs, "best_epoch": epochs})
            evaluate_on_test(Finds(names, anything=anything), config, data, run, console, step=epochs + 1)
            log_report(run)
        written = Path(MlflowClient().download_artifacts(run.id, "report.html"))
        assert json.loads(Path(MlflowClient().download_artifacts(run.id, "environment.json")).read_text())["cores"] > 0
        return written.read_text(encoding="utf-8")

    yield make
    patch.undo()
    mlflow.set_tracking_uri(None)


@pytest.fixture
def nodules(tmp_path, phantom_folder):
    """A copy of the phantoms with hostile class names, patients who are named, and two equal images of a patient."""
    folder = Path(shutil.copytree(phantom_folder, tmp_path / "mine"))
    file = folder / "annotations.json"
    content = json.loads(file.read_text())
    for category in content["categories"]:
        category["name"] += HOSTILE
    for number, image in enumerate(content["images"]):
        old = Path(image["file_name"])
        new = old.with_name(f"Erika_Mustermann_{number}{old.suffix}")
        found = next(folder.rglob(old.name))
        found.rename(found.with_name(new.name))
        image["file_name"], image["patient_id"] = str(new), f"Mustermann^Erika{number // 2}"
    file.write_text(json.dumps(content))
    first, second = (next(folder.rglob(Path(image["file_name"]).name)) for image in content["images"][:2])
    shutil.copy(first, second)
    return folder


@pytest.fixture
def self_contained(read_page):
    """Reads a page and checks that it needs nothing but itself."""
    return lambda page: check_alone(page, read_page(page))


def check_alone(page, read):
    assert len(page) < 5_000_000
    assert read.tags.count("script") == 1 and "link" not in read.tags
    assert not [name for _, name, _ in read.attributes if name.startswith("on")]
    assert all(value.startswith("data:image/") for value in read.values("src"))
    assert all(value.startswith("#") and value[1:] in read.values("id") for value in read.values("href"))
    assert "Research use only" in read.text and "url(" not in page and "@import" not in page
    return read


def test_all_sections_and_nobody_named(reported, self_contained, nodules, tmp_path):
    page = reported("--task", "thyroid", "--dataset", str(nodules))
    read = self_contained(page)
    assert read.values("id") == SECTIONS
    assert "Mustermann" not in page and "Erika" not in page and str(nodules.parent) not in page
    assert re.search(r"Finds \d+ of \d+ nodules \(\d+%\), with [\d.]+ false marks an image", read.text)
    assert "What to try next" in read.text and "Harmonic mean of precision and recall" in read.text
    assert "Where the instances of all splits are in their images" in read.text
    assert "missed" in read.text and read.values("aria-label").count("Patients") == 1
    assert "Near-duplicates: 2 images in 1 group" in read.text
    assert read.text.count(HOSTILE) >= 6  # of two classes, in the data, the chart and the results
    assert "Failures: the lowest Dice" in read.text and read.text.index("Failures") < read.text.index("The highest")
    assert "mrcnn train --task config.yaml" in read.text and "mlflow artifacts download --run-id" in read.text
    assert "These images are phantoms" not in read.text
    assert "evaluated once" in read.text and "highest mean of Dice and F1" in read.text
    titles = ("Loss", "Training: parts of the loss", "Validation: parts of the loss", "Learning rate")
    assert [title for title in read.values("aria-label") if title.startswith(titles)] == list(titles)
    assert read.tags.count("svg") >= 4 and sum(source.startswith("data:") for source in read.values("src")) >= 4
    if CHROMIUM is None:
        pytest.skip("no Chromium")
    (tmp_path / "report.html").write_text(page, encoding="utf-8")
    shown = subprocess.run(
        [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/chromium",
         "--dump-dom", (tmp_path / "report.html").as_uri()],
        capture_output=True, text=True, timeout=240, check=True,
    ).stdout  # fmt: skip
    seen = self_contained(shown)
    assert seen.values("id") == SECTIONS and "<title>thyroid: mine</title>" in shown


def test_without_a_test_split_or_any_detection(reported, self_contained, phantom_folder):
    page = reported(
        "--task",
        "thyroid",
        "--dataset",
        str(phantom_folder),
        "--split",
        "[0.7, 0.3, 0]",
        "--confidence",
        "0.5",
        anything=False,
    )
    read = self_contained(page)
    assert "there is no test split" in read.text and "Nothing was detected" in read.text
    assert "given in the configuration" in read.text and "Nodules: 0 in" in read.text
    assert "the best was number 3" in read.text
    assert 'text-anchor="middle">4<' not in page  # the results stand at step 4 of the same metrics, and are no epoch


def test_volumes(reported, self_contained):
    words = ("--task", "brats", "--phantom_images", "10", "--split", "[0.6, 0.2, 0.2]")
    read = self_contained(reported(*words))
    assert "volume Dice" in read.text and "volume HD95 (mm)" in read.text and "enhancing_tumor" in read.text
    assert "findings" not in read.values("id") and "These images are phantoms" in read.text


def test_names_within_warnings_are_covered():
    splits = {
        "train": [{"file_name": "case_7/scan 1.png", "patient_id": "Doe^Jane"}],
        "val": [{"file_name": "images/12.png", "patient_id": "12"}, {"file_name": "images/x.png", "patient_id": "P-9"}],
    }
    lines = ["scan 1.png for case_7/scan 1.png", "case_7: Doe^Jane has 12 images", "P-9 and images/12.png, rescan 1"]
    assert anonymize_warnings(lines, splits) == [
        "[name] for [name]", "[name]: [name] has 12 images", "P-9 and [name], rescan 1",
    ]  # fmt: skip
    assert anonymize_warnings(["as it is"], {}) == ["as it is"]

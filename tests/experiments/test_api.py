"""The functions of `experiments`: what they hand to the commands, and what a model returns. Without any training."""

import re

import numpy as np
import pytest
from PIL import Image

import experiments
from experiments.api import Model
from experiments.commands import train as command
from experiments.prediction.detector import Detector
from mrcnn.detections import Detections
from mrcnn.errors import InputError


@pytest.fixture
def requested(monkeypatch, tmp_path):
    """The configurations of trainings that are not run."""
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    found = []
    monkeypatch.setattr(command, "training_job", lambda *job: found.append(job) or (lambda: "0" * 32))
    return found


def test_options_of_a_training_are_python_values(requested, tmp_path):
    run = experiments.train(
        tmp_path / "data", epochs=3, image_size=(64, 96), folds=None, name="first", **{"augment.scale": 0.25}
    )
    ((resolved, resume),) = requested
    config = resolved.config
    assert (run.id, resume, resolved.name) == ("0" * 32, None, "first")
    assert (config.task, config.data.dataset) == ("instances", str(tmp_path / "data"))
    assert (config.train.epochs, config.model.image_size, config.augment.scale) == (3, (64, 96), 0.25)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epohcs": 3}, "--epohcs: no such option; did you mean --epochs"),
        ({"epochs": "many"}, "--train.epochs='many'"),
        ({"data": "nowhere"}, "--data.dataset nowhere"),
    ],
)
def test_wrong_options_are_named(requested, options, message):
    with pytest.raises(InputError, match=re.escape(message)):
        experiments.train(**options)


def test_a_model_predicts_files_folders_and_arrays(tmp_path):
    for number in (1, 2):
        Image.fromarray(np.full((8, 10 * number), 50 * number, np.uint8)).save(tmp_path / f"{number}.png")
    (tmp_path / "._1.png").write_bytes(b"written by macOS beside a picture")

    def find(images):
        masks = [np.ones((2, *image.shape[:2]), bool) for image in images]
        boxes = np.array([[0, 0, 8, 8]] * 2, np.float32)
        return [Detections(boxes, np.array([0.9, 0.2], np.float32), np.array([1, 1], np.int32), each) for each in masks]

    model = Model("last", Detector(find, ("nodule",), 1, 0.5))
    first, second = model.predict(tmp_path)
    assert (first.source, second.image.shape) == (tmp_path / "1.png", (8, 20, 1))
    assert first.detections.scores.tolist() == pytest.approx([0.9])
    assert len(model.predict(str(tmp_path / "1.png"), confidence=0.1)[0].detections) == 2
    (array,) = model.predict(np.zeros((5, 6), np.uint8))
    assert array.source is None and array.overlay().shape[2] == 3
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no image"):
        model.predict(tmp_path / "empty")

"""Train on slices with their neighbors, evaluate, and predict the same folder from the saved file."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from experiments.commands.predict import main as predict
from experiments.evaluation.evaluate import predictions
from mrcnn.config import ModelConfig
from mrcnn.data import Loader, read_dataset
from mrcnn.data.transforms.augmentation import Augmentation
from mrcnn.models import MaskRCNN
from mrcnn.phantoms import write_dataset

pytestmark = pytest.mark.usefixtures("eager")


def test_what_is_predicted_in_a_folder_of_slices_is_what_was_evaluated(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MRCNN_CACHE", str(tmp_path / "cache"))
    dataset = read_dataset(write_dataset("lgg", tmp_path / "heads", images=10, seed=1), "lgg")
    config = ModelConfig(
        class_names=("tumor",), image_size=64, channels=9, context_slices=1, backbone="small", fpn_channels=16,
        head_width=32, mask_channels=16, mask_convolutions=1, rpn_samples=32, proposals_per_level=20, proposals=10,
        roi_samples=16, max_detections=3, score_threshold=0.0,
    )  # fmt: skip
    model = MaskRCNN(config)
    model.compile(optimizer="adamw")
    augmentation = Augmentation(flip_horizontal=0.5, rotate_degrees=10, gamma=0.3)
    loader = Loader(dataset, config, 2, augmentation=augmentation, shuffle=True)
    for batch, _ in zip(loader.epoch(0), range(2), strict=False):
        assert batch["image"].shape == (2, 64, 64, 9)
        assert np.isfinite(model.train_on_batch(batch)).all()
    model.save(tmp_path / "model.keras")

    slices = [index for index, record in enumerate(dataset.records) if record.place.volume == "PHANTOM_001"][:4]
    part = dataset.subset(slices)
    (tmp_path / "new").mkdir()
    for record in part.records:
        shutil.copy(record.path, tmp_path / "new")
    # Of the last slice, the next one is needed too.
    shutil.copy(dataset.records[slices[-1] + 1].path, tmp_path / "new")
    assert predict([str(tmp_path / "model.keras"), str(tmp_path / "new"), "--output", str(tmp_path / "out")]) == 0
    assert "no neighboring slices" not in capsys.readouterr().err
    for sample, found in predictions(model, part, batch_size=4):
        assert sample.image.shape == (128, 128, 3)
        name = sample.source.partition("/")[2].replace(".tif", ".json")
        answer = json.loads((tmp_path / "out" / "json" / name).read_text())
        scores = [each["score"] for each in answer["instances"]]
        assert scores
        np.testing.assert_allclose(sorted(scores), sorted(found.scores), atol=1e-5)

    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "alone.png")
    assert predict([str(tmp_path / "model.keras"), str(tmp_path / "alone.png"), "--output", str(tmp_path / "o2")]) == 0
    error = capsys.readouterr().err
    assert error.count("warning: 1 of 1 inputs have no neighboring slices; the model was trained on slices") == 1

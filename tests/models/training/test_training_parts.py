import re

import keras
import numpy as np
import pytest

from mrcnn.config import ModelConfig
from mrcnn.errors import InputError
from mrcnn.models import MaskRCNN
from mrcnn.models.backbones import build_backbone
from mrcnn.models.backbones import resnet as backbone
from mrcnn.models.pretrained import initial_weights as weights
from mrcnn.models.training.optimizers import WarmUp, make_optimizer
from mrcnn.models.training.stages import set_trainable

SMALL_RESNET = {"class_names": ("a",), "image_size": 64, "fpn_channels": 16, "head_width": 16, "mask_channels": 16}


def test_cosine_by_hand():
    rate = WarmUp(0.1, total_steps=110, warmup_steps=10, schedule="cosine")
    assert float(rate(0)) == pytest.approx(0.01)
    assert float(rate(4)) == pytest.approx(0.05)
    assert float(rate(10)) == pytest.approx(0.1)
    assert float(rate(60)) == pytest.approx(0.1 * (0.01 + 0.99 / 2), rel=1e-5)
    assert float(rate(110)) == pytest.approx(0.001, rel=1e-4)


def test_steps_and_constant_by_hand():
    rate = WarmUp(0.9, total_steps=90, schedule="step")
    assert [round(float(rate(step)), 6) for step in (0, 59, 60, 79, 80, 89)] == [0.9, 0.9, 0.09, 0.09, 0.009, 0.009]
    assert float(WarmUp(0.9, 90, schedule="constant")(80)) == pytest.approx(0.9)
    with pytest.raises(ValueError, match=r"linear.*constant, cosine, step"):
        WarmUp(0.9, 90, schedule="linear")


def test_schedule_serialization():
    rate = WarmUp(0.1, 110, 10, "cosine")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(rate))
    assert float(again(33)) == float(rate(33))


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_weight_decay_excludes_bias_and_normalization(name):
    optimizer = make_optimizer(name, 0.1, weight_decay=0.1, clip_norm=None)
    layer = keras.layers.Dense(1)
    layer.build((None, 1))
    layer.kernel.assign([[1.0]])
    layer.bias.assign([1.0])
    optimizer.apply([keras.ops.zeros((1, 1)), keras.ops.zeros((1,))], [layer.kernel, layer.bias])
    assert float(layer.kernel.numpy()[0, 0] if hasattr(layer.kernel, "numpy") else layer.kernel[0, 0]) == pytest.approx(
        0.99
    )
    assert float(layer.bias.numpy()[0] if hasattr(layer.bias, "numpy") else layer.bias[0]) == pytest.approx(1.0)


def test_clipping_limits_the_global_norm():
    optimizer = make_optimizer("sgd", 1.0, momentum=0.0, weight_decay=0.0, clip_norm=5.0)
    variables = [keras.Variable([0.0]), keras.Variable([0.0])]
    optimizer.apply([keras.ops.array([30.0]), keras.ops.array([40.0])], variables)
    np.testing.assert_allclose([keras.ops.convert_to_numpy(v)[0] for v in variables], [-3, -4], rtol=1e-5)


def test_unknown_optimizer():
    with pytest.raises(ValueError, match=r"'adam'.*sgd, adamw"):
        make_optimizer("adam", 0.1)


@pytest.mark.parametrize("backbone", ["resnet50", "efficientnet_lite0"])
def test_stages_select_their_layers(backbone):
    model = MaskRCNN(ModelConfig(**SMALL_RESNET, backbone=backbone, norm="frozen_batch"))
    heads = {
        w.path for part in (model.pyramid, model.proposal_head, model.box_head, model.mask_head) for w in part.weights
    }

    def stages_trained():
        assert heads <= {w.path for w in model.trainable_weights}
        return sorted({int(re.search(r"conv(\d)", w.path)[1]) for w in model.backbone.trainable_weights})

    for stage, expected in {"heads": [], "5+": [5], "4+": [4, 5], "3+": [3, 4, 5], "all": [1, 2, 3, 4, 5]}.items():
        set_trainable(model, stage)
        assert stages_trained() == expected
        assert not any(re.search("_(bn|norm)/", w.path) for w in model.trainable_weights)
    with pytest.raises(ValueError, match=r"'2\+'.*heads"):
        set_trainable(model, "2+")


@pytest.mark.parametrize(
    ("name", "norm"),
    [("resnet50", "group"), ("resnet50", "batch"), ("resnet50", "frozen_batch"), ("resnet101", "frozen_batch")],
)
def test_resnet_stages_and_strides(name, norm):
    network = build_backbone(ModelConfig(class_names=("a",), image_size=128, backbone=name, norm=norm))
    assert [tuple(o.shape[1:]) for o in network.outputs] == [(32, 32, 256), (16, 16, 512), (8, 8, 1024), (4, 4, 2048)]
    kinds = {type(layer).__name__ for layer in network.layers if "Norm" in type(layer).__name__}
    assert kinds == ({"GroupNorm"} if norm == "group" else {"BatchNormalization"})
    assert any("norm" in type(x).__name__.lower() and x.trainable for x in network.layers) == (norm != "frozen_batch")


def test_imagenet_weights_load_into_the_backbone(monkeypatch):
    made = []

    def pretrained(*, include_top, weights, input_shape):
        network = keras.applications.ResNet50(include_top=include_top, weights=None, input_shape=input_shape)
        if weights == "imagenet":
            rng = np.random.default_rng(0)
            for layer in network.layers:
                if isinstance(layer, keras.layers.BatchNormalization):  # make the statistics matter
                    layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
            made.append(network)
        return network

    monkeypatch.setitem(backbone.CLASSIFIERS, "resnet50", (pretrained, backbone.CLASSIFIERS["resnet50"][1]))
    model = MaskRCNN(ModelConfig(**SMALL_RESNET, norm="frozen_batch", normalisation="imagenet"))
    weights.load_imagenet(model)
    image = np.random.default_rng(1).normal(0, 50, (1, 64, 64, 3)).astype(np.float32)
    source = keras.Model(made[0].input, made[0].get_layer("conv5_block3_out").output)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(model.backbone(image, training=True)[-1]),  # frozen even in training
        keras.ops.convert_to_numpy(source(image, training=False)),
        rtol=1e-4,
        atol=1e-4,
    )


def test_failed_download_names_the_alternatives(monkeypatch):
    def offline(**_):
        raise Exception("URL fetch failure on …: None -- [Errno -3] Temporary failure in name resolution")

    monkeypatch.setitem(backbone.CLASSIFIERS, "resnet50", (offline, ()))
    model = MaskRCNN.__new__(MaskRCNN)
    object.__setattr__(model, "config", ModelConfig(**SMALL_RESNET, norm="frozen_batch", normalisation="imagenet"))
    with pytest.raises(InputError, match=r"weights=imagenet.*download failed.*weights=none norm=group.*backbone=small"):
        weights.load_imagenet(model)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": "small"}, "backbone=small"),
        ({"norm": "group"}, "norm=group"),
        ({"norm": "batch"}, "normalisation=imagenet"),
    ],
)
def test_imagenet_requires_a_compatible_configuration(changes, message):
    model = MaskRCNN.__new__(MaskRCNN)
    object.__setattr__(model, "config", ModelConfig(**{**SMALL_RESNET, **changes}))
    with pytest.raises(InputError, match=message):
        weights.load_imagenet(model)

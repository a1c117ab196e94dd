import numpy as np
import pytest
from keras import layers, ops

from mrcnn.models.layers import convolutions as convolution
from mrcnn.models.layers.convolutions import Convolution3x3, convolve


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(2, 10, 7, 4)).astype(np.float32)
    kernel = rng.normal(size=(3, 3, 4, 5)).astype(np.float32)
    weights = rng.normal(size=(2, 10, 7, 5)).astype(np.float32)
    return inputs, kernel, weights


def test_gradients_equal_those_of_ops_conv(arrays, gradients):
    inputs, kernel, weights = arrays
    found = gradients(lambda x, k: ops.sum(convolve(x, k) * weights), inputs, kernel)
    expected = gradients(lambda x, k: ops.sum(ops.conv(x, k, padding="same") * weights), inputs, kernel)
    for each, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(each, other, atol=1e-3)


@pytest.mark.parametrize("vectors", [None, "avx2", "avx512"])
@pytest.mark.parametrize("channels", [3, 8])
def test_layer_is_a_convolution_with_bias_and_activation(monkeypatch, vectors, channels):
    monkeypatch.setattr(convolution, "cpu_vectors", lambda: vectors)
    monkeypatch.setattr(convolution, "MIN_CELLS", 100)
    monkeypatch.setattr(convolution, "MIN_CHANNELS", 8)
    layer = Convolution3x3(6, activation="relu", name="shared")
    plain = layers.Conv2D(6, 3, padding="same", activation="relu")
    inputs = np.random.default_rng(1).normal(size=(2, 8, 9, channels)).astype(np.float32)
    assert inputs[..., 0].size >= convolution.MIN_CELLS
    layer.build(inputs.shape)
    plain.build(inputs.shape)
    layer.bias.assign(np.linspace(-1, 1, 6))
    plain.set_weights(layer.get_weights())
    np.testing.assert_allclose(*(ops.convert_to_numpy(each(inputs)) for each in (layer, plain)), atol=1e-4)


@pytest.mark.parametrize(("vectors", "channels"), [("avx2", 1), ("avx512", 128)])
def test_small_maps_and_other_precisions_use_the_backends_convolution(monkeypatch, vectors, channels):
    monkeypatch.setattr(convolution, "cpu_vectors", lambda: vectors)
    monkeypatch.setattr(convolution, "convolve", None)
    Convolution3x3(2)(np.zeros((1, 8, 8, channels), np.float32))
    Convolution3x3(2, dtype="mixed_bfloat16")(np.zeros((2, 64, 64, channels), np.float32))
    with pytest.raises(TypeError):
        Convolution3x3(2)(np.zeros((2, 64, 64, channels), np.float32))


def test_few_channels_use_the_backends_convolution_with_avx512(monkeypatch):
    monkeypatch.setattr(convolution, "cpu_vectors", lambda: "avx512")
    monkeypatch.setattr(convolution, "convolve", None)
    Convolution3x3(2)(np.zeros((2, 64, 64, 127), np.float32))


def test_serialization():
    layer = Convolution3x3.from_config(Convolution3x3(4, activation="relu", name="fpn").get_config())
    assert (layer.name, layer.filters, layer.kernel_size, layer.padding) == ("fpn", 4, (3, 3), "same")

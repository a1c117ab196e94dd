"""Losses of validation images: their values, their images, and that a training is the same without them."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest

from experiments.training import trainer
from experiments.training.callbacks import validation_losses
from mrcnn import MaskRCNN, ModelConfig, make_batch, read_dataset
from mrcnn.models.mask_rcnn.losses import LOSSES
from mrcnn.models.training.state import random_states, restore_random_states

pytestmark = pytest.mark.usefixtures("eager")


@pytest.fixture(scope="module")
def dataset(phantom_folder):
    return read_dataset(phantom_folder)


@pytest.fixture
def tiny(dataset):
    """Makes a compiled model with the given normalization."""

    def make(norm):
        config = ModelConfig(
            class_names=dataset.class_names, channels=1, image_size=64, backbone="small", norm=norm, max_instances=3,
            fpn_channels=16, head_width=16, mask_channels=16, mask_convolutions=1, rpn_samples=16, roi_samples=16,
            proposals_per_level=20, proposals=20,
        )  # fmt: skip
        keras.utils.set_random_seed(3)
        model = MaskRCNN(config, seed=4)
        model.compile(keras.optimizers.SGD(0.01))
        return model

    return make


def batches(model, dataset):
    return [make_batch([dataset[index] for index in (first, first + 1)], model.config) for first in (0, 2)]


def test_they_are_the_means_of_the_losses_that_training_computes_without_its_update(tiny, dataset):
    """Group normalization is the same in training and inference, so the pass of the training gives the same losses."""
    model = tiny("group")
    given = batches(model, dataset)
    restore_random_states(model, [[0, 0]])
    passes = [{name: float(value) for name, value in model(batch, training=True).items()} for batch in given]
    expected = {name: np.mean([each[name] for each in passes]) for name in LOSSES}
    expected["loss"] = sum(expected.values())
    found = validation_losses(model, given)
    assert found == pytest.approx(expected, rel=1e-5)
    assert found["head_mask"] > 0 and found["rpn_box"] > 0
    model.train_on_batch(given[0])  # a generator that has moved on changes nothing
    after = validation_losses(model, given)
    assert after != found and validation_losses(model, iter(given)) == after


def test_the_training_is_the_same_with_and_without_them(tiny, dataset):
    """With batch normalization, whose moving statistics stay."""
    trained = []
    for validated in (False, True):
        model = tiny("batch")
        first, second = batches(model, dataset)
        model.train_on_batch(first)
        if validated:
            validation_losses(model, [second])
        model.train_on_batch(second)
        trained.append([*model.get_weights(), *random_states(model)])
    for one, other in zip(*trained, strict=True):
        np.testing.assert_array_equal(one, other)


def test_losses_that_are_not_finite_are_absent(tiny, dataset):
    model = tiny("group")
    model.mask_head.set_weights([np.full_like(each, np.nan) for each in model.mask_head.get_weights()])
    assert validation_losses(model, batches(model, dataset)).keys() == {*LOSSES} - {"head_mask"}


def test_each_validation_has_the_same_batches_of_one_shape(dataset, monkeypatch):
    numbers = SimpleNamespace(
        model=SimpleNamespace(config=SimpleNamespace(context_slices=0, tile=None)),
        config=SimpleNamespace(seed=5, train=SimpleNamespace(batch_size=4)),
        make_batch=lambda samples, config: [sample.source for sample in samples],
    )
    six = dataset.subset(range(6))
    found = list(trainer.Trainer.loss_batches(numbers, six))
    assert list(map(len, found)) == [4, 4] and found[1][2:] == found[0][:2]
    assert sorted(found[0] + found[1][:2]) == sorted(six[index].source for index in range(6))
    assert list(trainer.Trainer.loss_batches(numbers, six)) == found
    monkeypatch.setattr(trainer, "LOSS_BATCHES", 1)
    assert list(trainer.Trainer.loss_batches(numbers, six)) == found[:1]
    assert list(map(len, trainer.Trainer.loss_batches(numbers, dataset.subset([0])))) == [4]
    numbers.model.config.tile, numbers.make_batch = 64, lambda samples, config: [each.image.shape for each in samples]
    assert [list(each) for each in trainer.Trainer.loss_batches(numbers, six)] == [[(64, 64, 1)] * 4]

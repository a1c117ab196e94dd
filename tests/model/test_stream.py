"""What is left of a training's batches when it is over: nothing."""

import threading
from contextlib import nullcontext
from itertools import islice

import keras
import pytest

from mrcnn.config import ModelConfig
from mrcnn.data import Loader, read_dataset
from mrcnn.model.stream import for_fit

CONFIG = ModelConfig(class_names=("iso", "hypo"), image_size=64, channels=1, max_instances=4, mask_pool_size=4)
AHEAD = "batches ahead"


class Idle(keras.Model):
    def train_step(self, data):
        return {"loss": keras.ops.sum(data[0]["image"])}


class AtSecondStep(keras.callbacks.Callback):
    def __init__(self, fails):
        super().__init__()
        self.fails = fails

    def on_train_batch_end(self, batch, logs=None):
        if batch == 1 and self.fails is not None:
            raise self.fails


@pytest.fixture
def loader(phantom_folder):
    return Loader(read_dataset(phantom_folder), CONFIG, 4, shuffle=True, workers=1)


def threads_ahead():
    return {thread.ident for thread in threading.enumerate() if thread.name == AHEAD}


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the step is TensorFlow's; JAX keeps no generator")
@pytest.mark.parametrize("fails", [None, RuntimeError, KeyboardInterrupt])
def test_workers_and_threads_end_with_the_training(loader, fails, workers_alive):
    """TensorFlow never lets go of a generator that it was given, nor of what that holds."""
    workers_before, threads_before = workers_alive(), threads_ahead()
    model = Idle()
    model.compile(run_eagerly=True)
    with pytest.raises(fails) if fails else nullcontext(), for_fit(loader) as batches:
        model.fit(batches, steps_per_epoch=4, epochs=2, callbacks=[AtSecondStep(fails)], shuffle=False, verbose=0)
    del loader
    assert len(workers_alive()) == len(workers_before)
    assert threads_ahead() <= threads_before


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow alone has such buffers")
def test_no_thread_tunes_buffers(loader):
    """It would be waited for when the training is over, for up to a minute."""
    with for_fit(loader) as batches:
        assert batches.options().autotune.enabled is False


def test_batches_come_as_the_loader_makes_them(loader):
    expected = [*loader.epoch(1), *loader.epoch(2)][2:]
    with for_fit(loader, first_epoch=1, skipped=2) as batches:
        for (batch,), wanted in zip(islice(batches, len(expected)), expected, strict=True):
            assert batch.keys() == wanted.keys()
            for name, values in batch.items():
                assert (keras.ops.convert_to_numpy(values) == wanted[name]).all()

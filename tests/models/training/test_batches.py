"""Check that workers and threads of a training's batches end with it."""

import os
import signal
import threading
import time
from contextlib import nullcontext
from itertools import islice

import keras
import pytest

from mrcnn.config import ModelConfig
from mrcnn.data import Loader, read_dataset
from mrcnn.data.loading import loader as loading
from mrcnn.errors import InputError
from mrcnn.models.training.batches import training_batches

CONFIG = ModelConfig(class_names=("iso", "hypo"), image_size=64, channels=1, max_instances=4, mask_pool_size=4)
AHEAD = "prefetch"


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
    """TensorFlow never releases a generator or the objects that it references."""
    workers_before, threads_before = workers_alive(), threads_ahead()
    model = Idle()
    model.compile(run_eagerly=True)
    with pytest.raises(fails) if fails else nullcontext(), training_batches(loader) as batches:
        model.fit(batches, steps_per_epoch=4, epochs=2, callbacks=[AtSecondStep(fails)], shuffle=False, verbose=0)
    del loader
    assert len(workers_alive()) == len(workers_before)
    assert threads_ahead() <= threads_before


class Stall(keras.callbacks.Callback):
    """Suspend the worker processes after the second step, as an unreachable network folder does, and call `then`."""

    def __init__(self, workers, then):
        super().__init__()
        self.workers, self.then = workers, then

    def on_train_batch_end(self, batch, logs=None):
        if batch == 1:
            for number in self.workers():
                os.kill(number, signal.SIGSTOP)
            self.then()


@pytest.fixture
def stalled_fit(loader, workers_alive, monkeypatch):
    """Run `fit` with workers that stop and return the seconds since then."""
    if keras.backend.backend() != "tensorflow":
        pytest.skip("TensorFlow waits in its own threads; with JAX the loader's generator is iterated over here")
    before, threads_before = workers_alive(), threads_ahead()

    def run(then, deadline):
        begun = []

        def at_once():
            begun.append(time.monotonic())
            monkeypatch.setattr(loading, "DEADLINE_SECONDS", deadline)
            then()

        stall = Stall(lambda: set(workers_alive()) - set(before), at_once)
        model = Idle()
        model.compile()
        try:
            with training_batches(loader) as batches:
                model.fit(batches, steps_per_epoch=99, callbacks=[stall], shuffle=False, verbose=0)
        finally:
            assert time.monotonic() - begun[0] < 20
            assert set(workers_alive()) == set(before)
            assert threads_ahead() <= threads_before

    return run


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_stop_signal_ends_the_wait_for_a_stopped_worker(stalled_fit, number):
    handler = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            stalled_fit(threading.Timer(1, os.kill, (os.getpid(), number)).start, deadline=60)
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert signal.set_wakeup_fd(-1) == -1


def test_timeout_of_a_worker_names_its_images(stalled_fit, loader):
    with pytest.raises(InputError, match=r"0\d+_\d\.png.*: waiting for 1 s of at most 1; the folder that holds them"):
        stalled_fit(lambda: None, deadline=1)


def test_error_in_a_step_is_raised_while_a_worker_is_stopped(stalled_fit):
    def fail():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        stalled_fit(fail, deadline=60)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="only TensorFlow makes a text of an error")
def test_exceptions_of_the_loader_propagate_unchanged(loader):
    file = loader.dataset.records[3].path
    content = file.read_bytes()
    file.write_bytes(b"no image")
    model = Idle()
    model.compile()
    try:
        with pytest.raises(InputError, match="expected a readable"), training_batches(loader) as batches:
            model.fit(batches, steps_per_epoch=9, shuffle=False, verbose=0)
    finally:
        file.write_bytes(content)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow alone has such buffers")
def test_buffers_are_not_autotuned(loader):
    """The end of the training would wait for such a thread for up to a minute."""
    with training_batches(loader) as batches:
        assert batches.options().autotune.enabled is False


def test_batches_equal_those_of_the_loader(loader):
    expected = [*loader.epoch(1), *loader.epoch(2)][2:]
    with training_batches(loader, first_epoch=1, skipped=2) as batches:
        for (batch,), wanted in zip(islice(batches, len(expected)), expected, strict=True):
            assert batch.keys() == wanted.keys()
            for name, values in batch.items():
                assert (keras.ops.convert_to_numpy(values) == wanted[name]).all()

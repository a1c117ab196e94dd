"""Concurrent callers share batches, and each gets its own detections or its own error."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from mrcnn.detections import Detections
from mrcnn.errors import InputError
from mrcnn.serving.batching import DetectionBatcher, PixelBudget, batch_sizes

IMAGES = [np.full((2, 2), value, np.uint8) for value in range(20)]


class Network:
    """Finds an instance whose score is the gray level, and refuses the images of `bad`, once `free` is set."""

    def __init__(self, bad=()):
        self.bad, self.batches, self.free, self.begun = bad, [], threading.Event(), threading.Event()

    def detect(self, images, size):
        levels = [int(image[0, 0]) for image in images]
        self.batches.append((levels, size))
        self.begun.set()
        self.free.wait(30)
        for level in levels:
            if level in self.bad:
                raise InputError(f"image {level}")
        return [
            Detections(np.ones((1, 4), np.float32), np.array([level], np.float32), np.ones(1, np.int32), None)
            for level in levels
        ]


def ask_all(network, images):
    """Ask for the first image, and for the others while it is computed; return scores or messages."""
    batcher = DetectionBatcher(network.detect, (1, 2, 4, 8))

    def ask(image):
        try:
            return float(batcher.detect(image).scores[0])
        except InputError as error:
            return str(error)

    with ThreadPoolExecutor(len(images)) as threads:
        first = threads.submit(ask, images[0])
        network.begun.wait(30)
        others = [threads.submit(ask, image) for image in images[1:]]
        while len(batcher._waiting) < len(others):
            time.sleep(0.001)
        network.free.set()
        return [future.result(30) for future in (first, *others)]


def test_those_that_wait_share_batches_and_each_gets_its_own_answer():
    network = Network()
    assert ask_all(network, IMAGES) == list(range(20))
    assert [(len(levels), size) for levels, size in network.batches] == [(1, 1), (8, 8), (8, 8), (3, 4)]


def test_an_error_is_that_of_its_own_image():
    network = Network(bad={3, 7})
    expected = [f"image {level}" if level in network.bad else level for level in range(10)]
    assert ask_all(network, IMAGES[:10]) == expected
    # The batch of 8 is computed again one by one, the last image is not among them.
    assert [size for _, size in network.batches] == [1, 8, *[1] * 8, 1]


@pytest.mark.parametrize(
    ("shape", "sizes"), [((256, 256), (1, 2, 4, 8)), ((512, 512), (1, 2, 4)), ((1024, 1024), (1,)), ((2048, 512), (1,))]
)
def test_large_inputs_have_small_batches(shape, sizes):
    assert batch_sizes(shape) == sizes


def test_pixels_wait_for_room_and_too_many_are_alone():
    budget, held, most = PixelBudget(10), [], []

    def work(pixels):
        with budget.hold(pixels):
            held.append(pixels)
            most.append(list(held))
            time.sleep(0.01)
            held.remove(pixels)

    with ThreadPoolExecutor(12) as threads:
        list(threads.map(work, [4, 4, 4, 30, 2, 2, 2, 10, 30, 5, 5, 1]))
    assert all(sum(each) <= 10 or len(each) == 1 for each in most)
    assert max(map(len, most)) > 1

"""Detect the images of concurrent requests in common batches, and bound the memory of decoded images."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from threading import Condition, Lock

import numpy as np

from mrcnn.detections import Detections

BATCH_SIZES = (1, 2, 4, 8)
"""Numbers of images in a batch; an empty image fills up a batch between them, so that few shapes are compiled."""
MAX_BATCH_PIXELS = 1 << 20
"""Limit of the network's rows × columns × images for batches of several images: 8 of 256², 4 of 512², 1 of 1024².
Larger batches need gigabytes, and the processor is busy with a single large image."""

UNUSED_SIZES = (3, 5)
"""Sizes to compute first: after two sizes TensorFlow has a graph for any size. In graphs of their own, the sizes would
sum in different orders, and an answer would depend on how many others ask."""

Detect = Callable[[Sequence[np.ndarray], int], list[Detections]]


def batch_sizes(input_shape: tuple[int, int]) -> tuple[int, ...]:
    """Return the batch sizes of a network with inputs of `input_shape` (rows, columns)."""
    rows, columns = input_shape
    return tuple(size for size in BATCH_SIZES if size == 1 or size * rows * columns <= MAX_BATCH_PIXELS)


class DetectionBatcher:
    """Detect images of concurrent callers together: while a batch is computed, the next one gathers.

    No thread of its own and no waiting time: the caller that finds the network free detects for all that wait.

    Args:
        detect: (images, batch size) → `Detections` of each; called by one thread at a time.
        sizes: ascending batch sizes, from 1.
    """

    def __init__(self, detect: Detect, sizes: Sequence[int]) -> None:
        self._detect, self.sizes = detect, tuple(sizes)
        self._waiting: deque[tuple[np.ndarray, Future[Detections]]] = deque()
        self._turn = Lock()

    def detect(self, image: np.ndarray) -> Detections:
        """Return the detections of an image, or raise the error of this image alone."""
        found: Future[Detections] = Future()
        self._waiting.append((image, found))
        while not found.done():
            with self._turn:
                if not found.done():
                    count = min(len(self._waiting), self.sizes[-1])
                    self._run([self._waiting.popleft() for _ in range(count)])
        return found.result()

    def _run(self, batch: list[tuple[np.ndarray, Future[Detections]]]) -> None:
        size = next(size for size in self.sizes if size >= len(batch))
        try:
            results = self._detect([image for image, _ in batch], size)
        except BaseException as error:  # noqa: BLE001 - raised again by the caller whose image it is
            if len(batch) == 1:
                batch[0][1].set_exception(error)
                return
            for single in batch:
                self._run([single])
            return
        for (_, found), result in zip(batch, results, strict=True):
            found.set_result(result)


class PixelBudget:
    """Bound the pixels that are in memory at a time; an amount above the bound waits until it is alone."""

    def __init__(self, most: int) -> None:
        self._most, self._held = most, 0
        self._changed = Condition()

    @contextmanager
    def hold(self, pixels: int) -> Iterator[None]:
        """Wait until there is room for `pixels`, and hold them during the body."""
        with self._changed:
            self._changed.wait_for(lambda: not self._held or self._held + pixels <= self._most)
            self._held += pixels
        try:
            yield
        finally:
            with self._changed:
                self._held -= pixels
                self._changed.notify_all()

"""Cache opened samples in memory shared by all workers, so that small data sets are decoded once."""

from __future__ import annotations

import mmap
import os
import pickle
import weakref
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from mrcnn.data.sample import Sample


class SampleCache:
    """Cache the first samples that fit into `budget` bytes, with masks as run lengths.

    Samples are never evicted: each is requested once per epoch, so eviction would not help.

    The memory begins with a table of offset and size in bytes of each sample, size 0 if it is not cached; the samples
    follow. A pickled copy in a worker process, which inherits `descriptors`, shares the memory on Linux and has its own
    elsewhere. Each worker writes to its own segment (`use_segment`), so that no locks are needed.

    Args:
        images: number of images in the data set.
        budget: bytes for samples.
    """

    def __init__(self, images: int, budget: int) -> None:
        self._images, self._budget = images, budget
        self.descriptors: tuple[int, ...] = ()
        if hasattr(os, "memfd_create"):
            self.descriptors = (os.memfd_create("samples"),)
            weakref.finalize(self, os.close, *self.descriptors)
        self._map()
        self.use_segment(0, 1)

    def __getstate__(self) -> tuple[int, int, tuple[int, ...]]:
        return self._images, self._budget, self.descriptors

    def __setstate__(self, state: tuple[int, int, tuple[int, ...]]) -> None:
        self._images, self._budget, self.descriptors = state
        self._map()

    def _map(self) -> None:
        self._first = self._images * 2 * np.dtype(np.int64).itemsize
        size = max(self._first + self._budget, 1)
        for descriptor in self.descriptors:
            os.ftruncate(descriptor, size)
        self._memory = mmap.mmap(self.descriptors[0] if self.descriptors else -1, size)
        self._places = np.ndarray((self._images, 2), np.int64, self._memory)

    def use_segment(self, number: int, segments: int) -> None:
        """Write to segment `number` of `segments`, after the samples that it already contains."""
        start, self._end = (self._first + self._budget * place // segments for place in (number, number + 1))
        within = (self._places[:, 0] >= start) & (self._places[:, 0] < self._end)
        self._next = int(self._places[within].sum(axis=1).max(initial=start))

    def get(self, index: int, open_sample: Callable[[int], Sample]) -> Sample:
        """Return the sample at `index` from memory, or open and cache it."""
        place, size = self._places[index]
        if size:
            return pickle.loads(memoryview(self._memory)[place : place + size])
        sample = open_sample(index)
        # One memory layout, cached or not: it affects the last bit of sums over pixels.
        sample = replace(
            sample,
            image=np.ascontiguousarray(sample.image),
            masks=sample.instances.compressed(),
            crowd_masks=sample.crowds and sample.crowds.compressed(),
        )
        data = pickle.dumps(sample, pickle.HIGHEST_PROTOCOL)
        if self._next + len(data) <= self._end:
            self._memory[self._next : self._next + len(data)] = data
            # The size is written last, because other workers may read at any time.
            self._places[index, 0] = self._next
            self._places[index, 1] = len(data)
            self._next += len(data)
        return sample

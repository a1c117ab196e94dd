"""Opened samples kept in memory, so that a small data set is decoded once and not every epoch."""

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
    """Keeps the first samples that fit into `budget` bytes, masks as run lengths, for all workers of a loader.

    Nothing is thrown out for another: every sample is requested once an epoch, so the oldest is as good as the newest.

    The memory begins with where each sample lies, and how many bytes it has, 0 where it is not kept; the samples
    follow. A copy that is sent to a worker process, which inherits `descriptors`, is the same memory on Linux and
    another elsewhere. Each writes to a part of its own (`use_part`), so that none waits for another.

    Args:
        images: in the data set.
    """

    def __init__(self, images: int, budget: int) -> None:
        self._images, self._budget = images, budget
        self.descriptors: tuple[int, ...] = ()
        if hasattr(os, "memfd_create"):
            self.descriptors = (os.memfd_create("samples"),)
            weakref.finalize(self, os.close, *self.descriptors)
        self._map()
        self.use_part(0, 1)

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
        self._memory = mmap.mmap(*(self.descriptors or (-1,)), size)
        self._places = np.ndarray((self._images, 2), np.int64, self._memory)

    def use_part(self, number: int, parts: int) -> None:
        """Write to the part `number` of `parts`, behind what is there already."""
        start, self._end = (self._first + self._budget * place // parts for place in (number, number + 1))
        within = (self._places[:, 0] >= start) & (self._places[:, 0] < self._end)
        self._next = int(self._places[within].sum(axis=1).max(initial=start))

    def get(self, index: int, open_sample: Callable[[int], Sample]) -> Sample:
        """The sample at `index`, from memory or opened now."""
        place, size = self._places[index]
        if size:
            return pickle.loads(self._memory[place : place + size])
        sample = open_sample(index)
        # Of one layout in memory, kept or not: sums over pixels depend on it in their last bit.
        sample = replace(
            sample,
            image=np.ascontiguousarray(sample.image),
            masks=sample.instances.compressed(),
            crowd_masks=sample.crowds and sample.crowds.compressed(),
        )
        kept = pickle.dumps(sample, pickle.HIGHEST_PROTOCOL)
        if self._next + len(kept) <= self._end:
            self._memory[self._next : self._next + len(kept)] = kept
            # The size comes last, for others may look at any moment.
            self._places[index, 0] = self._next
            self._places[index, 1] = len(kept)
            self._next += len(kept)
        return sample

"""Load the batches of a data set, epoch by epoch, ahead of the training step."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from mrcnn.config import InputConfig, ModelConfig
from mrcnn.data.dataset import Dataset
from mrcnn.data.loading.batch_builder import BatchBuilder
from mrcnn.data.loading.prefetch import Prefetcher
from mrcnn.data.loading.worker_pool import WorkerPool
from mrcnn.data.sample import Sample
from mrcnn.data.transforms.augmentation import Augmentation
from mrcnn.data.transforms.encoding import Batch, make_batch
from mrcnn.errors import InputError

NOTICE_SECONDS = 60
"""Seconds of waiting for a batch after which a warning names its images."""
DEADLINE_SECONDS = 300
"""Seconds of waiting for a batch after which loading fails, for example because a disk does not respond."""
_logger = logging.getLogger(__name__)
_NAMED = 8  # images named in a message
_READY = 2
_CACHE_BYTES = 1 << 30


class Loader:
    """Load batches of a data set; their content depends on (data set, config, augmentation, seed, epoch) alone.

    Args:
        augmentation: random augmentation of every image, different in each epoch; None disables it.
        shuffle: whether to shuffle each epoch. The last batch is then filled up with the first images of the epoch, so
            that all batches have the same shape.
        seed: seed of order and augmentation.
        workers: number of worker processes; 0 uses a thread of this process.
        drop_last: whether to drop an incomplete last batch.
        batch_of: as in `BatchBuilder`.
        weights: (N,) sampling weights of the images: each epoch draws with replacement. None uses each draw of
            `BatchBuilder` once. Requires `shuffle`.

    Example:
        >>> loader = Loader(dataset, config, batch_size=2, shuffle=True, workers=1)
        >>> for batch in loader.epoch(0):
        ...     model.train_on_batch(batch)
    """

    def __init__(
        self,
        dataset: Dataset,
        config: ModelConfig | InputConfig,
        batch_size: int,
        *,
        augmentation: Augmentation | None = None,
        shuffle: bool = False,
        seed: int = 0,
        workers: int = 0,
        drop_last: bool = False,
        batch_of: Callable[..., Batch] = make_batch,
        weights: np.ndarray | None = None,
    ) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.workers = workers
        self.drop_last = drop_last
        self._builder = BatchBuilder(dataset, config, augmentation, seed, _CACHE_BYTES, batch_of)
        chances = None if weights is None else np.asarray(weights, np.float64)[self._builder.image_of]
        self._chances = None if chances is None else chances / chances.sum()
        self._idle_pool: WorkerPool | None = None

    def __len__(self) -> int:
        """Return the number of batches per epoch."""
        count = len(self._builder.image_of) / self.batch_size
        return math.floor(count) if self.drop_last else math.ceil(count)

    def order(self, epoch: int) -> list[list[int]]:
        """Return the draws of each batch of an epoch, which are image positions unless the model has tiles."""
        indices = np.arange(len(self._builder.image_of))
        if self.shuffle:
            rng = np.random.default_rng((self.seed, epoch))
            if self._chances is None:
                indices = rng.permutation(indices)
            else:
                indices = rng.choice(indices, len(indices), p=self._chances)
            indices = np.resize(indices, len(self) * self.batch_size)
        starts = range(0, len(self) * self.batch_size, self.batch_size)
        return [indices[start : start + self.batch_size].tolist() for start in starts]

    def file_names(self, first_epoch: int, position: int) -> list[str]:
        """Return the file names of the batch at `position`, counted over epochs from `first_epoch`."""
        epochs, batch = divmod(position, len(self))
        return self._names(self.order(first_epoch + epochs)[batch])

    def epoch(self, epoch: int, first: int = 0, stopped: Callable[[], bool] = lambda: False) -> Iterator[Batch]:
        """Yield the batches of an epoch, starting at position `first`.

        Worker processes wait for the next epoch after the last batch; they end if the iterator is closed early, and
        with the loader.

        Args:
            epoch: number of the epoch, from 0.
            first: position of the first batch to yield.
            stopped: polled while waiting for a batch; True raises KeyboardInterrupt.

        Raises:
            InputError: an image cannot be read, does not fit the model, or takes longer than `DEADLINE_SECONDS`; the
                message names the file.
        """
        tasks = [(epoch, indices) for indices in self.order(epoch)[first:]]
        pool = self._acquire_pool() if self.workers else None
        taken = 0

        def on_wait(seconds: float) -> None:
            if stopped():
                raise KeyboardInterrupt
            if seconds == NOTICE_SECONDS or seconds >= DEADLINE_SECONDS:
                message = self._timeout_message(tasks[taken][1], seconds)
                if seconds >= DEADLINE_SECONDS:
                    raise InputError(message)
                _logger.warning("%s", message)

        batches = Prefetcher(
            pool.batches(tasks) if pool else (self._builder.make(*task) for task in tasks), _READY, on_wait
        )
        try:
            for batch in batches:
                taken += 1
                yield batch
            if pool and self._idle_pool is None:
                self._idle_pool, pool = pool, None
        finally:
            if pool:
                pool.close()
            batches.close()

    def samples(self, count: int) -> list[Sample]:
        """Return the first samples of epoch 0, augmented as in its batches, at most one epoch."""
        indices = [index for batch in self.order(0) for index in batch]
        return self._builder.samples(0, indices[:count])

    def _names(self, draws: Sequence[int]) -> list[str]:
        return [self.dataset.records[self._builder.image_of[draw]].file_name for draw in draws]

    def _timeout_message(self, draws: Sequence[int], seconds: float) -> str:
        names = self._names(draws)
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        reader = "the worker process that reads them is stopped" if self.workers else "they are no ordinary files"
        return (
            f"{', '.join(names[:_NAMED])}{more}: waiting for {seconds:g} s of at most {DEADLINE_SECONDS}; "
            f"the folder that holds them does not answer, or {reader}"
        )

    def _acquire_pool(self) -> WorkerPool:
        pool, self._idle_pool = self._idle_pool, None
        return pool or WorkerPool(self._builder, self.workers)

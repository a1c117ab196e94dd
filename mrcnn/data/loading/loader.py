"""Batches of a data set, epoch by epoch, made ahead of who trains on them."""

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
from mrcnn.data.transforms.augmentation import Augmentation
from mrcnn.data.transforms.encoding import Batch, make_batch
from mrcnn.errors import InputError

NOTICE_SECONDS = 60
"""Wait for a batch after which a line says for which images."""
DEADLINE_SECONDS = 300
"""Wait for a batch after which it is given up: the disk does not answer, or a worker process is stopped."""
_logger = logging.getLogger(__name__)
_NAMED = 8  # images that a message names
_READY = 2
_CACHE_BYTES = 1 << 30


class Loader:
    """Makes the batches of `make_batch` from a data set.

    What a batch holds depends on (data set, config, augmentation, seed, epoch) alone, not on `workers`.

    Args:
        augmentation: of every image, anew each epoch; None for none.
        shuffle: another order each epoch. The last batch is then filled up with the first images of the order, so that
            all have the same shape.
        seed: of order and augmentation.
        workers: processes that make batches; 0 makes them in a thread of this process.
        drop_last: leave out the last batch of an epoch if it is not full.
        batch_of: as in `BatchBuilder`.
        weights: (N,) of the images: an epoch then draws as many as there are, each with a chance in proportion to its
            weight and any number of times; None takes each once. With `shuffle` only.

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
        self._chances = None if weights is None else np.asarray(weights, np.float64) / np.sum(weights)
        self._recipe = BatchBuilder(dataset, config, augmentation, seed, _CACHE_BYTES, batch_of)
        self._resting: WorkerPool | None = None

    def __len__(self) -> int:
        """Batches an epoch."""
        count = len(self.dataset) / self.batch_size
        return math.floor(count) if self.drop_last else math.ceil(count)

    def order(self, epoch: int) -> list[list[int]]:
        """The positions of the images in each batch of an epoch."""
        indices = np.arange(len(self.dataset))
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
        """Of the images in the batch at `position`, counted over the epochs from `first_epoch` on."""
        epochs, batch = divmod(position, len(self))
        return [self.dataset.records[index].file_name for index in self.order(first_epoch + epochs)[batch]]

    def epoch(self, epoch: int, first: int = 0, stopped: Callable[[], bool] = lambda: False) -> Iterator[Batch]:
        """The batches of an epoch, from the one at position `first`.

        Worker processes wait for the next epoch after the last batch; they end with the iterator when that is closed
        before, and with the loader.

        Args:
            stopped: looked at while a batch is awaited; True raises KeyboardInterrupt.

        Raises:
            InputError: an image cannot be read or does not fit the model, or does not come within `DEADLINE_SECONDS`;
                names the file.
        """
        tasks = [(epoch, indices) for indices in self.order(epoch)[first:]]
        crew = self._call_crew() if self.workers else None
        taken = 0

        def on_wait(seconds: float) -> None:
            if stopped():
                raise KeyboardInterrupt
            if seconds == NOTICE_SECONDS or seconds >= DEADLINE_SECONDS:
                late = self._late(tasks[taken][1], seconds)
                if seconds >= DEADLINE_SECONDS:
                    raise InputError(late)
                _logger.warning("%s", late)

        batches = Prefetcher(
            crew.batches(tasks) if crew else (self._recipe.make(*task) for task in tasks), _READY, on_wait
        )
        try:
            for batch in batches:
                taken += 1
                yield batch
            if crew and self._resting is None:
                self._resting, crew = crew, None
        finally:
            if crew:
                crew.close()
            batches.close()

    def _late(self, indices: Sequence[int], seconds: float) -> str:
        names = [self.dataset.records[index].file_name for index in indices]
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        reader = "the worker process that reads them is stopped" if self.workers else "they are no ordinary files"
        return (
            f"{', '.join(names[:_NAMED])}{more}: waiting for {seconds:g} s of at most {DEADLINE_SECONDS}; "
            f"the folder that holds them does not answer, or {reader}"
        )

    def _call_crew(self) -> WorkerPool:
        crew, self._resting = self._resting, None
        return crew or WorkerPool(self._recipe, self.workers)

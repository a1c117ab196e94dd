"""Build batches from image positions, in the thread of a loader or in its worker processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mrcnn.config import InputConfig, ModelConfig
from mrcnn.data.dataset import Dataset
from mrcnn.data.loading.cache import SampleCache
from mrcnn.data.sample import Sample
from mrcnn.data.transforms.augmentation import Augmentation
from mrcnn.data.transforms.encoding import Batch, make_batch
from mrcnn.data.transforms.resizing import downscale_sample
from mrcnn.errors import InputError


class BatchBuilder:
    """Build batches; equal builders build equal batches in any process and order.

    Args:
        augmentation: None disables it. Otherwise images larger than the network input are downscaled first, which
            makes augmentation faster.
        seed: seed of the augmentation, which also depends on the epoch and the position of the image.
        cache_bytes: memory for opened samples, shared by all workers.
        batch_of: function (samples, config) → batch that worker processes can import.
    """

    def __init__(
        self,
        dataset: Dataset,
        config: ModelConfig | InputConfig,
        augmentation: Augmentation | None,
        seed: int,
        cache_bytes: int,
        batch_of: Callable[..., Batch] = make_batch,
    ) -> None:
        self.dataset = dataset
        self.config = config
        self.augmentation = augmentation
        self.seed = seed
        self.batch_of = batch_of
        # Raises an error for unknown classes before any image is opened.
        self._mirrored_ids = augmentation.mirrored_ids(dataset.class_names) if augmentation else None
        self.cache = SampleCache(len(dataset), cache_bytes)

    def make(self, epoch: int, indices: Sequence[int]) -> Batch:
        """Build the batch of the images at `indices`. Errors name the image."""
        return self.batch_of(self.samples(epoch, indices), self.config)

    def samples(self, epoch: int, indices: Sequence[int]) -> list[Sample]:
        """Open and augment the images at `indices`. Errors name the image."""
        return [self._sample(epoch, index) for index in indices]

    def _sample(self, epoch: int, index: int) -> Sample:
        try:
            sample = self.cache.get(index, self._open)
            if not self.augmentation:
                return sample
            from mrcnn.data.transforms.augment import augment  # imports imgaug, which takes a second

            return augment(sample, self.augmentation, (self.seed, epoch, index), self._mirrored_ids)
        except InputError:
            raise
        except Exception as error:
            name = self.dataset.records[index].file_name
            raise RuntimeError(f"{name}: {type(error).__name__}: {error}") from error

    def _open(self, index: int) -> Sample:
        sample = self.dataset.sample(index, self.config.context_slices)
        return downscale_sample(sample, self.config.input_shape) if self.augmentation else sample

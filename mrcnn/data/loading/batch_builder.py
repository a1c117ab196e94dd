"""How a batch comes from the positions of its images: what a loader's thread and its worker processes both do."""

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
    """Makes batches; equal recipes make equal batches, in whichever process and order.

    Args:
        augmentation: None leaves the images as they are. Otherwise images larger than the network's input are reduced
            to it first, so that the augmentation costs no more than need be.
        seed: of the augmentation, which depends on it, the epoch and the image's position in the data set only.
        cache_bytes: memory for opened images, which all workers share.
        batch_of: makes the batch from samples and `config`; a function of a module, which worker processes import.
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
        # An error names a class that the data do not have before any image is opened.
        self._mirrored_ids = augmentation.mirrored_ids(dataset.class_names) if augmentation else None
        self.cache = SampleCache(len(dataset), cache_bytes)

    def make(self, epoch: int, indices: Sequence[int]) -> Batch:
        """The batch of the images at `indices`. An error names the image at fault."""
        return self.batch_of([self._sample(epoch, index) for index in indices], self.config)

    def _sample(self, epoch: int, index: int) -> Sample:
        try:
            sample = self.cache.get(index, self._open)
            if not self.augmentation:
                return sample
            # imgaug takes seconds to import, which nobody else should wait for.
            from mrcnn.data.transforms.augment import augment

            return augment(sample, self.augmentation, (self.seed, epoch, index), self._mirrored_ids)
        except InputError:
            raise
        except Exception as error:
            name = self.dataset.records[index].file_name
            raise RuntimeError(f"{name}: {type(error).__name__}: {error}") from error

    def _open(self, index: int) -> Sample:
        sample = self.dataset[index]
        return downscale_sample(sample, self.config.image_size) if self.augmentation else sample

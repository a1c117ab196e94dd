"""Build batches from image positions, in the thread of a loader or in its worker processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from mrcnn.config import InputConfig, ModelConfig
from mrcnn.data.dataset import Dataset
from mrcnn.data.loading.cache import SampleCache
from mrcnn.data.sample import Sample
from mrcnn.data.transforms.augmentation import Augmentation
from mrcnn.data.transforms.cropping import crop_sample, random_corner, tile_count
from mrcnn.data.transforms.encoding import Batch, make_batch
from mrcnn.data.transforms.resizing import downscale_sample
from mrcnn.errors import InputError


class BatchBuilder:
    """Build batches of draws; equal builders build equal batches in any process and order.

    A draw is an image or, with `config.tile`, a random tile of an image that is larger. An image has as many draws as
    tiles cover it.

    Args:
        augmentation: None disables it. Otherwise images larger than the network input are downscaled first, which
            makes augmentation faster.
        seed: seed of tiles and augmentation, which also depend on the epoch and the number of the draw.
        cache_bytes: memory for opened samples, shared by all workers.
        batch_of: function (samples, config) → batch that worker processes can import.

    Attributes:
        image_of: (D,) the position of the image of each draw of an epoch.
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
        tile = config.tile
        counts = 1 if tile is None else [tile_count(each.height, each.width, tile) for each in dataset.records]
        self.image_of = np.repeat(np.arange(len(dataset)), counts)

    def make(self, epoch: int, draws: Sequence[int]) -> Batch:
        """Build the batch of `draws`. Errors name the image."""
        return self.batch_of(self.samples(epoch, draws), self.config)

    def samples(self, epoch: int, draws: Sequence[int]) -> list[Sample]:
        """Open and augment the images of `draws`. Errors name the image."""
        return [self._sample(epoch, draw) for draw in draws]

    def _sample(self, epoch: int, draw: int) -> Sample:
        index = int(self.image_of[draw])
        try:
            sample = self.cache.get(index, self._open)
            if (tile := self.config.tile) is not None:
                # The last number separates these random numbers from those of the augmentation.
                rng = np.random.default_rng((self.seed, epoch, draw, 1))
                record = self.dataset.records[index]
                sample = self._shrink(crop_sample(sample, record.boxes, random_corner(record, tile, rng), tile))
            if not self.augmentation:
                return sample
            from mrcnn.data.transforms.augment import augment  # imports imgaug, which takes a second

            return augment(sample, self.augmentation, (self.seed, epoch, draw), self._mirrored_ids)
        except InputError:
            raise
        except Exception as error:
            name = self.dataset.records[index].file_name
            raise RuntimeError(f"{name}: {type(error).__name__}: {error}") from error

    def _open(self, index: int) -> Sample:
        sample = self.dataset.sample(index, self.config.context_slices)
        return sample if self.config.tile is not None else self._shrink(sample)

    def _shrink(self, sample: Sample) -> Sample:
        return downscale_sample(sample, self.config.input_shape) if self.augmentation else sample

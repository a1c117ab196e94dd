"""Opened samples kept in memory, so that a small data set is decoded once and not every epoch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import numpy as np
from pycocotools import mask as coco_mask

from mrcnn.data.dataset import decode_masks
from mrcnn.data.sample import Sample


class SampleCache:
    """Keeps the first samples that fit into `budget` bytes, masks as run lengths.

    Nothing is thrown out for another: every sample is asked for once an epoch, so the oldest is as good as the newest.
    """

    def __init__(self, budget: int) -> None:
        self._left = budget
        self._kept: dict[int, tuple[dict, list[bytes]]] = {}

    def get(self, index: int, open_sample: Callable[[int], Sample]) -> Sample:
        """The sample at `index`, from memory or opened now."""
        if index in self._kept:
            facts, runs = self._kept[index]
            return Sample(**facts, masks=decode_masks(runs, *facts["image"].shape[:2]))
        sample = open_sample(index)
        runs = _encode(sample.masks)
        size = sample.image.nbytes + sum(len(run) for run in runs)
        if size <= self._left:
            self._left -= size
            facts = {field.name: getattr(sample, field.name) for field in fields(sample) if field.name != "masks"}
            self._kept[index] = (facts, runs)
        return sample


def _encode(masks: np.ndarray) -> list[bytes]:
    if not len(masks):
        return []
    return [run["counts"] for run in coco_mask.encode(np.asfortranarray(masks.transpose(1, 2, 0), np.uint8))]

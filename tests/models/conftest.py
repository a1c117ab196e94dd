"""Tiny models and batches that need no data set."""

import numpy as np
import pytest

from mrcnn.config import ModelConfig

TINY = {
    "class_names": ("iso", "hypo"),
    "image_size": 64,
    "channels": 1,
    "backbone": "small",
    "fpn_channels": 16,
    "head_width": 32,
    "mask_channels": 16,
    "mask_convolutions": 1,
    "anchor_sizes": ((8,), (16,), (32,), (64,), (128,)),
    "max_instances": 4,
    "proposals_per_level": 40,
    "proposals": 60,
    "rpn_samples": 32,
    "roi_samples": 16,
    "max_detections": 10,
}


@pytest.fixture(scope="session")
def tiny():
    """Return a function that creates a tiny configuration with changes."""
    return lambda **changes: ModelConfig(**{**TINY, **changes})


@pytest.fixture(scope="session")
def blob_batch():
    """Return `make_blob_batch`."""
    return make_blob_batch


def make_blob_batch(config: ModelConfig, boxes_of_images: list[list], seed: int = 0) -> dict:
    """Create a batch of noise with bright ellipses at the boxes (x1, y1, x2, y2, class) of each image."""
    rng = np.random.default_rng(seed)
    count, (height, width), side = len(boxes_of_images), config.input_shape, config.target_mask_size
    batch = {
        "image": rng.normal(0, 0.3, (count, height, width, config.channels)).astype(np.float32),
        "boxes": np.zeros((count, config.max_instances, 4), np.float32),
        "class_ids": np.zeros((count, config.max_instances), np.int32),
        "valid": np.zeros((count, config.max_instances), bool),
        "masks": np.zeros((count, config.max_instances, side, side), np.uint8),
    }
    y, x = np.mgrid[:height, :width] + 0.5
    v, u = (np.mgrid[:side, :side] + 0.5) / side * 2 - 1
    for i, boxes in enumerate(boxes_of_images):
        for j, (x1, y1, x2, y2, class_id) in enumerate(boxes):
            inside = ((x - (x1 + x2) / 2) / (x2 - x1) * 2) ** 2 + ((y - (y1 + y2) / 2) / (y2 - y1) * 2) ** 2 <= 1
            batch["image"][i][inside] += 2.0 if class_id == 1 else -2.0
            batch["boxes"][i, j] = x1, y1, x2, y2
            batch["class_ids"][i, j] = class_id
            batch["valid"][i, j] = True
            batch["masks"][i, j] = np.where(u**2 + v**2 <= 1, 255, 0)
    return batch

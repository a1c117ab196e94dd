"""Run our model for `benchmarks.speed`: a training step or a detection per request, with KERAS_BACKEND.

Settings: precision, size, batch.
"""

from __future__ import annotations

import gc
import json
import math
import sys
import time
from collections.abc import Callable

import keras
import numpy as np

from benchmarks.speed_flops import inference_flops, training_flops
from benchmarks.speed_setup import (
    INSTANCES,
    MANY_THRESHOLD,
    SEED,
    few_threshold,
    fill_boxes,
    make_boxes,
    make_images,
    peak_memory,
)
from benchmarks.speed_turns import serve
from mrcnn.config import ModelConfig
from mrcnn.data import Sample, make_batch
from mrcnn.data.transforms.encoding import Batch
from mrcnn.models import MaskRCNN
from mrcnn.models.mask_rcnn.rpn import flatten_levels
from mrcnn.models.mask_rcnn.targets import region_targets


class Ours:
    """Time one precision, size and batch of our model; `work` is `train`, `many` or `few` (detections kept)."""

    def __init__(self, precision: str, size: int, batch: int, backbone: str = "resnet50") -> None:
        self.precision, self.size, self.batch, self.backbone = precision, size, batch, backbone
        self.images = make_images(size, batch)
        self.scores: list[list[float]] = []
        self.model = self.run = None

    def prepare(self, work: str) -> dict:
        """Build the model and run it twice: the first run traces and compiles, the second warms the caches.

        Returns:
            `seconds` of the first run, `gflop` of each, detections `kept` in each image (none in training).
        """
        if work == "few" and not self.scores:
            self.prepare("many")
        self.model = self.run = None
        gc.collect()
        threshold = few_threshold(self.scores) if work == "few" else MANY_THRESHOLD
        keras.utils.set_random_seed(SEED)
        self.model = MaskRCNN(self._config(threshold), seed=SEED, dtype=self.precision)
        # Proposals are anchors, as in the peers: random ones would sample other numbers of positive regions.
        self.model.proposal_head.get_layer("rpn_box").kernel.assign(
            keras.ops.zeros_like(self.model.proposal_head.get_layer("rpn_box").kernel)
        )
        self.run = self._training() if work == "train" else self._detection()
        seconds = self.step()["seconds"]
        found = self.run()
        if work == "train":
            gflop = training_flops(self.model, self.batch, self._positives()) / 1e9
            return {"seconds": seconds, "gflop": gflop, "kept": []}
        if work == "many":
            self.scores = [each.scores.tolist() for each in found]
        kept = [len(each) for each in found]
        return {"seconds": seconds, "gflop": inference_flops(self.model, self.batch, sum(kept)) / 1e9, "kept": kept}

    def step(self) -> dict:
        start = time.perf_counter()
        self.run()
        return {"seconds": time.perf_counter() - start}

    def peak(self) -> dict:
        """Return the peak memory of this process; `device_bytes` on a GPU, if the backend reports it."""
        answer = {"bytes": peak_memory()}
        if keras.backend.backend() == "jax":
            import jax

            statistics = jax.local_devices()[0].memory_stats() or {}
            if "peak_bytes_in_use" in statistics:
                answer["device_bytes"] = statistics["peak_bytes_in_use"]
        return answer

    def _config(self, threshold: float) -> ModelConfig:
        return ModelConfig(
            class_names=("first", "second"),
            image_size=self.size,
            backbone=self.backbone,
            norm="group" if self.backbone == "small" else "frozen_batch",
            roi_samples=128,
            proposals_per_level=1000,
            proposals=1000,
            max_detections=100,
            score_threshold=threshold,
        )

    def _training(self) -> Callable[[], None]:
        # The rate is so low that every step meets the same network, whatever the number of repetitions.
        self.model.compile(optimizer=keras.optimizers.SGD(1e-6, momentum=0.9))
        batch = self._training_batch()

        def train() -> None:
            loss = self.model.train_on_batch(batch, return_dict=True)["loss"]
            if not math.isfinite(loss):
                raise ArithmeticError(f"the loss is {loss}")

        return train

    def _training_batch(self) -> Batch:
        boxes = make_boxes(self.size, self.batch)
        return make_batch(
            [
                Sample(
                    image=image,
                    masks=fill_boxes(each, self.size),
                    class_ids=np.ones(INSTANCES, np.int32),
                    patient_id="noise",
                    source="noise",
                )
                for image, each in zip(self.images, boxes, strict=True)
            ],
            self.model.config,
        )

    def _positives(self) -> int:
        """Count the positive regions of the batch, for which masks are computed."""
        model, batch = self.model, self._training_batch()
        levels = model.pyramid(model.backbone(batch["image"]))
        logits, deltas = flatten_levels([model.proposal_head(level) for level in levels], model.config)
        proposals, valid = model.conventions.propose(logits, deltas, keras.ops.convert_to_tensor(model.anchors))
        noise = keras.random.uniform((self.batch, proposals.shape[1] + model.config.max_instances), seed=SEED)
        found = region_targets(proposals, valid, batch, noise, model.config)
        return int(keras.ops.convert_to_numpy(found.positive).sum())

    def _detection(self) -> Callable[[], list]:
        return lambda: self.model.detect(self.images, batch_size=self.batch)


if __name__ == "__main__":
    serve(lambda: Ours(**json.loads(sys.argv[1])))

"""Run matterport's Mask R-CNN R50-FPN for `benchmarks.speed`, with the settings of ours.

Runs in a Python with TensorFlow 2.15, NumPy 1 and scikit-image, from a checkout of the fork akTwelve/Mask_RCNN.
Settings: size, batch, and `source`, that checkout.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import keras

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

LOGIT_SCALE = 1e-3


def prepare_source(source: str) -> tuple[Any, Any]:
    """Its module, with what it expects of older releases of its libraries."""
    sys.path.insert(0, source)
    np.bool = np.bool_
    # Its optimizer arguments are those of Keras before 2.11.
    keras.optimizers.SGD = keras.optimizers.legacy.SGD
    from mrcnn import models as model
    from mrcnn import utils

    resize = utils.resize

    def resize_as_float(image: np.ndarray, *args: Any, **kwargs: Any) -> np.ndarray:
        return resize(image.astype(float) if image.dtype == bool else image, *args, **kwargs)

    utils.resize = resize_as_float
    return model, utils


class Matterport:
    """As `benchmarks.speed_worker.Ours`."""

    def __init__(self, size: int, batch: int, source: str) -> None:
        self.modules = prepare_source(source)
        self.size, self.batch = size, batch
        self.images = make_images(size, batch)
        self.scores: list[list[float]] = []
        self.model = self.run = None

    def hello(self) -> dict:
        return {"versions": f"matterport on TensorFlow {tf.__version__}"}

    def prepare(self, work: str) -> dict:
        if work == "few" and not self.scores:
            self.prepare("many")
        keras.backend.clear_session()
        threshold = few_threshold(self.scores) if work == "few" else MANY_THRESHOLD
        keras.utils.set_random_seed(SEED)
        model, _ = self.modules
        self.model = model.MaskRCNN(
            "training" if work == "train" else "inference", self._config(threshold), tempfile.mkdtemp()
        )
        # Proposals are anchors in all systems.
        boxes = self.model.keras_model.get_layer("rpn_model").get_layer("rpn_bbox_pred")
        boxes.set_weights([np.zeros_like(each) for each in boxes.get_weights()])
        if work != "train":
            # Its features of noise are large, and all scores would be exactly 1.
            layer = self.model.keras_model.get_layer("mrcnn_class_logits")
            layer.set_weights([LOGIT_SCALE * each for each in layer.get_weights()])
        self.run = self._training() if work == "train" else partial(self.model.detect, self.images)
        seconds = self.step()["seconds"]
        found = self.run()
        if work == "train":
            return {"seconds": seconds, "gflop": None, "kept": []}
        if work == "many":
            self.scores = [each["scores"].tolist() for each in found]
        return {"seconds": seconds, "gflop": None, "kept": [len(each["scores"]) for each in found]}

    def step(self) -> dict:
        start = time.perf_counter()
        self.run()
        return {"seconds": time.perf_counter() - start}

    def peak(self) -> dict:
        return {"bytes": peak_memory()}

    def _config(self, threshold: float) -> Any:
        from mrcnn.config import Config

        settings = {
            "NAME": "speed",
            "BACKBONE": "resnet50",
            "IMAGES_PER_GPU": self.batch,
            "NUM_CLASSES": 3,
            "IMAGE_MIN_DIM": self.size,
            "IMAGE_MAX_DIM": self.size,
            "PRE_NMS_LIMIT": 1000,
            "POST_NMS_ROIS_TRAINING": 1000,
            "POST_NMS_ROIS_INFERENCE": 1000,
            "TRAIN_ROIS_PER_IMAGE": 128,
            "ROI_POSITIVE_RATIO": 0.25,
            "DETECTION_MAX_INSTANCES": 100,
            "DETECTION_MIN_CONFIDENCE": threshold,
        }
        return type("Speed", (Config,), settings)()

    def _training(self) -> Callable[[], None]:
        model, utils = self.modules
        images, boxes = self.images, make_boxes(self.size, self.batch)

        class Noise(utils.Dataset):
            def load_image(self, image_id: int) -> np.ndarray:
                return images[image_id]

            def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
                return np.moveaxis(fill_boxes(boxes[image_id], images[0].shape[0]), 0, -1), np.ones(INSTANCES, np.int32)

        noise = Noise()
        noise.add_class("noise", 1, "first")
        noise.add_class("noise", 2, "second")
        for index in range(self.batch):
            noise.add_image("noise", index, None)
        noise.prepare()
        self.model.set_trainable(".*", verbose=0)
        self.model.compile(1e-6, 0.9)
        inputs, _ = model.DataGenerator(noise, self.model.config, shuffle=False)[0]

        def train() -> None:
            loss = np.ravel(self.model.keras_model.train_on_batch(inputs, []))[0]
            if not math.isfinite(loss):
                raise ArithmeticError(f"the loss is {loss}")

        return train


if __name__ == "__main__":
    serve(lambda: Matterport(**json.loads(sys.argv[1])))

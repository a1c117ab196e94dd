"""A ResNet classifier of images, such as slices with and without a tumor, and its cascade with a segmentation model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

from mrcnn.backend import Tensor, ops
from mrcnn.config import ClassifierConfig
from mrcnn.data.transforms.encoding import Batch, prepare_image
from mrcnn.detections import Detections
from mrcnn.metrics.calibration import apply_platt
from mrcnn.models.backbones import build_backbone
from mrcnn.models.detector_base import DetectorBase, padded_batches
from mrcnn.models.mask_rcnn.losses import binary_cross_entropy
from mrcnn.models.training.data_parallel import per_replica


@keras.saving.register_keras_serializable("mrcnn")
class Classifier(DetectorBase):
    """Classify images with a backbone, global average pooling and one logit (He et al. 2016, section 3.3).

    The input is a batch of `make_label_batch`. If it contains only `image` (B, S, S, C), the output is the logit of the
    positive class (B,) float32. If it contains `positive`, the output is the loss.

    Args:
        config: architecture and labels.
        seed: saved in the file; `keras.utils.set_random_seed` sets the seed of the initial weights.
    """

    config_class = ClassifierConfig
    config: ClassifierConfig

    def __init__(
        self,
        config: ClassifierConfig,
        *,
        seed: int = 0,
        dtype: str | keras.DTypePolicy | None = None,
        name: str = "classifier",
    ) -> None:
        super().__init__(config, seed=seed, dtype=dtype, name=name)
        with self.dtype_scope():
            self.backbone = build_backbone(config)
            last = layers.Input(self.backbone.outputs[-1].shape[1:], name="c5")
            pooled = layers.GlobalAveragePooling2D(name="pool")(last)
            self.head = keras.Model(last, layers.Dense(1, dtype="float32", name="logit")(pooled), name="head")
        self.loss_means = [keras.metrics.Mean(name="cross_entropy")]
        self.built = True

    @property
    def submodels(self) -> tuple[keras.Model, ...]:
        return self.backbone, self.head

    def call(self, batch: Batch, training: bool = False) -> Tensor | dict[str, Tensor]:
        logits = ops.squeeze(self.head(self.backbone(batch["image"], training=training)[-1], training=training), -1)
        if "positive" not in batch:
            return logits
        loss = binary_cross_entropy(logits, ops.cast(batch["positive"], "float32"))
        return {"cross_entropy": per_replica(ops.mean(loss))}

    def logits(self, images: Sequence[np.ndarray], *, batch_size: int = 4) -> np.ndarray:
        """Return uncalibrated logits (N,) float64 of images (H, W, C) or (H, W) of any size and type."""
        if not self.compiled:
            self.compile()
        prepared = [prepare_image(image, self.config)[0] for image in images]
        logits = [
            np.asarray(self.predict_on_batch({"image": batch}))[:count]
            for batch, count in padded_batches(prepared, batch_size)
        ]
        return np.concatenate(logits or [np.zeros(0)]).astype(np.float64)

    def probabilities(self, images: Sequence[np.ndarray], *, batch_size: int = 4) -> np.ndarray:
        """Return calibrated probabilities (N,) float64 of the positive class."""
        return apply_platt(self.logits(images, batch_size=batch_size), self.config.slope, self.config.intercept)

    def with_calibration(self, slope: float, intercept: float) -> Classifier:
        """Return a copy with another Platt calibration of the logits."""
        return self.with_settings(slope=slope, intercept=intercept)


class Cascade:
    """Detect instances with a segmentation model in the images that a classifier predicts as positive.

    Args:
        classifier: model that selects the images.
        segmenter: `MaskRCNN`, `ResUNet` or another `mrcnn.inference.ensemble.Detector`.
        threshold: smallest calibrated probability of a positive image.
    """

    def __init__(self, classifier: Classifier, segmenter: Any, threshold: float) -> None:
        self.classifier, self.segmenter, self.threshold = classifier, segmenter, threshold
        self.config = segmenter.config

    def detect(self, images: Sequence[np.ndarray], *, batch_size: int = 4) -> list[Detections]:
        """Find the instances in images as `MaskRCNN.detect`; negative images have none."""
        positive = np.flatnonzero(self.classifier.probabilities(images, batch_size=batch_size) >= self.threshold)
        detections = [Detections.empty(*np.shape(image)[:2]) for image in images]
        if len(positive):
            found = self.segmenter.detect([images[index] for index in positive], batch_size=batch_size)
            for index, each in zip(positive, found, strict=True):
                detections[index] = each
        return detections

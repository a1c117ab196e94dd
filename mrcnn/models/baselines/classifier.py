"""A ResNet that tells two kinds of image apart, such as slices with a tumour from those without."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
from keras import layers, ops

from mrcnn.config import ClassifierConfig
from mrcnn.data.transforms.encoding import prepare_image
from mrcnn.detections import Detections
from mrcnn.metrics.calibration import apply_platt
from mrcnn.models.backbones.resnet import build_backbone
from mrcnn.models.detector_base import DetectorBase, in_batches
from mrcnn.models.training.data_parallel import per_replica


@keras.saving.register_keras_serializable("mrcnn")
class Classifier(DetectorBase):
    """A backbone of Mask R-CNN, the mean over the cells of its last map, and one logit (He et al. 2016, section 3.3).

    As a layer it takes a batch as `make_label_batch` makes it. With only `image` (B, S, S, C) in it, it returns the
    logit of the positive kind (B,), float32; with `positive` in it, its loss.

    Args:
        config: architecture and labels.
        seed: kept in the file; the initial weights follow from `keras.utils.set_random_seed`.
    """

    config_class = ClassifierConfig

    def __init__(self, config: ClassifierConfig, *, seed: int = 0, dtype=None, name: str = "classifier"):
        super().__init__(config, seed=seed, dtype=dtype, name=name)
        with self.own_policy():
            self.backbone = build_backbone(config)
            last = layers.Input(self.backbone.outputs[-1].shape[1:], name="c5")
            pooled = layers.GlobalAveragePooling2D(name="pool")(last)
            self.head = keras.Model(last, layers.Dense(1, dtype="float32", name="logit")(pooled), name="head")
        self.loss_means = [keras.metrics.Mean(name="cross_entropy")]
        self.built = True

    @property
    def parts(self) -> tuple[keras.Model, ...]:
        """The functional models that it is made of; layers with weights have unique names over all of them."""
        return self.backbone, self.head

    def call(self, batch, training=False):
        logits = ops.squeeze(self.head(self.backbone(batch["image"], training=training)[-1], training=training), -1)
        if "positive" not in batch:
            return logits
        truth = ops.cast(batch["positive"], "float32")
        loss = ops.maximum(logits, 0.0) - logits * truth + ops.log1p(ops.exp(-ops.abs(logits)))
        return {"cross_entropy": per_replica(ops.mean(loss))}

    def logits(self, images: Sequence[np.ndarray], *, batch_size: int = 4) -> np.ndarray:
        """(N,) float64, of images (H, W, C) or (H, W) of any size and number type; not calibrated."""
        if not self.compiled:
            self.compile()
        prepared = [prepare_image(image, self.config)[0] for image in images]
        found = [
            np.asarray(self.predict_on_batch({"image": batch}))[:count]
            for batch, count in in_batches(prepared, batch_size)
        ]
        return np.concatenate(found or [np.zeros(0)]).astype(np.float64)

    def probabilities(self, images: Sequence[np.ndarray], *, batch_size: int = 4) -> np.ndarray:
        """(N,) float64: how probable the positive kind is, calibrated as the configuration says."""
        return apply_platt(self.logits(images, batch_size=batch_size), self.config.slope, self.config.intercept)

    def with_calibration(self, slope: float, intercept: float) -> Classifier:
        """The same network with another calibration."""
        return self.with_settings(slope=slope, intercept=intercept)


class Cascade:
    """Finds instances as the segmenter does in images that are probably positive, and none in the others.

    Args:
        classifier: decides.
        segmenter: a `MaskRCNN`, a `ResUNet`, or anything with `detect` and `config.class_names`.
        threshold: the least calibrated probability of an image that the segmenter sees.
    """

    def __init__(self, classifier: Classifier, segmenter, threshold: float) -> None:
        self.classifier, self.segmenter, self.threshold = classifier, segmenter, threshold
        self.config = segmenter.config

    def detect(self, images: Sequence[np.ndarray], *, batch_size: int = 4) -> list[Detections]:
        """As the segmenter's `detect`; images that it does not see are empty."""
        seen = np.flatnonzero(self.classifier.probabilities(images, batch_size=batch_size) >= self.threshold)
        found = [Detections.empty(*np.shape(image)[:2]) for image in images]
        # Asked of nothing, a segmenter need not answer.
        answers = self.segmenter.detect([images[index] for index in seen], batch_size=batch_size) if len(seen) else []
        for index, detections in zip(seen, answers, strict=True):
            found[index] = detections
        return found

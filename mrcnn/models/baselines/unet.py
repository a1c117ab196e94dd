"""ResUNet, a U-Net of pre-activated residual units: model, losses and instances from class maps.

Source: Zhang et al. 2018, Road Extraction by Deep Residual U-Net.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import keras
import numpy as np
from keras import layers
from scipy import ndimage

from mrcnn.backend import Tensor, ops
from mrcnn.config import ResUNetConfig
from mrcnn.data.transforms.encoding import Batch, Letterbox, prepare_image
from mrcnn.data.transforms.letterbox import CenteredLetterbox
from mrcnn.data.transforms.resizing import resize
from mrcnn.detections import Detections
from mrcnn.inference.tiles import detect_in_tiles
from mrcnn.instance_masks import Crop, InstanceMasks
from mrcnn.models.detector_base import DetectorBase, padded_batches
from mrcnn.models.layers.convolutions import Convolution3x3
from mrcnn.models.layers.normalization import make_normalization
from mrcnn.models.mask_rcnn.losses import binary_cross_entropy
from mrcnn.models.training.data_parallel import all_reduce, per_replica


@keras.saving.register_keras_serializable("mrcnn")
class ResUNet(DetectorBase):
    """Predict class probabilities of every pixel; instances are the connected components.

    The input is a batch of `make_dense_batch`. If it contains only `image` (B, S, S, C), the outputs are probabilities
    (B, S, S, M) float32. If it contains `maps`, the outputs are the losses.

    Args:
        config: architecture and targets.
        seed: saved in the file; `keras.utils.set_random_seed` sets the seed of the initial weights.
    """

    config_class = ResUNetConfig
    config: ResUNetConfig

    def __init__(
        self,
        config: ResUNetConfig,
        *,
        seed: int = 0,
        dtype: str | keras.DTypePolicy | None = None,
        name: str = "resunet",
    ) -> None:
        super().__init__(config, seed=seed, dtype=dtype, name=name)
        with self.dtype_scope():
            # The attribute is `backbone` as in Mask R-CNN, for `mrcnn.models.training.stages`.
            self.backbone = build_encoder(config)
            self.decoder = build_decoder(config, [output.shape for output in self.backbone.outputs])
        names = ("dice_loss", "cross_entropy") if config.loss == "dice_cross_entropy" else ("focal_tversky",)
        self.loss_means = [keras.metrics.Mean(name=name) for name in names]
        self.built = True

    def call(self, batch: Batch, training: bool = False) -> Tensor | dict[str, Tensor]:
        logits = self.decoder(self.backbone(batch["image"], training=training), training=training)
        exclusive = self.config.exclusive
        probabilities = ops.softmax(logits, axis=-1) if exclusive else ops.sigmoid(logits)
        if "maps" not in batch:
            return probabilities
        maps = ops.cast(batch["maps"], "float32")
        # The loss of the classes excludes the background, which dominates most images.
        classes = (probabilities[..., int(exclusive) :], maps[..., int(exclusive) :])
        counted = None
        if "ignore" in batch:
            counted = 1.0 - ops.cast(batch["ignore"], "float32")[..., None]
            classes = (classes[0] * counted, classes[1] * counted)
        if self.config.loss == "focal_tversky":
            return {"focal_tversky": focal_tversky(*classes)}
        return {
            "dice_loss": dice_loss(*classes),
            "cross_entropy": cross_entropy(logits, maps, exclusive, counted),
        }

    def detect(self, images: Sequence[np.ndarray], *, batch_size: int = 4) -> list[Detections]:
        """Find the instances in images (H, W, C) or (H, W) of any size and type with `instances_from_class_maps`.

        With `config.tile` they are found in tiles, and merged.
        """
        find = partial(self._detect_whole, batch_size=batch_size)
        return detect_in_tiles(find, images, self.config.tile, batch_size=batch_size)

    def _detect_whole(self, images: Sequence[np.ndarray], batch_size: int) -> list[Detections]:
        if not self.compiled:
            self.compile()
        prepared = [prepare_image(image, self.config) for image in images]
        found = []
        for batch, count in padded_batches([pixels for pixels, _ in prepared], batch_size):
            for maps in np.asarray(self.predict_on_batch({"image": batch}))[:count]:
                letterbox = prepared[len(found)][1]
                limit = self.config.max_detections
                found.append(instances_from_class_maps(maps, letterbox, exclusive=self.config.exclusive, limit=limit))
        return found


def build_encoder(config: ResUNetConfig) -> keras.Model:
    """Build a functional model from (B, S, S, C) to maps of strides 1, 2, 4, …, one for each of `config.widths`."""
    image = layers.Input((*config.input_shape, config.channels), name="image")
    first = config.widths[0]
    # No activation before the first convolution: a ReLU would clip the image at its mean.
    x = layers.Conv2D(first, 3, padding="same", use_bias=False, name="conv1_1_conv")(image)
    x = _convolve(_activate(x, config.norm, "conv1_1"), first, 1, "conv1_2_conv")
    shortcut = layers.Conv2D(first, 1, use_bias=False, name="conv1_0_conv")(image)
    outputs = [layers.Add(name="conv1_add")([x, shortcut])]
    for level, width in enumerate(config.widths[1:], start=2):
        outputs.append(_unit(outputs[-1], width, 2, config.norm, f"conv{level}"))
    return keras.Model(image, outputs, name="encoder")


def build_decoder(config: ResUNetConfig, shapes: Sequence[tuple[int, ...]]) -> keras.Model:
    """Build a functional model from the maps of the encoder to logits (B, S, S, M) float32."""
    levels = [layers.Input(shape[1:], name=f"level{number}") for number, shape in enumerate(shapes, start=1)]
    x = levels[-1]
    for number in range(len(levels) - 1, 0, -1):
        x = layers.UpSampling2D(2, interpolation="bilinear", name=f"up{number}")(x)
        x = layers.Concatenate(name=f"up{number}_concat")([x, levels[number - 1]])
        x = _unit(x, config.widths[number - 1], 1, config.norm, f"up{number}_unit")
    x = _activate(x, config.norm, "out")
    logits = layers.Conv2D(config.maps, 1, dtype="float32", name="logits")(x)
    return keras.Model(levels, logits, name="decoder")


def _unit(x: Tensor, width: int, stride: int, norm: str, name: str) -> Tensor:
    """Add a 1 × 1 convolution to two of (norm, ReLU, convolution) (He et al. 2016, Identity Mappings, figure 4e)."""
    y = _convolve(_activate(x, norm, f"{name}_1"), width, stride, f"{name}_1_conv")
    y = _convolve(_activate(y, norm, f"{name}_2"), width, 1, f"{name}_2_conv")
    shortcut = layers.Conv2D(width, 1, stride, use_bias=False, name=f"{name}_0_conv")(x)
    return layers.Add(name=f"{name}_add")([y, shortcut])


def _activate(x: Tensor, norm: str, name: str) -> Tensor:
    return layers.ReLU(name=f"{name}_relu")(make_normalization(norm, f"{name}_norm")(x))


def _convolve(x: Tensor, width: int, stride: int, name: str) -> Tensor:
    if stride == 1:
        return Convolution3x3(width, use_bias=False, name=name)(x)
    return layers.Conv2D(width, 3, stride, "same", use_bias=False, name=name)(x)


SMOOTHING = 1.0
"""Pixels added to numerator and denominator, so that the loss of a class without pixels has a value and a gradient."""
FALSE_NEGATIVE_WEIGHT, FALSE_POSITIVE_WEIGHT = 0.7, 0.3
"""Weights of false negative and false positive pixels: α and β of Abraham & Khan 2018, section 4."""
GAMMA = 4 / 3


def cross_entropy(logits: Tensor, maps: Tensor, exclusive: bool, counted: Tensor | None = None) -> Tensor:
    """Return the mean cross-entropy per pixel: softmax if `exclusive`, else the mean over one sigmoid per map.

    Args:
        logits: (B, H, W, M) float32.
        maps: (B, H, W, M) float32 targets.
        exclusive: whether a pixel has one class at most.
        counted: (B, H, W, 1) float32, 0 for ignored pixels; None for no ignored pixels.
    """
    if counted is not None:
        if exclusive:
            loss = -ops.sum(maps * ops.log_softmax(logits, axis=-1), axis=-1, keepdims=True)
        else:
            loss = binary_cross_entropy(logits, maps)
        loss = ops.mean(loss, axis=-1, keepdims=True)
        return ops.sum(loss * counted) / ops.maximum(all_reduce(ops.sum(counted)), 1.0)
    if exclusive:
        return per_replica(-ops.mean(ops.sum(maps * ops.log_softmax(logits, axis=-1), axis=-1)))
    return per_replica(ops.mean(binary_cross_entropy(logits, maps)))


def dice_loss(probabilities: Tensor, maps: Tensor) -> Tensor:
    """Return 1 − the mean over classes of soft Dice over the whole batch (Milletari et al. 2016, V-Net, equation 2).

    Dice of single images would be 0 for one false positive pixel in an empty slice, and most slices of a volume are
    empty. The denominator has no squares, as in nnU-Net (Isensee et al. 2021).
    """
    both, truth, found = _sums(probabilities, maps)
    return per_replica(1.0 - ops.mean((2.0 * both + SMOOTHING) / (truth + found + SMOOTHING)))


def focal_tversky(probabilities: Tensor, maps: Tensor) -> Tensor:
    """Return the mean over classes of (1 − Tversky index)^(1/γ) over the batch (Abraham & Khan 2018, eq. 2, 4)."""
    both, truth, found = _sums(probabilities, maps)
    missed, false = FALSE_NEGATIVE_WEIGHT * (truth - both), FALSE_POSITIVE_WEIGHT * (found - both)
    index = (both + SMOOTHING) / (both + missed + false + SMOOTHING)
    # The lower limit keeps the gradient of the root finite for perfect predictions.
    return per_replica(ops.mean(ops.power(ops.maximum(1.0 - index, 1e-6), 1.0 / GAMMA)))


def _sums(probabilities: Tensor, maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the sums (M,) over the batch of p·t, t and p for each class."""
    both, truth, found = (
        all_reduce(ops.sum(each, axis=(0, 1, 2))) for each in (probabilities * maps, maps, probabilities)
    )
    return both, truth, found


_CONNECTIVITY = np.ones((3, 3), bool)  # 8 neighbors


def instances_from_class_maps(
    maps: np.ndarray, letterbox: Letterbox | CenteredLetterbox, *, exclusive: bool, limit: int
) -> Detections:
    """Return the connected components of each class in pixels of the original image of `letterbox`.

    A pixel belongs to a class if its probability is at least 0.5. With `exclusive`, where the first map is the
    background, it belongs to the class with the highest probability. The score of a component is the mean probability.

    Args:
        maps: (S, S, M) probabilities in network pixels.
        letterbox: transform from the image to the network input.
        exclusive: whether a pixel has one class at most.
        limit: largest number of instances; the largest components are returned.
    """
    height, width = letterbox.height, letterbox.width
    full = resize(np.asarray(maps, np.float32), height, width, 1 / letterbox.scale)
    classes = full.shape[2] - exclusive
    if exclusive:
        best = full.argmax(axis=2)
        regions = [best == class_id for class_id in range(1, classes + 1)]
    else:
        regions = [full[..., position] >= 0.5 for position in range(classes)]
    components = []  # area, score, class id, mask
    for class_id, region in enumerate(regions, start=1):
        labels, count = ndimage.label(region, _CONNECTIVITY)  # pyright: ignore[reportGeneralTypeIssues] - no annotations
        if not count:
            continue
        areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
        sums = np.bincount(labels.ravel(), full[..., class_id - 1 + exclusive].ravel(), minlength=count + 1)[1:]
        slices = ndimage.find_objects(labels)
        for component in np.argsort(-areas, kind="stable")[:limit]:
            rows, columns = slices[component]
            crop = Crop(rows.start, columns.start, labels[rows, columns] == component + 1)
            components.append((areas[component], sums[component] / areas[component], class_id, crop))
    components = sorted(components, key=lambda each: -each[0])[:limit]
    components.sort(key=lambda each: -each[1])
    if not components:
        return Detections.empty(height, width)
    masks = InstanceMasks(height, width, [mask for *_, mask in components])
    return Detections(
        boxes=masks.boxes.astype(np.float32),
        scores=np.array([score for _, score, _, _ in components], np.float32).clip(0, 1),
        class_ids=np.array([class_id for _, _, class_id, _ in components], np.int32),
        masks=masks,
    )

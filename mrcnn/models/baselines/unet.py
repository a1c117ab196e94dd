"""ResUNet: a U-Net of pre-activated residual units (Zhang et al. 2018, Road Extraction by Deep Residual U-Net)."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
from keras import layers, ops
from scipy import ndimage

from mrcnn.config import ResUNetConfig
from mrcnn.data.transforms.encoding import Letterbox, prepare_image
from mrcnn.data.transforms.normalization import resize
from mrcnn.detections import Detections
from mrcnn.instance_masks import Crop, InstanceMasks
from mrcnn.models.detector_base import DetectorBase, in_batches
from mrcnn.models.layers.convolutions import Convolution3x3
from mrcnn.models.layers.normalization import make_normalization
from mrcnn.models.training.data_parallel import all_reduce, per_replica


@keras.saving.register_keras_serializable("mrcnn")
class ResUNet(DetectorBase):
    """Gives every pixel a probability for each class; instances are the connected pieces.

    As a layer it takes a batch as `make_dense_batch` makes it. With only `image` (B, S, S, C) in it, it returns
    probabilities (B, S, S, M), float32; with `maps` in it, its losses.

    Args:
        config: architecture and targets.
        seed: kept in the file; the initial weights follow from `keras.utils.set_random_seed`.
    """

    config_class = ResUNetConfig

    def __init__(self, config: ResUNetConfig, *, seed: int = 0, dtype=None, name: str = "resunet"):
        super().__init__(config, seed=seed, dtype=dtype, name=name)
        with self.own_policy():
            # Named as the backbone of a Mask R-CNN, whose stages name it (`mrcnn.models.training.stages`).
            self.backbone = build_encoder(config)
            self.decoder = build_decoder(config, [output.shape for output in self.backbone.outputs])
        names = ("dice", "cross_entropy") if config.loss == "dice_cross_entropy" else ("focal_tversky",)
        self.loss_means = [keras.metrics.Mean(name=name) for name in names]
        self.built = True

    def call(self, batch, training=False):
        logits = self.decoder(self.backbone(batch["image"], training=training), training=training)
        exclusive = self.config.exclusive
        probabilities = ops.softmax(logits, axis=-1) if exclusive else ops.sigmoid(logits)
        if "maps" not in batch:
            return probabilities
        maps = ops.cast(batch["maps"], "float32")
        # The background is not a class: an image full of it is not a success.
        classes = (probabilities[..., int(exclusive) :], maps[..., int(exclusive) :])
        counted = None
        if "ignore" in batch:
            counted = 1.0 - ops.cast(batch["ignore"], "float32")[..., None]
            classes = tuple(each * counted for each in classes)
        if self.config.loss == "focal_tversky":
            return {"focal_tversky": focal_tversky(*classes)}
        return {
            "dice": dice_loss(*classes),
            "cross_entropy": cross_entropy(logits, maps, exclusive, counted),
        }

    def detect(self, images: Sequence[np.ndarray], *, batch_size: int = 4) -> list[Detections]:
        """Find the instances in images (H, W, C) or (H, W) of any size and number type; see
        `instances_from_class_maps`."""
        if not self.compiled:
            self.compile()
        prepared = [prepare_image(image, self.config) for image in images]
        found = []
        for batch, count in in_batches([pixels for pixels, _ in prepared], batch_size):
            for maps in np.asarray(self.predict_on_batch({"image": batch}))[:count]:
                letterbox = prepared[len(found)][1]
                limit = self.config.max_detections
                found.append(instances_from_class_maps(maps, letterbox, exclusive=self.config.exclusive, limit=limit))
        return found


def build_encoder(config: ResUNetConfig) -> keras.Model:
    """A functional model from (B, S, S, C) to maps of strides 1, 2, 4, …, one for each of `config.widths`."""
    image = layers.Input((config.image_size, config.image_size, config.channels), name="image")
    first = config.widths[0]
    # The first unit has no activation before its first convolution: it would cut the image at its mean.
    x = layers.Conv2D(first, 3, padding="same", use_bias=False, name="conv1_1_conv")(image)
    x = _convolve(_activate(x, config.norm, "conv1_1"), first, 1, "conv1_2_conv")
    shortcut = layers.Conv2D(first, 1, use_bias=False, name="conv1_0_conv")(image)
    outputs = [layers.Add(name="conv1_add")([x, shortcut])]
    for level, width in enumerate(config.widths[1:], start=2):
        outputs.append(_unit(outputs[-1], width, 2, config.norm, f"conv{level}"))
    return keras.Model(image, outputs, name="encoder")


def build_decoder(config: ResUNetConfig, shapes: Sequence[tuple[int, ...]]) -> keras.Model:
    """A functional model from the encoder's maps to logits (B, S, S, M), float32."""
    levels = [layers.Input(shape[1:], name=f"level{number}") for number, shape in enumerate(shapes, start=1)]
    x = levels[-1]
    for number in range(len(levels) - 1, 0, -1):
        x = layers.UpSampling2D(2, interpolation="bilinear", name=f"up{number}")(x)
        x = layers.Concatenate(name=f"up{number}_concat")([x, levels[number - 1]])
        x = _unit(x, config.widths[number - 1], 1, config.norm, f"up{number}_unit")
    x = _activate(x, config.norm, "out")
    logits = layers.Conv2D(config.maps, 1, dtype="float32", name="logits")(x)
    return keras.Model(levels, logits, name="decoder")


def _unit(x, width: int, stride: int, norm: str, name: str):
    """Norm, ReLU, convolution, twice, beside a 1 × 1 convolution (He et al. 2016, Identity Mappings, figure 4e)."""
    y = _convolve(_activate(x, norm, f"{name}_1"), width, stride, f"{name}_1_conv")
    y = _convolve(_activate(y, norm, f"{name}_2"), width, 1, f"{name}_2_conv")
    shortcut = layers.Conv2D(width, 1, stride, use_bias=False, name=f"{name}_0_conv")(x)
    return layers.Add(name=f"{name}_add")([y, shortcut])


def _activate(x, norm: str, name: str):
    return layers.ReLU(name=f"{name}_relu")(make_normalization(norm, f"{name}_norm")(x))


def _convolve(x, width: int, stride: int, name: str):
    if stride == 1:
        return Convolution3x3(width, use_bias=False, name=name)(x)
    return layers.Conv2D(width, 3, stride, "same", use_bias=False, name=name)(x)


SMOOTHING = 1.0
"""Pixels added to both sides of a ratio, so that a class that is nowhere in the batch has a value and a gradient."""
MISSED, FALSE = 0.7, 0.3
"""Weights of missed and of false pixels in the Tversky index: alpha and beta of Abraham & Khan 2018, section 4."""
GAMMA = 4 / 3


def cross_entropy(logits, maps, exclusive: bool, counted=None):
    """Mean over pixels: softmax over all maps, or a sigmoid for each and the mean over them.

    Args:
        counted: (B, H, W, 1) float32, 0 where a pixel is ignored; None: all count.
    """
    if counted is not None:
        if exclusive:
            loss = -ops.sum(maps * ops.log_softmax(logits, axis=-1), axis=-1, keepdims=True)
        else:
            loss = ops.maximum(logits, 0.0) - logits * maps + ops.log1p(ops.exp(-ops.abs(logits)))
        loss = ops.mean(loss, axis=-1, keepdims=True)
        return ops.sum(loss * counted) / ops.maximum(all_reduce(ops.sum(counted)), 1.0)
    if exclusive:
        return per_replica(-ops.mean(ops.sum(maps * ops.log_softmax(logits, axis=-1), axis=-1)))
    # max(x, 0) − x·z + log(1 + e^−|x|): the form that cannot overflow.
    return per_replica(ops.mean(ops.maximum(logits, 0.0) - logits * maps + ops.log1p(ops.exp(-ops.abs(logits)))))


def dice_loss(probabilities, maps):
    """1 − soft Dice of each class over the whole batch, the mean over classes (Milletari et al. 2016, V-Net, eq. 2).

    Over the batch and not each image, as most slices of a volume are empty, where Dice is 0 for a single false pixel.
    Without squares in the denominator, as nnU-Net has it (Isensee et al. 2021).
    """
    both, truth, found = _sums(probabilities, maps)
    return per_replica(1.0 - ops.mean((2.0 * both + SMOOTHING) / (truth + found + SMOOTHING)))


def focal_tversky(probabilities, maps):
    """(1 − Tversky index)^(1/γ) of each class over the batch, the mean over classes (Abraham & Khan 2018, eq. 2, 4)."""
    both, truth, found = _sums(probabilities, maps)
    index = (both + SMOOTHING) / (both + MISSED * (truth - both) + FALSE * (found - both) + SMOOTHING)
    # The floor keeps the root's gradient finite where nothing is wrong.
    return per_replica(ops.mean(ops.power(ops.maximum(1.0 - index, 1e-6), 1.0 / GAMMA)))


def _sums(probabilities, maps):
    """For each class the sums (M,) over the batch of p·t, t and p."""
    over = (0, 1, 2)
    return tuple(all_reduce(ops.sum(each, axis=over)) for each in (probabilities * maps, maps, probabilities))


_TOUCHING = np.ones((3, 3), bool)  # corners too


def instances_from_class_maps(maps: np.ndarray, letterbox: Letterbox, *, exclusive: bool, limit: int) -> Detections:
    """The connected pieces of each class in the pixels of the image that `letterbox` came from.

    A pixel is of a class at a probability of at least 0.5, or, where one class at most is true (`exclusive`, the first
    map is the background), where that class is the likeliest. A piece's score is the mean of its probabilities, and of
    more pieces than `limit` the largest stay.

    Args:
        maps: (S, S, M) probabilities of the network's input.
    """
    height, width = letterbox.height, letterbox.width
    full = resize(np.asarray(maps, np.float32), height, width, 1 / letterbox.scale)
    classes = full.shape[2] - exclusive
    if exclusive:
        likeliest = full.argmax(axis=2)
        regions = [likeliest == class_id for class_id in range(1, classes + 1)]
    else:
        regions = [full[..., position] >= 0.5 for position in range(classes)]
    pieces = []  # area, score, class id, mask
    for class_id, region in enumerate(regions, start=1):
        numbers, count = ndimage.label(region, _TOUCHING)
        if not count:
            continue
        areas = np.bincount(numbers.ravel(), minlength=count + 1)[1:]
        sums = np.bincount(numbers.ravel(), full[..., class_id - 1 + exclusive].ravel(), minlength=count + 1)[1:]
        places = ndimage.find_objects(numbers)
        for piece in np.argsort(-areas, kind="stable")[:limit]:
            rows, columns = places[piece]
            crop = Crop(rows.start, columns.start, numbers[rows, columns] == piece + 1)
            pieces.append((areas[piece], sums[piece] / areas[piece], class_id, crop))
    pieces = sorted(pieces, key=lambda each: -each[0])[:limit]
    pieces.sort(key=lambda each: -each[1])
    if not pieces:
        return Detections.empty(height, width)
    masks = InstanceMasks(height, width, [mask for *_, mask in pieces])
    return Detections(
        boxes=masks.boxes.astype(np.float32),
        scores=np.array([score for _, score, _, _ in pieces], np.float32).clip(0, 1),
        class_ids=np.array([class_id for _, _, class_id, _ in pieces], np.int32),
        masks=masks,
    )

"""Write a trained model with preprocessing and postprocessing as a TensorFlow SavedModel."""

from __future__ import annotations

from pathlib import Path

import keras

from mrcnn.backend import Tensor, ops
from mrcnn.errors import InputError
from mrcnn.export.pasting import paste, to_image
from mrcnn.export.pixels import prepare
from mrcnn.models import MaskRCNN


def write_saved_model(model: MaskRCNN, folder: Path) -> None:
    """Write a folder that TensorFlow loads without Keras and without this project.

    `mrcnn.export` defines the inputs and outputs of the signature `serving_default`.

    Raises:
        InputError: Keras runs on another backend.
    """
    if keras.backend.backend() != "tensorflow":
        raise InputError(
            f"--to saved_model: Keras runs on {keras.backend.backend()}; expected KERAS_BACKEND=tensorflow"
        )
    # The archive finds the variables that are used; tracking the model too would write them twice.
    archive = keras.export.ExportArchive()
    images = keras.InputSpec(shape=(None, None, None, None), dtype="float32", name="images")
    archive.add_endpoint("serve", lambda images: _detect(model, images), input_signature=[images])
    archive.write_out(str(folder), verbose=False)  # pyright: ignore[reportAttributeAccessIssue] - the backend's class


def _detect(model: MaskRCNN, images: Tensor) -> dict[str, Tensor]:
    planes, scale = prepare(images, model.config, ops)
    found = model({"image": ops.transpose(planes, (0, 2, 3, 1))}, training=False)
    count = ops.sum(ops.cast(found["class_ids"] > 0, "int32"), axis=1)
    # Sorted by score, so the padding is last.
    slots = ops.max(count)
    boxes, scores, class_ids, masks = (found[name][:, :slots] for name in ("boxes", "scores", "class_ids", "masks"))
    masks = ops.where(ops.reshape(class_ids > 0, (-1, slots, 1, 1)), masks, 0.0)
    height, width = ops.shape(images)[1:3]
    boxes = to_image(boxes, scale, height, width, ops)
    return {
        "boxes": boxes,
        "scores": scores,
        "class_ids": class_ids,
        "masks": paste(masks, boxes, height, width, model.config.mask_size, ops),
        "count": count,
    }

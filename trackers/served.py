"""The packaged model's face: images in, instances out. This file travels with the model, as does the package `mrcnn`.

MLflow runs it as "models from code" where the model is loaded, so it imports nothing else of this project.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.pyfunc import PythonModel, PythonModelContext
from pycocotools import mask as coco_mask

from mrcnn.data.given_images import as_images
from mrcnn.detections import Detections
from mrcnn.errors import InputError

NOTICE = "Research use only"


def _as_spacing(given: object) -> tuple[float, float] | None:
    pair = np.asarray(given)
    if pair.shape != (2,) or pair.dtype.kind not in "uif" or not (pair >= 0).all() or not np.isfinite(pair).all():
        raise InputError(f"spacing_mm={given}: expected the row's and the column's size in mm, or 0, 0")
    return (float(pair[0]), float(pair[1])) if pair.all() else None


def as_dict(
    found: Detections, height: int, width: int, class_names: tuple[str, ...], findings: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Detections of an image of `height` × `width` pixels as plain data: boxes (x, y, w, h) and COCO run lengths."""
    instances = []
    for box, score, class_id, mask in zip(found.boxes, found.scores, found.class_ids, found.masks, strict=True):
        left, top, right, bottom = (float(value) for value in box)
        lengths = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
        instances.append(
            {
                "class": class_names[class_id - 1],
                "score": float(score),
                "bbox": [left, top, right - left, bottom - top],
                "segmentation": {"size": [height, width], "counts": lengths["counts"].decode("ascii")},
            }
        )
    return {"width": width, "height": height, "instances": instances, "findings": findings or {}, "notice": NOTICE}


class Served:
    """`predict` with type hints, from which MLflow makes the signature.

    It stands in a class of its own because MLflow wraps a `predict` that is written in a `PythonModel`'s body with a
    check that refuses an array where the hint says list. Inherited, it is called with the input as it was given.
    """

    findings: Callable[..., dict[str, Any]] | None = None

    def load_context(self, context: PythonModelContext) -> None:
        """Reads the networks, in Keras's safe mode, the working point, and what reads findings from the masks."""
        from mrcnn.ensemble import predictor_of
        from mrcnn.model import SEGMENTERS, load

        self.settings = json.loads(Path(context.artifacts["settings"]).read_text(encoding="utf-8"))
        networks = [load(path, SEGMENTERS) for name, path in sorted(context.artifacts.items()) if name != "settings"]
        self.network = predictor_of(networks, self.settings.get("flips", ()), self.settings.get("mirrored_ids"))
        if "findings" in self.settings:
            module, _, name = self.settings["findings"].partition(":")
            self.findings = getattr(importlib.import_module(module), name)

    def predict(
        self, context: PythonModelContext, model_input: list[Any], params: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Finds the instances in each image.

        Args:
            context: not used; MLflow's form.
            model_input: an array (H, W) or (H, W, C), or a list of them, of any sizes; uint8, uint16 or float.
            params: `confidence`: the least score of an instance, in place of the model's working point; `spacing_mm`:
                (row, column) size of a pixel of these images for findings in millimetres, 0 where it is unknown.

        Returns:
            A dict an image: `width`, `height`, `instances` (each with `class`, `score`, `bbox` [x, y, w, h] and
            `segmentation` as COCO run lengths), `findings`, `notice`. It can be written as JSON as it is.

        Raises:
            InputError: no image, a confidence outside 0 … 1, or a spacing that is not two numbers from 0.
        """
        confidence = float((params or {}).get("confidence", self.settings["confidence"]))
        if not 0 <= confidence <= 1:
            raise InputError(f"confidence={confidence}: expected a number from 0 to 1")
        spacing = _as_spacing((params or {}).get("spacing_mm", (0, 0)))
        images = as_images(model_input)
        found = self.network.detect(images)
        names = tuple(self.settings["class_names"])
        answers = []
        for image, detections in zip(images, found, strict=True):
            shown = detections.above(confidence)
            findings = self.findings(image, shown, names, spacing, None) if self.findings else {}
            answers.append(as_dict(shown, *image.shape[:2], names, findings))
        return answers


class ServedMaskRCNN(Served, PythonModel):
    """A trained Mask R-CNN or ResUNet, or several as one, as MLflow loads it."""


mlflow.models.set_model(ServedMaskRCNN())

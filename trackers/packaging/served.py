"""The packaged model's face: images in, instances out. This file travels with the model, as does the package `mrcnn`.

MLflow runs it as "models from code" where the model is loaded, so it imports nothing else of this project.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Annotated, Any, Literal

import mlflow
import numpy as np
from mlflow.pyfunc import PythonModel, PythonModelContext
from pydantic import Field, field_validator

from mrcnn.data.sample import SPACING_MM
from mrcnn.detections import Detections
from mrcnn.errors import InputError
from mrcnn.geometry.polygons import mask_to_polygons
from mrcnn.instance_masks import encode_crop
from mrcnn.serving.inputs import DecodedImage, parse_images
from mrcnn.serving.request import Fields, Fraction, validate
from mrcnn.serving.scoring_server import install_limits

NOTICE = "Research use only"
Side = Annotated[float, Field(strict=True, ge=0, le=SPACING_MM[1])]


class Params(Fields):
    """Parameters of a request."""

    confidence: Fraction | None = Field(None, description="a number from 0 to 1")
    spacing_mm: tuple[Side, Side] = Field(
        (0.0, 0.0),
        description="the row's and the column's size in mm, from {:g} to {:g}, or 0, 0".format(*SPACING_MM),
    )
    masks: Literal["rle", "polygons"] = Field("rle", description="rle or polygons")

    @field_validator("spacing_mm")
    @classmethod
    def _large_enough(cls, sides: tuple[float, float]) -> tuple[float, float]:
        if any(0 < side < SPACING_MM[0] for side in sides):
            raise ValueError
        return sides


def as_dict(
    found: Detections,
    height: int,
    width: int,
    class_names: tuple[str, ...],
    findings: dict[str, Any] | None = None,
    masks: str = "rle",
) -> dict[str, Any]:
    """Detections of an image of `height` × `width` pixels as plain data: boxes (x, y, w, h) and masks in COCO's forms.

    Args:
        masks: rle: compressed run lengths; polygons: lists of [x, y, x, y, …], see `mrcnn.geometry.polygons`.
    """
    instances = []
    for box, score, class_id, crop in zip(found.boxes, found.scores, found.class_ids, found.instances, strict=True):
        left, top, right, bottom = (float(value) for value in box)
        if masks == "polygons":
            segmentation: object = mask_to_polygons(crop.pixels, crop.top, crop.left)
        else:
            segmentation = {"size": [height, width], "counts": encode_crop(crop, height, width).decode("ascii")}
        instances.append(
            {
                "class": class_names[class_id - 1],
                "score": float(score),
                "bbox": [left, top, right - left, bottom - top],
                "segmentation": segmentation,
            }
        )
    return {"width": width, "height": height, "instances": instances, "findings": findings or {}, "notice": NOTICE}


class Served:
    """`predict` with type hints, from which MLflow makes the signature.

    It stands in a class of its own because MLflow wraps a `predict` that is written in a `PythonModel`'s body with a
    check that refuses an array where the hint says list. Inherited, it is called with the input as it was given.
    """

    findings: Callable[..., dict[str, Any]] | None = None
    _turn = Lock()
    """Several threads take turns: together they would need more memory and be no faster."""

    def load_context(self, context: PythonModelContext) -> None:
        """Reads the networks, in Keras's safe mode, the working point, and what reads findings from the masks."""
        from mrcnn.inference.ensemble import make_predictor
        from mrcnn.models import SEGMENTERS, load

        self.settings = json.loads(Path(context.artifacts["settings"]).read_text(encoding="utf-8"))
        networks = [load(path, SEGMENTERS) for name, path in sorted(context.artifacts.items()) if name != "settings"]
        self.network = make_predictor(networks, self.settings.get("flips", ()), self.settings.get("mirrored_ids"))
        if "findings" in self.settings:
            module, _, name = self.settings["findings"].partition(":")
            self.findings = getattr(importlib.import_module(module), name)
        if install_limits(self._answers):
            self.network.detect([np.zeros((8, 8), np.uint8)], batch_size=1)  # compiled before the first request

    def predict(
        self, context: PythonModelContext, model_input: list[Any], params: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Finds the instances in each image.

        Args:
            context: not used; MLflow's form.
            model_input: an array (H, W) or (H, W, C), or a list of them, of any sizes; uint8, uint16 or float. In a
                list also text, the base64 of a PNG, JPEG, TIFF, BMP or DICOM file.
            params: `confidence`: the least score of an instance, in place of the model's working point; `spacing_mm`:
                (row, column) size of a pixel of these images for findings in millimetres, 0 where it is unknown or a
                DICOM file tells it; `masks`: rle or polygons.

        Returns:
            A dict an image: `width`, `height`, `instances` (each with `class`, `score`, `bbox` [x, y, w, h] and
            `segmentation` as COCO run lengths or polygons), `findings`, `notice`. It can be written as JSON as it is.

        Raises:
            InputError: no image, one that the model cannot take, or a parameter that is unknown or out of its range.
        """
        return self._answers(parse_images(model_input), params or {})

    def _answers(self, images: Sequence[DecodedImage], params: Mapping[str, Any]) -> list[dict[str, Any]]:
        asked = validate(Params, params, "parameter")
        confidence = self.settings["confidence"] if asked.confidence is None else asked.confidence
        spacing = asked.spacing_mm if all(asked.spacing_mm) else None
        names = tuple(self.settings["class_names"])
        answers = []
        for number, image in enumerate(images, start=1):
            # One by one, so that each takes the same few steps, compiled once, whatever it came with, and the masks of
            # large images are never in memory together.
            try:
                with self._turn:
                    (found,) = self.network.detect([image.pixels], batch_size=1)
            except InputError as error:
                raise InputError(f"image {number}: {error}") from error
            shown = found.above(confidence)
            of_file = spacing or image.spacing_mm
            findings = self.findings(image.pixels, shown, names, of_file, None) if self.findings else {}
            answers.append(as_dict(shown, *image.pixels.shape[:2], names, findings, asked.masks))
        return answers


class ServedMaskRCNN(Served, PythonModel):
    """A trained Mask R-CNN or ResUNet, or several as one, as MLflow loads it."""


mlflow.models.set_model(ServedMaskRCNN())

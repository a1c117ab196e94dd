"""Predict instances with a packaged model. This file is saved with the model, like the package `mrcnn`.

MLflow runs it as "models from code" when it loads the model, so it imports nothing else of this project.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from pydantic import Field, field_validator

from mrcnn.data.sample import SPACING_MM, present_slice
from mrcnn.detections import Detections
from mrcnn.errors import InputError
from mrcnn.geometry.polygons import mask_to_polygons
from mrcnn.instance_masks import encode_crop
from mrcnn.serving.batching import UNUSED_SIZES, DetectionBatcher, batch_sizes
from mrcnn.serving.inputs import DecodedImage, parse_images
from mrcnn.serving.request import Fields, Fraction, validate
from mrcnn.serving.scoring_server import install_limits, packaging

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
    """Convert detections of an image of `height` × `width` pixels for JSON, with boxes (x, y, w, h) and COCO masks.

    Args:
        found: detections of one image.
        height: of the image.
        width: of the image.
        class_names: names of the class ids from 1.
        findings: clinical findings, if the task has any.
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
    """Define `predict` with type hints, from which MLflow infers the signature.

    A separate class, because MLflow wraps a `predict` that is defined in a `PythonModel` with a check that refuses an
    array if the hint is a list. An inherited method receives the input unchanged.
    """

    findings: Callable[..., dict[str, Any]] | None = None

    @cached_property
    def batcher(self) -> DetectionBatcher:
        """One thread predicts at a time, for all requests that wait: several need more memory and are not faster."""
        return DetectionBatcher(
            lambda images, size: self.network.detect(images, batch_size=size),
            batch_sizes(self.network.config.input_shape),
        )

    def load_context(self, context: PythonModelContext) -> None:
        """Load the networks in Keras's safe mode, the settings, and the function for the findings."""
        if packaging.get():
            return
        from mrcnn.inference.ensemble import make_predictor
        from mrcnn.models import SEGMENTERS, load

        self.settings = json.loads(Path(context.artifacts["settings"]).read_text(encoding="utf-8"))
        networks = [load(path, SEGMENTERS) for name, path in sorted(context.artifacts.items()) if name != "settings"]
        self.network = make_predictor(networks, self.settings.get("flips", ()), self.settings.get("mirrored_ids"))
        if "findings" in self.settings:
            module, _, name = self.settings["findings"].partition(":")
            self.findings = getattr(importlib.import_module(module), name)
        sizes = self.batcher.sizes
        if install_limits(self._answers, sizes[-1]):
            for size in (*UNUSED_SIZES, *sizes) if len(sizes) > 1 else sizes:  # compiled before the first request
                self.network.detect([np.zeros((8, 8), np.uint8)], batch_size=size)

    def predict(
        self, context: PythonModelContext, model_input: list[Any], params: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Find the instances in each image.

        Args:
            context: not used; part of MLflow's interface.
            model_input: an array (H, W) or (H, W, C), or a list of them, of any sizes; uint8, uint16 or float. In a
                list also text, the base64 of a PNG, JPEG, TIFF, BMP or DICOM file. A model with `context_slices` takes
                the channels of all slices, or gray; see `mrcnn.data.sample.read_with_context`.
            params: `confidence`: lowest score of an instance, default: the threshold of the model; `spacing_mm`: (row,
                column) size of a pixel in millimeters, for findings; 0 if it is unknown or in the DICOM file; `masks`:
                rle or polygons.

        Returns:
            A dict for each image that can be written as JSON: `width`, `height`, `instances` (each with `class`,
            `score`, `bbox` [x, y, w, h] and `segmentation` as COCO run lengths or polygons), `findings`, `notice`.

        Raises:
            InputError: no image, an invalid image, or a parameter that is unknown or out of range.
        """
        return [] if packaging.get() else self._answers(parse_images(model_input), params or {})

    def _answers(self, images: Sequence[DecodedImage], params: Mapping[str, Any]) -> list[dict[str, Any]]:
        request = validate(Params, params, "parameter")
        confidence = self.settings["confidence"] if request.confidence is None else request.confidence
        spacing = request.spacing_mm if all(request.spacing_mm) else None
        names = tuple(self.settings["class_names"])
        answers = []
        for number, image in enumerate(images, start=1):
            # One by one: only one image's masks of each request are in memory.
            try:
                found = self.batcher.detect(image.pixels)
            except InputError as error:
                raise InputError(f"image {number}: {error}") from error
            shown = found.above(confidence)
            of_file = spacing or image.spacing_mm
            seen = present_slice(image.pixels, self.network.config.context_slices)
            findings = self.findings(seen, shown, names, of_file, None) if self.findings else {}
            height, width = image.pixels.shape[:2]
            answers.append(as_dict(shown, height, width, names, findings, request.masks))
        return answers


class ServedMaskRCNN(Served, PythonModel):  # pyright: ignore[reportIncompatibleMethodOverride] no return type there
    """A trained Mask R-CNN, ResUNet or ensemble, as MLflow loads it."""


set_model(ServedMaskRCNN())

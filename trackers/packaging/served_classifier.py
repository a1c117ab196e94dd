"""Classify images with a packaged classifier. This file is saved with the model, like the package `mrcnn`.

MLflow runs it as "models from code" when it loads the model, so it imports nothing else of this project.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from pydantic import Field

from mrcnn.errors import InputError
from mrcnn.serving.inputs import DecodedImage, parse_images
from mrcnn.serving.request import Fields, Fraction, validate
from mrcnn.serving.scoring_server import install_limits, packaging

NOTICE = "Research use only"


class Params(Fields):
    """Parameters of a request."""

    threshold: Fraction | None = Field(None, description="a number from 0 to 1")


class Served:
    """Define `predict` with type hints in a separate class, as `trackers.packaging.served.Served` explains."""

    _turn = Lock()

    def load_context(self, context: PythonModelContext) -> None:
        """Load the network in Keras's safe mode, and the settings."""
        if packaging.get():
            return
        from mrcnn.models import Classifier, load

        self.network = load(context.artifacts["model"], (Classifier,))
        self.settings = json.loads(Path(context.artifacts["settings"]).read_text(encoding="utf-8"))
        if install_limits(self._answers):
            self.network.probabilities([np.zeros((8, 8), np.uint8)], batch_size=1)  # compiled before the first request

    def predict(
        self, context: PythonModelContext, model_input: list[Any], params: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Predict the label of each image.

        Args:
            context: not used; part of MLflow's interface.
            model_input: an array (H, W) or (H, W, C), or a list of them, of any sizes; uint8, uint16 or float. In a
                list also text, the base64 of a PNG, JPEG, TIFF, BMP or DICOM file.
            params: `threshold`: lowest probability of the positive label, default: that of the model.

        Returns:
            A dict for each image: `label`, `probability` of the positive label, and `notice`.

        Raises:
            InputError: no image, an invalid image, or a parameter that is unknown or out of range.
        """
        return [] if packaging.get() else self._answers(parse_images(model_input), params or {})

    def _answers(self, images: Sequence[DecodedImage], params: Mapping[str, Any]) -> list[dict[str, Any]]:
        request = validate(Params, params, "parameter")
        threshold = self.settings["threshold"] if request.threshold is None else request.threshold
        negative, positive = self.settings["class_names"]
        answers = []
        for number, image in enumerate(images, start=1):
            try:
                with self._turn:
                    (probability,) = self.network.probabilities([image.pixels], batch_size=1)
            except InputError as error:
                raise InputError(f"image {number}: {error}") from error
            label = positive if probability >= threshold else negative
            answers.append({"label": label, "probability": float(probability), "notice": NOTICE})
        return answers


class ServedClassifier(Served, PythonModel):  # pyright: ignore[reportIncompatibleMethodOverride] no return type there
    """A trained classifier as MLflow loads it."""


set_model(ServedClassifier())

"""The packaged classifier's face: images in, a label each out. This file travels with the model, as does `mrcnn`.

MLflow runs it as "models from code" where the model is loaded, so it imports nothing else of this project.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import mlflow
import numpy as np
from mlflow.pyfunc import PythonModel, PythonModelContext
from pydantic import Field

from mrcnn.errors import InputError
from mrcnn.serving.inputs import DecodedImage, parse_images
from mrcnn.serving.request import Fields, Fraction, validate
from mrcnn.serving.scoring_server import install_limits

NOTICE = "Research use only"


class Params(Fields):
    """Parameters of a request."""

    threshold: Fraction | None = Field(None, description="a number from 0 to 1")


class Served:
    """`predict` with type hints, from which MLflow makes the signature; apart for the reason in
    `trackers.packaging.served`."""

    _turn = Lock()

    def load_context(self, context: PythonModelContext) -> None:
        """Reads the network, in Keras's safe mode, and the working point."""
        from mrcnn.models import Classifier, load

        self.network = load(context.artifacts["model"], (Classifier,))
        self.settings = json.loads(Path(context.artifacts["settings"]).read_text(encoding="utf-8"))
        if install_limits(self._answers):
            self.network.probabilities([np.zeros((8, 8), np.uint8)], batch_size=1)  # compiled before the first request

    def predict(
        self, context: PythonModelContext, model_input: list[Any], params: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Tells of each image which label it has.

        Args:
            context: not used; MLflow's form.
            model_input: an array (H, W) or (H, W, C), or a list of them, of any sizes; uint8, uint16 or float. In a
                list also text, the base64 of a PNG, JPEG, TIFF, BMP or DICOM file.
            params: `threshold`: the least probability of the positive label, in place of the model's.

        Returns:
            A dict an image: `label`, `probability` of the positive label, whichever was given, and `notice`.

        Raises:
            InputError: no image, one that the model cannot take, or a parameter that is unknown or out of its range.
        """
        return self._answers(parse_images(model_input), params or {})

    def _answers(self, images: Sequence[DecodedImage], params: Mapping[str, Any]) -> list[dict[str, Any]]:
        asked = validate(Params, params, "parameter")
        threshold = self.settings["threshold"] if asked.threshold is None else asked.threshold
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


class ServedClassifier(Served, PythonModel):
    """A trained classifier as MLflow loads it."""


mlflow.models.set_model(ServedClassifier())

"""The packaged classifier's face: images in, a label each out. This file travels with the model, as does `mrcnn`.

MLflow runs it as "models from code" where the model is loaded, so it imports nothing else of this project.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.pyfunc import PythonModel, PythonModelContext

from mrcnn.data.given_images import as_images
from mrcnn.errors import InputError

NOTICE = "Research use only"


class Served:
    """`predict` with type hints, from which MLflow makes the signature; apart for the reason in `trackers.served`."""

    def load_context(self, context: PythonModelContext) -> None:
        """Reads the network, in Keras's safe mode, and the working point."""
        from mrcnn.model import Classifier, load

        self.network = load(context.artifacts["model"], (Classifier,))
        self.settings = json.loads(Path(context.artifacts["settings"]).read_text(encoding="utf-8"))

    def predict(
        self, context: PythonModelContext, model_input: list[Any], params: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Tells of each image which label it has.

        Args:
            context: not used; MLflow's form.
            model_input: an array (H, W) or (H, W, C), or a list of them, of any sizes; uint8, uint16 or float.
            params: `threshold`: the least probability of the positive label, in place of the model's.

        Returns:
            A dict an image: `label`, `probability` of the positive label, whichever was given, and `notice`.

        Raises:
            InputError: no image, or a threshold outside 0 … 1.
        """
        threshold = float((params or {}).get("threshold", self.settings["threshold"]))
        if not 0 <= threshold <= 1:
            raise InputError(f"threshold={threshold}: expected a number from 0 to 1")
        negative, positive = self.settings["class_names"]
        images: list[np.ndarray] = as_images(model_input)
        return [
            {
                "label": positive if probability >= threshold else negative,
                "probability": float(probability),
                "notice": NOTICE,
            }
            for probability in self.network.probabilities(images)
        ]


class ServedClassifier(Served, PythonModel):
    """A trained classifier as MLflow loads it."""


mlflow.models.set_model(ServedClassifier())

"""Run one system of `benchmarks.export`: `detect`, which also exports the model, or an exported model.

Settings: system (`detect`, `saved_model`, `onnx` or `onnx_int8`), size, batch, folder for the exports.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed_setup import make_images
from benchmarks.speed_turns import serve
from mrcnn.export import FORMS
from mrcnn.export.exporting import MIN_IMAGES


class Detect:
    """Time `MaskRCNN.detect` of the model of `benchmarks.speed`."""

    def __init__(self, size: int, batch: int, folder: str) -> None:
        from benchmarks.speed_worker import Ours

        self.folder, self.size = Path(folder), size
        self.ours = Ours("float32", size, batch)

    def prepare(self, work: str) -> dict:
        """Build the model for `work`, `many` or `few` detections, run it, and export it in every format.

        Returns:
            `seconds` of the first run, detections `kept` in each image, and `bytes` by form.
        """
        from mrcnn.export import export_model

        answer = self.ours.prepare(work)
        sizes = {}
        for form in FORMS:
            path = self.folder / f"{work}-{form}"
            calibration = make_images(self.size, MIN_IMAGES) if form == "onnx_int8" else ()
            export_model(self.ours.model, form, path, calibration=calibration)
            files = path.rglob("*") if path.is_dir() else [path]
            sizes[form] = sum(file.stat().st_size for file in files if file.is_file())
        return {"seconds": answer["seconds"], "kept": answer["kept"], "bytes": sizes}

    def step(self) -> dict:
        return self.ours.step()


class Exported:
    """Time an exported model: a request of uint8 images per step."""

    def __init__(self, form: str, size: int, batch: int, folder: str) -> None:
        self.form, self.folder = form, Path(folder)
        self.images = np.stack(make_images(size, batch))

    def prepare(self, work: str) -> dict:
        """Load the model exported for `work` and run it twice; return `seconds` of both and of loading, and `kept`."""
        start = time.perf_counter()
        load = _load_saved_model if self.form == "saved_model" else _load_onnx
        self.run = load(self.folder / f"{work}-{self.form}")
        self.step()
        seconds = time.perf_counter() - start
        return {"seconds": seconds, "kept": self.run(self.images.astype(np.float32))["count"].tolist()}

    def step(self) -> dict:
        start = time.perf_counter()
        self.run(self.images.astype(np.float32))
        return {"seconds": time.perf_counter() - start}


def _load_onnx(path: Path) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    session = onnxruntime.InferenceSession(str(path), options)
    names = [output.name for output in session.get_outputs()]
    return lambda images: dict(zip(names, session.run(None, {"images": images}), strict=True))


def _load_saved_model(path: Path) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    signature = loaded.signatures["serving_default"]

    def run(images: np.ndarray, _loaded: Any = loaded) -> dict[str, np.ndarray]:  # the signature alone holds no weights
        return {name: value.numpy() for name, value in signature(images=images).items()}

    return run


def make(system: str, **settings: Any) -> Detect | Exported:
    return Detect(**settings) if system == "detect" else Exported(system, **settings)


if __name__ == "__main__":
    serve(lambda: make(**json.loads(sys.argv[1])))

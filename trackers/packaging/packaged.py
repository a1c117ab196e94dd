"""Package a trained model with its threshold, code and requirements as an MLflow model."""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import mlflow
import numpy as np

import mrcnn
from mrcnn.data.fingerprint import SHARED
from mrcnn.serving.scoring_server import packaging
from trackers.packaging import served, served_classifier
from trackers.runs.run import Run
from trackers.runs.serialization import json_text

REQUIREMENTS = (
    "mlflow", "tensorflow", "keras", "numpy", "h5py", "pydantic", "pycocotools", "pillow", "tifffile", "scipy",
    "scikit-image", "pydicom", "fastapi", "starlette",
)  # fmt: skip
"""Imports of `trackers.packaging.served`, of findings, and of the modules of `mrcnn` that they use: pydicom for DICOM
files in requests, FastAPI and Starlette for the limits in MLflow's server. TensorFlow also for models trained on JAX: a
`.keras` file is the same for both, and TensorFlow is the default of Keras."""
EXAMPLE_SIDE = 24
"""Pixels of the longer side of the input example, which is stored as JSON with one number per line. It is noise, not an
image of a patient."""


def log_packaged_model(
    run: Run,
    model_paths: Path | str | Sequence[Path | str],
    *,
    confidence: float,
    class_names: tuple[str, ...],
    config: Mapping[str, object],
    sample_image: np.ndarray,
    findings: Callable[..., dict[str, Any]] | None = None,
    flips: Sequence[str] = (),
    mirrored_ids: Sequence[int] | None = None,
    fingerprint: Mapping[str, Any] | None = None,
    name: str = "model",
) -> str:
    """Log a `.keras` file, or those of an ensemble, to `run` as an MLflow model; return its URI, `models:/…`.

    `mlflow.pyfunc.load_model(uri).predict(image)` then works wherever the requirements are installed; see
    `trackers.packaging.served.Served.predict`.

    Args:
        run: the active run.
        model_paths: files of `MaskRCNN.save` or `ResUNet.save`; predictions of several are fused
            (`mrcnn.inference.ensemble`).
        confidence: lowest score of an instance.
        class_names: of class ids 1, 2, ….
        config: the resolved configuration.
        sample_image: (H, W, C); the input example has its type, channels and aspect ratio, but not its content.
        findings: a function of a module `(image, detections, class_names, spacing_mm, reader_input) -> dict`, for the
            `findings` of an answer. Its whole package is saved with the model, so that the package is complete when the
            model is loaded within this project.
        flips: test-time augmentation with which the threshold was chosen; see `mrcnn.inference.ensemble.Ensemble`.
        mirrored_ids: of the classes, for `flips`.
        fingerprint: `Fingerprint.as_dict` of the training data, of which the `SHARED` parts are packaged: those without
            names of files and patients.
        name: of the model in the run.
    """
    params: dict[str, object] = {"confidence": confidence, "spacing_mm": [0.0, 0.0], "masks": "rle"}
    code = [_file(mrcnn)]
    facts: dict[str, object] = {"class_names": class_names, "confidence": confidence, "config": config}
    if flips:
        facts |= {"flips": list(flips), "mirrored_ids": None if mirrored_ids is None else list(mirrored_ids)}
    if fingerprint:
        facts["fingerprint"] = {key: fingerprint[key] for key in SHARED if key in fingerprint}
    if findings is not None:
        code.append(_file(sys.modules[findings.__module__.partition(".")[0]]))
        facts["findings"] = f"{findings.__module__}:{findings.__qualname__}"
    return _log(run, served, model_paths, facts, sample_image, params, code, name)


def log_packaged_classifier(
    run: Run,
    model_path: Path | str,
    *,
    threshold: float,
    class_names: tuple[str, str],
    config: Mapping[str, object],
    sample_image: np.ndarray,
    name: str = "model",
) -> str:
    """Log a file of `Classifier.save` to `run` as an MLflow model; return its URI, `models:/…`.

    Its input and output are those of `trackers.packaging.served_classifier.Served.predict`.

    Args:
        run: to log to.
        model_path: file of `Classifier.save`.
        threshold: lowest probability of the positive label.
        class_names: the negative label, then the positive one.
        config: the resolved task.
        sample_image: (H, W, C), the input example of the package.
        name: of the logged model.
    """
    facts = {"class_names": class_names, "threshold": threshold, "config": config}
    params = {"threshold": threshold}
    code = [_file(mrcnn)]
    return _log(run, served_classifier, model_path, facts, sample_image, params, code, name)


def _log(
    run: Run,
    module: ModuleType,
    model_paths: Path | str | Sequence[Path | str],
    facts: Mapping[str, object],
    sample_image: np.ndarray,
    params: Mapping[str, object],
    code: Sequence[str],
    name: str,
) -> str:
    """Log the model that `module` serves, with `facts` as its settings, and test it; return its URI."""
    active = mlflow.active_run()
    if active is None or active.info.run_id != run.id:
        raise RuntimeError(f"run {run.id} is not the active one: MLflow would log the model to another")
    example = [_example(sample_image)]
    with tempfile.TemporaryDirectory() as folder, _without_advice_on_type_hints():
        settings = Path(folder, "settings.json")
        settings.write_text(json_text(facts), encoding="utf-8")
        untested = packaging.set(True)
        try:
            logged = mlflow.pyfunc.log_model(
                name=name,
                python_model=_file(module),
                artifacts=_named(model_paths) | {"settings": str(settings)},
                code_paths=[str(Path(file).parent) for file in code],
                pip_requirements=[f"{package}=={version(package)}" for package in REQUIREMENTS],
                input_example=(example, dict(params)),
            )
        finally:
            packaging.reset(untested)
    # The stored package is tested, with its files from the store.
    mlflow.pyfunc.load_model(logged.model_uri).predict(example, dict(params))
    return logged.model_uri


def _file(module: ModuleType) -> str:
    if module.__file__ is None:
        raise RuntimeError(f"{module.__name__}: a namespace package cannot be saved with a model")
    return module.__file__


def _named(model_paths: Path | str | Sequence[Path | str]) -> dict[str, str]:
    """Name the artifacts: `model`, or `member-01`, `member-02` … of an ensemble."""
    paths = [model_paths] if isinstance(model_paths, str | Path) else list(model_paths)
    names = ["model"] if len(paths) == 1 else [f"member-{number:02d}" for number in range(1, len(paths) + 1)]
    return {name: str(path) for name, path in zip(names, paths, strict=True)}


@contextmanager
def _without_advice_on_type_hints() -> Iterator[None]:
    """Suppress MLflow's advice on type hints, which `trackers.packaging.served.Served` does not follow.

    A filter has no effect, because MLflow sets its own around the warning.
    """
    with warnings.catch_warnings(record=True) as said:
        yield
    for warning in said:
        if "type hint" not in str(warning.message):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def _example(image: np.ndarray) -> list:
    """Create a small array of noise with the type, channels and aspect ratio of `image`, as nested lists."""
    step, rng = -(-max(image.shape[:2]) // EXAMPLE_SIDE), np.random.default_rng(0)
    shape = (*(-(-side // step) for side in image.shape[:2]), image.shape[2])
    if np.issubdtype(image.dtype, np.integer):
        return rng.integers(0, np.iinfo(image.dtype).max, shape, endpoint=True).tolist()
    return rng.standard_normal(shape).round(3).tolist()

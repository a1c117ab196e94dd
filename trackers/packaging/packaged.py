"""A trained model as one thing that anybody can load: network, working point, code and requirements."""

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
from trackers.packaging import served, served_classifier
from trackers.runs.run import Run
from trackers.runs.serialization import json_text

REQUIREMENTS = (
    "mlflow", "tensorflow", "keras", "numpy", "h5py", "pydantic", "pycocotools", "pillow", "tifffile", "scipy",
    "scikit-image", "pydicom", "fastapi", "starlette",
)  # fmt: skip
"""What `trackers.packaging.served`, findings, and those modules of `mrcnn` that both use import: pydicom for DICOM
files that are sent, FastAPI and Starlette for the gate in MLflow's server. TensorFlow is there for a model that was
trained on JAX too: a `.keras` file is the same for both, and Keras takes TensorFlow where nobody chose."""
EXAMPLE_SIDE = 24
"""Pixels of the input example's longer side: it is stored as JSON, a number a line. It is noise, for who
loads the model must not see a patient's image."""


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
    polarity: Sequence[float] | None = None,
    name: str = "model",
) -> str:
    """Logs a `.keras` file, or those of an ensemble, to `run` as an MLflow model and returns its address, `models:/…`.

    `mlflow.pyfunc.load_model(address).predict(image)` then works wherever the requirements are installed; see
    `trackers.packaging.served.Served.predict`.

    Args:
        run: the run, which must be the active one.
        model_paths: what `MaskRCNN.save` or `ResUNet.save` wrote; of several the answers are fused
        (`mrcnn.inference.ensemble`).
        confidence: the working point: the least score of an instance.
        class_names: of class ids 1, 2, ….
        config: the resolved configuration, kept for whoever asks where the model came from.
        sample_image: (H, W, C); the input example has its type, channels and aspect ratio, and nothing of its content.
        findings: a function of a module `(image, detections, class_names, spacing_mm, reader_input) -> dict`, for the
            `findings` of an answer. The package that it stands in travels with the model, the whole of it, so that who
            loads the model within this project still finds all of that package's modules.
        flips: test-time augmentation that the working point was chosen with; see `mrcnn.inference.ensemble.Ensemble`.
        mirrored_ids: of the classes, for `flips`.
        polarity: the mean picture of the films that trained it, see `mrcnn.data.film_polarity`.
        name: under which the run shows the model.
    """
    params: dict[str, object] = {"confidence": confidence, "spacing_mm": [0.0, 0.0], "masks": "rle"}
    code = [mrcnn.__file__]
    facts: dict[str, object] = {"class_names": class_names, "confidence": confidence, "config": config}
    if flips:
        facts |= {"flips": list(flips), "mirrored_ids": None if mirrored_ids is None else list(mirrored_ids)}
    if polarity is not None:
        facts["polarity"] = list(polarity)
    if findings is not None:
        code.append(sys.modules[findings.__module__.partition(".")[0]].__file__)
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
    """As `log_packaged_model`, of what `Classifier.save` wrote; see
    `trackers.packaging.served_classifier.Served.predict`.

    Args:
        threshold: the working point: the least probability of the positive label.
        class_names: the negative label, then the positive one.
    """
    facts = {"class_names": class_names, "threshold": threshold, "config": config}
    params = {"threshold": threshold}
    code = [mrcnn.__file__]
    return _log(run, served_classifier, model_path, facts, sample_image, params, code, name)


def _log(
    run: Run,
    face: ModuleType,
    model_paths: Path | str | Sequence[Path | str],
    facts: Mapping[str, object],
    sample_image: np.ndarray,
    params: Mapping[str, object],
    code: Sequence[str],
    name: str,
) -> str:
    """Logs the model behind the module `face`, with `facts` as its settings, and tries it; returns its address."""
    active = mlflow.active_run()
    if active is None or active.info.run_id != run.id:
        raise RuntimeError(f"run {run.id} is not the active one: MLflow would log the model to another")
    example = [_example(sample_image)]
    with tempfile.TemporaryDirectory() as folder, _without_advice_on_type_hints():
        settings = Path(folder, "settings.json")
        settings.write_text(json_text(facts), encoding="utf-8")
        logged = mlflow.pyfunc.log_model(
            name=name,
            python_model=str(Path(face.__file__)),
            artifacts=_named(model_paths) | {"settings": str(settings)},
            code_paths=[str(Path(file).parent) for file in code],
            pip_requirements=[f"{package}=={version(package)}" for package in REQUIREMENTS],
            input_example=(example, dict(params)),
        )
    # MLflow tries the example too, but only warns when it fails.
    mlflow.pyfunc.load_model(logged.model_uri).predict(example, dict(params))
    return logged.model_uri


def _named(model_paths: Path | str | Sequence[Path | str]) -> dict[str, str]:
    """The files as artifacts: `model`, or `member-01`, `member-02` … of an ensemble, whose files differ in name."""
    paths = [model_paths] if isinstance(model_paths, str | Path) else list(model_paths)
    names = ["model"] if len(paths) == 1 else [f"member-{number:02d}" for number in range(1, len(paths) + 1)]
    return {name: str(path) for name, path in zip(names, paths, strict=True)}


@contextmanager
def _without_advice_on_type_hints() -> Iterator[None]:
    """Keeps back MLflow's advice to have the input checked by it; `trackers.packaging.served.Served` says why it is
    not.

    A filter would not do, for MLflow sets its own around the warning.
    """
    with warnings.catch_warnings(record=True) as said:
        yield
    for warning in said:
        if "type hint" not in str(warning.message):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def _example(image: np.ndarray) -> list:
    """Noise of the type and channels of `image`, as nested lists, with so many rows and columns that it is small."""
    step, rng = -(-max(image.shape[:2]) // EXAMPLE_SIDE), np.random.default_rng(0)
    shape = (*(-(-side // step) for side in image.shape[:2]), image.shape[2])
    if np.issubdtype(image.dtype, np.integer):
        return rng.integers(0, np.iinfo(image.dtype).max, shape, endpoint=True).tolist()
    return rng.standard_normal(shape).round(3).tolist()

import os

import pytest
from mlflow import MlflowClient

TINY = {
    "task": "thyroid",
    "image_size": 64,
    "backbone": "small",
    "weights": "none",
    "fpn_channels": 16,
    "head_width": 32,
    "mask_channels": 16,
    "mask_convolutions": 1,
    "rpn_samples": 32,
    "proposals_per_level": 20,
    "proposals": 30,
    "roi_samples": 16,
    "max_detections": 10,
    "score_threshold": 0.01,
    "epochs": 1,
    "batch_size": 2,
    "workers": 0,
    "resamples": 20,
    "overlays": 1,
    "validation_loss": "false",
}


@pytest.fixture(scope="session")
def tiny_arguments():
    """Makes the words of a command that trains for seconds, with the given options besides."""

    def make(**options):
        return [word for key, value in {**TINY, **options}.items() for word in (f"--{key}", str(value))]

    return make


@pytest.fixture(scope="module")
def store(tmp_path_factory, empty_store):
    """A new store in an empty folder, which is the working folder meanwhile; returns a client."""
    folder = tmp_path_factory.mktemp("store")
    (folder / "mlflow.db").write_bytes(empty_store)
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
            patch.delenv(name)
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        # Trainings that fail leave their state in it.
        patch.setenv("MRCNN_CACHE", str(folder / "cache"))
        patch.chdir(folder)
        yield MlflowClient(f"sqlite:///{folder}/mlflow.db")


@pytest.fixture(scope="module")
def short_comparison():
    """Fewer resamples, and one timed call of each model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("experiments.comparison.paired_difference.RESAMPLES", 50)
        patch.setattr("experiments.comparison.job.TIMED_IMAGES", 1)
        patch.setattr("experiments.comparison.measurements.TIMED_ROUNDS", 1)
        yield

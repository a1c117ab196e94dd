import base64
import io
import os

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient


@pytest.fixture
def store(tmp_path, monkeypatch, empty_store):
    """A client of an empty store of its own; the working directory is its folder."""
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlflow.db").write_bytes(empty_store)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    yield MlflowClient()
    assert mlflow.active_run() is None
    mlflow.set_tracking_uri(None)


NOTHING = """
import mlflow
class Nothing(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input
mlflow.models.set_model(Nothing())
"""


@pytest.fixture
def register_champion(store, tmp_path):
    """Registers files in `tmp_path`, the artifacts of a model, as champion; returns the URI of the model."""
    from trackers.runs.run import tracked_run

    def register(**files):
        (tmp_path / "nothing.py").write_text(NOTHING)
        with tracked_run(task="thyroid", modality="ultrasound", seed=0, backend="tensorflow"):
            logged = mlflow.pyfunc.log_model(
                name="model",
                python_model=str(tmp_path / "nothing.py"),
                artifacts={name: str(tmp_path / file) for name, file in files.items()},
                pip_requirements=["mlflow"],
            )
        mlflow.register_model(logged.model_uri, "mrcnn-ultrasound")
        store.set_registered_model_alias("mrcnn-ultrasound", "champion", "1")
        return logged.model_uri

    return register


@pytest.fixture(scope="session")
def network():
    """A small network that was never trained."""
    from mrcnn.config import ModelConfig
    from mrcnn.models import MaskRCNN

    return MaskRCNN(
        ModelConfig(
            class_names=("nódulo (iso)", "hypo"),
            image_size=64,
            backbone="small",
            fpn_channels=16,
            head_width=16,
            mask_channels=16,
            mask_convolutions=1,
            proposals=50,
            proposals_per_level=50,
            max_detections=5,
            score_threshold=0.01,
        )
    )


@pytest.fixture(scope="session")
def packaged_model(tmp_path_factory, empty_store, network):
    """That network, registered as champion in a store of its own; `loaded`: files that were loaded for that."""
    import mrcnn.models
    from experiments.findings import FINDINGS
    from trackers.packaging.packaged import log_packaged_model
    from trackers.registry.registry import register
    from trackers.runs.run import tracked_run

    pixels = np.random.default_rng(0).random((40, 56, 3))
    images = {
        "gray_8_bit": (pixels[..., 0] * 255).astype(np.uint8),
        "gray_with_channel": (pixels[..., :1] * 255).astype(np.uint8),
        "rgb_8_bit": (pixels * 255).astype(np.uint8),
        "deep": (pixels[:30, ..., 0] * 60000).astype(np.uint16),
        "float": pixels.astype(np.float32) * 3 - 1,
    }
    folder, loaded, load = tmp_path_factory.mktemp("packaged"), [], mrcnn.models.load
    network.save(folder / "model.keras")
    (folder / "mlflow.db").write_bytes(empty_store)
    store, confidence = f"sqlite:///{folder}/mlflow.db", 0.02
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.delenv("MLFLOW_RUN_ID", raising=False)
        patch.chdir(folder)
        patch.setattr(mrcnn.models, "load", lambda path, kinds: loaded.append(path) or load(path, kinds))
        mlflow.set_tracking_uri(store)
        with tracked_run(task="thyroid", modality="ultrasound", seed=0, backend="tensorflow") as run:
            uri = log_packaged_model(
                run,
                folder / "model.keras",
                confidence=confidence,
                class_names=network.config.class_names,
                config={"task": "thyroid", "model": {"image_size": 64}},
                sample_image=images["rgb_8_bit"],
                findings=FINDINGS["nodules"],
            )
        register(uri, name="mrcnn-ultrasound", metric="dice", value=0.5, digest="d", task="thyroid", run_id=run.id)
        mlflow.set_tracking_uri(None)
    return {
        "network": network, "uri": uri, "run": run, "folder": folder, "store": store, "images": images,
        "confidence": confidence, "loaded": loaded,
    }  # fmt: skip


@pytest.fixture(scope="session")
def dicom_base64():
    """Makes the base64 of a DICOM file of a named patient, with the given pixels and fields."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    def make(pixels, syntax=ExplicitVRLittleEndian, **fields):
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = "Zzyxwy^Pusztay", "zx-4711", "19700131"
        dataset.Modality = "US"
        dataset.Rows, dataset.Columns = pixels.shape
        dataset.SamplesPerPixel = 1
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.BitsAllocated = dataset.BitsStored = pixels.dtype.itemsize * 8
        dataset.HighBit = dataset.BitsStored - 1
        dataset.PixelRepresentation = 0
        dataset.PixelData = pixels.tobytes()
        for name, value in fields.items():
            setattr(dataset, name, value)
        file = io.BytesIO()
        dataset.save_as(file, enforce_file_format=True)
        return base64.b64encode(file.getvalue()).decode()

    return make

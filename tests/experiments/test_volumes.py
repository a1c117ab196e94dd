"""A task of volumes from the command to what is kept of it, on a tiny model that learns nothing much."""

import csv
import io
import json
import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
import yaml
from mlflow import MlflowClient

from experiments.commands.predict import main as predict
from experiments.commands.train import main

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_arguments):
    """The run of a whole job on phantoms of volumes, and a function from the name of an artifact to its path."""
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
            patch.delenv(name)
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        patch.setenv("MRCNN_CACHE", str(folder / "cache"))
        patch.chdir(folder)
        options = {"task": "brats", "phantom_images": 10, "split": "[0.8, 0.1, 0.1]", "steps_per_epoch": 2}
        assert main(tiny_arguments(**options)) == 0
        store = MlflowClient(f"sqlite:///{folder}/mlflow.db")
        (run,) = store.search_runs([store.get_experiment_by_name("brats").experiment_id])
        yield run, lambda name: Path(store.download_artifacts(run.info.run_id, name)), folder / "cache"


def test_scores_of_volumes_stand_beside_those_of_slices(trained):
    metrics = trained[0].data.metrics
    for split in ("val", "test"):
        assert 0 <= metrics[f"{split}/volume_dice"] <= 1
        assert 0 <= metrics[f"{split}/volume_dice/whole_tumor"] <= 1
        assert metrics[f"{split}/volumes"] >= 1
    assert "test/dice/whole_tumor" in metrics and "test/mask_ap50" in metrics


def test_training_leaves_out_most_slices_without_tumor_and_testing_none(trained):
    run, artifact, _ = trained
    found = json.loads(artifact("fingerprint.json").read_text())["splits"]
    assert found["train"]["images_without_instances"] == pytest.approx(0.2 * found["train"]["images"], abs=1)
    rows = list(csv.DictReader(io.StringIO(artifact("per_volume.csv").read_text())))
    assert sum(int(row["slices"]) for row in rows) == found["test"]["images"]
    assert int(run.data.metrics["test/volumes"]) == len(rows)


def test_label_maps_lie_on_their_cases(trained):
    _, artifact, cache = trained
    rows = list(csv.DictReader(io.StringIO(artifact("per_volume.csv").read_text())))
    maps = sorted(artifact("volumes").iterdir())
    assert [path.name for path in maps] == sorted(f"{row['volume']}_seg.nii.gz" for row in rows)
    for path, row in zip(maps, sorted(rows, key=lambda row: row["volume"]), strict=True):
        (truth,) = cache.glob(f"phantoms/*/{row['volume']}/{path.name}")
        written, given = nibabel.load(path), nibabel.load(truth)
        np.testing.assert_array_equal(written.affine, given.affine)
        found, expected = np.asarray(written.dataobj) > 0, np.asarray(given.dataobj) > 0
        # The score in the table is that of the file, but for pieces too small to be instances.
        dice = 2 * (found & expected).sum() / max(found.sum() + expected.sum(), 1)
        assert float(row["dice/whole_tumor"]) == pytest.approx(dice, abs=0.02)


def test_a_prediction_of_a_case_is_what_the_evaluation_found(trained, tmp_path):
    run, artifact, cache = trained
    kept = yaml.safe_load(artifact("config.yaml").read_text())["data"]["volumes"]["modalities"]
    assert "flair" in kept and kept == [name for name in ("flair", "t1", "t1ce", "t2") if name in kept]
    path = sorted(artifact("volumes").iterdir())[0]
    name = path.name.removesuffix("_seg.nii.gz")
    case = next((cache / "phantoms").rglob(f"{name}*flair*")).parent
    words = [run.info.run_id, str(case), "--output", str(tmp_path / "out"), "--write", "nifti"]
    assert predict(words) == 0
    (written,) = (tmp_path / "out/nifti").iterdir()
    found, expected = nibabel.load(written), nibabel.load(path)
    np.testing.assert_array_equal(found.affine, expected.affine)
    np.testing.assert_array_equal(np.asarray(found.dataobj), np.asarray(expected.dataobj))

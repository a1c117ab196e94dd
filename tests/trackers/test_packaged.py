import ast
import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pytest
import yaml
from mlflow import MlflowClient
from pycocotools import mask as coco_mask

from experiments.findings import FINDINGS
from mrcnn.config import ModelConfig
from trackers.packaged import log_packaged_model
from trackers.registry import register
from trackers.run import tracked_run

ABOUT = {"task": "thyroid", "modality": "ultrasound", "seed": 0, "backend": "tensorflow"}
CONFIDENCE = 0.02
PIXELS = np.random.default_rng(0).random((40, 56, 3))
IMAGES = {
    "grey_8_bit": (PIXELS[..., 0] * 255).astype(np.uint8),
    "grey_with_channel": (PIXELS[..., :1] * 255).astype(np.uint8),
    "rgb_8_bit": (PIXELS * 255).astype(np.uint8),
    "deep": (PIXELS[:30, ..., 0] * 60000).astype(np.uint16),
    "float": PIXELS.astype(np.float32) * 3 - 1,
}

# What somebody types far from this repository.
CLIENT = """
import json, os, sys
import mlflow, numpy as np

images = dict(np.load(os.environ["IMAGES"]))
model = mlflow.pyfunc.load_model("models:/mrcnn-ultrasound@champion")
answers = {name: model.predict(image) for name, image in images.items()}
answers["together"] = model.predict(list(images.values()))
answers["strict"] = model.predict(images["rgb_8_bit"], params={"confidence": 1.0})
answers["measured"] = model.predict(images["rgb_8_bit"], params={"spacing_mm": [2.0, 0.5]})
answers["example"] = model.predict(model.input_example)
files = {name: module.__file__ for name, module in sys.modules.items()
         if name.split(".")[0] in ("mrcnn", "experiments")}
print("ANSWER" + json.dumps({"answers": answers, "files": files, "left": os.listdir()}))
"""


@pytest.fixture(scope="module")
def packaged(tmp_path_factory, empty_store):
    """A small network in a registry of its own, and what a fresh process makes of it."""
    from mrcnn.model import MaskRCNN

    folder = tmp_path_factory.mktemp("packaged")
    network = MaskRCNN(
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
    network.save(folder / "model.keras")
    (folder / "mlflow.db").write_bytes(empty_store)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.delenv("MLFLOW_RUN_ID", raising=False)
        patch.chdir(folder)
        mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
        with tracked_run(**ABOUT) as run:
            uri = log_packaged_model(
                run,
                folder / "model.keras",
                confidence=CONFIDENCE,
                class_names=network.config.class_names,
                config={"task": "thyroid", "model": {"image_size": 64}},
                sample_image=IMAGES["rgb_8_bit"],
                findings=FINDINGS["nodules"],
            )
        register(uri, name="mrcnn-ultrasound", metric="dice", value=0.5, digest="d", task="thyroid", run_id=run.id)
        yield {"network": network, "uri": uri, "run": run, "folder": folder, "store": MlflowClient()}
        mlflow.set_tracking_uri(None)


@pytest.fixture(scope="module")
def elsewhere(packaged, tmp_path_factory):
    """Answers of a fresh process in an empty folder that knows nothing but the store's address."""
    empty = tmp_path_factory.mktemp("empty")
    np.savez(packaged["folder"] / "images.npz", **IMAGES)
    done = subprocess.run(
        [sys.executable, "-I", "-B", "-W", "ignore", "-c", CLIENT],
        cwd=empty,
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(packaged["folder"]),
            "MLFLOW_TRACKING_URI": f"sqlite:///{packaged['folder']}/mlflow.db",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "IMAGES": str(packaged["folder"] / "images.npz"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.partition("ANSWER")[2])


def test_a_fresh_process_in_an_empty_folder_finds_the_same(packaged, elsewhere):
    found = packaged["network"].detect(list(IMAGES.values()))
    for (name, image), expected in zip(IMAGES.items(), found, strict=True):
        (answer,) = elsewhere["answers"][name]
        expected = expected.above(CONFIDENCE)
        assert (answer["width"], answer["height"]) == (image.shape[1], image.shape[0])
        assert answer["notice"] == "Research use only"
        assert len(answer["instances"]) == len(expected) > 0
        names = [packaged["network"].config.class_names[class_id - 1] for class_id in expected.class_ids]
        assert [instance["class"] for instance in answer["instances"]] == names
        np.testing.assert_allclose([instance["score"] for instance in answer["instances"]], expected.scores, atol=1e-4)
        boxes = np.array([instance["bbox"] for instance in answer["instances"]])
        boxes[:, 2:] += boxes[:, :2]
        np.testing.assert_allclose(boxes, expected.boxes, atol=1e-2)
        masks = np.stack([coco_mask.decode(instance["segmentation"]) for instance in answer["instances"]])
        # A pixel whose probability is all but the threshold may fall on either side.
        assert (masks != expected.masks).mean() < 1e-3


def test_a_list_of_images_of_different_kinds_is_answered_in_order(elsewhere):
    sizes = [(answer["height"], answer["width"]) for answer in elsewhere["answers"]["together"]]
    assert sizes == [image.shape[:2] for image in IMAGES.values()]


def test_confidence_is_a_parameter_and_the_example_is_an_input(elsewhere):
    assert [answer["instances"] for answer in elsewhere["answers"]["strict"]] == [[]]
    assert len(elsewhere["answers"]["example"]) == 1


def test_the_code_came_with_the_model(packaged, elsewhere):
    for file in elsewhere["files"].values():
        assert Path(file).is_relative_to(packaged["folder"])
    assert elsewhere["left"] == []


def test_the_requirements_are_what_the_code_imports(packaged, elsewhere):
    lines = (packaged_files(packaged) / "requirements.txt").read_text().split()
    required = dict(line.split("==") for line in lines)
    assert required == {name: importlib.metadata.version(name) for name in required}
    distributions = importlib.metadata.packages_distributions()
    imported = set()
    for file in {*elsewhere["files"].values(), packaged_files(packaged) / "served.py"}:
        imported |= imports(Path(file))
    known = {*sys.stdlib_module_names, "mrcnn", "experiments"}
    missing = {name for name in imported - known if not required.keys() & set(distributions.get(name, []))}
    assert missing == set()
    unused = {name for name in required if not any(name in distributions.get(module, []) for module in imported)}
    assert unused == set()


def packaged_files(packaged):
    return Path(mlflow.artifacts.download_artifacts(packaged["uri"]))


def imports(file):
    """Names of the top-level modules that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module.split(".")[0])
    return names


def test_nothing_else_travels(packaged):
    root = packaged_files(packaged)
    assert sorted(path.name for path in (root / "code").iterdir()) == ["experiments", "mrcnn"]
    assert sorted(path.name for path in (root / "artifacts").iterdir()) == ["model.keras", "settings.json"]
    endings = {path.suffix for path in root.rglob("*") if path.is_file()}
    assert endings <= {".py", ".keras", ".json", ".yaml", ".txt", ""}
    assert not list(root.rglob("__pycache__"))
    settings = json.loads((root / "artifacts" / "settings.json").read_text())
    assert settings == {
        "class_names": ["nódulo (iso)", "hypo"],
        "confidence": CONFIDENCE,
        "config": {"task": "thyroid", "model": {"image_size": 64}},
        "findings": "experiments.findings.nodules:nodules",
    }


def test_findings_are_answered_from_the_code_that_travelled(elsewhere):
    (plain,), (measured,) = elsewhere["answers"]["rgb_8_bit"], elsewhere["answers"]["measured"]
    assert (plain["findings"]["unit"], measured["findings"]["unit"]) == ("px", "mm")
    assert len(plain["findings"]["nodules"]) == len(plain["instances"]) > 0
    pairs = list(zip(plain["findings"]["nodules"], measured["findings"]["nodules"], strict=True))
    # The network is hardly trained: some of its masks are empty, and have no size.
    assert [pixels["width"] is None for pixels, _ in pairs] == [
        millimetres["width"] is None for _, millimetres in pairs
    ]
    sized = [pair for pair in pairs if pair[0]["width"] is not None]
    assert sized
    for pixels, millimetres in sized:
        assert millimetres["width"] == pytest.approx(0.5 * pixels["width"])
        assert millimetres["height"] == pytest.approx(2 * pixels["height"])


def test_the_signature_says_what_can_be_given(packaged):
    described = yaml.safe_load((packaged_files(packaged) / "MLmodel").read_text())["signature"]
    assert json.loads(described["inputs"]) == [{"type": "any", "required": True}]
    found = {each["name"]: (each["type"], each["default"]) for each in json.loads(described["params"])}
    assert found == {"confidence": ("double", CONFIDENCE), "spacing_mm": ("double", [0.0, 0.0])}


def test_the_run_and_the_model_know_each_other(packaged):
    version = packaged["store"].get_model_version_by_alias("mrcnn-ultrasound", "champion")
    assert version.run_id == packaged["run"].id
    assert [
        f"models:/{model.model_id}" for model in packaged["store"].get_run(version.run_id).outputs.model_outputs
    ] == [packaged["uri"]]


def test_another_run_is_not_given_the_model(packaged):
    with pytest.raises(RuntimeError, match="is not the active one"):
        log_packaged_model(
            packaged["run"],
            packaged["folder"] / "model.keras",
            confidence=0.5,
            class_names=("a",),
            config={},
            sample_image=IMAGES["rgb_8_bit"],
        )

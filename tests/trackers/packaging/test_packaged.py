import ast
import importlib.metadata
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pytest
import yaml
from mlflow import MlflowClient
from pycocotools import mask as coco_mask

from trackers.packaging.packaged import EXAMPLE_SIDE, _example, log_packaged_model

pytestmark = pytest.mark.usefixtures("eager")

# What somebody types far from this repository.
CLIENT = """
import json, os, sys
import mlflow, numpy as np

images = dict(np.load(os.environ["IMAGES"]))
dicom = bytes(images.pop("dicom")).decode()
model = mlflow.pyfunc.load_model("models:/mrcnn-ultrasound@champion")
answers = {name: model.predict(image) for name, image in images.items()}
answers["together"] = model.predict(list(images.values()))
answers["strict"] = model.predict(images["rgb_8_bit"], params={"confidence": 1.0})
answers["measured"] = model.predict(images["rgb_8_bit"], params={"spacing_mm": [2.0, 0.5]})
answers["dicom"] = model.predict([dicom])
answers["example"] = model.predict(model.input_example)
import mrcnn.serving.request_limiter  # as in a server

files = {name: module.__file__ for name, module in sys.modules.items()
         if name.split(".")[0] in ("mrcnn", "experiments")}
print("ANSWER" + json.dumps({"answers": answers, "files": files, "left": os.listdir()}))
"""


@pytest.fixture(scope="module")
def packaged(packaged_model):
    """The small network in its registry, as this process sees it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_RUN_ID", raising=False)
        patch.chdir(packaged_model["folder"])
        mlflow.set_tracking_uri(packaged_model["store"])
        yield {**packaged_model, "store": MlflowClient()}
        mlflow.set_tracking_uri(None)


@pytest.fixture(scope="module")
def images(packaged, dicom_base64):
    """Path of a file of the images, one of them as DICOM."""
    dicom = dicom_base64(packaged["images"]["gray_8_bit"], PixelSpacing=[2.0, 0.5])
    file = packaged["folder"] / "images.npz"
    np.savez(file, dicom=np.frombuffer(dicom.encode(), np.uint8), **packaged["images"])
    return str(file)


@pytest.fixture(scope="module")
def elsewhere(packaged, images, tmp_path_factory):
    """Answers of a fresh process in an empty folder that knows nothing but the store's address."""
    empty = tmp_path_factory.mktemp("empty")
    done = subprocess.run(
        [sys.executable, "-I", "-B", "-W", "ignore", "-c", CLIENT],
        cwd=empty,
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(packaged["folder"]),
            "MLFLOW_TRACKING_URI": f"sqlite:///{packaged['folder']}/mlflow.db",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "IMAGES": images,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.partition("ANSWER")[2])


@pytest.fixture(scope="module", params=["this process", pytest.param("a fresh process", marks=pytest.mark.slow)])
def answers(request, packaged, images):
    """Answers of the registered model, loaded by MLflow."""
    if request.param == "a fresh process":
        return request.getfixturevalue("elsewhere")["answers"]
    with pytest.MonkeyPatch.context() as patch, io.StringIO() as printed:
        patch.setattr(sys, "path", [*sys.path])  # MLflow adds the code of the model
        patch.setattr(sys, "stdout", printed)
        patch.setenv("IMAGES", images)
        exec(CLIENT, {})
        return json.loads(printed.getvalue().partition("ANSWER")[2])["answers"]


def test_the_loaded_model_finds_the_same(packaged, answers):
    found = packaged["network"].detect(list(packaged["images"].values()))
    for (name, image), expected in zip(packaged["images"].items(), found, strict=True):
        (answer,) = answers[name]
        expected = expected.above(packaged["confidence"])
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


def test_a_list_of_images_of_different_kinds_is_answered_in_order(packaged, answers):
    sizes = [(answer["height"], answer["width"]) for answer in answers["together"]]
    assert sizes == [image.shape[:2] for image in packaged["images"].values()]


def test_confidence_is_a_parameter_and_the_example_is_an_input(answers):
    assert [answer["instances"] for answer in answers["strict"]] == [[]]
    assert len(answers["example"]) == 1


@pytest.mark.slow
def test_the_code_came_with_the_model(packaged, elsewhere):
    for file in elsewhere["files"].values():
        assert Path(file).is_relative_to(packaged["folder"])
    assert elsewhere["left"] == []


@pytest.mark.slow
def test_the_requirements_are_what_the_code_imports(packaged, elsewhere):
    lines = (packaged_files(packaged) / "requirements.txt").read_text().split()
    required = dict(line.split("==") for line in lines)
    assert required == {name: importlib.metadata.version(name) for name in required}
    distributions = importlib.metadata.packages_distributions()
    imported = set()
    for file in {*elsewhere["files"].values(), packaged_files(packaged) / "served.py"}:
        imported |= imports(Path(file))
    known = {*sys.stdlib_module_names, "mrcnn", "experiments", "jax"}  # JAX only where it is the backend
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


def test_the_stored_package_is_tested_and_loaded_for_nothing_else(packaged):
    (file,) = packaged["loaded"]
    assert Path(file).name == "model.keras" and Path(file).parent != packaged["folder"]


def test_nothing_else_travels(packaged):
    root = packaged_files(packaged)
    assert sorted(path.name for path in (root / "code").iterdir()) == ["experiments", "mrcnn"]
    assert sorted(path.name for path in (root / "artifacts").iterdir()) == ["model.keras", "settings.json"]
    endings = {path.suffix for path in root.rglob("*") if path.is_file() and path.name != "py.typed"}
    templates = {".css", ".html", ".js"}
    assert endings <= {"", ".json", ".keras", ".py", ".txt", ".yaml"} | templates
    assert not list(root.rglob("__pycache__"))
    settings = json.loads((root / "artifacts" / "settings.json").read_text())
    assert settings == {
        "class_names": ["nódulo (iso)", "hypo"],
        "confidence": packaged["confidence"],
        "config": {"task": "thyroid", "model": {"image_size": 64}},
        "findings": "experiments.findings.nodules:nodules",
    }


def test_findings_are_answered(answers):
    (plain,), (measured,) = answers["rgb_8_bit"], answers["measured"]
    assert (plain["findings"]["unit"], measured["findings"]["unit"]) == ("px", "mm")
    assert len(plain["findings"]["nodules"]) == len(plain["instances"]) > 0
    pairs = list(zip(plain["findings"]["nodules"], measured["findings"]["nodules"], strict=True))
    # The network is hardly trained: some of its masks are empty, and have no size.
    assert [pixels["width"] is None for pixels, _ in pairs] == [
        millimeters["width"] is None for _, millimeters in pairs
    ]
    sized = [pair for pair in pairs if pair[0]["width"] is not None]
    assert sized
    for pixels, millimeters in sized:
        assert millimeters["width"] == pytest.approx(0.5 * pixels["width"])
        assert millimeters["height"] == pytest.approx(2 * pixels["height"])


def test_a_dicom_file_is_its_pixels_and_its_spacing(answers):
    (of_array,), (of_file,) = answers["gray_8_bit"], answers["dicom"]
    assert of_file["instances"] == of_array["instances"] != []
    assert (of_file["findings"]["unit"], of_array["findings"]["unit"]) == ("mm", "px")


def test_the_signature_says_what_can_be_given(packaged):
    described = yaml.safe_load((packaged_files(packaged) / "MLmodel").read_text())["signature"]
    assert json.loads(described["inputs"]) == [{"type": "any", "required": True}]
    found = {each["name"]: (each["type"], each["default"]) for each in json.loads(described["params"])}
    assert found == {
        "confidence": ("double", packaged["confidence"]),
        "spacing_mm": ("double", [0.0, 0.0]),
        "masks": ("string", "rle"),
    }


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
            sample_image=packaged["images"]["rgb_8_bit"],
        )


def test_the_input_example_shows_nothing_of_an_image(packaged):
    """No row of the patient's image, in no file of the model, also not with rows and columns left out."""
    image = packaged["images"]["rgb_8_bit"]
    folder = Path(mlflow.artifacts.download_artifacts(packaged["uri"]))
    files = {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    examples = [name for name in files if name.endswith("input_example.json")]
    assert sorted(examples) == ["input_example.json", "serving_input_example.json"] and "MLmodel" in files
    step = -(-max(image.shape[:2]) // EXAMPLE_SIDE)
    rows = [row for each in (image, image[::step, ::step]) for row in each if np.ptp(row)]
    assert rows
    for name in (*examples, "MLmodel"):
        content = re.sub(rb"\s", b"", files[name])
        assert not any(json.dumps(row.tolist(), separators=(",", ":")).encode() in content for row in rows), name


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_the_input_example_depends_on_shape_and_type_alone(kind):
    image = (np.random.default_rng(1).random((100, 60, 3)) * 200).astype(kind)
    example = np.array(_example(image))
    assert example.shape == (20, 12, 3) and (example == _example(np.zeros_like(image))).all()
    assert len(np.unique(example)) > 200
    assert example.min() < 0 if kind is np.float32 else 0 <= example.min() < example.max() <= np.iinfo(kind).max

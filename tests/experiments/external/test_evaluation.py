"""The whole command on an untrained network and phantoms of another site."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from mlflow.artifacts import download_artifacts
from PIL import Image

import experiments
from experiments.cli import main
from experiments.config.resolve import resolve, resolved_yaml
from experiments.evaluation.evaluate import evaluate
from experiments.external.opened_model import OpenedModel, training_images
from experiments.preparation.data_check import check_data
from mrcnn.config import ModelConfig
from mrcnn.data import read_dataset
from mrcnn.errors import InputError
from mrcnn.phantoms import write_dataset
from trackers.checkpoints.checkpoint_store import BEST
from trackers.packaging.packaged import log_packaged_model
from trackers.packaging.tracked_model import TrackedModel
from trackers.runs.run import tracked_run

pytestmark = pytest.mark.usefixtures("eager", "short_comparison")
ROOT = Path(__file__).parents[3]
TINY = {
    "class_names": ("nodulo-iso", "nodulo-hipo"), "image_size": 64, "backbone": "small", "fpn_channels": 16,
    "head_width": 32, "mask_channels": 16, "mask_convolutions": 1, "proposals_per_level": 20, "proposals": 30,
    "max_detections": 5, "score_threshold": 0.01, "channels": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def model(store, phantom_folder, tmp_path_factory):
    """A network, its run as a training leaves it, and the training's data."""
    from mrcnn.models import MaskRCNN

    words = ["--dataset", str(phantom_folder), "--split", "[0.3, 0.3, 0.4]", "--resamples", "20", "--overlays", "1"]
    config = resolve(words).config
    checked = check_data(config)
    network = MaskRCNN(ModelConfig(**TINY), seed=0)
    folder = tmp_path_factory.mktemp("model") / "checkpoints"
    folder.mkdir()
    network.save(folder / BEST)
    with tracked_run(task="thyroid", modality="ultrasound", seed=0, backend="tensorflow") as run:
        run.artifact(folder)
        run.text(resolved_yaml(config), "config.yaml")
        run.json(checked.found.as_dict(), "fingerprint.json")
        run.json(checked.split_lists(), "splits.json")
        run.metrics({"confidence": 0.02})
    return run.id, network, checked


@pytest.fixture(scope="module")
def site(model, phantom_folder, tmp_path_factory):
    """Twelve phantoms of another site: the first is of a patient of the training, the last a mirrored training image.

    Its classes have other names, and its images name a scanner.
    """
    folder = write_dataset("thyroid", tmp_path_factory.mktemp("site") / "b", images=12, seed=9)
    checked = model[2]
    training = checked.whole.records[checked.splits["train"][0]]
    content = json.loads((folder / "annotations.json").read_text())
    for number, image in enumerate(content["images"]):
        image["patient_id"] = f"b-{image['patient_id']}" if number else training.patient_id
        image["scanner"] = "AB"[number % 2]
    last = content["images"][-1]
    shutil.copy(training.path, folder / last["file_name"])
    picture = Image.open(training.path)
    picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / last["file_name"])
    last |= {"width": picture.width, "height": picture.height}
    content["annotations"] = [each for each in content["annotations"] if each["image_id"] != last["id"]]
    for category, name in zip(content["categories"], ("iso", "hypo"), strict=True):
        category["name"] = name
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="module")
def few(site, tmp_path_factory):
    """The first four images of that site."""
    folder = Path(shutil.copytree(site, tmp_path_factory.mktemp("site") / "few"))
    content = json.loads((folder / "annotations.json").read_text())
    content["images"] = content["images"][:4]
    ids = {image["id"] for image in content["images"]}
    content["annotations"] = [each for each in content["annotations"] if each["image_id"] in ids]
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder


MAP = {"iso": "nodulo-iso", "hypo": "nodulo-hipo"}


@pytest.fixture(scope="module")
def found(model, site, tmp_path_factory):
    return experiments.evaluate(
        model[0], site, mapping=MAP, subgroups=["scanner"], output=tmp_path_factory.mktemp("report")
    )


def test_scores_are_those_of_the_evaluation_of_the_unseen_images(found, model, site):
    whole = read_dataset(site)
    assert found.excluded == {"patient": 1, "near-duplicate": 1}
    expected = evaluate(model[1], whole.subset(range(1, 11)), batch_size=4)
    assert found.confidence == 0.02
    # The classes have the same order.
    scores = {name.replace("iso", "nodulo-iso").replace("hypo", "nodulo-hipo"): value
              for name, value in expected.summary(0.02).items()}  # fmt: skip
    assert found.scores == pytest.approx(scores, abs=1e-6)
    assert found.facts["confusion_matrix"]["counts"] == expected.confusion_matrix(0.02).tolist()
    assert found.facts["patients"][0]["dice"] == min(each["dice"] for each in found.facts["patients"])
    assert {each.value for each in found.subgroups["scanner"]} == {"A", "B"}


def test_the_run_names_model_data_and_shift(found, model, site, store):
    run = store.get_run(found.run_id)
    assert store.get_experiment(run.info.experiment_id).name == "evaluate-instances"
    tags = run.data.tags
    assert (tags["evaluated_run"], tags["evaluated_model"]) == (model[0], f"run {model[0][:8]}")
    assert tags["class_mapping"] == "iso=nodulo-iso, hypo=nodulo-hipo"
    assert tags["shift"] == (" ".join(each.sentence for each in found.shifts if each.sentence) or "no difference found")
    assert len(tags["data_digest"]) == 64 and run.data.metrics["external/dice"] == found.scores["dice"]
    assert {each.path for each in store.list_artifacts(found.run_id)} >= {
        "report.html", "evaluation.json", "per_case.csv", "per_patient.csv", "figures", "errors", "coco"
    }  # fmt: skip


def test_the_files_of_the_report_name_no_patient_and_no_file(found, site):
    assert {file.name for file in found.folder.iterdir()} == {
        "report.html", "evaluation.json", "per_case.csv", "per_patient.csv"
    }  # fmt: skip
    facts = json.loads((found.folder / "evaluation.json").read_text())
    assert facts["scores"]["dice"] == pytest.approx(found.scores["dice"]) and facts["notice"]
    names = {name for record in read_dataset(site).records for name in (record.path.stem, record.patient_id)}
    for file in ("report.html", "evaluation.json"):
        text = (found.folder / file).read_text()
        assert [name for name in names if f">{name}<" in text or f'"{name}"' in text] == []


def test_a_file_without_a_training_is_evaluated_class_agnostic_and_told(model, few, tmp_path, capsys):
    model[1].save(tmp_path / "own.keras")
    words = [str(tmp_path / "own.keras"), str(few), "--class-agnostic", "--output", str(tmp_path / "out")]
    assert main(["evaluate", *words]) == 0
    said = capsys.readouterr().out
    assert "The training data of own.keras are not recorded: no image could be excluded." in said
    facts = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert facts["classes"] == {"names": ["any"], "mapping": [], "of_data": {"iso": "any", "hypo": "any"}}
    assert facts["data"]["images"] == 4
    assert facts["confidence"] == 0.01 and facts["subgroups"] == {}


def test_training_data_that_are_gone_leave_the_names_of_patients(model, store, few, tmp_path, monkeypatch, caplog):
    def gone(config):
        raise InputError("--data.dataset /data/Mustermann: expected a folder")

    monkeypatch.setattr("experiments.external.opened_model.check_data", gone)
    found = experiments.evaluate(model[0], few, mapping=MAP, output=tmp_path)
    assert found.excluded.keys() == {"patient"}
    assert any("only the names of its patients could be compared" in note for note in found.notes)
    assert "--data.dataset /data/Mustermann: expected a folder" in caplog.text  # on the terminal only
    for file in ("report.html", "evaluation.json"):
        text = (tmp_path / file).read_text()
        assert "Mustermann" not in text and str(few.parent) not in text


def test_the_note_on_initial_weights_names_no_path(phantom_folder):
    config = resolve(["--dataset", str(phantom_folder), "--weights", "/data/Mustermann/best.keras"]).config
    tracked = TrackedModel("a model", (), None, config=config.model_dump(mode="json"))
    _, (note,) = training_images(OpenedModel("a model", "a model", tracked, "", predictor=None))
    assert note == "The training started from a file; the images of that training are not excluded."


@pytest.mark.slow
def test_a_threshold_of_the_new_site_is_a_new_version(model, found, site, store, tmp_path):
    first = found
    name, (run_id, network, checked) = "mrcnn-ultrasound", model
    network.save(tmp_path / "model.keras")
    config = yaml.safe_load(Path(download_artifacts(artifact_uri=f"runs:/{run_id}/config.yaml")).read_text())
    with tracked_run(task="thyroid", modality="ultrasound", seed=0, backend="tensorflow", resumed=run_id) as run:
        uri = log_packaged_model(
            run, tmp_path / "model.keras", confidence=0.02, class_names=network.config.class_names, config=config,
            sample_image=checked.whole[0].image, fingerprint=checked.found.as_dict(),
        )  # fmt: skip
    store.create_registered_model(name)
    store.create_model_version(name, uri, run_id, tags={"run": run_id})
    store.set_registered_model_alias(name, "champion", "1")
    found = experiments.evaluate(
        f"models:/{name}@champion", site, mapping=MAP, subgroups=["scanner"], recalibrate=0.4, output=tmp_path / "a"
    )
    facts = found.facts["recalibration"]
    assert found.version == "2" and facts["images"] + found.facts["data"]["images"] == 10
    assert {alias: str(held) for alias, held in store.get_registered_model(name).aliases.items()} == {"champion": "1"}
    version = store.get_model_version(name, "2")
    assert version.tags == {
        "recalibrated_from": "1", "recalibrated_in": found.run_id, "run": run_id, "calibration_digest": facts["digest"]
    }  # fmt: skip
    assert version.description.startswith("**Version 1, recalibrated:** threshold ")
    # An evaluation of the version leaves out the images that chose its threshold.
    again = experiments.evaluate(f"models:/{name}/2", site, mapping=MAP, output=tmp_path / "b")
    assert again.confidence == found.confidence == facts["confidence"]
    assert again.scores == pytest.approx(found.scores, abs=1e-6)
    # The two evaluations are compared on the images that both evaluated, with the detections that their runs hold.
    assert main(["compare", "--models", f"{first.run_id},{again.run_id}", "--output", str(tmp_path / "c")]) == 0
    compared = json.loads((tmp_path / "c" / "comparison.json").read_text())
    (test_set,) = compared["test_sets"]
    assert (test_set["images"], test_set["left_out"]) == (again.facts["data"]["images"], facts["images"])
    assert test_set["source"] == {"A": "kept", "B": "kept"} and compared["verdicts"] == []
    assert test_set["by_class"]["B"]["dice"] == pytest.approx(again.scores["dice"])
    assert main(["compare", "--models", f"{first.run_id},models:/{name}/2"]) == 2


def test_nothing_is_left_of_the_data_of_the_training(model, phantom_folder, tmp_path):
    checked = model[2]
    content = json.loads((phantom_folder / "annotations.json").read_text())
    names = {checked.whole.records[index].file_name for index in checked.splits["train"]}
    content["images"] = [image for image in content["images"] if image["file_name"] in names]
    ids = {image["id"] for image in content["images"]}
    content["annotations"] = [each for each in content["annotations"] if each["image_id"] in ids]
    shutil.copytree(phantom_folder / "images", tmp_path / "images")
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"the model was trained or validated on all \d+ images or their patients"):
        experiments.evaluate(model[0], tmp_path, mapping=MAP, output=tmp_path / "out")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--map", "iso"], "--map iso: expected a class of the data = a class of the model, as nodule=nodulo-iso"),
        (["--map", "a=b", "--class-agnostic"], "--map and --class-agnostic: expected only one of them"),
        (["--reader", "dicom"], "--data.reader"),
        (["--recalibrate", "1"], "--recalibrate 1: expected a share between 0 and 1, such as 0.2"),
        (["--recalibrate", "0.2"], "is not registered; expected a version such as models:/mrcnn-xray@champion"),
        ([], "the model has no class iso, hypo; classes of the data: iso, hypo; classes of the model: nodulo-iso"),
        (["--map", "iso=nodulo-iso", "--map", "hypo=nodulo-hipo", "--subgroups", "view"], "--subgroups view: no such"),
    ],
)
def test_bad_words_are_told_in_a_line(model, site, words, problem, tmp_path, capsys):
    assert main(["evaluate", model[0], str(site), *words, "--output", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert problem in error and error.count("\n") == 1


def test_the_project_has_the_command():
    entry = yaml.safe_load((ROOT / "mlproject").read_text(encoding="utf-8"))["entry_points"]["evaluate"]
    assert entry["command"] == "python -m experiments.commands.evaluate {model} {dataset}"
    assert entry["parameters"] == {"model": "string", "dataset": "string"}

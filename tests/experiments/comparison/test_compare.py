"""The whole command on two untrained networks, which is enough to measure and to promote."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from experiments.cli import main
from experiments.config.resolve import resolve, resolved_yaml
from experiments.evaluation.evaluate import evaluate
from experiments.preparation.data_check import check_data
from mrcnn.config import ModelConfig
from trackers.checkpoints.checkpoint_store import BEST
from trackers.runs.run import tracked_run

pytestmark = pytest.mark.usefixtures("eager", "short_comparison")
ROOT = Path(__file__).parents[3]
TINY = {
    "class_names": ("iso", "hypo"), "image_size": 64, "backbone": "small", "fpn_channels": 16, "head_width": 32,
    "mask_channels": 16, "mask_convolutions": 1, "proposals_per_level": 20, "proposals": 30, "max_detections": 5,
    "score_threshold": 0.01, "channels": 1,
}  # fmt: skip
NAME = "mrcnn-ultrasound"


@pytest.fixture(scope="module")
def config(phantom_folder):
    words = ["--task", "thyroid", "--dataset", str(phantom_folder), "--split", "[0.15, 0.15, 0.7]"]
    return resolve(words).config


@pytest.fixture(scope="module")
def models(store, config, tmp_path_factory):
    """Two networks, each with a run as a training leaves it, registered as versions 1, the champion, and 2.

    The run of the second alone keeps what was found in the test split.
    """
    from mrcnn.models import MaskRCNN

    checked, made = check_data(config), []
    test = checked.whole.subset(checked.splits["test"])
    store.create_registered_model(NAME)
    for seed in (0, 1):
        model = MaskRCNN(ModelConfig(**TINY), seed=seed)
        folder = tmp_path_factory.mktemp("model") / "checkpoints"
        folder.mkdir()
        model.save(folder / BEST)
        with tracked_run(task="thyroid", modality="ultrasound", seed=0, backend="tensorflow") as run:
            run.artifact(folder)
            run.text(resolved_yaml(config), "config.yaml")
            run.metrics({"confidence": 0.02})
            run.dataset("nodules", test.digest, {}, "test")
            run.dataset("nodules", "validation", {}, "val")
            run.metrics({f"val/{config.evaluate.metric}": 0.5 + seed / 10, "best_epoch": 0})
            if seed:
                found = evaluate(model, test, batch_size=4)
                run.json(found.coco_ground_truth(), "coco/ground_truth.json")
                run.json(found.coco_results(), "coco/results.json")
        version = store.create_model_version(NAME, f"runs:/{run.id}/checkpoints", run.id)
        made.append((run.id, model, version.version))
    store.set_registered_model_alias(NAME, "champion", "1")
    return test, made


@pytest.fixture(scope="module")
def compared(store, models, tmp_path_factory):
    """Folder of the comparison of the two by their runs' ids."""
    folder = tmp_path_factory.mktemp("compared")
    words = ["--models", ",".join(run_id for run_id, _, _ in models[1]), "--output", str(folder), "--dry-run"]
    assert main(["compare", *words]) == 0
    return folder


def test_scores_are_those_of_the_evaluation(compared, models):
    test, made = models
    facts = json.loads((compared / "comparison.json").read_text())
    (found,) = facts["test_sets"]
    assert (found["images"], found["left_out"], found["source"]) == (len(test), 0, {"A": "asked", "B": "kept"})
    for label, (_, model, _) in zip("AB", made, strict=True):
        expected = evaluate(model, test, batch_size=4).summary(facts["models"][0]["confidence"])
        shown = {name: value for name, value in found["by_class"][label].items() if name in expected}
        assert shown == pytest.approx(expected, abs=1e-6)
    (differences,) = found["differences"]
    dice = differences["scores"]["dice"]
    assert dice["value"] == pytest.approx(found["by_class"]["B"]["dice"] - found["by_class"]["A"]["dice"])
    assert 0 < dice["p"] <= 1 and dice["test"] == "permutation"
    assert [model["weights"] for model in facts["models"]] == [made[0][1].count_params()] * 2
    assert all(next(iter(model["seconds_per_image"].values())) > 0 for model in facts["models"])


def test_a_dry_run_moves_nothing_and_is_recorded(store, compared):
    assert str(store.get_model_version_by_alias(NAME, "champion").version) == "1"
    assert list(store.get_registered_model(NAME).aliases) == ["champion"]
    experiment = store.get_experiment_by_name("compare-ultrasound")
    run = store.search_runs([experiment.experiment_id], order_by=["attributes.start_time"])[0]
    assert run.info.status == "FINISHED"
    assert {each.path for each in store.list_artifacts(run.info.run_id)} == {"comparison.html", "comparison.json"}
    assert {"head_to_head/A/dice", "set_1/B/by_class/mask_ap50"} <= run.data.metrics.keys()


def test_the_winner_on_the_validation_data_is_promoted(store, compared, config, tmp_path):
    words = ["--modality", "ultrasound", "--promote", "--output", str(tmp_path)]
    store.set_registered_model_alias(NAME, "challenger", "2")
    assert main(["compare", *words]) == 0
    aliases = {alias: str(version) for alias, version in store.get_registered_model(NAME).aliases.items()}
    assert aliases == {"champion": "2", "challenger": "1", "champion-thyroid": "2"}
    reason = f"validation {config.evaluate.metric} 0.6, 0.5 of version 1"
    assert store.get_model_version(NAME, "2").tags["champion_reason"] == reason


def test_the_page_needs_nothing_else(compared):
    page = (compared / "comparison.html").read_text()
    assert page.count("<script") == 1 and "prefers-color-scheme: dark" in page and "@media print" in page
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert "Research use only" in page and page.count('role="img"') == 4  # PR, FROC, patients, differences
    assert page.index('<th scope="col">B − A</th>') < page.index("Examples")
    assert page.count("<img") == 3 * 6


def test_nothing_that_is_written_names_a_file_or_a_patient(compared, models, phantom_folder):
    """The names are those of the annotations."""
    images = json.loads((phantom_folder / "annotations.json").read_text())["images"]
    names = {Path(image["file_name"]).stem for image in images} | {str(image["patient_id"]) for image in images}
    assert len(names) > len(images) and {record.patient_id for record in models[0].records} <= names
    for file in ("comparison.html", "comparison.json"):
        text = re.sub(r"data:image/jpeg;base64,[^\"]*", "", (compared / file).read_text())
        assert [name for name in names if name in text] == []
    page = (compared / "comparison.html").read_text()
    assert "worst: image " in page and "<title>patient 1: A " in page


def test_the_page_fits_a_phone(compared, tmp_path):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium here")
    page = (compared / "comparison.html").read_text()
    quoted = json.dumps(page).replace("</", "<\\/")
    frame = (
        "<body><iframe id=f width=360 height=640></iframe><p id=p></p><script>"
        f"f.onload=()=>{{p.textContent='wide:'+f.contentDocument.documentElement.scrollWidth}};"
        f"f.srcdoc={quoted}</script>"
    )
    (tmp_path / "frame.html").write_text(frame, encoding="utf-8")
    done = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile",
         "--virtual-time-budget=10000", "--dump-dom", str(tmp_path / "frame.html")],
        capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    (wide,) = re.findall(r"wide:(\d+)", done.stdout.rpartition("<p id")[2]) or ["nothing"]
    assert 300 <= int(wide) <= 360


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--modality", "ct"], "--modality ct: nothing is registered as mrcnn-ct or unet-ct"),
        (["--models", "a,b"], "--models a: expected a run's id, runs:/<id>, models:/<name>/<version>"),
        (["--models", f"{'0' * 32},b"], "Run with id=00000000000000000000000000000000 not found"),
        (["--models", "models:/mrcnn-ultrasound@best,b"], "models:/mrcnn-ultrasound@best:"),
    ],
)
def test_models_that_are_not_there_are_told_in_a_line(store, models, words, problem, capsys):
    assert main(["compare", *words]) == 2
    error = capsys.readouterr().err
    assert problem in error and error.count("\n") == 1


def test_a_classifier_and_the_same_model_twice_are_refused(store, models, capsys):
    store.create_registered_model("classifier-ultrasound")
    run_id = models[1][0][0]
    store.create_model_version("classifier-ultrasound", f"runs:/{run_id}/checkpoints", run_id)
    assert main(["compare", "--models", f"models:/classifier-ultrasound/1,{run_id}"]) == 2
    assert "models:/classifier-ultrasound/1: a classifier, which finds no instances" in capsys.readouterr().err
    assert main(["compare", "--models", f"models:/{NAME}/1,{run_id}"]) == 2
    assert "are the same model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--modality", "MRI"], "--modality MRI: expected a name such as ultrasound, mri, xray or ct"),
        (["--models", "a"], "--models a: expected at least two, with commas"),
        (["--modality", "mri", "--models", "a,b"], "expected either --modality, such as mri, or --models"),
        (["--promote"], "expected either --modality, such as mri, or --models"),
        (["--modality", "mri", "--promote", "maybe"], "--promote maybe: expected true or false"),
        (["--modality", "mri", "--best", "1"], "--best: no such option; expected --modality, --models, --promote"),
    ],
)
def test_bad_words_are_told_in_a_line(words, problem, capsys):
    assert main(["compare", *words]) == 2
    error = capsys.readouterr().err
    assert problem in error and error.count("\n") == 1


def test_help_and_bad_words_load_no_library():
    code = (
        "import sys; from experiments.cli import main\n"
        "main(['compare', '--help']); main(['compare', '--models', 'a'])\n"
        "assert not {'tensorflow', 'keras', 'mlflow'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Usage: mrcnn compare --modality" in done.stdout


def test_the_project_has_the_command():
    entry = yaml.safe_load((ROOT / "mlproject").read_text(encoding="utf-8"))["entry_points"]["compare"]
    assert entry == {"command": "python -m experiments.commands.compare"}

import json

import pytest

from mrcnn.errors import InputError
from trackers.packaging.tracked_model import VIEWS, load_tracked_model
from trackers.runs.run import tracked_run

ABOUT = {"task": "thyroid", "modality": "ultrasound", "seed": 0, "backend": "tensorflow"}


@pytest.fixture
def run_with_checkpoint(store, tmp_path):
    """Records a run with a checkpoint and the given metrics; returns its id."""

    def make(**metrics):
        with tracked_run(**ABOUT) as run:
            folder = tmp_path / run.id / "checkpoints"
            folder.mkdir(parents=True)
            (folder / "best.keras").write_text("best")
            run.artifact(folder)
            run.metrics(metrics)
        return run.id

    return make


def test_a_run_brings_the_confidence_that_it_chose(run_with_checkpoint, tmp_path):
    chosen, cut_short = run_with_checkpoint(confidence=0.4), run_with_checkpoint()
    for spec, confidence in ((chosen, 0.4), (f"runs:/{chosen}", 0.4), (cut_short, None), ("last", None)):
        kept = load_tracked_model(spec, task="thyroid", folder=tmp_path / "fetched")
        assert kept.file.read_text() == "best"
        assert kept.confidence == confidence


def test_a_run_brings_its_configuration_where_it_got_so_far(store, run_with_checkpoint, tmp_path):
    assert load_tracked_model(run_with_checkpoint(), task="thyroid", folder=tmp_path / "fetched").config is None
    resolved = run_with_checkpoint()
    store.log_text(resolved, "findings: nodules\n", "config.yaml")
    kept = load_tracked_model(resolved, task="thyroid", folder=tmp_path / "fetched")
    assert (kept.config, kept.polarity) == ({"findings": "nodules"}, None)
    store.log_dict(resolved, {"polarity": [0.6, -0.8]}, "fingerprint.json")
    assert load_tracked_model(resolved, task="thyroid", folder=tmp_path / "fetched").polarity == (0.6, -0.8)


def test_a_registered_model_brings_its_working_point(register_champion, tmp_path):
    (tmp_path / "model.keras").write_text("registered")
    (tmp_path / "settings.json").write_text(
        json.dumps({"class_names": ["a"], "confidence": 0.7, "config": {"seed": 3}, "polarity": [0.6, -0.8]})
    )
    register_champion(model="model.keras", settings="settings.json")
    kept = load_tracked_model("models:/mrcnn-ultrasound@champion", task="thyroid", folder=tmp_path / "fetched")
    assert (kept.file.read_text(), kept.confidence, kept.config) == ("registered", 0.7, {"seed": 3})
    assert kept.polarity == (0.6, -0.8)


def test_mirror_images_come_with_the_confidence_that_was_chosen_with_them(run_with_checkpoint, store, tmp_path):
    chosen = run_with_checkpoint(confidence=0.4)
    store.set_tag(chosen, VIEWS, json.dumps({"flips": ["horizontal"], "mirrored_ids": [0, 2, 1]}))
    kept = load_tracked_model(chosen, task="thyroid", folder=tmp_path / "fetched")
    assert (kept.flips, kept.mirrored_ids) == (("horizontal",), (0, 2, 1))
    (tmp_path / "settings.json").write_text(json.dumps({"confidence": 0.7, "flips": ["vertical"]}))
    kept = load_tracked_model(str(tmp_path / "model.keras"), task="thyroid", folder=tmp_path)
    assert (kept.flips, kept.mirrored_ids, kept.confidence) == (("vertical",), None, 0.7)


def test_a_file_is_itself_and_what_is_not_there_is_named_as_a_model(store, tmp_path):
    kept = load_tracked_model("some/model.keras", task="thyroid", folder=tmp_path)
    assert (str(kept.file), kept.confidence, kept.config) == ("some/model.keras", None, None)
    with pytest.raises(InputError, match="model=last: no finished run of task thyroid"):
        load_tracked_model("last", task="thyroid", folder=tmp_path)
    with pytest.raises(InputError, match=r"model=models:/mrcnn-ct@champion: not to be had from the store"):
        load_tracked_model("models:/mrcnn-ct@champion", task="thyroid", folder=tmp_path)

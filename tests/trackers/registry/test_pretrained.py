"""Initial weights from phantoms: trainings start from them, and nothing predicts with them."""

import mlflow
import pytest

from mrcnn.errors import InputError
from trackers.checkpoints.initial_weights import model_file
from trackers.packaging.tracked_model import load_tracked_model
from trackers.registry.registry import register_pretrained
from trackers.runs.run import tracked_run

ABOUT = {"task": "thyroid", "modality": "ultrasound", "seed": 0, "backend": "tensorflow"}


@pytest.fixture
def pretrain(tmp_path):
    """Records a pretraining whose checkpoint and weights have the given content; returns run, name and version."""

    def make(content):
        with tracked_run(**ABOUT, tags={"model": "pretrained"}) as run:
            for folder, file in (("checkpoints", "best"), ("pretrained", "pretrained")):
                (path := tmp_path / run.id / f"{file}.keras").parent.mkdir(exist_ok=True)
                path.write_text(content)
                run.artifact(path, folder)
            run.params({"data.dataset": None, "model.backbone": "small", "train.weights": "none"})
            uri = mlflow.get_artifact_uri("pretrained")
            name, version = register_pretrained(uri, "ultrasound", run.id, "mask_ap", 0.4321)
        return run.id, name, version

    return make


def test_trainings_start_from_them(store, pretrain, tmp_path):
    assert [pretrain(content)[1:] for content in ("first", "second")] == [
        ("pretrained-ultrasound", "1"),
        ("pretrained-ultrasound", "2"),
    ]
    for version, content in (("1", "first"), ("2", "second"), ("latest", "second")):
        file = model_file(f"models:/pretrained-ultrasound/{version}", task="thyroid", folder=tmp_path / version)
        # By this name the plan knows them.
        assert file.endswith("/pretrained.keras")
        with open(file) as opened:
            assert opened.read() == content
    assert store.get_registered_model("pretrained-ultrasound").aliases == {}
    card = store.get_model_version("pretrained-ultrasound", "2").description
    for text in ("Research use only", "phantoms of the task thyroid", "started from `none`", "mask_ap", "0.432",
                 "--weights models:/pretrained-ultrasound/2"):  # fmt: skip
        assert text in card


def test_nothing_predicts_with_them(store, pretrain, tmp_path):
    run, name, version = pretrain("weights")
    specs = (run, f"runs:/{run}", f"models:/{name}/{version}", f"models:/{name}/latest")
    for place, spec in enumerate(specs):
        with pytest.raises(InputError, match=f"model={spec}: initial weights from phantoms; expected a model"):
            load_tracked_model(spec, task="thyroid", folder=tmp_path / str(place))
    with pytest.raises(InputError, match="model=last: no finished run"):
        load_tracked_model("last", task="any", folder=tmp_path / "start")


def test_weights_without_a_card_are_not_registered(store, pretrain, monkeypatch):
    def fail(*_):
        raise OSError("no room")

    monkeypatch.setattr("trackers.registry.registry.pretrained_card", fail)
    with pytest.raises(OSError, match="no room"):
        pretrain("weights")
    assert not store.search_model_versions("name='pretrained-ultrasound'")

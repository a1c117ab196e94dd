import pytest

from mrcnn.errors import InputError
from trackers.checkpoints.initial_weights import model_file, model_files
from trackers.runs.run import tracked_run

ABOUT = {"task": "thyroid", "modality": "ultrasound", "seed": 0, "backend": "tensorflow"}


@pytest.fixture
def train(tmp_path, store):
    """Records a run with checkpoints of the given contents; returns its id."""

    def make(task="thyroid", fails=False, **contents):
        try:
            with tracked_run(**{**ABOUT, "task": task}) as run:
                folder = tmp_path / run.id / "checkpoints"
                folder.mkdir(parents=True)
                for name, content in contents.items():
                    (folder / f"{name}.keras").write_text(content)
                run.artifact(folder)
                if fails:
                    raise RuntimeError("no")
        except RuntimeError:
            pass
        return run.id

    return make


def content_of(spec, tmp_path, task="thyroid"):
    with open(model_file(spec, task=task, folder=tmp_path / "start")) as file:
        return file.read()


def test_last_is_the_newest_finished_run_of_the_task_with_a_checkpoint(train, tmp_path):
    train(best="first", last="")
    train(best="second", last="")
    train(best="third", fails=True)
    train(task="other", best="other's")
    train()
    assert content_of("last", tmp_path) == "second"
    assert content_of("last", tmp_path, "other") == content_of("last", tmp_path, "any") == "other's"
    with pytest.raises(InputError, match="weights=last: no finished run of task chest with a checkpoint in the store"):
        model_file("last", task="chest", folder=tmp_path)


def test_runs_by_id_and_address(train, tmp_path):
    both, only_last, neither = train(best="b", last="l"), train(last="l"), train()
    assert content_of(both, tmp_path) == content_of(f"runs:/{both}", tmp_path) == "b"
    assert content_of(f"runs:/{both}/checkpoints/last.keras", tmp_path) == "l"
    assert content_of(only_last, tmp_path) == "l"
    with pytest.raises(InputError, match=f"weights={neither}: .*has no checkpoints/best.keras"):
        model_file(neither, task="thyroid", folder=tmp_path)
    with pytest.raises(InputError, match=r"weights=0{32}: no run"):
        model_file("0" * 32, task="thyroid", folder=tmp_path)
    with pytest.raises(InputError, match=r"weights=runs:/.*nothing: "):
        model_file(f"runs:/{both}/nothing", task="thyroid", folder=tmp_path)


def test_a_registered_model_is_its_keras_file(register_champion, tmp_path):
    (tmp_path / "model.keras").write_text("registered")
    uri = register_champion(model="model.keras")
    for spec in ("models:/mrcnn-ultrasound@champion", "models:/mrcnn-ultrasound/1", uri):
        assert content_of(spec, tmp_path) == "registered"
    with pytest.raises(InputError, match="weights=models:/mrcnn-ultrasound@nobody: not to be had from the store"):
        model_file("models:/mrcnn-ultrasound@nobody", task="thyroid", folder=tmp_path)


@pytest.mark.parametrize("spec", ["none", "imagenet", "coco", "some/file.keras"])
def test_what_mlflow_does_not_keep_stays(spec, tmp_path):
    assert model_file(spec, task="thyroid", folder=tmp_path) == spec


def test_last_is_never_a_fold_and_an_ensemble_is_no_single_network(train, store, tmp_path):
    train(best="whole")
    fold = train(best="fold")
    store.set_tag(fold, "mlflow.parentRunId", "0" * 32)
    assert content_of("last", tmp_path) == "whole"
    assert content_of(fold, tmp_path) == "fold"
    members = tmp_path / "members"
    members.mkdir()
    for number in (1, 2):
        (members / f"member-0{number}.keras").write_text(str(number))
    with tracked_run(**ABOUT) as run:
        run.artifact(members)
        run.tags({"package": f"runs:/{run.id}/members"})
    for spec in ("last", run.id):
        with pytest.raises(InputError, match=f"weights={spec}: is an ensemble of 2 networks; expected a single one"):
            model_file(spec, task="thyroid", folder=tmp_path / "start")
        files = model_files(spec, task="thyroid", folder=tmp_path / "start")
        assert [open(file).read() for file in files] == ["1", "2"]

"""Runs that end before their time: the registry is as it was, whatever stops them and whenever."""

import os
import signal

import mlflow
import pytest
from mlflow import MlflowClient
from rich.console import Console

from experiments.config.resolve import resolve
from experiments.config.schema import TaskConfig
from experiments.evaluation.registration import register_model
from trackers.registry import registry
from trackers.registry.registry import register
from trackers.runs.run import tracked_run
from trackers.runs.signals import Terminated

ABOUT = {"task": "thyroid", "modality": "ultrasound", "seed": 0, "backend": "tensorflow"}
NAME = "mrcnn-ultrasound"
CODE = """
import mlflow
class Nothing(mlflow.pyfunc.PythonModel):
    def predict(self, model_input: list[int]):
        return model_input
mlflow.models.set_model(Nothing())
"""
RAISED = {"an error": OSError, "Ctrl-C": KeyboardInterrupt, "SIGTERM": Terminated}
STATUS = {"an error": "FAILED", "Ctrl-C": "KILLED", "SIGTERM": "KILLED"}


def stop(how):
    """What stops a run, where it stands."""
    if how == "an error":
        raise OSError("no room")
    os.kill(os.getpid(), signal.SIGINT if how == "Ctrl-C" else signal.SIGTERM)


def config() -> TaskConfig:
    return resolve([]).config


def state(store):
    """Versions, and who has which alias; None where the model is not registered."""
    found = store.search_registered_models(f"name='{NAME}'")
    if not found:
        return None
    versions = {str(each.version) for each in store.search_model_versions(f"name='{NAME}'")}
    return versions, {alias: str(version) for alias, version in found[0].aliases.items()}


@pytest.fixture(scope="module")
def code(tmp_path_factory):
    path = tmp_path_factory.mktemp("code") / "nothing.py"
    path.write_text(CODE)
    return path


@pytest.fixture
def whole(store, code):
    """Does all that a training does at its end, with the given score; `at` is called with the name of each step."""

    def run(value, at=lambda step: None):
        with tracked_run(**ABOUT) as run:
            at("before packaging")
            with pytest.MonkeyPatch.context() as patch:
                true = MlflowClient.finalize_logged_model
                patch.setattr(MlflowClient, "finalize_logged_model", _first(at, "while packaging", true))
                model = mlflow.pyfunc.log_model(name="model", python_model=str(code), pip_requirements=["mlflow"])
            at("before registering")
            with pytest.MonkeyPatch.context() as patch:
                for name, step in (("update_model_version", "registered"), ("set_registered_model_alias", "aliases")):
                    true = getattr(MlflowClient, name)
                    patch.setattr(MlflowClient, name, _first(at, step, true))
                run.metrics({"best/mask_ap": value})
                register_model(model.model_uri, config(), run, Console(quiet=True), family="mrcnn")
            at("after")
        return run

    return run


def _first(at, step, true):
    def instead(self, *args, **kwargs):
        done = true(self, *args, **kwargs)
        at(step)
        return done

    return instead


STEPS = ("before packaging", "while packaging", "before registering", "registered", "aliases", "after")


@pytest.mark.parametrize("how", ["an error", pytest.param("Ctrl-C", marks=pytest.mark.slow), "SIGTERM"])
def test_the_registry_is_as_it_was(store, whole, how):
    def before(step):
        def at(reached):
            if reached == step and not stopped:
                stopped.append(step)
                stop(how)

        return at

    def attempt(value):
        for step in STEPS:
            stopped.clear()
            was = state(store)
            with pytest.raises(RAISED[how]):
                whole(value, before(step))
            assert stopped and state(store) == was, step
            newest = store.search_runs(["1"], order_by=["attributes.start_time DESC"], max_results=1)[0]
            assert newest.info.status == STATUS[how]

    stopped = []
    if how == "an error":
        attempt(0.4)
        assert state(store) is None
    whole(0.5)
    attempt(0.9)  # would be champion
    if how == "an error":
        attempt(0.1)  # would be challenger
    assert state(store) == ({"1"}, {"champion": "1", "champion-thyroid": "1"})
    whole(0.9)
    held = {each: state(store)[1][each] for each in ("champion", "champion-thyroid")}
    assert set(held.values()) == {str(max(map(int, state(store)[0])))}


def test_an_alias_that_another_has_got_meanwhile_stays_there(store, whole, code):
    def at(step):
        if step == "after":
            for alias in ("champion", "champion-thyroid"):
                store.set_registered_model_alias(NAME, alias, "1")
            raise OSError("no room")

    whole(0.5)
    with pytest.raises(OSError, match="no room"):
        whole(0.9, at)
    assert state(store) == ({"1"}, {"champion": "1", "champion-thyroid": "1"})


def test_what_cannot_be_withdrawn_is_told(store, whole, monkeypatch):
    def refuse(*_):
        raise ConnectionError("http://ann:secret@host is away")

    def at(step):
        if step == "after":
            monkeypatch.setattr(registry, "_withdraw", refuse)
            raise OSError("no room")

    with pytest.raises(OSError, match="no room") as error:
        whole(0.5, at)
    (note,) = error.value.__notes__
    assert "could not be removed: http://***@host is away" in note


def test_register_alone_withdraws_too(store, code, monkeypatch):
    with tracked_run(**ABOUT) as run:
        model = mlflow.pyfunc.log_model(name="model", python_model=str(code), pip_requirements=["mlflow"])
    monkeypatch.setattr(MlflowClient, "update_model_version", lambda *_: stop("an error"))
    with pytest.raises(OSError, match="no room"):
        register(model.model_uri, name=NAME, metric="dice", value=0.5, digest="d", task="thyroid", run_id=run.id)
    assert state(store) is None


def test_what_others_made_stays(store, code, monkeypatch):
    with tracked_run(**ABOUT) as run:
        model = mlflow.pyfunc.log_model(name="model", python_model=str(code), pip_requirements=["mlflow"])
    store.create_registered_model(NAME)

    def by_hand(*_):
        store.create_model_version(NAME, model.model_uri)
        raise OSError("no room")

    monkeypatch.setattr(MlflowClient, "update_model_version", by_hand)
    with pytest.raises(OSError, match="no room"):
        register(model.model_uri, name=NAME, metric="dice", value=0.5, digest="d", task="thyroid", run_id=run.id)
    assert state(store) == ({"2"}, {})

import math
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import mlflow
import pytest
from rich.console import Console

from experiments.config.resolve import resolve
from experiments.evaluation.registration import register_model
from experiments.evaluation.report import log_report
from trackers.registry.contest import Score, validation_score
from trackers.registry.registry import register, rollback_registration
from trackers.runs.reader import read_run
from trackers.runs.run import tracked_run

ROOT = Path(__file__).parents[3]
CODE = """
import mlflow
class Nothing(mlflow.pyfunc.PythonModel):
    def predict(self, model_input: list[int]):
        return model_input
mlflow.models.set_model(Nothing())
"""
NAME = "mrcnn-ultrasound"


@pytest.fixture
def enter(store, tmp_path):
    """Registers one and the same model with the scores that a test gives."""
    (tmp_path / "nothing.py").write_text(CODE)
    with tracked_run(task="thyroid", modality="ultrasound", seed=0, backend="tensorflow") as run:
        model = mlflow.pyfunc.log_model(
            name="model", python_model=str(tmp_path / "nothing.py"), pip_requirements=["mlflow"]
        )

    def enter(value, *, digest="d1", task="thyroid", metric="mask_ap50", higher_is_better=True):
        return register(
            model.model_uri,
            name=NAME,
            metric=metric,
            value=value,
            digest=digest,
            task=task,
            run_id=run.id,
            higher_is_better=higher_is_better,
        )

    enter.run_id = run.id
    return enter


def aliases(store):
    return {alias: str(version) for alias, version in store.get_registered_model(NAME).aliases.items()}


def test_the_first_is_champion_and_says_where_it_comes_from(store, enter):
    entered = enter(0.5)
    assert (entered.name, entered.version, entered.alias, entered.previous) == (NAME, "1", "champion", None)
    assert entered.task_champion
    assert entered.reason == "there was no champion"
    assert aliases(store) == {"champion": "1", "champion-thyroid": "1"}
    version = store.get_model_version(NAME, "1")
    assert version.run_id == enter.run_id
    told = {"metric": "mask_ap50", "value": "0.5", "digest": "d1", "task": "thyroid", "run": enter.run_id}
    assert told.items() <= version.tags.items()


def test_only_a_strictly_better_one_takes_over(store, enter):
    enter(0.5)
    same, worse, better = enter(0.5), enter(0.4), enter(0.6)
    assert [entered.alias for entered in (same, worse, better)] == ["challenger", "challenger", "champion"]
    assert [entered.previous for entered in (same, worse, better)] == ["1", "1", "1"]
    assert worse.reason == "validation mask_ap50 0.4 is not better than 0.5 of version 1"
    assert better.reason == "validation mask_ap50 0.6 is better than 0.5 of version 1"
    assert aliases(store) == {"champion": "4", "champion-thyroid": "4", "challenger": "3"}


def test_lower_wins_where_lower_is_better(store, enter):
    enter(5.0, metric="hd95", higher_is_better=False)
    assert enter(6.0, metric="hd95", higher_is_better=False).alias == "challenger"
    assert enter(4.0, metric="hd95", higher_is_better=False).alias == "champion"


def test_other_validation_data_or_another_metric_is_no_contest(store, enter):
    enter(0.5, digest="a" * 64)
    data, metric = enter(0.9, digest="b" * 64), enter(0.9, digest="a" * 64, metric="dice")
    assert (data.alias, metric.alias) == ("challenger", "challenger")
    assert data.reason == "not comparable: validated on data bbbbbbbbbbbb, the champion, version 1, on aaaaaaaaaaaa"
    assert metric.reason == "not comparable: chosen by dice, the champion, version 1, by mask_ap50"
    assert aliases(store) == {"champion": "1", "champion-thyroid": "1", "challenger": "3"}


def test_each_task_of_a_modality_has_a_champion(store, enter):
    enter(0.5, digest="d1", task="thyroid")
    other = enter(0.3, digest="d2", task="breast lesions")
    assert (other.alias, other.task_champion) == ("challenger", True)
    worse, better = (
        enter(0.2, digest="d2", task="breast lesions"),
        enter(0.4, digest="d2", task="breast lesions"),
    )
    assert (worse.task_champion, better.task_champion) == (False, True)
    assert aliases(store) == {
        "champion": "1",
        "champion-thyroid": "1",
        "challenger": "4",
        "champion-breast-lesions": "4",
    }


def recorded(store, *, val="d1", best_epoch=2, values=(0.3, 0.6, 0.5), **metrics):
    """A run with validations of three epochs; returns what it recorded."""
    with tracked_run(task="thyroid", modality="ultrasound", seed=0, backend="tensorflow") as run:
        run.dataset("mine", val, {}, "val")
        run.dataset("mine", "t1", {}, "test")
        for step, value in enumerate(values, start=1):
            run.metrics({"val/mask_ap50": value}, step=step)
        run.metrics({"best_epoch": best_epoch, "test/mask_ap50": 0.9, **metrics})
    return read_run(run.id)


def test_the_score_is_that_of_the_validation_at_the_best_epoch(store):
    assert validation_score(recorded(store), "mask_ap50") == Score("mask_ap50", 0.6, "d1")
    assert math.isnan(validation_score(recorded(store), "dice").value)
    swept = recorded(store, values=(), **{"best/mask_ap50": 0.7})
    assert validation_score(swept, "mask_ap50") == Score("mask_ap50", 0.7, "d1")


def test_the_score_of_a_cross_validation_is_that_of_all_folds(store):
    with tracked_run(task="thyroid", modality="ultrasound", seed=0, backend="tensorflow") as run:
        run.dataset("mine", "f1", {}, "out_of_fold")
        run.metrics({"out_of_fold/dice": 0.55, "test/dice": 0.9})
    assert validation_score(read_run(run.id), "dice") == Score("dice", 0.55, "f1")


def test_a_champion_of_an_earlier_version_stands_by_its_run(store, enter):
    old = recorded(store)
    store.create_registered_model(NAME)
    # As version 0.1 tagged it: with the test score.
    tags = {"metric": "mask_ap50", "value": "0.9", "digest": "t1", "run": old.run_id}
    store.create_model_version(NAME, "runs:/x/model", old.run_id, tags=tags)
    store.set_registered_model_alias(NAME, "champion", "1")
    assert enter(0.55).reason == "validation mask_ap50 0.55 is not better than 0.6 of version 1"
    assert enter(0.65).reason == "validation mask_ap50 0.65 is better than 0.6 of version 1"


def test_what_is_not_a_number_never_wins(store, enter):
    entered = enter(math.nan)
    assert (entered.alias, entered.task_champion, entered.reason) == ("challenger", False, "mask_ap50 is not a number")
    assert enter(0.1).alias == "champion"


def test_a_champion_that_somebody_made_by_hand_stays(store, enter):
    enter(0.5)
    store.delete_model_version_tag(NAME, "1", "digest")
    entered = enter(0.9)
    assert entered.alias == "challenger"
    assert entered.reason == "not comparable: version 1, the champion, has no validation score"


def test_nothing_is_printed(store, enter, capfd):
    enter(0.5)
    enter(0.6)
    out, err = capfd.readouterr()
    assert (out, "model" in err) == ("", False)


STEPS = (
    "create_registered_model", "_create_model_version", "update_model_version", "set_registered_model_alias",
    "delete_model_version_tag",
)  # fmt: skip


# With the last answer lost all is done already.
@pytest.mark.parametrize(("step", "taken"), [(step, taken) for step in STEPS for taken in (False, True)][:-1])
def test_a_store_that_goes_away_in_the_middle_is_gone_on_with(store, enter, monkeypatch, step, taken):
    client, asked = type(mlflow.MlflowClient()), []
    whole = getattr(client, step)

    def falls(self, *args, **kwargs):
        asked.append(step)
        if taken:
            whole(self, *args, **kwargs)
        raise ConnectionError("the store is away")

    with monkeypatch.context() as away:
        away.setattr(client, step, falls)
        with pytest.raises(ConnectionError):
            enter(0.5)
    assert len(asked) == 1
    entered = enter(0.5)
    assert (entered.alias, entered.task_champion) == ("champion", True)
    (version,) = store.search_model_versions(f"name = '{NAME}'")
    assert str(version.version) == entered.version
    assert "entering" not in version.tags
    assert "Research use only" in version.description
    assert aliases(store) == {"champion": entered.version, "champion-thyroid": entered.version}


def test_a_repeated_request_leaves_no_second_version(store, enter, monkeypatch):
    client = type(mlflow.MlflowClient())
    whole = client._create_model_version

    def twice(self, *args, **kwargs):
        # The answer to the first was lost, and MLflow asked again.
        whole(self, *args, **kwargs)
        return whole(self, *args, **kwargs)

    monkeypatch.setattr(client, "_create_model_version", twice)
    entered = enter(0.5)
    assert [str(each.version) for each in store.search_model_versions(f"name = '{NAME}'")] == [entered.version]
    assert aliases(store)["champion"] == entered.version


def again(store, run_id, register_it):
    """Resume the run, as `--resume` does, and register in it."""
    with tracked_run(task="thyroid", modality="ultrasound", seed=0, backend="tensorflow", resumed=run_id):
        return register_it()


KILLED = """
import os, signal, sys
from mlflow import MlflowClient
from trackers.registry.registry import register
true, step = getattr(MlflowClient, sys.argv[1]), int(sys.argv[2])
def stop(*args, **kwargs):
    global step
    true(*args, **kwargs)
    step -= 1
    if not step:
        os.kill(os.getpid(), signal.SIGKILL)
setattr(MlflowClient, sys.argv[1], stop)
register(sys.argv[3], name="mrcnn-ultrasound", metric="mask_ap50", value=float(sys.argv[5]), digest="d1",
         task="thyroid", run_id=sys.argv[4])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("value", "step", "times", "wins"),
    [(0.6, "delete_model_version_tag", 1, True), (0.4, "delete_model_version_tag", 1, False),
     (0.6, "set_registered_model_alias", 1, True)],
)  # fmt: skip
def test_a_run_that_was_killed_while_it_registered_has_one_version_when_it_is_gone_on_with(
    store, enter, value, step, times, wins
):
    assert enter(0.5).version == "1"
    with tracked_run(task="thyroid", modality="ultrasound", seed=0, backend="tensorflow") as run:
        pass
    store.update_run(run.id, "RUNNING")
    uri = store.get_model_version(NAME, "1").source
    done = subprocess.run(
        [sys.executable, "-c", KILLED, step, str(times), uri, run.id, str(value)], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": mlflow.get_tracking_uri()},
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    entered = again(store, run.id, lambda: register(
        uri, name=NAME, metric="mask_ap50", value=value, digest="d1", task="thyroid", run_id=run.id
    ))  # fmt: skip
    assert sorted(str(each.version) for each in store.search_model_versions(f"name = '{NAME}'")) == ["1", "2"]
    words = "better than" if wins else "not better than"
    assert (entered.version, entered.reason) == ("2", f"validation mask_ap50 {value} is {words} 0.5 of version 1")
    champion = "2" if wins else "1"
    expected = {"champion": champion, "champion-thyroid": champion} | ({} if wins else {"challenger": "2"})
    assert aliases(store) == expected
    assert "entering" not in store.get_model_version(NAME, "2").tags
    # What it took is given back where the run fails after all.
    rollback_registration(entered)
    assert aliases(store) == {"champion": "1", "champion-thyroid": "1"}


def test_a_model_that_finds_nothing_right_is_never_champion(store, enter):
    entered = enter(0.0)
    reason = "mask_ap50 is 0: such a model is never champion"
    assert (entered.alias, entered.task_champion, entered.reason) == ("challenger", False, reason)
    assert aliases(store) == {"challenger": "1"}
    assert store.get_model_version(NAME, "1").tags["reason"] == reason
    assert enter(0.1).alias == "champion"
    assert enter(0.0, metric="hd95", higher_is_better=False, digest="d2", task="other").task_champion


@pytest.mark.parametrize(("metric", "value"), [("dice", 0.0), ("mask_ap", 0.0), ("mask_ap50", 0.0), ("dice", 0.2)])
def test_a_zero_on_the_validation_split_is_said_on_the_terminal_and_in_the_report(store, enter, capsys, metric, value):
    uri = enter(0.5, task="other", digest="other").name and store.get_model_version(NAME, "1").source
    config = resolve([]).config
    with tracked_run(task="thyroid", modality="ultrasound", seed=0, backend="tensorflow") as run:
        run.dataset("mine", "d9", {}, "val")
        for step in (1, 2, 3):
            scores = {config.evaluate.metric: 0.7, metric: value if step == 2 else 0.9}
            run.metrics({f"val/{name}": each for name, each in scores.items()}, step=step)
        run.metrics({"best_epoch": 2, "test/mask_ap50": 0.99})
        register_model(uri, config, run, Console(width=300), family="mrcnn")
    printed = capsys.readouterr().out
    if value:
        assert "as challenger and champion-thyroid" in printed
        return
    reason = f"{metric} is 0 on the validation split: such a model is never champion"
    assert f"Registered {NAME} version 2 as challenger: {reason}" in printed
    assert aliases(store) == {"champion": "1", "champion-other": "1", "challenger": "2"}


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device", "/data/report.html"), ValueError("no such\nfigure")]
)
def test_a_report_that_cannot_be_made_costs_no_model(store, enter, caplog, monkeypatch, error):
    uri = enter(0.5).name and store.get_model_version(NAME, "1").source

    def fail(_):
        raise error

    monkeypatch.setattr("experiments.evaluation.report.report", fail)
    with (
        tracked_run(task="thyroid", modality="ultrasound", seed=0, backend="tensorflow") as run,
        ExitStack() as at_last,
    ):
        at_last.callback(log_report, run)
        register_model(uri, resolve([]).config, run, Console(quiet=True), family="mrcnn")
    assert store.get_run(run.id).info.status == "FINISHED"
    assert len(store.search_model_versions(f"name = '{NAME}'")) == 2
    (line,) = [each.getMessage() for each in caplog.records if "report.html is not made" in each.getMessage()]
    told = "/data/report.html: No space left on device" if isinstance(error, OSError) else "ValueError: no such"
    assert line == f"{told}: report.html is not made; the model is not affected"

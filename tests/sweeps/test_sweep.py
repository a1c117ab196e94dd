"""A sweep from the command to the registry, in processes of its own, on a tiny model that learns nothing much."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
import yaml
from mlflow import MlflowClient
from optuna.trial import TrialState

from experiments.config.resolve import resolve

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
# At the second of these rates the loss is no number after a step or two.
SPACE = {
    "train.learning_rate": {"choices": [0.001, 1e30]},
    "train.momentum": {"low": 0.5, "high": 0.95},
    "anchors.scale": {"low": 6, "high": 12},
    "anchors.spread": {"low": 1.5, "high": 2.0},
}
SWEEP = {"sampler": "random", "trials": 4, "thresholds": {"sets": 40}, "space": SPACE}


@pytest.fixture(scope="module")
def run_sweep():
    """Starts `mrcnn sweep` in a folder; waits for it unless told otherwise."""

    def run(folder, *words, wait=True):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        environment |= {
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "false",
            "PYTHONPATH": str(ROOT),
        }
        started = subprocess.Popen(
            [sys.executable, "-m", "sweeps.command", *map(str, words)],
            cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        if not wait:
            return started
        out, err = started.communicate()
        assert started.returncode == 0, f"{out}\n{err}"
        return out

    return run


def tree(folder):
    """The sweep's runs that are no trial, and its trials' runs by number."""
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    runs = client.search_runs([each.experiment_id for each in client.search_experiments()])
    children = {int(run.data.tags["trial"]): run for run in runs if "mlflow.parentRunId" in run.data.tags}
    return client, [run for run in runs if "mlflow.parentRunId" not in run.data.tags], children


def trials_of(folder):
    address = f"sqlite:///{folder}/sweeps.db"
    return optuna.load_study(study_name=optuna.get_all_study_names(address)[0], storage=address).trials


@pytest.fixture(scope="module")
def swept(run_sweep, make_task, tmp_path_factory):
    """The folder of a finished sweep, its task file and what it printed."""
    folder = tmp_path_factory.mktemp("sweep")
    task = make_task({**SWEEP, "trials": 3}, warmup_steps=0, clip_norm=None)
    return folder, task, run_sweep(folder, "--task", task)


def test_a_run_for_the_sweep_and_one_below_for_each_trial(swept):
    client, (parent,), children = tree(swept[0])
    assert parent.info.status == "FINISHED"
    assert client.get_experiment(parent.info.experiment_id).name == "thyroid"
    assert sorted(children) == [0, 1, 2]
    assert {child.data.tags["mlflow.parentRunId"] for child in children.values()} == {parent.info.run_id}
    assert parent.data.params["sweep.trials"] == "3"


def test_a_diverging_trial_failed_alone_with_its_reason(swept):
    client, _, children = tree(swept[0])
    states = [trial.state for trial in trials_of(swept[0])]
    assert {TrialState.COMPLETE, TrialState.FAIL} <= set(states)
    for trial in trials_of(swept[0]):
        run = children[trial.number]
        if trial.state == TrialState.FAIL:
            assert run.info.status == "FAILED"
            assert "Diverged" in run.data.tags["error"] and "Diverged" in trial.user_attrs["reason"]
        elif trial.state == TrialState.COMPLETE:
            assert run.info.status == "FINISHED"
            assert run.data.metrics["val/dice"] == pytest.approx(trial.value)
            history = client.get_metric_history(run.info.run_id, "val/dice")
            assert [point.step for point in history] == [1, 2, 3]  # two epochs, and with the thresholds found


def test_the_test_split_is_touched_by_the_winner_alone(swept):
    client, (parent,), children = tree(swept[0])
    assert len(client.get_metric_history(parent.info.run_id, "test/dice")) == 1
    assert not any(name.startswith("test/") for child in children.values() for name in child.data.metrics)
    best = max((trial for trial in trials_of(swept[0]) if trial.value is not None), key=lambda trial: trial.value)
    assert parent.data.metrics["best/dice"] == pytest.approx(best.value)
    assert parent.data.tags["best_run"] == children[best.number].info.run_id
    version = client.get_model_version_by_alias("mrcnn-ultrasound", "champion")
    assert version.run_id == parent.info.run_id


def test_table_plots_and_the_best_task_are_kept(swept):
    client, (parent,), _ = tree(swept[0])
    folder = Path(client.download_artifacts(parent.info.run_id, ""))
    rows = list(csv.DictReader((folder / "trials.csv").open()))
    assert [row["trial"] for row in rows] == ["0", "1", "2"]
    assert sum(row["best"] == "True" for row in rows) == 1
    plots = {path.stem for path in (folder / "study").iterdir()}
    assert {"optimization_history", "param_importances", "slice", "contour", "parallel_coordinate",
            "intermediate_values"} <= plots  # fmt: skip
    config = resolve(["--task", str(folder / "best.yaml")]).config
    (best,) = (row for row in rows if row["best"] == "True")
    assert config.train.momentum == float(best["train.momentum"])
    assert config.model.nms_iou == float(best["nms_iou"])
    assert yaml.safe_load((folder / "thresholds.json").read_text())["per_class"]["class_names"]


def test_the_winners_report_tells_where_the_threshold_comes_from(swept):
    client, (parent,), _ = tree(swept[0])
    page = Path(client.download_artifacts(parent.info.run_id, "report.html")).read_text()
    assert "search on the validation split, after the training" in page
    assert parent.data.tags["best_run"] in page
    config = resolve(["--task", client.download_artifacts(parent.info.run_id, "config.yaml")]).config
    assert config.evaluate.confidence == parent.data.metrics["confidence"]
    trained = client.get_run(parent.data.tags["best_run"])
    assert config.train.precision == trained.data.params["train.precision"] != "auto"


def test_the_finished_sweep_is_not_run_again(swept, run_sweep):
    before = len(trials_of(swept[0]))
    assert "is finished" in run_sweep(swept[0], "--task", swept[1])
    assert len(trials_of(swept[0])) == before
    assert len(tree(swept[0])[1]) == 1


def test_killed_at_any_moment_it_goes_on_and_runs_nothing_twice(run_sweep, make_task, tmp_path):
    space = {name: SPACE[name] for name in ("train.momentum", "anchors.scale", "anchors.spread")}
    task = make_task({**SWEEP, "space": space, "pruner": "none"}, learning_rate=0.001)
    tree(tmp_path)  # makes the store, which two processes cannot do at once
    for wanted in (1, 3):
        started = run_sweep(tmp_path, "--task", task, "--workers", 2, wait=False)
        end = time.monotonic() + 300
        while time.monotonic() < end:
            time.sleep(0.5)
            if len(tree(tmp_path)[2]) >= wanted:
                break
        time.sleep(1.7)
        os.kill(started.pid, signal.SIGKILL)
        started.communicate()
    finished = {trial.number for trial in trials_of(tmp_path) if trial.state == TrialState.COMPLETE}
    time.sleep(3)  # the workers notice
    run_sweep(tmp_path, "--task", task, "--workers", 2)

    trials = trials_of(tmp_path)
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    assert len(complete) == 4
    assert finished <= {trial.number for trial in complete}
    assert len({tuple(trial.params.values()) for trial in complete}) == 4
    assert not [trial for trial in trials if trial.state in (TrialState.RUNNING, TrialState.WAITING)]
    _, parents, children = tree(tmp_path)
    assert sorted(run.info.status for run in parents) == ["FINISHED", "KILLED", "KILLED"]
    (parent,) = (run for run in parents if run.info.status == "FINISHED")
    assert {child.data.tags["mlflow.parentRunId"] for child in children.values()} == {parent.info.run_id}
    assert {child.info.status for child in children.values()} <= {"FINISHED", "KILLED"}
    assert sum(child.info.status == "FINISHED" for child in children.values()) == 4


def test_two_objectives_and_two_workers_give_a_front(run_sweep, make_task, tmp_path):
    space = {"train.momentum": {"low": 0.5, "high": 0.95}, "model.roi_samples": {"low": 8, "high": 16, "step": 8}}
    task = make_task({**SWEEP, "space": space, "workers": 2, "objectives": ["dice", "inference_ms"]})
    printed = run_sweep(tmp_path, "--task", task)
    assert "Pareto front: trial" in printed
    trials = trials_of(tmp_path)
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    assert len({trial.user_attrs["worker"]["pid"] for trial in trials}) == 2
    client, (parent,), children = tree(tmp_path)
    assert len(children) == 4
    names = {file.path for file in client.list_artifacts(parent.info.run_id, "study")}
    assert "study/pareto_front.png" in names
    assert parent.data.metrics["best/inference_ms"] > 0

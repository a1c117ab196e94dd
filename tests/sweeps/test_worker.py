"""How a trial ends: told to the study, recorded in MLflow, and no other trial's affair."""

import mlflow
import optuna
import pytest
from mlflow import MlflowClient
from optuna.trial import TrialState
from rich.console import Console

from experiments.preparation.data_check import check_data
from experiments.training.callbacks import Diverged, FiniteLoss
from experiments.training.training_data import usable_data
from sweeps import training
from sweeps.command import command
from sweeps.record import summary
from sweeps.study import acquire_trial, num_unfinished, open_study, refill_queue
from sweeps.training import Job, run_trial
from sweeps.worker import DONE, REPLACE, TRIALS_EACH, attempt, run_worker
from trackers.checkpoints.unfinished_runs import unfinished_folder
from trackers.runs.run import Parent
from trackers.runs.signals import Pruned, Terminated

pytestmark = pytest.mark.usefixtures("eager")
SPACE = {"train.learning_rate": {"low": 1e-3, "high": 1e-2, "log": True}}


@pytest.fixture(scope="module")
def store(tmp_path_factory, empty_store):
    """The folder of a store with an experiment `elsewhere`."""
    folder = tmp_path_factory.mktemp("store")
    (folder / "mlflow.db").write_bytes(empty_store)
    MlflowClient(f"sqlite:///{folder}/mlflow.db").create_experiment("elsewhere", f"file://{folder}/artifacts")
    return folder


@pytest.fixture
def job(make_task, store, tmp_path, monkeypatch):
    """A job with a parent run."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}/mlflow.db")
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    monkeypatch.setenv("MRCNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    client = MlflowClient()
    experiment = client.get_experiment_by_name("elsewhere").experiment_id
    parent = client.create_run(experiment)
    # As a worker under `mlflow run` would find it; a child must not take it for its own.
    monkeypatch.setenv("MLFLOW_RUN_ID", parent.info.run_id)
    resolved, options = command.parse(
        ["--task", str(make_task({"sampler": "random", "space": SPACE, "thresholds": {"sets": 30}}, steps_per_epoch=3))]
    )
    return Job(
        resolved.config,
        options,
        ("dice",),
        f"sqlite:///{tmp_path}/sweeps.db",
        "s",
        Parent(parent.info.run_id, experiment),
    )


@pytest.fixture
def study(job):
    found = open_study(job.storage, job.study, job.options, job.objectives, epochs=2)
    refill_queue(found, 1)
    return found


def test_a_job_travels_as_json(job):
    assert Job.from_json(job.as_json()) == job
    assert Job.from_json(job.as_json()).config.model_fields_set == job.config.model_fields_set


@pytest.mark.parametrize(
    ("error", "state", "reason", "same_process"),
    [
        (Pruned("epoch 1"), TrialState.PRUNED, None, True),
        (Diverged("the loss is nan"), TrialState.FAIL, "Diverged: the loss is nan", True),
        (MemoryError("64 GiB"), TrialState.FAIL, "MemoryError: 64 GiB", False),
    ],
)
def test_a_trial_ends_alone(job, study, monkeypatch, error, state, reason, same_process):
    def run(*_):
        raise error

    monkeypatch.setattr(training, "run_trial", run)
    trial = acquire_trial(study, job.options, 0)
    assert attempt(study, trial, job, None, Console(quiet=True)) is same_process
    assert study.trials[0].state == state
    assert study.trials[0].user_attrs.get("reason") == reason
    assert num_unfinished(study) == 0


def test_a_stopped_worker_puts_its_trial_back(job, study, monkeypatch):
    def run(*_):
        raise Terminated

    monkeypatch.setattr(training, "run_trial", run)
    with pytest.raises(Terminated):
        attempt(study, acquire_trial(study, job.options, 0), job, None, Console(quiet=True))
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.WAITING]


class Hopeless(optuna.trial.FixedTrial):
    def should_prune(self):
        return True


def test_a_pruned_training_is_a_killed_run_below_its_parent(job):
    checked = check_data(job.config)
    trial = Hopeless({"train.learning_rate": 0.002})
    trial.study = optuna.create_study()  # without a plan that its trials share
    with pytest.raises(Pruned):
        run_trial(trial, job, usable_data(checked, job.config), Console(quiet=True))
    run = mlflow.get_run(trial.user_attrs["run"])
    assert run.info.status == "KILLED"
    assert run.info.experiment_id == job.parent.experiment_id
    assert run.data.tags["mlflow.parentRunId"] == job.parent.run_id
    assert "is worse than" in run.data.tags["pruned"]
    assert "error" not in run.data.tags
    assert run.data.params["train.learning_rate"] == "0.002"
    assert trial.user_attrs["epochs"] == 1
    assert "val/dice" in run.data.metrics
    assert MlflowClient().get_run(job.parent.run_id).info.status == "RUNNING"


@pytest.mark.slow
def test_a_stopped_trial_goes_on_in_its_run_and_finds_the_same(job, monkeypatch):
    """Two trials of one setting, one of them stopped in its second epoch."""
    found = open_study(job.storage, job.study, job.options, job.objectives, epochs=2)
    for _ in range(2):
        found.enqueue_trial({"train.learning_rate": 0.002})
    checked = check_data(job.config)
    data, console = usable_data(checked, job.config), Console(quiet=True)
    assert attempt(found, acquire_trial(found, job.options, 0), job, data, console)

    with monkeypatch.context() as patch, pytest.raises(Terminated):
        patch.setattr(FiniteLoss, "on_train_batch_end", stop_in_the_second_epoch)
        attempt(found, acquire_trial(found, job.options, 0), job, data, console)
    stopped = found.trials[1]
    assert stopped.state == TrialState.FAIL
    assert mlflow.get_run(stopped.user_attrs["run"]).info.status == "KILLED"
    steps = []
    as_it_is = FiniteLoss.on_train_batch_end

    def count(self, batch, logs):
        steps.append(self.state.epochs_done + 1)
        as_it_is(self, batch, logs)

    monkeypatch.setattr(FiniteLoss, "on_train_batch_end", count)
    assert attempt(found, acquire_trial(found, job.options, 0), job, data, console)
    assert set(steps) == {2}
    whole, _, retried = found.trials
    assert retried.user_attrs["run"] == stopped.user_attrs["run"]
    assert retried.values == whole.values
    assert retried.intermediate_values == whole.intermediate_values and len(whole.intermediate_values) == 2
    run = mlflow.get_run(retried.user_attrs["run"])
    assert run.info.status == "FINISHED"
    assert run.data.tags["trial"] == "2" and "error" not in run.data.tags
    for name in ("train/loss", "val/dice"):
        one, other = (
            [(point.step, point.value) for point in MlflowClient().get_metric_history(each.user_attrs["run"], name)]
            for each in (whole, retried)
        )
        assert one == other
    assert summary(found)["epochs"] == 4  # two whole ones, one before the stop and one after it
    assert not list(unfinished_folder().iterdir())


def stop_in_the_second_epoch(self, batch, logs):
    if self.state.epochs_done == 1 and batch == 2:
        raise Terminated


def test_a_process_ends_after_some_trials_and_when_none_is_left(job, monkeypatch):
    found = open_study(job.storage, job.study, job.options, job.objectives, epochs=2)
    refill_queue(found, TRIALS_EACH + 1)
    monkeypatch.setattr(training, "run_trial", lambda *_: [0.5])
    assert run_worker(job) == REPLACE
    assert num_unfinished(found) == 1
    assert run_worker(job) == DONE
    assert {trial.state for trial in found.trials} == {TrialState.COMPLETE}

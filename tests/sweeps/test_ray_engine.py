"""Workers in Ray actors: started, heard and stopped like processes, and refused where they could not work."""

import importlib.util
import json
import signal
import sys

import pytest
from mlflow import MlflowClient

from mrcnn.errors import InputError
from sweeps.command import command
from sweeps.options import SweepOptions, check_options
from sweeps.ray_engine import check_reach, check_resources, cluster
from sweeps.study import WORKER, open_study, refill_queue, this_process
from sweeps.training import Job
from sweeps.worker import DONE
from trackers.runs.run import Parent

POSTGRES, SERVER = "postgresql+psycopg://mlflow:secret@db/sweeps", "http://tracking:5000"
RAY = SweepOptions(engine="ray")


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs Ray")
def test_a_worker_runs_in_an_actor_and_puts_all_back_when_stopped(make_task, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    resolved, options = command.parse(
        ["--task", str(make_task({"space": {"train.momentum": {"low": 0.5, "high": 0.9}}}))]
    )
    options = options.model_copy(update={"engine": "ray", "ray_address": "local"})
    storage = f"sqlite:///{tmp_path}/sweeps.db"
    MlflowClient(tracking := f"sqlite:///{tmp_path}/mlflow.db").search_experiments()  # makes the store
    started = []
    before = signal.getsignal(signal.SIGTERM)
    with cluster(options, storage, tracking) as start:
        assert signal.getsignal(signal.SIGTERM) == before
        for name in ("empty", "taken"):
            study = open_study(storage, name, options, ["dice"], epochs=2)
            job = Job(resolved.config, options, ("dice",), storage, name, Parent("0", "0"))
            if name == "taken":  # by this process: a worker waits whether it comes back
                refill_queue(study, 1)
                trial = study.ask()
                trial.set_user_attr(WORKER, this_process())
            (file := tmp_path / f"{name}.json").write_text(json.dumps(job.as_json()))
            started.append(start(file, tmp_path / f"{name}.log"))
        done, waits = started
        assert done.wait(300) == DONE
        assert waits.poll() is None
        waits.terminate()
        assert waits.wait(60) == 130
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs Ray")
@pytest.mark.parametrize("address", ["127.0.0.1:1", "somewhere", "ray://127.0.0.1:1"])
def test_a_cluster_that_is_not_there_is_told_in_one_line(address):
    options = SweepOptions(engine="ray", ray_address=address)
    with pytest.raises(InputError, match=f"--ray_address {address}: expected a") as caught, cluster(options, "", ""):
        pass
    assert "\n" not in str(caught.value)


def test_without_ray_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"medmrcnn\[ray\]"), cluster(RAY, POSTGRES, SERVER):
        pass


@pytest.mark.parametrize(
    ("storage", "tracking", "said"),
    [
        ("sqlite:////shared/sweeps.db", SERVER, "--storage sqlite:////shared/sweeps.db: expected, on a cluster of 2"),
        ("postgresql://me:secret@localhost/sweeps", SERVER, r"--storage postgresql://\*\*\*@localhost/sweeps: "),
        (POSTGRES, "sqlite:///mlflow.db", "MLFLOW_TRACKING_URI sqlite:///mlflow.db: expected, on a cluster of 2"),
        (POSTGRES, "mlruns", "MLFLOW_TRACKING_URI mlruns: "),
        (POSTGRES, "file:///shared/mlruns", "MLFLOW_TRACKING_URI file:///shared/mlruns: "),
        (POSTGRES, "http://127.0.0.1:5000", "MLFLOW_TRACKING_URI http://127.0.0.1:5000: "),
    ],
)
def test_what_one_machine_alone_could_reach_is_refused_on_two(storage, tracking, said):
    with pytest.raises(InputError, match=said) as caught:
        check_reach({"10.0.0.1", "10.0.0.2"}, storage, tracking)
    assert "secret" not in str(caught.value)
    check_reach({"10.0.0.1"}, storage, tracking)
    check_reach({"10.0.0.1", "10.0.0.2"}, POSTGRES, SERVER)


def test_workers_that_no_node_has_room_for_are_refused_unless_the_cluster_may_grow():
    nodes = [{"CPU": 8.0}, {"CPU": 2.0, "GPU": 1.0}]
    check_resources(nodes, SweepOptions(engine="ray", cpus_per_worker=8), 0, may_grow=False)
    wanted = SweepOptions(engine="ray", cpus_per_worker=4)
    with pytest.raises(InputError, match=r"4 cores and 1 GPUs are on no node .* 8 and 0; 2 and 1"):
        check_resources(nodes, wanted, 1, may_grow=False)
    check_resources(nodes, wanted, 1, may_grow=True)


def test_options_of_ray_are_refused_without_it():
    with pytest.raises(InputError, match=r"--cpus_per_worker=2: expected with engine=ray alone"):
        check_options({}, "task.yaml", {"cpus_per_worker": 2})
    assert check_options({}, "task.yaml", {"cpus_per_worker": 2, "engine": "ray"}).cpus_per_worker == 2

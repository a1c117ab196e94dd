"""A sweep over two nodes of Ray, studies and runs on PostgreSQL, of which one node dies in the middle of a trial."""

import importlib.util
import multiprocessing
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import optuna
import pytest
from mlflow import MlflowClient
from optuna.trial import TrialState

from sweeps import study as studies
from sweeps.options import SweepOptions

ROOT = Path(__file__).parents[2]
OTHER_NODE = "other-node"
BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin")) or [Path(shutil.which("initdb") or "missing").parent]
TRIALS = 6

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (BINARIES[-1] / "initdb").exists(), reason="needs PostgreSQL's server"),
    pytest.mark.skipif(importlib.util.find_spec("psycopg") is None, reason="needs psycopg"),
]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(true, what, seconds=120.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(0.5)


@contextmanager
def running(words, **kwargs):
    """A server, asked to stop at the end."""
    process = subprocess.Popen([*map(str, words)], **kwargs)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def postgres():
    """Addresses of two empty databases, for studies and for runs, of a server on loopback."""
    # It refuses to run as root, and pytest's folders are closed to others.
    other = {"user": "postgres"} if os.getuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="medmrcnn-postgres-"))
    if other:
        os.chown(folder, pwd.getpwnam("postgres").pw_uid, -1)
    port, name = free_port(), "postgres"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder, **other}
    made = [BINARIES[-1] / "initdb", "--auth=trust", f"--username={name}", folder / "data"]
    subprocess.run([*map(str, made)], check=True, **quiet)
    served = [BINARIES[-1] / "postgres", "-D", folder / "data", "-h", "127.0.0.1", "-p", port, "-k", folder]
    with running(served, **quiet):
        reach = ["-h", "127.0.0.1", "-p", str(port), "-U", name]
        wait_until(lambda: not subprocess.run([BINARIES[-1] / "pg_isready", *reach], **quiet).returncode, "PostgreSQL")
        for database in ("studies", "runs"):
            subprocess.run([BINARIES[-1] / "createdb", *reach, database], check=True, **quiet)
        yield [f"postgresql+psycopg://{name}@127.0.0.1:{port}/{database}" for database in ("studies", "runs")]
    shutil.rmtree(folder)


def look_for_the_dead(address, barrier):
    found = studies.open_study(address, "race", SweepOptions(), ["dice"], epochs=1)
    barrier.wait()
    studies.requeue_dead(found)


def test_of_many_that_find_a_dead_worker_one_queues_its_trial_again(postgres):
    found = studies.open_study(postgres[0], "race", SweepOptions(), ["dice"], epochs=1)
    studies.refill_queue(found, 1)
    trial = studies.acquire_trial(found, SweepOptions(sampler="random"), 0)
    gone = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    trial.set_user_attr(studies.WORKER, studies.process(gone.pid))
    gone.kill()
    gone.wait()
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(6)
    lookers = [context.Process(target=look_for_the_dead, args=(postgres[0], barrier)) for _ in range(6)]
    for looker in lookers:
        looker.start()
    for looker in lookers:
        looker.join()
        assert looker.exitcode == 0
    assert [trial.state for trial in found.trials] == [TrialState.FAIL, TrialState.WAITING]


@pytest.fixture
def environment(tmp_path):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "RAY_"))}
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "false"}
    # Ray would ask for a token where an earlier cluster of this user left one.
    quiet |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    return kept | quiet | {"PYTHONPATH": str(ROOT)}


@pytest.fixture
def tracking(postgres, environment, tmp_path):
    """Address of an MLflow server with its runs in PostgreSQL, through which all artifacts go."""
    address = f"http://127.0.0.1:{(port := free_port())}"
    words = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", port, "--workers", 1]
    words += ["--backend-store-uri", postgres[1], "--serve-artifacts", "--artifacts-destination", tmp_path / "kept"]

    def answers():
        try:
            return urlopen(f"{address}/health", timeout=5).status == 200
        except OSError:
            return False

    with open(tmp_path / "server.log", "wb") as log, running(words, env=environment, stdout=log, stderr=log):
        wait_until(answers, "the tracking server")
        yield address


@pytest.fixture
def two_nodes(environment):
    """Address of a cluster of two nodes, and the process with whose end everything on the second one ends.

    The second has a host name and processes of its own, as another machine has.
    """
    if importlib.util.find_spec("ray") is None:
        pytest.skip("needs Ray")
    apart = ["unshare", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if not shutil.which("unshare") or subprocess.run([*apart, "true"], capture_output=True).returncode:
        pytest.skip("needs the right to unshare host name and processes")
    # Its sockets' names have to be short.
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    ray, address = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block"], f"127.0.0.1:{free_port()}"
    head = [*ray, "--head", "--node-ip-address=127.0.0.1", f"--port={address.partition(':')[2]}", "--num-cpus=2",
            "--include-dashboard=false", f"--temp-dir={folder}"]  # fmt: skip
    joins = f"hostname {OTHER_NODE}; exec {' '.join(ray)} --node-ip-address=127.0.0.1 --address={address} --num-cpus=1"
    quiet = {"env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}

    def nodes():
        asked = (
            "import ray, sys; ray.init(sys.argv[1], log_to_driver=False); print(sum(n['Alive'] for n in ray.nodes()))"
        )
        done = subprocess.run(
            [sys.executable, "-c", asked, address], env=environment, capture_output=True, text=True, check=False
        )
        return int(done.stdout or 0) if done.returncode == 0 else 0

    with running(head, **quiet):
        wait_until(lambda: nodes() == 1, "the first node")
        with running([*apart, "sh", "-c", joins], **quiet) as second:
            wait_until(lambda: nodes() == 2, "the second node")
            yield address, second
    shutil.rmtree(folder, ignore_errors=True)


def test_a_node_dies_and_all_trials_end_none_twice(two_nodes, tracking, postgres, environment, make_task, tmp_path):
    space = {"train.momentum": {"low": 0.5, "high": 0.95}}
    sweep = {"sampler": "random", "pruner": "none", "trials": TRIALS, "thresholds": {"sets": 20}, "space": space}
    task = make_task(sweep, epochs=12, learning_rate=0.001)
    address, second = two_nodes
    words = ["--task", task, "--engine", "ray", "--ray_address", address, "--workers", 2, "--storage", postgres[0],
             "--study", "nodes"]  # fmt: skip
    storage = optuna.storages.RDBStorage(postgres[0])  # once: each has connections of its own, of which 100 are allowed
    began = time.monotonic()
    started = subprocess.Popen(
        [sys.executable, "-m", "sweeps.command", *map(str, words)],
        cwd=tmp_path, env=environment | {"MLFLOW_TRACKING_URI": tracking},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip

    def trials():
        if "nodes" not in optuna.get_all_study_names(storage):
            return []
        return optuna.load_study(study_name="nodes", storage=storage).trials

    def under_way():
        assert started.poll() is None, started.stdout.read()
        return [
            trial
            for trial in trials()
            if trial.state == TrialState.RUNNING
            and trial.user_attrs.get("worker", {}).get("host") == OTHER_NODE
            and trial.user_attrs.get("epochs", 0) >= 1
        ]

    wait_until(under_way, "a trial on the second node", 300)
    (broken,) = under_way()
    second.kill()
    killed = time.monotonic()
    printed, _ = started.communicate(timeout=1200)
    print(f"killed after {killed - began:.0f} s, the sweep ended {time.monotonic() - killed:.0f} s later\n{printed}")
    assert started.returncode == 0, printed

    found = trials()
    complete = [trial for trial in found if trial.state == TrialState.COMPLETE]
    failed = [trial for trial in found if trial.state == TrialState.FAIL]
    assert len(complete) == TRIALS and len(found) == TRIALS + 1
    assert len({tuple(trial.params.values()) for trial in complete}) == TRIALS
    assert [trial.number for trial in failed] == [broken.number]
    (again,) = (trial for trial in complete if studies.first_attempt(trial) == broken.number)
    assert again.params == broken.params
    assert again.user_attrs["worker"]["host"] == socket.gethostname()
    # Nothing can be told of a process on another machine, so its trial was left alone until its heart had stopped.
    assert time.monotonic() - killed > studies.GRACE

    client = MlflowClient(tracking)
    runs = client.search_runs([client.get_experiment_by_name("thyroid").experiment_id])
    states = sorted(run.info.status for run in runs)
    # The two nodes share a disk, where the state of the interrupted trial is, so it went on in its run.
    assert states == ["FINISHED"] * (TRIALS + 1)
    assert again.user_attrs[studies.RUN] == broken.user_attrs[studies.RUN]
    assert again.user_attrs[studies.RESUMED_AFTER] >= 1
    (parent,) = (run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    assert "worker lost" in "".join(
        Path(client.download_artifacts(parent.info.run_id, f"logs/worker-{place}.log")).read_text() for place in (1, 2)
    )
    assert client.get_model_version_by_alias("mrcnn-ultrasound", "champion").run_id == parent.info.run_id

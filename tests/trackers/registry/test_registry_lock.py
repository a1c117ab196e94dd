import subprocess
import sys
import threading
import time
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from trackers.registry import registry_lock as locking
from trackers.registry.registry import Move, promote
from trackers.registry.registry_lock import held_by_name, lock_file, registry_lock
from trackers.runs.run import tracked_run

ROOT = Path(__file__).parents[3]
ROUNDS = 20
RACER = """
import sys, time
from pathlib import Path
import mlflow
from trackers.registry.registry import register

uri, value, me, other = sys.argv[1], float(sys.argv[2]), sys.argv[3], sys.argv[4]
for round_ in range(int(sys.argv[5])):
    Path(f"{me}-{round_}").touch()
    waited = time.monotonic()
    while not Path(f"{other}-{round_}").exists():
        time.sleep(0.0005)
        assert time.monotonic() - waited < 60, "the other process is gone"
    register(uri, name=f"race-{round_}", metric="dice", value=value, digest="d", task="t", run_id=sys.argv[6])
"""
CODE = """
import mlflow
class Nothing(mlflow.pyfunc.PythonModel):
    def predict(self, model_input: list[int]):
        return model_input
mlflow.models.set_model(Nothing())
"""


@pytest.fixture
def model_uri(store, tmp_path):
    (tmp_path / "nothing.py").write_text(CODE)
    with tracked_run(task="thyroid", modality="ultrasound", seed=0, backend="tensorflow"):
        return mlflow.pyfunc.log_model(
            name="model", python_model=str(tmp_path / "nothing.py"), pip_requirements=["mlflow"]
        ).model_uri


@pytest.mark.slow
def test_of_two_processes_that_register_at_once_the_better_is_champion(store, model_uri, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow.get_tracking_uri())
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    run_id = mlflow.models.get_model_info(model_uri).run_id
    racers = [
        subprocess.Popen([sys.executable, "-c", RACER, model_uri, value, me, other, str(ROUNDS), run_id], cwd=tmp_path,
                         stderr=subprocess.PIPE, text=True)
        for value, me, other in (("0.5", "a", "b"), ("0.6", "b", "a"))
    ]  # fmt: skip
    for racer in racers:
        _, said = racer.communicate(timeout=300)
        assert racer.returncode == 0, said
    for number in range(ROUNDS):
        name = f"race-{number}"
        for alias in ("champion", "champion-t"):
            assert store.get_model_version_by_alias(name, alias).tags["value"] == "0.6", (number, alias)
        assert len(store.search_model_versions(f"name = '{name}'")) == 2


def together(turn, count=4, times=5):
    """Most that were within at once, of threads that each enter several times."""
    within, most, lock = 0, 0, threading.Lock()

    def enter():
        nonlocal within, most
        for _ in range(times):
            with turn():
                with lock:
                    within += 1
                    most = max(most, within)
                time.sleep(0.005)
                with lock:
                    within -= 1

    threads = [threading.Thread(target=enter) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert within == 0
    return most


def test_one_at_a_time_in_a_local_store(store):
    assert together(lambda: registry_lock("mrcnn-mri")) == 1


def test_one_at_a_time_through_the_stores_own_names(store):
    assert together(lambda: held_by_name("mrcnn-mri"), count=2, times=3) == 1
    assert not store.search_registered_models()


def test_a_lock_that_a_dead_process_left_on_a_server_is_removed(store, monkeypatch):
    monkeypatch.setattr(locking, "ABANDONED", 0.3)
    store.create_registered_model("mrcnn-mri-lock")
    started = time.monotonic()
    with held_by_name("mrcnn-mri"):
        assert time.monotonic() - started > 0.3
    assert not store.search_registered_models()


def test_who_waits_too_long_is_told(store, monkeypatch):
    monkeypatch.setattr(locking, "PATIENCE", 0.3)
    store.create_registered_model("mrcnn-mri-lock")
    with pytest.raises(locking.RegistryBusy, match=r"mrcnn-mri-lock: held by another process for 0\.3 s"):
        held_by_name("mrcnn-mri").__enter__()
    with registry_lock("other"), pytest.raises(locking.RegistryBusy, match="held by another process"):
        registry_lock("other").__enter__()


@pytest.mark.slow
def test_a_holder_that_takes_long_keeps_its_turn(store, monkeypatch):
    """It renews its lock, so nobody takes it for one that a dead process left."""
    monkeypatch.setattr(locking, "ABANDONED", 1.0)
    order = []

    def second():
        with held_by_name("mrcnn-mri"):
            order.append("second")

    waiting = threading.Thread(target=second)
    with held_by_name("mrcnn-mri") as check:
        waiting.start()
        time.sleep(3.0)
        check()
        order.append("first")
    waiting.join(60)
    assert order == ["first", "second"]
    assert not store.search_registered_models()


def test_a_holder_that_was_robbed_moves_nothing_and_leaves_the_others_lock(store, monkeypatch):
    monkeypatch.setattr(locking, "ABANDONED", 0.3)
    monkeypatch.setattr(locking, "_renew", lambda *_: None)  # as one that was suspended
    slow = held_by_name("mrcnn-mri")
    check = slow.__enter__()
    with held_by_name("mrcnn-mri") as mine:
        mine()
        with pytest.raises(locking.TurnLost, match="another process took it over"):
            check()
        slow.__exit__(None, None, None)
        mine()
    assert not store.search_registered_models()


@pytest.mark.slow
def test_two_that_saw_the_same_abandoned_lock_do_not_both_get_in(store, monkeypatch):
    """The second one removes only after the first one has removed, and made its own."""
    monkeypatch.setattr(locking, "ABANDONED", 0.3)
    store.create_registered_model("mrcnn-mri-lock", tags={"owner": "dead"})
    remove, both = locking._remove, threading.Barrier(2)
    within = threading.local()

    def meet(client, lock, owner, **rest):
        if owner == "dead" and not getattr(within, "met", False):
            within.met = True
            number = both.wait(30)
            time.sleep(0.6 * number)
        remove(client, lock, owner, **rest)

    monkeypatch.setattr(locking, "_remove", meet)
    inside, most, lock = [], [], threading.Lock()

    def enter():
        with held_by_name("mrcnn-mri"):
            with lock:
                inside.append(1)
                most.append(len(inside))
            time.sleep(1.2)
            with lock:
                inside.pop()

    threads = [threading.Thread(target=enter) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert most == [1, 1]
    assert not store.search_registered_models()


def test_a_process_that_died_while_removing_a_lock_is_no_obstacle(store, monkeypatch):
    monkeypatch.setattr(locking, "ABANDONED", 0.3)
    store.create_registered_model("mrcnn-mri-lock", tags={"owner": "dead"})
    store.create_registered_model("mrcnn-mri-lock-dead")
    with held_by_name("mrcnn-mri"):
        pass
    assert not store.search_registered_models()


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("sqlite:////data/mlflow.db", "/data/mlflow.db.m.lock"),
        ("sqlite:///mlflow.db", "mlflow.db.m.lock"),
        ("file:///data/mlruns", "/data/mlruns.m.lock"),
        ("/data/mlruns", "/data/mlruns.m.lock"),
        ("http://server:5000", None),
        ("postgresql://user@server/db", None),
        ("databricks", None),
    ],
)
def test_which_file_stands_for_a_local_store(address, expected):
    assert lock_file(address, "m") == (None if expected is None else Path(expected))


def test_only_the_holder_that_was_seen_is_replaced(store, model_uri):
    client = MlflowClient()
    for _ in range(3):
        mlflow.register_model(model_uri, "mrcnn-mri")
    client.set_registered_model_alias("mrcnn-mri", "champion", "1")
    stale = Move("champion", "2", "3", "better")
    assert promote("mrcnn-mri", [stale], "r" * 32) == [
        "mrcnn-mri champion: not moved to version 3, for it went from version 2 to 1 during the comparison; "
        "compare again"
    ]
    assert promote("mrcnn-mri", [Move("champion", "1", "3", "better"), Move("champion-lgg", None, "2", "x")], "r") == []
    aliases = {name: str(version) for name, version in client.get_registered_model("mrcnn-mri").aliases.items()}
    assert aliases == {"champion": "3", "challenger": "1", "champion-lgg": "2"}
    assert client.get_model_version("mrcnn-mri", "3").tags["champion_reason"] == "better"

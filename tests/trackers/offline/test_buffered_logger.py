"""A run's records against a store that fails at random: before it takes a batch, in the middle of it, or after."""

import logging
import random
from types import SimpleNamespace

import mlflow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException, RestException

from trackers.checkpoints.unfinished_runs import hold
from trackers.offline import buffered_logger as sender
from trackers.offline.buffered_logger import BufferedLogger
from trackers.offline.pending_records import pending_folder, pending_runs, upload_pending
from trackers.offline.uploader import metrics_record

RUN = "0123456789abcdef0123456789abcdef"


class Store:
    """Takes what MlflowClient sends and, unlike a database, keeps a number twice that comes twice."""

    def __init__(self, seed):
        self.points, self.tags, self.told, self.random, self.failing = [], [], [], random.Random(seed), 0.6

    def _or_fail(self):
        if self.random.random() < self.failing:
            raise MlflowException("API request to http://host/x failed with exception (Connection aborted)")

    def log_batch(self, run_id, metrics=(), params=(), tags=()):
        self._or_fail()
        for tag in tags:
            self.tags.append((tag.key, tag.value))
        for metric in metrics:
            self.points.append((metric.key, metric.value, metric.timestamp, metric.step))
            self.told.append(metric.step)
            self._or_fail()
        self._or_fail()

    def get_run(self, run_id):
        self._or_fail()
        return SimpleNamespace(info=SimpleNamespace(run_id=run_id))

    def get_metric_history(self, run_id, name):
        self._or_fail()
        return [Metric(*point) for point in self.points if point[0] == name]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MRCNN_CACHE", str(tmp_path))
    monkeypatch.setattr(sender, "PAUSE", 0.0)
    monkeypatch.setattr(sender, "LONGEST_PAUSE", 0.0)
    mlflow.set_tracking_uri("http://ann:secret@127.0.0.1:9/")
    yield tmp_path
    mlflow.set_tracking_uri(None)


@settings(max_examples=40)  # each writes to the disk for good
@given(
    seed=st.integers(0, 10**6), batches=st.lists(st.integers(1, 3), min_size=1, max_size=12), killed=st.integers(0, 12)
)
def test_each_number_arrives_once_and_in_order_whatever_fails(seed, batches, killed):
    store, wanted = Store(seed), []
    writer = BufferedLogger(store, RUN)
    for step, width in enumerate(batches):
        points = [Metric(f"m{column}", float(step), 1000 + step, step) for column in range(width)]
        wanted += [(point.key, point.value, point.timestamp, point.step) for point in points]
        writer.send(metrics_record(points, once_a_step=False))
        if step == killed:
            # As after a kill: another process takes up what stands on the disk.
            writer._held.close()
            writer = BufferedLogger(store, RUN)
    writer.close()
    store.failing = 0.2
    for _ in range(1000):
        if (found := upload_pending(RUN, client_of=lambda _: store)) is None or found.problem is None:
            break
    assert store.points == sorted(store.points, key=lambda point: point[3])
    assert sorted(store.points) == sorted(wanted)
    assert pending_runs() == []


def test_a_refusal_is_raised_and_nothing_is_kept():
    class Refusing(Store):
        def log_batch(self, *_, **__):
            raise RestException({"error_code": "INVALID_PARAMETER_VALUE", "message": "no such step"})

    writer = BufferedLogger(Refusing(0), RUN)
    with pytest.raises(RestException, match="no such step"):
        writer.send(metrics_record([Metric("m", 1.0, 1, 1)], once_a_step=False))
    assert writer.close() == 0
    assert pending_runs() == []


def test_not_a_number_and_infinity_are_kept(caplog):
    store = Store(0)
    store.failing = 1.0
    writer = BufferedLogger(store, RUN)
    values = [float("nan"), float("inf"), -float("inf"), 0.1 + 0.2, 5e-324]
    writer.send(metrics_record([Metric(f"m{n}", value, 1, 1) for n, value in enumerate(values)], once_a_step=False))
    assert writer.close() == 1
    store.failing = 0.0
    assert upload_pending(RUN, client_of=lambda _: store).problem is None
    assert repr([point[1] for point in store.points]) == repr(values)
    assert "records are saved in" in caplog.text


def test_no_password_is_kept(tmp_path):
    store = Store(0)
    store.failing = 1.0
    writer = BufferedLogger(store, RUN)
    writer.send({"kind": "tags", "values": {"a": "b"}})
    writer.close()
    kept = [path.read_bytes() for path in pending_folder().rglob("*") if path.is_file()]
    assert kept and not any(b"secret" in each for each in kept)
    asked = []
    upload_pending(RUN, client_of=lambda address: asked.append(address) or store)
    mlflow.set_tracking_uri("http://elsewhere:5000")
    upload_pending(RUN, client_of=lambda address: asked.append(address) or store)
    assert asked == ["http://ann:secret@127.0.0.1:9/", "http://127.0.0.1:9"]


def test_an_attempt_is_made_no_more_often_than_every_few_seconds(monkeypatch):
    monkeypatch.setattr(sender, "PAUSE", 5.0)
    monkeypatch.setattr(sender, "LONGEST_PAUSE", 12.0)
    clock, attempts = [0.0], []
    monkeypatch.setattr(sender.time, "monotonic", lambda: clock[0])

    class Counting(Store):
        def log_batch(self, *_, **__):
            attempts.append(clock[0])
            raise MlflowException("API request to http://host/x failed with exception refused")

    writer = BufferedLogger(Counting(0), RUN)
    for second in range(60):
        clock[0] = float(second)
        writer.send({"kind": "tags", "values": {"second": str(second)}})
    assert attempts == [0, 5, 15, 27, 39, 51]
    assert writer.close() == 60


def test_two_at_once_do_not_deliver_the_same(caplog):
    caplog.set_level(logging.ERROR)
    store = Store(0)
    store.failing = 1.0
    writer = BufferedLogger(store, RUN)
    writer.send({"kind": "tags", "values": {"a": "b"}})
    assert "another process has locked the run" in upload_pending(RUN, client_of=lambda _: store).problem
    writer.close()
    with hold(pending_folder() / RUN, "held"):
        assert "another process has locked the run" in upload_pending(RUN, client_of=lambda _: store).problem
    assert store.tags == []

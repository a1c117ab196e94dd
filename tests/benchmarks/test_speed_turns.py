import pytest

from benchmarks.speed_turns import Worker, WorkerFailed

ECHO = "tests.benchmarks.echo_worker"


def test_workers_answer_in_turn_whatever_is_printed_between():
    with Worker(ECHO, {}) as first, Worker(ECHO, {}) as second:
        assert [worker.ask("double", number=n) for n, worker in ((1, first), (2, second), (3, first))] == [
            {"double": 2},
            {"double": 4},
            {"double": 6},
        ]


def test_a_failing_worker_says_why_and_stays_failed():
    with Worker(ECHO, {}) as worker:
        with pytest.raises(WorkerFailed, match=r"asked to fail:(.|\n)*the loss is nan"):
            worker.ask("fail")
        with pytest.raises(WorkerFailed, match="ended"):
            worker.ask("double", number=1)


def test_leaving_ends_the_process():
    with Worker(ECHO, {}) as worker:
        worker.ask("double", number=1)
    assert worker._process.returncode == 0

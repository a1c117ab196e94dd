"""A training that was cut short goes on in its run, and comes to the same numbers to the last bit."""

import errno
import io
import json
import os
import random
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import h5py
import pytest
from mlflow import MlflowClient
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from experiments.commands.train import main
from experiments.training.checkpointing import differences
from experiments.training.trainer import Trainer
from trackers.checkpoints.checkpoint_store import CheckpointStore
from trackers.checkpoints.unfinished_runs import Unfinished, unfinished_folder

ROOT = Path(__file__).parents[3]
# Fewer steps than there are batches, so that an epoch ends within a round of the images.
OPTIONS = {"epochs": 4, "steps_per_epoch": 5, "optimizer": "adamw", "learning_rate": 0.002, "patience": 9, "seed": 5,
           "flip_horizontal": 0.5, "elastic": 1.0, "ema": 0.8, "validation_loss": "true"}  # fmt: skip


@pytest.fixture(scope="module")
def words(store, phantom_folder, tiny_arguments):
    """The words of the command."""
    return lambda **others: tiny_arguments(**{"dataset": phantom_folder, **OPTIONS, **others})


@pytest.fixture(scope="module", autouse=True)
def nothing_registered(words):
    """What comes after the training is not at stake here."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("trainer", "repeated"):
            patch.setattr(f"experiments.training.{module}.package_and_register", lambda *_, **__: "")
            patch.setattr(f"experiments.training.{module}.log_report", lambda *_: None)
        yield


def newest(store: MlflowClient):
    return store.search_runs([store.get_experiment_by_name("thyroid").experiment_id], max_results=1)[0]


def newest_parent(store):
    runs = store.search_runs([store.get_experiment_by_name("thyroid").experiment_id])
    return next(run for run in runs if "mlflow.parentRunId" not in run.data.tags)


@pytest.fixture(scope="module")
def uninterrupted(store, words):
    assert main(words()) == 0
    run = newest(store)
    assert not list(unfinished_folder().iterdir())
    return run.info.run_id


@pytest.fixture(scope="module")
def killed(store, words, uninterrupted):
    """Id of the run whose process was killed by SIGKILL in its third epoch."""
    kill = [sys.executable, str(Path(__file__).with_name("killed_training.py")), "3", "2", *words()]
    done = subprocess.run(kill, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    run = newest(store)
    assert run.info.run_id != uninterrupted
    assert run.info.status == "RUNNING"
    assert Unfinished(run.info.run_id).states.epochs()[:2] == [2, 1]
    return run.info.run_id


@pytest.mark.slow
def test_another_configuration_is_refused_by_its_fields(killed, words, capsys):
    assert main(words(seed=6, momentum=0.8, resume=killed)) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "seed=6 (the run has 5), train.momentum=0.8 (the run has 0.9) differ" in said


@pytest.mark.slow
def test_other_data_are_refused(killed, words, phantom_folder, tmp_path, capsys):
    """The same place with other content; the images stay, one patient has another name."""
    document = json.loads((phantom_folder / "annotations.json").read_text())
    kept = (phantom_folder / "annotations.json").read_text()
    for annotation in document["annotations"]:
        annotation["category_id"] = document["categories"][0]["id"]
    try:
        (phantom_folder / "annotations.json").write_text(json.dumps(document))
        assert main(words(resume=killed)) == 2
    finally:
        (phantom_folder / "annotations.json").write_text(kept)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "the images or annotations of train, val, test differ" in said


def test_fields_that_another_version_knew_differ_too():
    facts = {"asked": {"seed": 1, "train": {"old": 2}}, "backend": "jax"}
    asked = {"asked": {"seed": 1, "train": {"new": None}}, "backend": "tensorflow"}
    assert differences(facts, asked) == [
        "train.new=None (the run has none)",
        "backend=tensorflow (the run has jax)",
        "train.old=unknown (the run has 2)",
    ]


@pytest.mark.slow
def test_what_is_no_interrupted_run_is_refused(store, uninterrupted, killed, words, capsys):
    for resume, reason in [
        (uninterrupted, "the run has finished"),
        ("0" * 32, "no such run"),
        ("newest", "expected auto or the id"),
    ]:
        assert main(words(resume=resume)) == 2
        assert reason in capsys.readouterr().err
    with Unfinished(killed).held():
        assert main(words(resume=killed)) == 2
        assert "is under way, in another process" in capsys.readouterr().err
    assert store.get_run(killed).info.status == "RUNNING"


@pytest.fixture(scope="module")
def resumed(store, words, killed):
    """Went on once until the disk was full, then with the newest state damaged; what it printed the last time."""
    save = CheckpointStore.save

    def refuse(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def full(self, epoch, write_model, facts):
        save(self, epoch, refuse if epoch == 4 else write_model, facts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CheckpointStore, "save", full)
        assert main(words(resume=killed)) == 1
    run = store.get_run(killed)
    assert run.info.status == "FAILED"
    assert "epoch 4: its checkpoint cannot be written" in run.data.tags["error"]
    assert "No space left on device" in run.data.tags["error"]
    states = Unfinished(killed).states
    assert states.epochs()[:2] == [3, 2]
    model = states.path(3)
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        said = []
        patch.setattr("rich.console.Console.print", lambda self, *text, **_: said.append(" ".join(map(str, text))))
        assert main(words(resume="auto")) == 0
    return killed, "\n".join(said)


@pytest.mark.slow
def test_a_damaged_state_is_told_and_the_one_before_it_taken(resumed):
    assert "the checkpoint of epoch 3 is damaged: model.keras" in resumed[1]
    assert "Going on after epoch 2 of 4" in resumed[1]


@pytest.mark.slow
def test_it_ends_in_its_own_run(store, resumed):
    run = store.get_run(resumed[0])
    assert run.info.status == "FINISHED"
    assert "error" not in run.data.tags
    assert run.data.tags["resumed_after_epoch"] == "2"
    assert not list(unfinished_folder().iterdir())


def histories(store, run_id):
    """Every metric but times, as (step, value) in the order of the steps; one that was logged twice is there once."""
    names = [name for name in store.get_run(run_id).data.metrics if "seconds" not in name]
    return {name: sorted({(point.step, repr(point.value)) for point in store.get_metric_history(run_id, name)})
            for name in names}  # fmt: skip


def weights(store, run_id, name):
    """All arrays of a checkpoint, those of the optimizer and the random numbers too, as bytes by name."""
    found = {}
    with zipfile.ZipFile(store.download_artifacts(run_id, f"checkpoints/{name}")) as archive:
        with h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
            file.visititems(
                lambda name, each: found.update({name: each[()].tobytes()}) if isinstance(each, h5py.Dataset) else None
            )
    return found


def event_points(store, run_id):
    """(tag, step, value) of all events but times."""
    (file,) = Path(store.download_artifacts(run_id, "tensorboard")).iterdir()
    events = list(EventFileLoader(str(file)).Load())
    return [
        (value.tag, event.step, value.SerializeToString())
        for event in events
        for value in event.summary.value
        if "seconds" not in value.tag
    ]


def assert_equal(store, one, other):
    assert histories(store, one) == histories(store, other)
    for name in ("last.keras", "best.keras"):
        first, second = weights(store, one, name), weights(store, other, name)
        assert len(first) > 100 and any("optimizer" in each for each in first)
        assert first == second
    assert event_points(store, one) == event_points(store, other)


@pytest.mark.slow
def test_losses_scores_weights_and_events_are_equal_to_the_last_bit(store, uninterrupted, resumed):
    for name in ("train/loss", "val/loss"):
        assert [step for step, _ in histories(store, resumed[0])[name]] == [1, 2, 3, 4]
    assert_equal(store, uninterrupted, resumed[0])


def within(store, parent):
    found = store.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    return sorted(found, key=lambda run: run.info.start_time)


@pytest.mark.slow
@pytest.mark.parametrize("group", [{"folds": 2, "split": "[0.6, 0.2, 0.2]"}, {"seeds": 2}])
def test_folds_and_seeds_go_on_with_the_interrupted_one_and_come_to_the_same(store, words, group, monkeypatch):
    arguments = words(epochs=2, **group)
    assert main(arguments) == 0
    parent = newest_parent(store)
    save, fit, built = CheckpointStore.save, Trainer.fit, []

    def fit_counted(self):
        built.append(self.training.epochs_done)
        fit(self)

    def interrupted(self, epoch, *rest):
        save(self, epoch, *rest)
        if len(built) == 2 and epoch == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "fit", fit_counted)
    with monkeypatch.context() as patch:
        patch.setattr(CheckpointStore, "save", interrupted)
        assert main(arguments) == 130
    stopped = newest_parent(store)
    first, second = within(store, stopped)
    assert [run.info.status for run in (stopped, first, second)] == ["KILLED", "FINISHED", "KILLED"]
    assert main([*arguments, "--resume", second.info.run_id]) == 2
    # The process was killed before it could mark the first one.
    store.update_run(first.info.run_id, "RUNNING")
    assert main([*arguments, "--resume", "auto"]) == 0
    assert built == [0, 0, 1]
    resumed = newest_parent(store)
    assert (resumed.info.run_id, resumed.info.status) == (stopped.info.run_id, "FINISHED")
    assert [run.info.status for run in within(store, resumed)] == ["FINISHED", "FINISHED"]
    assert histories(store, parent.info.run_id) == histories(store, resumed.info.run_id)
    for one, other in zip(within(store, parent), within(store, resumed), strict=True):
        assert_equal(store, one.info.run_id, other.info.run_id)
    left = [path.name for path in unfinished_folder().iterdir()]
    assert not {run.info.run_id for run in (resumed, first, second)} & set(left)


@pytest.mark.soak
def test_killed_twenty_times_it_comes_to_the_same(store, words, tmp_path):
    """SIGKILL at random moments, in an epoch, while a state is being written, and right after it was."""
    rng = random.Random(seed := int(os.environ.get("RESUME_SEED", "0")))
    kinds = [*["after"] * 6, *["during"] * 7, *["before"] * 7]
    rng.shuffle(kinds)
    assert main(words(epochs=8, seed=seed)) == 0
    reference = newest(store).info.run_id
    command = [sys.executable, "-m", "experiments.commands.train", *words(epochs=8, seed=seed, resume="auto")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    survived, begun = 0, set()
    for number, kind in enumerate(kinds):
        log = tmp_path / f"{number}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
            moment = _wait(process, kind, log, rng)
            process.kill()
            assert process.wait() == -signal.SIGKILL, log.read_text()
        run = newest(store)
        survived += 1
        begun.add(run.info.run_id)
        assert run.info.status == "RUNNING"
        print(f"kill {number + 1} {moment}; states {Unfinished(run.info.run_id).states.epochs()}", flush=True)
    assert subprocess.run(command, env=environment, stdout=subprocess.DEVNULL).returncode == 0
    run = newest(store)
    assert run.info.status == "FINISHED"
    assert_equal(store, reference, run.info.run_id)
    # A run that was killed before its first state was whole has nothing to go on with, and is KILLED.
    statuses = [store.get_run(each).info.status for each in begun - {run.info.run_id}]
    assert set(statuses) <= {"KILLED"}
    print(f"kills survived: {survived} of {len(kinds)}")


def _wait(process, kind, log, rng) -> str:
    """Wait for the moment to kill; returns it in words."""

    def states():
        return {path for path in unfinished_folder().glob("*/states/epoch-*")}

    before = states()
    while process.poll() is None:
        if kind == "during" and (found := [path.name for path in unfinished_folder().glob("*/states/being-written/*")]):
            time.sleep(rng.uniform(0, 0.03))
            return f"while a state was being written ({', '.join(found)})"
        if kind == "after" and states() - before:
            return "right after a state was written"
        if kind == "before" and "run " in log.read_text(errors="replace"):
            time.sleep(delay := rng.uniform(0, 20))
            return f"{delay:.1f} s after the beginning"
        time.sleep(0.001)
    raise AssertionError(log.read_text())

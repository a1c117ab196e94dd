import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mrcnn.data.digest import file_digest
from trackers.checkpoints.checkpoint_store import CheckpointNotSaved, CheckpointStore
from trackers.checkpoints.unfinished_runs import Held, Unfinished

FACTS = {"loss": 0.1 + 0.2, "nothing": None, "nan": float("nan"), "names": ["é"]}


@pytest.fixture
def store(tmp_path):
    return CheckpointStore(tmp_path / "states")


def write(content):
    """Stand for the `save` of a model."""
    return lambda path: path.write_text(content)


def test_a_checkpoint_is_read_as_it_was_saved(store):
    store.save(3, write("model"), FACTS)
    found, problems = store.newest()
    assert (found.epoch, problems) == (3, [])
    assert repr(found.facts) == repr(FACTS) == repr(store.facts())
    assert found.model == store.path(3) and found.model.read_text() == "model"


def test_the_newest_two_and_the_best_of_each_are_retained(store):
    assert store.newest() == (None, [])
    assert store.facts() is None
    for epoch in range(12):
        best = 0 if epoch < 3 else 3 if epoch < 11 else 11
        store.save(epoch, write(str(epoch)), {"best_epoch": best})
    assert store.epochs() == [11, 10, 3]
    store.save(12, write("12"), {"best_epoch": 11})
    assert store.epochs() == [12, 11]
    assert sorted(path.name for path in store.folder.iterdir()) == ["epoch-000011", "epoch-000012"]


def cut(path):
    path.write_bytes(path.read_bytes()[:-3])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [cut, flip, lambda path: path.unlink()])
@pytest.mark.parametrize("name", ["model.keras", "facts.json", "digests.json"])
def test_a_damaged_checkpoint_is_reported_and_the_one_before_it_used(store, name, damage):
    for epoch in (1, 2):
        store.save(epoch, write("model"), {"epoch": epoch})
    damage(store.folder / "epoch-000002" / name)
    found, (problem,) = store.newest()
    assert found.epoch == 1
    assert "epoch 2 is damaged" in problem and "\n" not in problem
    # Reading the facts alone does not verify the model.
    assert store.facts()["epoch"] == (2 if name == "model.keras" else 1)
    store.save(2, write("model"), {"epoch": 2})
    assert store.newest()[0].epoch == 2


def test_a_damaged_best_model_is_reported(store):
    store.save(1, write("best"), {"best_epoch": 1})
    store.save(2, write("worse"), {"best_epoch": 1})
    store.save(3, write("better"), {"best_epoch": 3})
    flip(store.path(3))
    assert store.newest()[0].epoch == 2
    flip(store.path(1))
    found, problems = store.newest()
    assert found is None
    assert "epoch 2 is damaged: the best model, of epoch 1: model.keras is not what was written" in problems[1]


def test_a_checkpoint_of_an_earlier_version_is_refused_in_a_line(store):
    place = store.folder / "epoch-000002"
    place.mkdir(parents=True)
    np.savez(place / "arrays.npz", a=np.zeros(1))
    (place / "facts.json").write_text("{}")
    digests = {name: file_digest(place / name) for name in ("arrays.npz", "facts.json")}
    (place / "digests.json").write_text(json.dumps(digests))
    assert store.facts() is None
    found, (problem,) = store.newest()
    assert found is None
    assert "an earlier version of medmrcnn wrote it" in problem and "\n" not in problem


def index(best, last):
    return {"best": best and {"epoch": best}, "last": {"epoch": last}}


def test_best_and_last_are_exported_without_a_copy(store, tmp_path):
    for epoch in (1, 2):
        store.save(epoch, write(f"epoch {epoch}"), {"best_epoch": 1})
    (folder := tmp_path / "checkpoints").mkdir()
    store.export(folder, index(1, 2))
    assert {file.name: file.read_text() for file in folder.glob("*.keras")} == {
        "best.keras": "epoch 1", "last.keras": "epoch 2",
    }  # fmt: skip
    assert json.loads((folder / "checkpoints.json").read_text()) == index(1, 2)
    assert (folder / "best.keras").samefile(store.path(1))


def test_without_a_best_epoch_the_last_one_is_exported_alone(store, tmp_path, monkeypatch):
    """Also where links are not permitted."""

    def refuse(*_):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr("pathlib.Path.symlink_to", refuse)
    store.save(1, write("epoch 1"), {})
    (folder := tmp_path / "checkpoints").mkdir()
    store.export(folder, index(None, 1))
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoints.json", "last.keras"]
    assert (folder / "last.keras").read_text() == "epoch 1"


@pytest.mark.parametrize("step", ["pathlib.Path.write_text", "os.fsync", "os.replace"])
def test_a_full_disk_leaves_the_earlier_ones_and_is_reported_in_a_line(store, monkeypatch, step):
    store.save(1, write("model"), {})

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with (
        monkeypatch.context() as patch,
        pytest.raises(CheckpointNotSaved, match=r"^epoch 2: .*No space left on device") as error,
    ):
        patch.setattr(step, full)
        store.save(2, write("model"), {})
    assert "\n" not in str(error.value)
    assert [path.name for path in store.folder.iterdir()] == ["epoch-000001"]
    assert store.newest()[0].epoch == 1


def test_what_a_killed_process_left_is_no_checkpoint(store):
    left = store.folder / "being-written" / "model.keras"
    left.parent.mkdir(parents=True)
    left.write_text("half")
    assert store.epochs() == []
    store.save(1, write("model"), {})
    assert not left.exists()


def test_a_truly_full_disk(tmp_path):
    """A file system of 256 KiB in memory, where one may be made."""
    folder = tmp_path / "small"
    folder.mkdir()
    if (
        shutil.which("mount") is None
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True
        ).returncode
    ):
        pytest.skip("needs the right to mount")
    try:
        store = CheckpointStore(folder / "states")
        store.save(1, write("model"), {})
        with pytest.raises(CheckpointNotSaved, match="No space left on device"):
            store.save(2, write("x" * (1 << 20)), {})
        assert store.newest()[0].epoch == 1
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_killed_a_hundred_times_loses_at_most_the_step_that_it_was_at(tmp_path):
    script = Path(__file__).with_name("killed_while_saving.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "states"), "100", "0"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    said = json.loads(done.stdout)
    assert said["equal"] and said["damaged"] == [] and said["kills"] == 100
    assert said["while_writing"] > 10 and said["steps"] > 5


def test_a_training_is_held_by_one_process_until_that_ends_however_it_does(tmp_path, monkeypatch):
    monkeypatch.setenv("MRCNN_CACHE", str(tmp_path))
    code = (
        "from trackers.checkpoints.unfinished_runs import Unfinished\nimport time\n"
        f"with Unfinished('{'a' * 32}').held():\n    print('held', flush=True)\n    time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Held, match="in another process"), Unfinished("a" * 32).held():
            pass
        holder.kill()
        holder.wait()
    with Unfinished("a" * 32).held():
        pass

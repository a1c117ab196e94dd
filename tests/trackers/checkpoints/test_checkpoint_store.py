import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from trackers.checkpoints.checkpoint_store import CheckpointNotSaved, CheckpointStore, disk_refusals
from trackers.checkpoints.unfinished_runs import Held, Unfinished

ARRAYS = {"b/weights": np.array([1.5, -0.0, np.nan, 1e-45], np.float32), "a/count": np.array(7, np.int64)}


@pytest.fixture
def states(tmp_path):
    return CheckpointStore(tmp_path / "states")


@pytest.fixture
def best(tmp_path):
    path = tmp_path / "best.keras"
    path.write_bytes(b"model")
    return path


def test_what_is_read_is_what_was_kept_to_the_last_bit(states, best):
    facts = {"loss": 0.1 + 0.2, "nothing": None, "nan": float("nan"), "names": ["é"]}
    states.save(3, ARRAYS, facts, {"best.keras": best})
    found, problems = states.newest()
    assert (found.epoch, problems) == (3, [])
    assert list(found.arrays) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert found.arrays[name].dtype == array.dtype and found.arrays[name].tobytes() == array.tobytes()
    assert repr(found.facts) == repr(facts)
    assert (found.folder / "best.keras").read_bytes() == b"model"


def test_the_last_two_stay(states):
    assert states.newest() == (None, [])
    assert states.facts() is None
    for epoch in range(12):
        states.save(epoch, ARRAYS, {"epoch": epoch}, {})
    assert states.epochs() == [11, 10]
    assert sorted(path.name for path in states.folder.iterdir()) == ["epoch-000010", "epoch-000011"]


def cut(path):
    path.write_bytes(path.read_bytes()[:-3])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [cut, flip, lambda path: path.unlink()])
@pytest.mark.parametrize("name", ["arrays.npz", "facts.json", "digests.json", "best.keras"])
def test_a_damaged_state_is_told_and_the_one_before_it_taken(states, best, name, damage):
    for epoch in (1, 2):
        states.save(epoch, ARRAYS, {"epoch": epoch}, {"best.keras": best})
    damage(states.folder / "epoch-000002" / name)
    found, (problem,) = states.newest()
    assert found.epoch == 1
    assert "epoch 2 is damaged" in problem and "\n" not in problem
    # A look at the facts alone may pass over damage elsewhere.
    assert states.facts()["epoch"] in ({1} if name == "facts.json" else {1, 2})
    states.save(2, ARRAYS, {"epoch": 2}, {"best.keras": best})
    assert states.newest()[0].epoch == 2


def test_pickled_arrays_are_not_read(states):
    states.save(1, ARRAYS, {}, {})
    place = states.folder / "epoch-000001"
    np.savez(place / "arrays.npz", a=np.array([{}], object))
    from trackers.checkpoints import checkpoint_store as kept_states

    digests = {name: kept_states.file_digest(place / name) for name in ("arrays.npz", "facts.json")}
    (place / "digests.json").write_text(kept_states.json.dumps(digests))
    found, (problem,) = states.newest()
    assert found is None
    assert "arrays.npz cannot be read" in problem


@pytest.mark.parametrize("step", ["numpy.savez", "shutil.copyfile", "os.fsync", "os.replace"])
def test_a_full_disk_leaves_the_old_ones_and_is_told_in_a_line(states, best, monkeypatch, step):
    states.save(1, ARRAYS, {}, {"best.keras": best})

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with (
        monkeypatch.context() as patch,
        pytest.raises(CheckpointNotSaved, match=r"^epoch 2: .*No space left on device") as told,
    ):
        patch.setattr(step, full)
        with disk_refusals(2, states.folder):
            states.save(2, ARRAYS, {}, {"best.keras": best})
    assert "\n" not in str(told.value)
    assert [path.name for path in states.folder.iterdir()] == ["epoch-000001"]
    assert states.newest()[0].epoch == 1


def test_a_truly_full_disk(tmp_path, best):
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
        states = CheckpointStore(folder / "states")
        states.save(1, ARRAYS, {}, {"best.keras": best})
        with pytest.raises(CheckpointNotSaved, match="No space left on device"), disk_refusals(2, states.folder):
            states.save(2, {"large": np.zeros(1 << 17)}, {}, {"best.keras": best})
        assert states.newest()[0].epoch == 1
    finally:
        subprocess.run(["umount", str(folder)], check=True)


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

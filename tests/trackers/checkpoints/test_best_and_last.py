import errno
import json
import os

import pytest

from trackers.checkpoints.best_and_last import Checkpoints


class Model:
    """Stands for a Keras model where only the file matters."""

    def __init__(self, content, full_after=None):
        self.content = content
        self.full_after = full_after

    def save(self, path):
        path.write_text(self.content[: self.full_after])
        if self.full_after is not None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def read(folder):
    return {file.name: file.read_text() for file in folder.glob("*.keras")}


def test_last_and_best(tmp_path):
    kept = Checkpoints(tmp_path / "run", metric="val/ap")
    assert (kept.best_path, kept.best_value, kept.best_epoch) == (None, None, None)
    for epoch, value in enumerate([0.2, 0.5, 0.5, 0.4]):
        kept.save(Model(f"epoch {epoch}"), epoch, {"val/ap": value, "loss": 1.0})
    assert read(tmp_path / "run") == {"last.keras": "epoch 3", "best.keras": "epoch 1"}
    assert (kept.best_path, kept.best_value, kept.best_epoch) == (tmp_path / "run" / "best.keras", 0.5, 1)
    assert json.loads((tmp_path / "run" / "checkpoints.json").read_text()) == {
        "metric": "val/ap",
        "higher_is_better": True,
        "best": {"epoch": 1, "value": 0.5, "file": "best.keras"},
        "last": {"epoch": 3, "metrics": {"val/ap": 0.4, "loss": 1.0}, "file": "last.keras"},
    }
    assert sorted(os.listdir(tmp_path / "run")) == ["best.keras", "checkpoints.json", "last.keras"]


def test_lower_is_better_for_a_loss(tmp_path):
    kept = Checkpoints(tmp_path, metric="loss", higher_is_better=False)
    for epoch, value in enumerate([2.0, 1.0, 3.0]):
        kept.save(Model(str(epoch)), epoch, {"loss": value})
    assert (kept.best_value, kept.best_epoch) == (1.0, 1)


@pytest.mark.parametrize("metrics", [{}, {"val/ap": float("nan")}])
def test_an_epoch_without_the_metric_is_never_the_best(tmp_path, metrics):
    kept = Checkpoints(tmp_path, metric="val/ap")
    kept.save(Model("a"), 0, metrics)
    assert kept.best_path is None
    assert read(tmp_path) == {"last.keras": "a"}
    kept.save(Model("b"), 1, {"val/ap": 0.0})
    kept.save(Model("c"), 2, metrics)
    assert read(tmp_path) == {"last.keras": "c", "best.keras": "b"}


def test_a_full_disk_leaves_the_old_ones(tmp_path):
    kept = Checkpoints(tmp_path, metric="ap")
    kept.save(Model("old"), 0, {"ap": 0.1})
    index = (tmp_path / "checkpoints.json").read_text()
    with pytest.raises(OSError, match="No space left"):
        kept.save(Model("new and better", full_after=3), 1, {"ap": 0.9})
    assert read(tmp_path) == {"last.keras": "old", "best.keras": "old"}
    assert (tmp_path / "checkpoints.json").read_text() == index
    assert (kept.best_value, kept.best_epoch) == (0.1, 0)
    kept.save(Model("next"), 2, {"ap": 0.5})
    assert read(tmp_path) == {"last.keras": "next", "best.keras": "next"}


def test_a_training_that_goes_on_has_the_best_of_its_state_again(tmp_path):
    kept = Checkpoints(tmp_path / "run", metric="ap")
    assert kept.kept_beside() == {}
    kept.save(Model("good"), 1, {"ap": 0.5})
    (name, path) = next(iter(kept.kept_beside().items()))
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / name).write_text(path.read_text())
    kept.save(Model("better, in an epoch that is to be repeated"), 2, {"ap": 0.9})
    again = Checkpoints(tmp_path / "run", metric="ap")
    again.go_on(tmp_path / "state", 1, 0.5)
    assert again.best_path.read_text() == "good"
    again.save(Model("worse"), 2, {"ap": 0.4})
    assert read(tmp_path / "run") == {"best.keras": "good", "last.keras": "worse"}


def test_what_a_killed_process_left_is_not_a_checkpoint(tmp_path):
    left = tmp_path / "being-written" / "last.keras"
    left.parent.mkdir()
    left.write_text("half")
    assert read(tmp_path) == {}
    kept = Checkpoints(tmp_path, metric="ap")
    assert kept.best_path is None
    assert not left.exists()


def test_the_best_of_an_earlier_training_does_not_compete(tmp_path):
    Checkpoints(tmp_path, metric="ap").save(Model("earlier"), 7, {"ap": 0.9})
    kept = Checkpoints(tmp_path, metric="ap")
    assert kept.best_path is None
    kept.save(Model("now"), 0, {"ap": 0.1})
    assert read(tmp_path) == {"last.keras": "now", "best.keras": "now"}

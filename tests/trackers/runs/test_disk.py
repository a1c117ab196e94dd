"""Disks that are full or read-only: one line with the folder, and the run FAILED where the store still answers."""

import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from experiments.commands.arguments import check_model_address
from experiments.commands.command import FAILED, ExitStatus
from mrcnn.errors import InputError
from trackers.checkpoints.unfinished_runs import Unfinished
from trackers.runs.disk import DiskRefused, disk_problem, written_to
from trackers.runs.local_store import require_writable_store
from trackers.runs.run import tracked_run

ROOT = Path(__file__).parents[3]
ABOUT = {"task": "thyroid", "modality": "ultrasound", "seed": 0, "backend": "tensorflow"}
FULL = "No space left on device"


def state(store, run_id):
    recorded = store.get_run(run_id)
    return recorded.info.status, recorded.data.tags.get("error", "")


def test_a_full_artifact_folder(store, disk):
    experiment = store.create_experiment("thyroid", disk.path.as_uri())
    with pytest.raises(DiskRefused) as error, tracked_run(**ABOUT) as run:
        (Path("large")).write_bytes(bytes(1 << 20))
        disk.fill()
        run.artifact("large")
    assert str(error.value).startswith(f"{disk.path}/{run.id}/artifacts")
    assert str(error.value).endswith(f": {FULL}; run {run.id} FAILED; no checkpoint to resume from")
    assert state(store, run.id)[0] == "FAILED" and FULL in state(store, run.id)[1]
    assert store.get_experiment(experiment).name == "thyroid"


def test_a_full_temporary_folder(store, disk, monkeypatch):
    with pytest.raises(DiskRefused, match=f"^{disk.path}.*: {FULL}; run .* FAILED"), tracked_run(**ABOUT) as run:
        monkeypatch.setattr(tempfile, "tempdir", str(disk.path))
        disk.fill()
        run.text("x" * 100_000, "a.txt")
    assert state(store, run.id)[0] == "FAILED"


def test_a_full_working_folder_with_the_store(store, disk, monkeypatch, empty_store, tmp_path):
    monkeypatch.setenv("MRCNN_CACHE", str(tmp_path / "cache"))
    (disk.path / "mlflow.db").write_bytes(empty_store)
    mlflow.set_tracking_uri(f"sqlite:///{disk.path}/mlflow.db")
    with pytest.raises(DiskRefused) as error, tracked_run(**ABOUT) as run:
        Unfinished(run.id).states.save(3, Path.touch, {})
        disk.fill()
        run.params({f"p{number}": "x" * 4000 for number in range(90)})
    line = str(error.value)
    assert line.startswith(f"{disk.path}: database or disk is full; run {run.id} ")
    kept = f"its state after epoch 3 is saved in {Unfinished(run.id).folder}: free space, then --resume {run.id}"
    assert line.endswith(kept)


def test_no_run_begins_in_a_full_store(store, disk, capsys):
    mlflow.set_tracking_uri(f"sqlite:///{disk.path}/mlflow.db")
    disk.fill()

    with ExitStatus() as status, tracked_run(**ABOUT):
        pass
    assert status.code == 2
    assert capsys.readouterr().err == (
        f"mrcnn: {disk.path}: the store mlflow.db cannot be written ({FULL}); start the command in a folder that can "
        "be written, or set MLFLOW_TRACKING_URI\n"
    )


READ_ONLY = {
    "train": ["train"],
    "sweep": ["sweep"],
    "baselines": ["baselines"],
    "compare": ["compare", "--modality", "mri"],
    "predict": ["predict", "models:/mrcnn-ultrasound@champion", "a.png", "--output", "found"],
    "export": ["export", "last", "--to", "onnx"],
    "demo": ["demo", "last"],
}


def test_a_read_only_working_folder_is_told_before_anything_heavy_is_imported(disk):
    disk.read_only()
    code = (
        f"import sys; from experiments.cli import main; print([main(words) for words in {list(READ_ONLY.values())}])\n"
        "print([name for name in ('keras', 'mlflow', 'tensorflow') if name in sys.modules])"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=disk.path, capture_output=True, text=True,
        env={**environment, "PYTHONPATH": str(ROOT)}, timeout=60,
    )  # fmt: skip
    assert done.stdout == f"{[2] * len(READ_ONLY)}\n[]\n"
    lines = done.stderr.splitlines()
    assert len(lines) == len(READ_ONLY)
    for line in lines:
        assert line.startswith(f"mrcnn: {disk.path}: the store mlflow.db ")
        assert "(Read-only file system); start the command in a folder" in line


def test_a_store_that_is_there_can_be_read_from_a_read_only_folder(store, disk, empty_store):
    (disk.path / "mlflow.db").write_bytes(empty_store)
    disk.read_only()
    mlflow.set_tracking_uri(f"sqlite:///{disk.path}/mlflow.db")
    assert check_model_address("models:/mrcnn-mri@champion") == "models:/mrcnn-mri@champion"
    assert [each.name for each in MlflowClient().search_experiments()] == ["Default"]
    with pytest.raises(InputError, match="cannot be written"):
        require_writable_store()


@pytest.mark.parametrize("address", ["http://host:5000", "postgresql://me@host/db", "databricks"])
def test_of_a_store_elsewhere_nothing_is_tried(address, monkeypatch):
    monkeypatch.setattr("trackers.runs.local_store.store_address", lambda: address)
    require_writable_store()


def refusal(code, name=None):
    return OSError(code, os.strerror(code), name)


def caused(outer, inner):
    outer.__cause__ = inner
    return outer


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (refusal(errno.ENOSPC, "/data/a.png"), f"/data/a.png: {FULL}"),
        (refusal(errno.EROFS, "/data/b"), "/data/b: Read-only file system"),
        (refusal(errno.EDQUOT, "/data/b"), "/data/b: Disk quota exceeded"),
        (caused(RuntimeError("saving"), refusal(errno.EFBIG, "/data/c.keras")), "/data/c.keras: File too large"),
        (refusal(errno.ENOENT, "/data/a.png"), None),
        (ValueError("expected 3 channels"), None),
        (InputError("/data/a: No space left on device"), None),
    ],
)
def test_which_errors_are_a_disks(error, line):
    assert disk_problem(error) == line


def test_an_error_without_a_file_gets_its_folder(tmp_path):
    with pytest.raises(OSError, match=FULL) as error, written_to(tmp_path):
        raise refusal(errno.ENOSPC)
    assert disk_problem(error.value) == f"{tmp_path}: {FULL}"


def test_the_command_line_says_one_line(capsys):
    with ExitStatus() as status:
        raise RuntimeError("h5py") from refusal(errno.ENOSPC, "/data/model.keras")
    assert status.code == FAILED
    assert capsys.readouterr().err == f"mrcnn: /data/model.keras: {FULL}\n"


TWO = """
import sys, time
from pathlib import Path
from trackers.runs.run import tracked_run
from sweeps.study import open_study
from sweeps.options import SweepOptions
Path(sys.argv[1]).touch()
while len(list(Path().glob("ready-*"))) < 3:
    time.sleep(0.001)
with tracked_run(task="thyroid", modality="ultrasound", seed=0, backend="tensorflow"):
    pass
open_study("sqlite:///sweeps.db", sys.argv[1], SweepOptions(), ["dice"], epochs=3)
"""


@pytest.mark.slow
def test_three_at_once_in_an_empty_folder(tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    environment |= {"PYTHONPATH": str(ROOT), "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "false"}
    environment |= {"MLFLOW_DISABLE_TELEMETRY": "true"}
    running = [
        subprocess.Popen([sys.executable, "-c", TWO, f"ready-{number}"], cwd=tmp_path, env=environment,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for number in range(3)
    ]  # fmt: skip
    for process in running:
        _, said = process.communicate(timeout=240)
        assert process.returncode == 0, said
    runs = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").search_runs(["1"])
    assert [run.info.status for run in runs] == ["FINISHED"] * 3

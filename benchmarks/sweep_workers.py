"""Measure the throughput of a sweep against its number of workers on one machine.

    python -m benchmarks.sweep_workers [--workers 1 2 4] [--trials 4] [--engine processes]

Prints a Markdown table: for each number of workers the time from the start to the end of the last trial, on thyroid
phantoms with the small backbone, and the peak memory of all of them. The evaluation of the best trial is excluded.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import psutil
from mlflow import MlflowClient

from benchmarks.speed_setup import describe_machine
from mrcnn.phantoms import write_dataset
from sweeps.command import command
from sweeps.options import SweepArgs
from sweeps.study import num_unfinished, open_study, refill_queue
from sweeps.sweep import Workers, engine
from sweeps.training import Job
from trackers.runs.run import Parent

IMAGES, SIDE, EPOCHS = 60, 128, 2
PAUSE = 0.5


def measure(workers: int, trials: int, kind: str, dataset: Path) -> tuple[float, float]:
    """Measure the seconds for all trials, and the peak memory of the workers in GiB."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        experiment = MlflowClient().create_experiment("sweep", f"file://{folder}/artifacts")
        parent = MlflowClient().create_run(experiment).info.run_id
        words = f"--task thyroid --dataset {dataset} --image_size {SIDE} --backbone small --epochs {EPOCHS}"
        words += (
            f" --sampler random --pruner none --thresholds.sets 0 --trials {trials} --workers {workers} --engine {kind}"
        )
        resolved, options = command.parse(words.split())
        wanted = SweepArgs(resolved, options, ("dice",), f"sqlite:///{folder}/sweeps.db", "s")
        study = open_study(wanted.storage, wanted.study, options, wanted.objectives, epochs=EPOCHS)
        refill_queue(study, trials)
        job = Job(resolved.config, options, ("dice",), wanted.storage, wanted.study, Parent(parent, experiment))
        most, began = 0.0, time.monotonic()
        with engine(wanted) as start, Workers(job, workers, folder, start) as running:
            while num_unfinished(study):
                running.maintain(study)
                most = max(most, memory_of_children())
                time.sleep(PAUSE)
            seconds = time.monotonic() - began
        assert all(trial.state.name == "COMPLETE" for trial in study.trials), study.trials
        return seconds, most


def memory_of_children() -> float:
    """Measure the memory of the children in GiB; shared memory counts once."""
    total = 0
    for child in psutil.Process().children(recursive=True):
        try:
            total += child.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return total / 2**30


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--trials", type=int, default=4)
    parser.add_argument("--engine", choices=("processes", "ray"), default="processes")
    options = parser.parse_args(arguments)
    print(describe_machine(), flush=True)
    print("\n| workers | seconds | trials a minute | against one worker | memory, GiB |", "|" + "---|" * 5, sep="\n")
    with tempfile.TemporaryDirectory() as folder:
        dataset = write_dataset("thyroid", Path(folder) / "nodules", images=IMAGES, seed=0)
        first = None
        for workers in options.workers:
            seconds, memory = measure(workers, options.trials, options.engine, dataset)
            rate = options.trials / seconds * 60
            first = first or rate
            print(f"| {workers} | {seconds:.0f} | {rate:.1f} | {rate / first:.2f} | {memory:.1f} |", flush=True)


if __name__ == "__main__":
    main()

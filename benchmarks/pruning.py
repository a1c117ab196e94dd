"""Measure the epochs that pruning saves, and whether it stops the best trial.

    python -m benchmarks.pruning [--trials 12] [--pruners none median hyperband] [options of `mrcnn train`]

Sweeps the thyroid phantoms with random search once with each pruner. A trial's parameters depend only on its number and
the seed, so every sweep trains the same configurations, and the pruners can be compared trial by trial. With few and
small images, all of it takes minutes. Prints a Markdown table:

- epochs: trained by all trials together, and how many fewer than without pruning;
- best: the best validation mask AP of the sweep, and that of the same trial without pruning;
- kept: whether the trial that is best without pruning was trained to its end.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import optuna

from benchmarks.speed_setup import describe_machine

SETTINGS = {
    "task": "thyroid",
    "image_size": 128,
    "phantom_images": 120,
    "split": "[0.7, 0.2, 0.1]",
    "epochs": 12,
    "roi_canonical_size": 56,
    "resamples": 0,
    "overlays": 0,
    "sampler": "random",
    "thresholds.sets": 0,
}


def sweep(pruner: str, trials: int, folder: Path, further: list[str]) -> tuple[optuna.Study, float]:
    """Run one sweep; return the study and the seconds."""
    storage = f"sqlite:///{folder}/{pruner}.db"
    settings = {**SETTINGS, "pruner": pruner, "trials": trials, "storage": storage, "study": pruner}
    words = [f"--{name}={value}" for name, value in settings.items()]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
    started = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "sweeps.command", *words, *further],
        env=environment, check=True, stdout=sys.stderr, cwd=folder,
    )  # fmt: skip
    return optuna.load_study(study_name=pruner, storage=storage), time.monotonic() - started


def row(pruner: str, study: optuna.Study, seconds: float, whole: optuna.Study) -> str:
    """Format a row of the table."""
    ended = [sum(trial.state.name == state for trial in study.trials) for state in ("COMPLETE", "PRUNED", "FAIL")]
    epochs, of_whole = (sum(trial.user_attrs.get("epochs", 0) for trial in each.trials) for each in (study, whole))
    kept = study.trials[whole.best_trial.number].state.name == "COMPLETE"
    counts = " / ".join(map(str, ended))
    same = whole.trials[study.best_trial.number].value
    return (
        f"| {pruner} | {counts} | {epochs} | {1 - epochs / of_whole:.0%} | {study.best_value:.3f} ({same:.3f}) "
        f"| {'yes' if kept else 'no'} | {seconds:.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pruning", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument(
        "--pruners", nargs="+", choices=("none", "median", "hyperband"), default=["none", "median", "hyperband"]
    )
    parser.add_argument("--folder", type=Path, help="where the studies are kept; a passing one without it")
    arguments, further = parser.parse_known_args()
    if "none" not in arguments.pruners:
        parser.error("--pruners: expected none among them, which the others are compared with")
    with tempfile.TemporaryDirectory() as passing:
        folder = (arguments.folder or Path(passing)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        done = {pruner: sweep(pruner, arguments.trials, folder, further) for pruner in arguments.pruners}
        print(*describe_machine(), "", sep="\n")
        print("| pruner | finished / pruned / failed | epochs | saved | best (unpruned) | best kept | s |")
        print("|---|---|---|---|---|---|---|")
        for pruner, (study, seconds) in done.items():
            print(row(pruner, study, seconds, done["none"][0]))


if __name__ == "__main__":
    main()

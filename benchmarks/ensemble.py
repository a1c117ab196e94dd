"""Measure the gain of test-time augmentation and of a fold ensemble over a single model, on the same test images.

    python -m benchmarks.ensemble --folds 5 --task thyroid [--dataset FOLDER] [options of `mrcnn train`]

Trains a single model and, with the same patients, one model per fold; the runs are logged to MLflow. Both are evaluated
on the test split, with and without the flips that the task's augmentation allows. Each of the four has its own
threshold: the single model's from its validation patients, the ensemble's from the out-of-fold detections.

Prints two Markdown tables: the scores with 95 % intervals, and the differences from the single model with the interval
of the difference (paired bootstrap over patients); and the duration in seconds.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.commands.arguments import with_absolute_paths
from experiments.commands.command import quiet_libraries, silent_start
from experiments.config.resolve import Resolved, resolve
from experiments.config.schema import TaskConfig
from mrcnn.errors import InputError

if TYPE_CHECKING:
    from mrcnn.data import Dataset
    from mrcnn.metrics import Evaluator
    from mrcnn.models import MaskRCNN

SHOWN = {"mask_ap50": "mask AP50", "mask_ap": "mask AP", "dice": "Dice", "f1": "F1"}


@dataclass(frozen=True)
class Judged:
    """Store a way to use the trained models, and its evaluation on the test split."""

    name: str
    confidence: float
    evaluator: object
    seconds_an_image: float


def with_folds(resolved: Resolved, folds: int | None) -> Resolved:
    data = resolved.config.data.model_copy(update={"folds": folds})
    return replace(resolved, config=resolved.config.model_copy(update={"data": data}))


def trained(resolved: Resolved, folder: Path) -> list:
    """Train, and load the logged networks: one, or one per fold."""
    import mlflow

    from experiments.training.cross_validation import cross_validate
    from experiments.training.trainer import train
    from mrcnn.models import load
    from trackers.packaging.tracked_model import load_tracked_model

    (cross_validate if resolved.config.data.folds else train)(resolved)
    run = mlflow.last_active_run().info.run_id
    return [load(file) for file in load_tracked_model(run, task=resolved.config.task, folder=folder / run).files]


def judged(config: TaskConfig, single: MaskRCNN, members: Sequence) -> list[Judged]:
    """Evaluate the four ways, or two if no flip is allowed."""
    from experiments.evaluation.evaluate import evaluate
    from experiments.preparation.data_check import check_data
    from experiments.training.folds import HELD_OUT, divide
    from mrcnn.inference.ensemble import make_predictor
    from mrcnn.metrics import Evaluator

    at_once = config.evaluate.images_at_once
    unfolded = config.model_copy(update={"data": config.data.model_copy(update={"folds": None})})
    plain, folded = check_data(unfolded), check_data(config)
    whole, folds = plain.whole, divide(folded, config)
    val, test = (whole.subset(plain.splits[name]) for name in ("val", "test"))
    ids = config.augment.mirrored_ids(whole.class_names)
    ways = []
    for flips in [(), *([config.augment.flips] if config.augment.flips else [])]:

        def seen(networks: Sequence[MaskRCNN], dataset: Dataset, flips: Sequence[str] = flips) -> Evaluator:
            return evaluate(make_predictor(networks, flips, ids), dataset, batch_size=at_once)

        out_of_fold = [
            seen([member], whole.subset(fold.splits[HELD_OUT])) for member, fold in zip(members, folds, strict=True)
        ]
        thresholds = seen([single], val).best_confidence(), Evaluator.pooled(out_of_fold).best_confidence()
        names = "single model", f"ensemble of {len(members)} folds"
        for name, networks, confidence in zip(names, ([single], members), thresholds, strict=True):
            start = time.perf_counter()
            found = seen(networks, test)
            seconds = (time.perf_counter() - start) / len(test)
            ways.append(Judged(name + (" + TTA" if flips else ""), confidence, found, seconds))
    return sorted(ways, key=lambda way: way.name.startswith("ensemble"))


def tables(ways: Sequence[Judged], resamples: int, seed: int) -> str:
    from mrcnn.metrics.significance import paired_differences

    heads = [*SHOWN.values()]
    lines = ["| | threshold | " + " | ".join(heads) + " | s/image |", "|---|---|" + "---|" * len(heads) + "---|"]
    for way in ways:
        scores = way.evaluator.summary(way.confidence)
        ends = way.evaluator.intervals(way.confidence, resamples=resamples, seed=seed)
        cells = [
            f"{scores[name]:.3f} ({ends[name + '_lo']:.3f}–{ends[name + '_hi']:.3f})"
            if name in scores and f"{name}_lo" in ends
            else "–"
            for name in SHOWN
        ]
        lines.append(f"| {way.name} | {way.confidence:g} | {' | '.join(cells)} | {way.seconds_an_image:.2f} |")
    lines += ["", "| minus single model | " + " | ".join(heads) + " |", "|---|" + "---|" * len(heads)]
    first = ways[0]
    for way in ways[1:]:
        found = paired_differences(
            first.evaluator, way.evaluator, (first.confidence, way.confidence), resamples=resamples, seed=seed
        )
        cells = [
            f"{found[name].value:+.3f} ({found[name].low:+.3f} – {found[name].high:+.3f})" if name in found else "–"
            for name in SHOWN
        ]
        lines.append(f"| {way.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    if not arguments or {"--help", "-h"} & set(arguments):
        print(__doc__)
        return 0
    try:
        resolved = with_absolute_paths(resolve(arguments))
        config = resolved.config
        if not config.data.folds or not config.data.split[2] or config.evaluate.tta:
            raise InputError(
                "expected --folds, a test share in data.split, and evaluate.tta=false: it is compared here"
            )
        quiet_libraries()
        with silent_start():
            from experiments.training import trainer as job  # noqa: F401 loads TensorFlow, whose talk as it loads is dropped here
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            (single,) = trained(with_folds(resolved, None), Path(folder))
            halfway = time.perf_counter()
            members = trained(resolved, Path(folder))
            end = time.perf_counter()
            ways = judged(config, single, members)
        evaluator = ways[0].evaluator
        print(f"\nTest share: {len(evaluator)} images of {len(set(evaluator.patients))} patients\n")
        print(tables(ways, config.evaluate.resamples, config.seed))
        print(f"\nSeconds: single {halfway - start:.0f}, folds {end - halfway:.0f}. Research use only.")
    except InputError as error:
        print(f"benchmarks.ensemble: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

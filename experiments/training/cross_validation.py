"""Cross-validation from top to bottom: a model for each fold, their scores together, and all models as one ensemble.

The folds run one after another in this process, between which `clear_session` gives back what a model held. A process
for each would start TensorFlow and read the data anew every time, and on a GPU this process, which asks the ensemble at
the end, would have to stay off the card until then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from experiments.config.resolve import Resolved, parameters, resolved_yaml
from experiments.config.schema import TaskConfig
from experiments.evaluation.artifacts import csv_text, log_evaluation
from experiments.evaluation.evaluate_on_test import HEADLINE, Result, evaluate_on_test, inference_model
from experiments.evaluation.tables import results_table
from experiments.preparation.data_check import DEVELOPMENT, CheckedData, check_data, show
from experiments.training.folds import HELD_OUT, divide, spread
from experiments.training.planner import resolve_runtime_options
from experiments.training.repeated import holding, publish_outcome, train_one, within
from experiments.training.training_data import TITLES, Data, record_data, usable_data
from mrcnn.backend import clear_session
from mrcnn.metrics import Evaluator
from mrcnn.models import load
from trackers.runs.reader import OUT_OF_FOLD
from trackers.runs.run import Run


@dataclass(frozen=True)
class Member:
    """The model of a fold: its file, and what it found in the patients that it never saw."""

    file: Path
    result: Result


def cross_validate(resolved: Resolved) -> str:
    """Train a model without each fold, judge each on its fold, and register all of them as one ensemble.

    A run holds all, each fold is a run within it. The test share, if there is one, is in no fold, and the ensemble is
    judged on it once.

    Returns:
        The id of the run that holds all.

    Raises:
        InputError: the data, or their fit to the configuration, is bad.
        Diverged: the loss of a fold is no longer a number; the folds before it stay.
    """
    config, console = resolved.config, Console(highlight=False)
    with holding(resolved, console, f"{config.data.folds} folds") as (run, folder):
        checked = check_data(config)
        show(checked, console)
        checked.raise_if_wrong()
        config = resolve_runtime_options(config, checked.whole)
        # All of them before the first training, so that what is wrong with the last is told now.
        folds = divide(checked, config)
        data = _record(checked, folds, config, run)
        members = []
        for number, fold in enumerate(folds, start=1):
            members.append(_train_fold(number, fold, config, run, console, folder))
            run.metrics({f"fold/{name}": value for name, value in members[-1].result.scores.items()}, number)
            clear_session()
        result = _together(members, config, data, run, console)
        if "test" in data.splits:
            ensemble = inference_model([load(member.file) for member in members], config)
            tested = Data(data.name, {"test": data.splits["test"]})
            result = evaluate_on_test(ensemble, config, tested, run, console, step=0, confidence=result.confidence)
        publish_outcome([member.file for member in members], result, config, data, run, console)
    return run.id


def _record(checked: CheckedData, folds: Sequence[CheckedData], config: TaskConfig, run: Run) -> Data:
    """Keep in the run what is common to the folds; returns the images of all folds and those of the test share."""
    # Who is held out in which fold stands in the splits.
    positions = {f"fold_{number}": fold.splits[HELD_OUT] for number, fold in enumerate(folds, start=1)}
    parts = {
        OUT_OF_FOLD if name == DEVELOPMENT else name: part for name, part in usable_data(checked, config).splits.items()
    }
    lists = replace(checked, splits=positions | {"test": checked.splits["test"]}).split_lists()
    data = Data(checked.name, parts, checked.found.as_dict(), lists)
    record_data(data, config, run)
    run.params(parameters(config))
    run.text(resolved_yaml(config), "config.yaml")
    return data


def _train_fold(
    number: int, fold: CheckedData, config: TaskConfig, parent: Run, console: Console, folder: Path
) -> Member:
    name, file = f"fold {number} of {config.data.folds}", folder / f"member-{number:02d}.keras"
    with within(parent, config, name, console, {"fold": str(number)}) as run:
        splits = {split: fold.whole.subset(chosen) for split, chosen in fold.splits.items()}
        data = Data(fold.name, splits, fold.found.as_dict(), fold.split_lists())
        # With weights of its own, as an ensemble wants them.
        _, _, result = train_one(config, data, (config.seed + number) % 2**32, run, console, file)
    return Member(file, result)


def _together(members: Sequence[Member], config: TaskConfig, data: Data, run: Run, console: Console) -> Result:
    """Pool what each model found in the patients that it never saw; the ensemble's threshold comes of it.

    In the pooled scores every image stands at the threshold of its own model, which that chose on its validation
    patients. The ensemble's threshold is the one that is best for all these images together; no score uses it but those
    of the test share.
    """
    evaluators = [member.result.evaluator for member in members]
    confidence = config.evaluate.confidence
    if confidence == "auto":
        confidence = Evaluator.pooled(evaluators).best_confidence()
    pooled = Evaluator.pooled(evaluators, [member.result.confidence for member in members])
    scores = pooled.summary(confidence)
    intervals = pooled.intervals(confidence, resamples=config.evaluate.resamples, seed=config.seed)
    over_folds = spread([member.result.scores for member in members])
    run.metrics({f"{OUT_OF_FOLD}/{name}": value for name, value in (scores | intervals).items()})
    run.metrics({f"{OUT_OF_FOLD}/{name}_mean": mean for name, (mean, _) in over_folds.items()})
    run.metrics({f"{OUT_OF_FOLD}/{name}_std": deviation for name, (_, deviation) in over_folds.items()})
    run.metrics({"confidence": confidence})
    log_evaluation(run, pooled, confidence, "out-of-fold", folder="out_of_fold/")
    if config.evaluate.volumes:
        run.text(csv_text(pooled.per_volume(confidence)), "out_of_fold/per_volume.csv")
    title = f"{TITLES[OUT_OF_FOLD]}: {len(pooled)} images, patients: {len(set(pooled.patients))}"
    headline = ", ".join(f"{name} {scores[name]:.3f}" for name in HEADLINE if name in scores)
    run.tags({"mlflow.note.content": f"{data.name}. {title}: {headline}. **Research use only.**"})
    console.print(f"\n{title}", style="bold", soft_wrap=True)
    console.print(results_table(scores, intervals, pooled.class_names, ("folds", over_folds)))
    return Result(confidence, scores, intervals, pooled)

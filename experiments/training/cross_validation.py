"""Train a model for each fold, pool their scores, and register all models as one ensemble.

The folds run one after another in this process, and `clear_session` frees the memory of a model between them. A process
for each would start TensorFlow and read the data every time, and on a GPU this process, which runs the ensemble at the
end, could not use the card until then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import median_low

from experiments.config.resolve import Resolved
from experiments.evaluation.artifacts import csv_text, log_evaluation
from experiments.evaluation.evaluate_on_test import HEADLINE, Result, evaluate_on_test, inference_model
from experiments.evaluation.tables import results_table
from experiments.preparation.data_check import DEVELOPMENT, CheckedData, check_data, show
from experiments.training.checkpointing import requested_facts
from experiments.training.folds import HELD_OUT, divide, spread
from experiments.training.planner import resolve_runtime_options
from experiments.training.repeated import Member, TrainingGroup, training_group
from experiments.training.training_data import TITLES, Data, record_data, usable_data
from mrcnn.errors import counted
from mrcnn.metrics import Evaluator
from mrcnn.models import load
from trackers.runs.reader import OUT_OF_FOLD


def cross_validate(resolved: Resolved, resume: str | None = None) -> str:
    """Train a model without each fold, evaluate it on that fold, and register all of them as one ensemble.

    Each fold is a run below a common one. The test share, if there is one, is in no fold; the ensemble is evaluated on
    it once.

    Returns:
        The id of the common run.

    Raises:
        InputError: the data are invalid, or do not match the configuration.
        Diverged: the loss of a fold is not finite; the runs of the folds before it stay.
    """
    with training_group(resolved, resume, f"{resolved.config.data.folds} folds") as group:
        run, console = group.run, group.console
        checked = check_data(resolved.config, console)
        if group.data is None:
            show(checked, console)
        checked.raise_if_wrong()
        group.config = config = resolve_runtime_options(resolved.config, checked.whole)
        # All of them before the first training, so that an error in the last is reported now.
        folds = divide(checked, config)
        usable = group.data or usable_data(checked, config)
        data = _whole(checked, folds, usable)
        if group.data is None:
            record_data(data, config, run)
        group.begin(requested_facts(resolved.config, usable))
        members = []
        for number, fold in enumerate(folds, start=1):
            members.append(_train_fold(number, fold, group))
            run.metrics({f"fold/{name}": value for name, value in members[-1].result.scores.items()}, number)
        result, config = _pool(members, data, group), group.config
        if "test" in data.splits:
            ensemble = inference_model([load(member.file) for member in members], config)
            tested = Data(data.name, {"test": data.splits["test"]})
            result = evaluate_on_test(
                ensemble, config, tested, run, console, step=0, confidence=result.confidence,
                min_slices=result.min_slices,
            )  # fmt: skip
        group.register([member.file for member in members], result, config, data)
    return run.id


def _whole(checked: CheckedData, folds: Sequence[CheckedData], usable: Data) -> Data:
    """Return the images of all folds and those of the test share; the files are listed by fold."""
    positions = {f"fold_{number}": fold.splits[HELD_OUT] for number, fold in enumerate(folds, start=1)}
    lists = replace(checked, splits=positions | {"test": checked.splits["test"]}).split_lists()
    parts = {OUT_OF_FOLD if name == DEVELOPMENT else name: part for name, part in usable.splits.items()}
    return Data(checked.name, parts, checked.found.as_dict(), lists)


def _train_fold(number: int, fold: CheckedData, group: TrainingGroup) -> Member:
    config = group.config
    splits = {split: fold.whole.subset(chosen) for split, chosen in fold.splits.items()}
    return group.train(
        config,
        Data(fold.name, splits, fold.found.as_dict(), fold.split_lists()),
        f"fold {number} of {config.data.folds}",
        seed=(config.seed + number) % 2**32,  # the members of an ensemble need different initial weights
        file=f"member-{number:02d}.keras",
        tags={"fold": str(number)},
    )


def _pool(members: Sequence[Member], data: Data, group: TrainingGroup) -> Result:
    """Pool the detections of each model in the patients held out from it; choose the ensemble's threshold from them.

    In the pooled scores each image has the threshold of its own model, which that chose on its validation patients. The
    ensemble's threshold is the best one for all these images together; only the scores of the test share use it. The
    fewest slices of an object are the median of those that the models chose.
    """
    config, run, console = group.config, group.run, group.console
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
    patients = f", patients: {len(set(pooled.patients))}" if data.facts["patients_named"] else ""
    title = f"{TITLES[OUT_OF_FOLD]}: {counted(len(pooled), 'image')}{patients}"
    headline = ", ".join(f"{name} {scores[name]:.3f}" for name in HEADLINE if name in scores)
    run.tags({"mlflow.note.content": f"{headline}. {data.name}, {title}. **Research use only.**"})
    console.print(f"\n{title}", style="bold")
    console.print(results_table(scores, intervals, pooled.class_names, ("folds", over_folds)))
    return Result(confidence, scores, intervals, pooled, median_low(member.result.min_slices for member in members))

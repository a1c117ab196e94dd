"""Package a trained model and register it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from experiments.config.schema import TaskConfig
from experiments.evaluation.evaluate_on_test import Result
from experiments.evaluation.report_numbers import ADVICE, NOTHING_FOUND
from experiments.findings import FINDINGS
from experiments.terminal import phase, warn
from experiments.training.training_data import Data
from trackers.packaging.packaged import log_packaged_model
from trackers.registry.contest import validation_score
from trackers.registry.registry import register, rollback_registration
from trackers.runs.reader import history, read_run
from trackers.runs.run import Run


def package_and_register(
    files: Sequence[Path],
    result: Result,
    config: TaskConfig,
    data: Data,
    run: Run,
    console: Console,
    *,
    family: str = "mrcnn",
) -> str:
    """Package saved networks with everything that inference needs, and register them as `<family>-<modality>`.

    Several files form an ensemble. `result` is on the reported split of `data`.

    Returns:
        The address of the package.

    Raises:
        ServerAway: the tracking server does not answer, see `Run.require_server`.
    """
    run.require_server("the model is neither packaged nor registered, which `--resume auto` of a training does later")
    part = data.splits[data.reported]
    tta = config.evaluate.tta
    chosen = config.evaluate.model_copy(update={"min_slices": result.min_slices})
    config = config.model_copy(update={"evaluate": chosen})
    with phase(console, "Packaging the model"):
        uri = log_packaged_model(
            run,
            files,
            flips=config.augment.flips if tta else (),
            mirrored_ids=config.augment.mirrored_ids(part.class_names).tolist() if tta else None,
            confidence=result.confidence,
            class_names=part.class_names,
            config=config.model_dump(mode="json"),
            sample_image=part.image(0, config.data.context_slices),
            findings=FINDINGS[config.findings] if config.findings != "none" else None,
            fingerprint=data.facts,
        )
    register_model(uri, config, run, console, family=family)
    return uri


def register_model(
    uri: str, config: TaskConfig, run: Run, console: Console, *, family: str, metric: str | None = None
) -> None:
    """Register the packaged model at `uri` as `<family>-<modality>`; undo it if `run` does not end FINISHED.

    The validation score that `run` recorded decides on the aliases; see `trackers.registry.contest`. It is that of
    `metric`, of which more is better, or of the task's metric.
    """
    # A distance without any detection is undefined; such a model never becomes the champion.
    score = validation_score(read_run(run.id), metric or config.evaluate.metric)
    useless = _useless(run, score.metric)
    registered = register(
        uri,
        name=f"{family}-{config.modality}",
        metric=score.metric,
        value=score.value,
        digest=score.digest,
        task=config.task,
        run_id=run.id,
        higher_is_better=metric is not None or config.higher_is_better,
        useless=useless,
    )
    run.unless_finished(lambda: rollback_registration(registered))
    aliases = registered.alias + (f" and champion-{config.task}" if registered.task_champion else "")
    console.print(f"Registered {registered.name} version {registered.version} as {aliases}: {registered.reason}")
    if useless is not None:
        run.tags({NOTHING_FOUND: useless})
        warn(console, f"{useless}. {ADVICE}")


def _useless(run: Run, metric: str) -> str | None:
    """Name a score that is 0 on the validation split at the best epoch or trial; None: there is none."""
    metrics = read_run(run.id).metrics
    for name in dict.fromkeys((metric, "dice", "volume_dice", "mask_ap", "mask_ap50")):
        value = metrics.get(f"best/{name}")
        if value is None and f"val/{name}" in metrics:
            value = dict(history(run.id, f"val/{name}")).get(int(metrics.get("best_epoch", -1)))
        if value == 0:
            return f"{name} is 0 on the validation split"
    return None

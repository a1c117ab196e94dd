"""A model enters the registry, and the terminal tells as what."""

from __future__ import annotations

from rich.console import Console

from experiments.config.schema import TaskConfig
from trackers.registry.contest import validation_score
from trackers.registry.registry import register, rollback_registration
from trackers.runs.reader import history, read_run
from trackers.runs.run import Run


def register_model(
    uri: str, config: TaskConfig, run: Run, console: Console, *, family: str, metric: str | None = None
) -> None:
    """Register the packaged model at `uri` as `<family>-<modality>`; undo it if `run` does not end FINISHED.

    The validation score that `run` recorded decides on the aliases; see `trackers.registry.contest`.

    Args:
        metric: decides in place of the task's metric; higher is better.
    """
    # A distance without any detection is undefined; such a model never becomes the champion.
    score = validation_score(read_run(run.id), metric or config.evaluate.metric)
    registered = register(
        uri,
        name=f"{family}-{config.modality}",
        metric=score.metric,
        value=score.value,
        digest=score.digest,
        task=config.task,
        run_id=run.id,
        higher_is_better=metric is not None or config.higher_is_better,
        useless=_useless(run, score.metric),
    )
    run.unless_finished(lambda: rollback_registration(registered))
    aliases = registered.alias + (f" and champion-{config.task}" if registered.task_champion else "")
    console.print(
        f"Registered {registered.name} version {registered.version} as {aliases}: {registered.reason}", soft_wrap=True
    )


def _useless(run: Run, metric: str) -> str | None:
    """Say which score of the validation split is 0 at the best epoch or trial; None: none is."""
    metrics = read_run(run.id).metrics
    for name in dict.fromkeys((metric, "dice", "volume_dice", "mask_ap", "mask_ap50")):
        value = metrics.get(f"best/{name}")
        if value is None and f"val/{name}" in metrics:
            value = dict(history(run.id, f"val/{name}")).get(int(metrics.get("best_epoch", -1)))
        if value == 0:
            return f"{name} is 0 on the validation split"
    return None

"""A model enters the registry, and the terminal tells as what."""

from __future__ import annotations

import math
from collections.abc import Mapping

from rich.console import Console

from experiments.config.schema import TaskConfig
from trackers.registry.registry import register, rollback_registration
from trackers.runs.reader import history, read_run
from trackers.runs.run import Run


def register_model(
    uri: str,
    scores: Mapping[str, float],
    config: TaskConfig,
    digest: str,
    run: Run,
    console: Console,
    *,
    family: str,
    metric: str | None = None,
) -> None:
    """Register the packaged model at `uri` as `<family>-<modality>`, unless `run` ends otherwise than FINISHED.

    Args:
        scores: on the images of which `digest` is.
        metric: higher being better, decides in place of the task's.
    """
    name = metric or config.evaluate.metric
    entered = register(
        uri,
        name=f"{family}-{config.modality}",
        metric=name,
        # Without any detection a distance is undefined, and such a model never wins.
        value=scores.get(name, math.nan),
        digest=digest,
        task=config.task,
        run_id=run.id,
        higher_is_better=metric is not None or config.higher_is_better,
        useless=_useless(run, name),
    )
    run.unless_finished(lambda: rollback_registration(entered))
    aliases = f"{entered.alias} and champion-{config.task}" if entered.task_champion else entered.alias
    console.print(f"Registered {entered.name} version {entered.version} as {aliases}: {entered.reason}", soft_wrap=True)


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

"""Log the records of a sweep: the trials as a table, Optuna's plots, and the best configuration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
import yaml
from optuna.trial import FrozenTrial, TrialState

from experiments.config.resolve import check
from experiments.config.schema import TaskConfig
from experiments.evaluation.artifacts import csv_text
from sweeps.run_endings import RUN
from sweeps.space import configured, read_params
from sweeps.study import EPOCHS, REASON, RESUMED_AFTER, first_attempt, outcomes
from sweeps.training import CONFIDENCE, NMS_IOU
from trackers.runs.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_IN_CONTOUR = 4
"""Parameters in the contour plot, which has a panel for each pair."""
STATES = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running", "WAITING": "waiting"}


def finished(study: optuna.Study) -> list[FrozenTrial]:
    """Return the complete trials."""
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def winner(study: optuna.Study) -> FrozenTrial:
    """Return the best trial; of a Pareto front the one that is best in the first objective."""
    if len(study.directions) == 1:
        return study.best_trial
    sign = 1 if study.directions[0].name == "MAXIMIZE" else -1
    return max(study.best_trials, key=lambda trial: sign * objective_values(trial)[0])


def objective_values(trial: FrozenTrial) -> list[float]:
    """Return the values of a complete trial, in the order of the objectives."""
    assert trial.values is not None
    return trial.values


def values_text(objectives: Sequence[str], trial: FrozenTrial) -> str:
    """Format the values of a complete trial."""
    return ", ".join(f"{name} {value:.4g}" for name, value in zip(objectives, objective_values(trial), strict=True))


def trial_rows(study: optuna.Study, objectives: Sequence[str]) -> list[dict[str, Any]]:
    """Build a row for each attempt of a trial, all with the same keys; None where undefined."""
    trials = study.get_trials(deepcopy=False)
    names = sorted({name for trial in trials for name in trial.params})
    front = {trial.number for trial in study.best_trials} if finished(study) else set()
    rows = []
    for trial in trials:
        values = trial.values or [None] * len(objectives)
        retry_of = first_attempt(trial) if first_attempt(trial) != trial.number else None
        seconds = trial.duration.total_seconds() if trial.duration else None
        row: dict[str, Any] = {"trial": trial.number, "retry_of": retry_of, "state": STATES[trial.state.name]}
        row |= {"best": trial.number in front} | dict(zip(objectives, values, strict=True))
        row |= {name: trial.params.get(name) for name in names}
        row |= {key: trial.user_attrs.get(key) for key in (EPOCHS, CONFIDENCE, NMS_IOU)}
        rows.append(
            row | {"seconds": seconds, "run": trial.user_attrs.get(RUN), "reason": trial.user_attrs.get(REASON)}
        )
    return rows


def best_config(config: TaskConfig, trial: FrozenTrial) -> TaskConfig:
    """Return the task with the parameters of a trial and the NMS threshold found for it.

    The confidence remains that of the task, because each training has its own.
    """
    chosen = configured(config, read_params(trial.params))
    content = chosen.model_dump(mode="json", exclude_unset=True)
    content["model"] = {**content.get("model", {}), "nms_iou": trial.user_attrs[NMS_IOU]}
    return check(content, "trial")


def best_yaml(config: TaskConfig, trial: FrozenTrial, study: optuna.Study, objectives: Sequence[str]) -> str:
    """Format `best_config` as a task file whose first lines name the trial."""
    content = best_config(config, trial).model_dump(mode="json", exclude_unset=True)
    return (
        f"# Trial {trial.number} of the sweep {study.study_name}: {values_text(objectives, trial)}\n"
        f"# on the validation split, at a confidence of {trial.user_attrs[CONFIDENCE]:g}.\n"
        "# Train it with `mrcnn train --task <this file>`.\n\n"
        + yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    )


def log_table(run: Run, study: optuna.Study, objectives: Sequence[str]) -> None:
    """Log `trials.csv`."""
    run.text(csv_text(trial_rows(study, objectives)), "trials.csv")


def log_plots(run: Run, study: optuna.Study, objectives: Sequence[str], folder: Path) -> None:
    """Log Optuna's plots of each objective in the artifact folder with the name of `folder`.

    Plots that compare trials need two finished ones.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from optuna.visualization import matplotlib as plots

    for position, name in enumerate(objectives):
        place = folder / name.replace("/", "_") if len(objectives) > 1 else folder
        # With a target Optuna assumes that less is better; without one it uses the direction of the study.
        one: Callable[[FrozenTrial], float] | None = None
        if len(objectives) > 1:
            one = partial(_value, position)
        target: dict[str, Any] = {"target": one, "target_name": name}
        if not finished(study):
            break
        drawn = {"optimization_history": plots.plot_optimization_history(study, **target)}
        if len(finished(study)) > 1 and _varies(study, position):
            ranked = optuna.importance.get_param_importances(study, target=one)
            top = [name for name in ranked if len({trial.params.get(name) for trial in finished(study)}) > 1]
            drawn |= {
                "param_importances": plots.plot_param_importances(study, **target),
                "slice": plots.plot_slice(study, **target),
                "parallel_coordinate": plots.plot_parallel_coordinate(study, **target),
            }
            if len(top) > 1:
                drawn["contour"] = plots.plot_contour(study, params=top[:MAX_IN_CONTOUR], **target)
        for kind, axes in drawn.items():
            _save(axes, place / f"{kind}.png")
    if len(objectives) == 1:
        _save(plots.plot_intermediate_values(study), folder / "intermediate_values.png")
    elif finished(study):
        _save(plots.plot_pareto_front(study), folder / "pareto_front.png")
    plt.close("all")
    if folder.exists():
        run.artifact(folder)


def _value(position: int, trial: FrozenTrial) -> float:
    return objective_values(trial)[position]


def _varies(study: optuna.Study, position: int) -> bool:
    return len({_value(position, trial) for trial in finished(study)}) > 1


def _save(axes: Any, file: Path) -> None:
    """Write a plot at a size that fits its panels, with all of its labels."""
    figure: Figure = (axes if hasattr(axes, "figure") else axes.flat[0]).figure
    panels = axes.size if hasattr(axes, "size") else 1
    sizes = {"contour": (4 * panels**0.5 + 2, 3.5 * panels**0.5), "slice": (3 * panels + 2, 4)}
    figure.set_size_inches(*sizes.get(file.stem, (10, 6)))
    if file.stem in sizes:
        for panel in figure.axes:
            panel.tick_params(axis="x", which="both", labelrotation=45)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, bbox_inches="tight")


def summary(study: optuna.Study) -> dict[str, float]:
    """Count the trials by their end, and the epochs of all attempts."""
    last = outcomes(study)
    counts = {f"trials_{word}": float(sum(STATES[trial.state.name] == word for trial in last)) for word in
              ("finished", "pruned", "failed")}  # fmt: skip
    epochs = sum(
        trial.user_attrs.get(EPOCHS, 0) - trial.user_attrs.get(RESUMED_AFTER, 0)
        for trial in study.get_trials(deepcopy=False)
    )
    return {**counts, "epochs": float(epochs)}

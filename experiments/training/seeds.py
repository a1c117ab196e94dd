"""The same training with several seeds on one split: on small data a single number says little."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from scipy import stats

from experiments.config.resolve import Resolved, parameters, resolved_yaml
from experiments.config.schema import TaskConfig
from experiments.evaluation.evaluate_on_test import Result, evaluate_on_test, inference_model
from experiments.evaluation.tables import results_table
from experiments.training.folds import spread
from experiments.training.repeated import holding, publish_outcome, train_one, within
from experiments.training.training_data import Data, read_data, split_title
from mrcnn.backend import clear_session
from mrcnn.models import load
from trackers.runs.reader import history
from trackers.runs.run import Run


@dataclass(frozen=True)
class Member:
    """A training: its configuration, its model's file, the best score of its validations, and its results."""

    config: TaskConfig
    file: Path
    validation: float
    result: Result


def train_seeds(resolved: Resolved) -> str:
    """Train `train.seeds` times on one split, and register the model with the best validation.

    A run holds all, each training is a run within it, with the seed that repeats it alone. Test scores choose nothing.
    The metrics `seeds/<score>_mean`, `_std`, `_lo` and `_hi` are over the trainings; the interval is Student's 95 % of
    the mean over all seeds on the same patients. Of other patients the intervals of each training tell.

    Returns:
        The id of the run that holds all.

    Raises:
        InputError: the data, or their fit to the configuration, is bad.
        Diverged: the loss of a training is no longer a number; the trainings before it stay.
    """
    config, console = resolved.config, Console(highlight=False)
    with holding(resolved, console, f"{config.train.seeds} seeds") as (run, folder):
        data = read_data(config, run, console)
        run.params(parameters(config))
        run.text(resolved_yaml(config), "config.yaml")
        members = []
        for number in range(config.train.seeds):
            members.append(_train_one(with_seed(config, number), data, run, console, folder / str(number)))
            run.metrics({f"seed/{name}": value for name, value in members[-1].result.scores.items()}, number + 1)
            clear_session()
        best = max(members, key=lambda member: member.validation)
        run.tags({"best_seed": best.config.seed})
        if math.isfinite(best.validation):
            value = best.validation if config.higher_is_better else -best.validation
            run.metrics({f"best/{config.evaluate.metric}": value})
        result = evaluate_on_test(
            inference_model([load(best.file)], best.config), best.config, data, run, console, step=0,
            confidence=best.result.confidence,
        )  # fmt: skip
        _conclude(members, best, data, run, console)
        publish_outcome([best.file], result, best.config, data, run, console)
    return run.id


def with_seed(config: TaskConfig, number: int) -> TaskConfig:
    """The configuration of one of the trainings, which repeats it by itself: another seed, the same split."""
    return config.model_copy(
        update={
            "seed": (config.seed + number) % 2**32,
            "data": config.data.model_copy(update={"split_seed": config.split_seed}),
            "train": config.train.model_copy(update={"seeds": None}),
        }
    )


def over_seeds(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean, standard deviation (n - 1) and the ends of Student's 95 % interval of the mean, for each main score."""
    found = {}
    for name, (mean, deviation) in spread(scores).items():
        count = sum(name in each for each in scores)
        half = float(stats.t.ppf(0.975, count - 1)) * deviation / math.sqrt(count)
        found |= {
            f"seeds/{name}_mean": mean,
            f"seeds/{name}_std": deviation,
            f"seeds/{name}_lo": mean - half,
            f"seeds/{name}_hi": mean + half,
        }
    return found


def _train_one(config: TaskConfig, data: Data, parent: Run, console: Console, folder: Path) -> Member:
    folder.mkdir()
    file = folder / "model.keras"
    with within(parent, config, f"seed {config.seed}", console) as run:
        planned, epochs, result = train_one(config, data, config.seed, run, console, file)
        validation = _best_validation(run, planned, epochs)
    return Member(planned, file, validation, result)


def _best_validation(run: Run, config: TaskConfig, epochs: int) -> float:
    """The best of the validations after an epoch, the higher the better; least where none was defined."""
    sign = 1 if config.higher_is_better else -1
    points = history(run.id, f"val/{config.evaluate.metric}")
    return max((sign * value for step, value in points if step <= epochs), default=-math.inf)


def _conclude(members: Sequence[Member], best: Member, data: Data, run: Run, console: Console) -> None:
    """Keep and show what the trainings come to together."""
    scores = [member.result.scores for member in members]
    found = over_seeds(scores)
    run.metrics(found)
    over = spread(scores)
    ends = {f"{name}{end}": found[f"seeds/{name}{end}"] for name in over for end in ("_lo", "_hi")}
    title = f"{split_title(data)}, mean of {len(members)} seeds; registered: seed {best.config.seed}"
    console.print(f"\n{title}", style="bold", soft_wrap=True)
    means = {name: mean for name, (mean, _) in over.items()}
    console.print(results_table(means, ends, data.splits[data.reported].class_names, ("seeds", over)))

"""Train with several seeds on one split: on small data a single score says little."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from scipy import stats

from experiments.config.resolve import Resolved
from experiments.config.schema import TaskConfig
from experiments.evaluation.evaluate_on_test import evaluate_on_test, inference_model
from experiments.evaluation.tables import results_table
from experiments.training.checkpointing import requested_facts
from experiments.training.folds import spread
from experiments.training.repeated import Member, TrainingGroup, training_group
from experiments.training.training_data import Data, read_data, split_title
from mrcnn.models import load


def train_seeds(resolved: Resolved, resume: str | None = None) -> str:
    """Train `train.seeds` times on one split, and register the model with the best validation metric.

    Each training is a run below a common one, with the seed that repeats it alone. Test scores choose nothing. The
    metrics `seeds/<score>_mean`, `_std`, `_lo` and `_hi` are over the trainings; the interval is Student's 95 % of the
    mean over all seeds on the same patients. The intervals of each training are those over patients.

    Returns:
        The id of the common run.

    Raises:
        InputError: the data are invalid, or do not match the configuration.
        Diverged: the loss of a training is not finite; the runs of those before it stay.
    """
    with training_group(resolved, resume, f"{resolved.config.train.seeds} seeds") as group:
        run, console = group.run, group.console
        data = group.data or read_data(group.config, run, console)
        group.begin(requested_facts(resolved.config, data))
        members = []
        for number in range(group.config.train.seeds or 0):
            config = with_seed(group.config, number)
            file = f"seed-{number:02d}.keras"
            members.append(group.train(config, data, f"seed {config.seed}", seed=config.seed, file=file))
            run.metrics({f"seed/{name}": value for name, value in members[-1].result.scores.items()}, number + 1)
        best = max(members, key=_validation)
        run.tags({"best_seed": best.config.seed})
        if best.best_value is not None:
            run.metrics({f"best/{best.config.evaluate.metric}": best.best_value})
        result = evaluate_on_test(
            inference_model([load(best.file)], best.config), best.config, data, run, console, step=0,
            confidence=best.result.confidence, min_slices=best.result.min_slices,
        )  # fmt: skip
        _summarize(members, best, data, group)
        group.register([best.file], result, best.config, data)
    return run.id


def with_seed(config: TaskConfig, number: int) -> TaskConfig:
    """Return the configuration that repeats one of the trainings alone: another seed, the same split."""
    return config.model_copy(
        update={
            "seed": (config.seed + number) % 2**32,
            "data": config.data.model_copy(update={"split_seed": config.split_seed}),
            "train": config.train.model_copy(update={"seeds": None}),
        }
    )


def over_seeds(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Compute mean, standard deviation (n - 1) and Student's 95 % interval of the mean of each main score."""
    metrics = {}
    for name, (mean, deviation) in spread(scores).items():
        count = sum(name in each for each in scores)
        half = float(stats.t.ppf(0.975, count - 1)) * deviation / math.sqrt(count)
        metrics |= {
            f"seeds/{name}_mean": mean,
            f"seeds/{name}_std": deviation,
            f"seeds/{name}_lo": mean - half,
            f"seeds/{name}_hi": mean + half,
        }
    return metrics


def _validation(member: Member) -> float:
    """Return the best validation metric, negated where lower is better; least where it was never defined."""
    if member.best_value is None:
        return -math.inf
    return member.best_value if member.config.higher_is_better else -member.best_value


def _summarize(members: Sequence[Member], best: Member, data: Data, group: TrainingGroup) -> None:
    """Log and print the scores over all trainings."""
    scores = [member.result.scores for member in members]
    metrics, over = over_seeds(scores), spread(scores)
    group.run.metrics(metrics)
    ends = {f"{name}{end}": metrics[f"seeds/{name}{end}"] for name in over for end in ("_lo", "_hi")}
    title = f"{split_title(data)}, mean of {len(members)} seeds; registered: seed {best.config.seed}"
    group.console.print(f"\n{title}", style="bold")
    means = {name: mean for name, (mean, _) in over.items()}
    group.console.print(results_table(means, ends, data.splits[data.reported].class_names, ("seeds", over)))

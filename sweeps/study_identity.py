"""What decides a trial: the values of a study can be compared only where all of it is the same."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import optuna
from optuna.distributions import CategoricalDistribution

from experiments.config.overrides import flattened
from experiments.config.schema import TaskConfig
from experiments.training.training_data import Data
from mrcnn.errors import InputError
from sweeps.options import Choices, SweepOptions

DECIDES = "decides"
"""Attribute of a study: `decides` of the sweep that began it."""
DIGESTS = "digests"
NO_MATTER = ("data.dataset", "train.workers", "evaluate.overlays", "evaluate.resamples", "evaluate.images_at_once")
"""Options that change no value of a trial; of the data the digests of the splits count, not the place."""


def decides(
    config: TaskConfig, options: SweepOptions, objectives: Sequence[str], data: Data | None
) -> dict[str, object]:
    """What decides a trial, as it is read back from JSON: options by their names, and digests of the splits."""
    found = {name: value for name, value in flattened(config.model_dump(mode="json")).items() if name not in NO_MATTER}
    found |= {f"sweep.thresholds.{name}": value for name, value in options.thresholds.model_dump(mode="json").items()}
    found |= {f"sweep.space.{name}": of.model_dump(mode="json") for name, of in options.space.items()}
    found["sweep.objectives"] = list(objectives)
    if data is not None:
        found[DIGESTS] = {split: part.digest for split, part in data.splits.items()}
    return json.loads(json.dumps(found))


def require_same(study: optuna.Study, wanted: Mapping[str, object]) -> None:
    """Note `wanted` in a new study; refuse another one's.

    Raises:
        InputError: names each difference.
    """
    noted = study.user_attrs.get(DECIDES)
    if noted is None:
        study.set_user_attr(DECIDES, dict(wanted))
        return
    told = [
        f"{name}={json.dumps(wanted.get(name))} (the study has {json.dumps(noted.get(name))})"
        for name in sorted({*noted, *wanted} - {DIGESTS})
        if noted.get(name) != wanted.get(name)
    ]
    before, now = noted.get(DIGESTS, {}), wanted.get(DIGESTS, {})
    changed = sorted(split for split in {*before, *now} if before.get(split) != now.get(split))
    told += [f"the images or annotations of {', '.join(changed)}"] if changed else []
    if told:
        raise InputError(
            f"--study {study.study_name}: its trials cannot be compared with this sweep's: {', '.join(told)} differ; "
            "take another --study, or none"
        )


def require_same_choices(study: optuna.Study, options: SweepOptions) -> None:
    """Raises `InputError` where trials of the study, which may have no note, have drawn from other choices."""
    for trial in study.get_trials(deepcopy=False):
        for name, drawn in trial.distributions.items():
            of = options.space.get(name)
            choices = tuple(json.dumps(each) for each in of.choices) if isinstance(of, Choices) else None
            before = drawn.choices if isinstance(drawn, CategoricalDistribution) else None
            if of is not None and before != choices:
                raise InputError(
                    f"--study {study.study_name}: sweep.space.{name}: trial {trial.number} has drawn from "
                    f"{drawn if before is None else list(before)}, expected the same; take another --study, or none"
                )

"""Refuse to continue a study with other settings or data, because its values could not be compared."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution

from experiments.config.overrides import flattened
from experiments.config.schema import TaskConfig
from experiments.training.training_data import Data
from mrcnn.errors import InputError
from sweeps.options import Choices, SweepOptions

DECIDES = "decides"
"""Attribute of a study: `decides` of the sweep that started it."""
DIGESTS = "digests"
IRRELEVANT = ("data.dataset", "train.workers", "evaluate.overlays", "evaluate.resamples", "evaluate.images_at_once")
"""Options that do not affect a trial; the data are identified by the digests of the splits, not by their path."""


def decides(config: TaskConfig, options: SweepOptions, objectives: Sequence[str], data: Data | None) -> dict[str, Any]:
    """Return what affects a trial, as read back from JSON: options by name, and digests of the splits."""
    found = {name: value for name, value in flattened(config.model_dump(mode="json")).items() if name not in IRRELEVANT}
    found |= {f"sweep.thresholds.{name}": value for name, value in options.thresholds.model_dump(mode="json").items()}
    found |= {f"sweep.space.{name}": of.model_dump(mode="json") for name, of in options.space.items()}
    found["sweep.objectives"] = list(objectives)
    if data is not None:
        found[DIGESTS] = {split: part.digest for split, part in data.splits.items()}
    return json.loads(json.dumps(found))


def require_same(study: optuna.Study, wanted: Mapping[str, Any]) -> None:
    """Save `wanted` in a new study; refuse an existing study with other values.

    Raises:
        InputError: names each difference.
    """
    saved = study.user_attrs.get(DECIDES)
    if saved is None:
        study.set_user_attr(DECIDES, dict(wanted))
        return
    differences = [
        f"{name}={json.dumps(wanted.get(name))} (the study has {json.dumps(saved.get(name))})"
        for name in sorted({*saved, *wanted} - {DIGESTS})
        if saved.get(name) != wanted.get(name)
    ]
    before, now = saved.get(DIGESTS, {}), wanted.get(DIGESTS, {})
    changed = sorted(split for split in {*before, *now} if before.get(split) != now.get(split))
    differences += [f"the images or annotations of {', '.join(changed)}"] if changed else []
    if differences:
        raise InputError(
            f"--study {study.study_name}: its trials cannot be compared with this sweep's: "
            f"{', '.join(differences)} differ; choose another --study, or none"
        )


def require_same_choices(study: optuna.Study, options: SweepOptions) -> None:
    """Raise `InputError` if trials of the study, which may have no saved settings, have drawn from other choices."""
    for trial in study.get_trials(deepcopy=False):
        for name, drawn in trial.distributions.items():
            of = options.space.get(name)
            choices = tuple(json.dumps(each) for each in of.choices) if isinstance(of, Choices) else None
            before = drawn.choices if isinstance(drawn, CategoricalDistribution) else None
            if of is not None and before != choices:
                raise InputError(
                    f"--study {study.study_name}: sweep.space.{name}: trial {trial.number} has drawn from "
                    f"{drawn if before is None else list(before)}, expected the same; choose another --study, or none"
                )

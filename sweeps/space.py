"""Validate the search space, and convert the parameters of a trial to the configuration that it trains."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Protocol, get_args, get_origin

from experiments.config.overrides import full_key, merged, nested
from experiments.config.resolve import check, options
from experiments.config.schema import TaskConfig
from mrcnn.config import STRIDES
from mrcnn.data.transforms.augmentation import Augmentation
from mrcnn.errors import InputError
from sweeps.options import INFERENCE_MS, Choices, Range

ANCHOR_SCALE, ANCHOR_SPREAD = "anchors.scale", "anchors.spread"
"""Side of the smallest anchors in pixels of the network input, and the ratio of the sides of successive levels."""
AUGMENT_STRENGTH = "augment.strength"
"""Factor of every strength in the section `augment`; the probabilities of flips are unchanged."""
OWN = (ANCHOR_SCALE, ANCHOR_SPREAD, AUGMENT_STRENGTH)
FIXED = ("task", "modality", "findings", "seed", "data.", "evaluate.")
"""Options that change the data or the task."""
NOT_STRENGTHS = ("flip_horizontal", "flip_vertical", "flip_swaps")


class Suggests(Protocol):
    """The methods of an Optuna trial that are used."""

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None, log: bool) -> float: ...
    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int: ...
    def suggest_categorical(self, name: str, choices: list[str]) -> str: ...


def check_space(space: Mapping[str, Range | Choices], config: TaskConfig, file: str) -> dict[str, Range | Choices]:
    """Return `space` under the full names of the options; all limits and choices must be valid in the task.

    Raises:
        InputError: an unknown option, one that cannot be searched, or an invalid value.
    """
    known = [*(name for name, _ in options()), *OWN]
    full: dict[str, Range | Choices] = {}
    for key, distribution in space.items():
        where = f"{file}: sweep.space.{key}"
        try:
            name = full_key(key, known)
        except InputError as error:
            raise InputError(f"{where}: {str(error).partition(': ')[2]}") from error
        if name.startswith(FIXED):
            raise InputError(f"{where}: expected an option of model, train or augment; this one changes the task")
        if name in full:
            raise InputError(f"{where}: {name} occurs twice")
        if isinstance(distribution, Choices) and name in OWN:
            raise InputError(f"{where}: expected low and high")
        if isinstance(distribution, Range) and _whole(name):
            parts = (distribution.low, distribution.high, distribution.step or 1)
            if any(part != int(part) for part in parts):
                raise InputError(f"{where}: expected whole numbers for low, high and step, as {name} takes")
        full[name] = distribution
    if not full:
        raise InputError(f"{file}: sweep.space: expected at least one option to search, such as learning_rate")
    if (ANCHOR_SCALE in full) != (ANCHOR_SPREAD in full):
        raise InputError(f"{file}: sweep.space: expected {ANCHOR_SCALE} and {ANCHOR_SPREAD} together")
    if ANCHOR_SCALE in full and "model.anchor_sizes" in full:
        raise InputError(f"{file}: sweep.space: expected model.anchor_sizes or {ANCHOR_SCALE}, not both")
    for name, distribution in full.items():
        for value in _ends(name, distribution):
            others = {ANCHOR_SCALE: {ANCHOR_SPREAD: 1.0}, ANCHOR_SPREAD: {ANCHOR_SCALE: 1.0}}.get(name, {})
            if name in OWN and value <= 0 and name != AUGMENT_STRENGTH:
                raise InputError(f"{file}: sweep.space.{name}={value:g}: expected above 0")
            try:
                configured(config, {name: value, **others})
            except InputError as error:
                raise InputError(f"{file}: sweep.space.{name}: {str(error).partition(': ')[2]}") from error
    return full


def _ends(name: str, distribution: Range | Choices) -> list[Any]:
    if isinstance(distribution, Choices):
        return list(distribution.choices)
    return [int(end) if _whole(name) else end for end in (distribution.low, distribution.high)]


def _whole(name: str) -> bool:
    """Whether an option takes whole numbers only."""
    annotation = dict(options())[name].annotation if name not in OWN else float
    members = (annotation, *get_args(annotation))
    kinds = {get_args(member)[0] if get_origin(member) is Annotated else member for member in members}
    return int in kinds and float not in kinds


def suggest(trial: Suggests, space: Mapping[str, Range | Choices]) -> dict[str, Any]:
    """Draw a value for each option with the sampler of the study; choices are saved as JSON: they can be lists."""
    drawn: dict[str, Any] = {}
    for name, of in space.items():
        if isinstance(of, Choices):
            drawn[name] = json.loads(trial.suggest_categorical(name, [json.dumps(choice) for choice in of.choices]))
        elif _whole(name):
            step = int(of.step or 1)
            drawn[name] = trial.suggest_int(name, int(of.low), int(of.high), step=step, log=of.log)
        else:
            drawn[name] = trial.suggest_float(name, of.low, of.high, step=of.step, log=of.log)
    return drawn


def read_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the parameters of a finished trial to the values that `suggest` returned."""
    return {name: json.loads(value) if isinstance(value, str) else value for name, value in params.items()}


def configured(config: TaskConfig, drawn: Mapping[str, Any]) -> TaskConfig:
    """Return `config` with the values of a trial.

    Raises:
        InputError: the values contradict each other.
    """
    dotted = {name: value for name, value in drawn.items() if name not in OWN}
    if ANCHOR_SCALE in drawn:
        dotted["model.anchor_sizes"] = anchor_sizes(drawn[ANCHOR_SCALE], drawn[ANCHOR_SPREAD])
    if AUGMENT_STRENGTH in drawn:
        dotted |= stronger(config, drawn[AUGMENT_STRENGTH])
    return check(merged(config.model_dump(mode="json", exclude_unset=True), nested(dotted)), "trial")


def anchor_sizes(scale: float, spread: float) -> list[list[float]]:
    """Compute the size of each of five levels, at least its stride: smaller anchors leave pixels uncovered."""
    return [[round(max(scale * spread**level, stride), 1)] for level, stride in enumerate(STRIDES)]


def stronger(config: TaskConfig, factor: float) -> dict[str, float]:
    """Multiply every strength of the augmentation by `factor`, up to the limit of its option."""
    changed = {}
    for name, field in Augmentation.model_fields.items():
        # What is `auto` is planned before a trial.
        if name in NOT_STRENGTHS or getattr(config.augment, name) == "auto":
            continue
        limits = [(getattr(each, "le", None), getattr(each, "lt", None)) for each in field.metadata]
        most = min(closed or 0.99 * (opened or 0.0) for closed, opened in limits if closed or opened)
        changed[f"augment.{name}"] = min(getattr(config.augment, name) * factor, most)
    return changed


def task_of(objectives: Sequence[str], config: TaskConfig) -> TaskConfig:
    """Return `config` with the first objective as metric, which selects the best epoch.

    With the metric of one class or the time as objective, the metric of the task remains.
    """
    metric = objectives[0]
    if metric == INFERENCE_MS or "/" in metric or metric == config.evaluate.metric:
        return config
    content = config.model_dump(mode="json", exclude_unset=True)
    content["evaluate"] = {**content.get("evaluate", {}), "metric": metric}
    return check(content, "--objectives")

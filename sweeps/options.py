"""Schema of the section `sweep` of a task file. `mrcnn sweep --help` prints the description of each field."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from pydantic import Discriminator, Field, Tag, ValidationError, field_validator, model_validator

from experiments.config.model_options import Section
from experiments.config.resolve import Resolved
from experiments.config.schema import LOWER_IS_BETTER, Metric
from mrcnn.errors import InputError

INFERENCE_MS = "inference_ms"
"""Median time in milliseconds to predict one validation image."""
MEASURED = (*get_args(Metric), INFERENCE_MS)


class Range(Section):
    """Numbers from `low` to `high`, both included; integers if the option is an integer."""

    low: float
    high: float
    log: bool = False
    step: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _check(self) -> Range:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"low={self.low:g}, high={self.high:g}: expected low below high, both finite")
        if self.log and self.low <= 0:
            raise ValueError(f"low={self.low:g}: expected above 0 with log: true")
        if self.log and self.step is not None:
            raise ValueError(f"step={self.step:g}: expected none with log: true")
        return self


class Choices(Section):
    """A list of values to choose from."""

    choices: tuple[Any, ...] = Field(min_length=2)


def _kind(given: Any) -> str:
    return "choices" if isinstance(given, Choices) or (isinstance(given, Mapping) and "choices" in given) else "range"


Distribution = Annotated[
    Annotated[Range, Tag("range")] | Annotated[Choices, Tag("choices")],
    Discriminator(_kind),
]


class Thresholds(Section):
    """The search for confidence and NMS thresholds after each training, on its detections of the validation images."""

    sets: int = Field(
        default=1000, ge=0, description="threshold sets evaluated after each training; 0: the thresholds of the task"
    )
    per_class: bool = Field(
        default=True, description="also search thresholds per class and record their gain; not applied"
    )


class SweepOptions(Section):
    """Options of a sweep."""

    trials: int = Field(default=20, ge=1, description="number of trainings; a higher number continues a finished sweep")
    workers: int = Field(
        default=1,
        ge=1,
        le=64,
        description="trials at once: processes of this machine, which share its cores, or Ray actors",
    )
    engine: Literal["processes", "ray"] = Field(
        default="processes", description="where workers run: on this machine, or on those of a Ray cluster"
    )
    ray_address: str | None = Field(
        default=None,
        min_length=1,
        description="address of the cluster, such as 10.0.0.1:6379; local: start one on this machine; null: the "
        "cluster of this machine, otherwise local",
    )
    cpus_per_worker: int = Field(default=1, ge=1, description="cores that each Ray actor reserves and uses")
    gpus_per_worker: float | None = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        description="GPUs that each Ray actor reserves, such as 0.5; null: 1 where the cluster has any",
    )
    sampler: Literal["tpe", "random", "gp"] = Field(
        default="tpe",
        description="tree-structured Parzen estimator, random search, or Gaussian process (needs PyTorch)",
    )
    pruner: Literal["hyperband", "median", "none"] = Field(
        default="hyperband", description="method that stops trainings with poor results; not used with two objectives"
    )
    objectives: tuple[str, ...] = Field(
        default=(),
        max_length=2,
        description="validation metrics, such as [dice, inference_ms]; two give a Pareto front; none: evaluate.metric",
    )
    storage: str | None = Field(default=None, description="database of the study; null: sqlite:///sweeps.db")
    study: str | None = Field(
        default=None,
        min_length=1,
        description="name; null: the task and a digest of the settings that affect a trial",
    )
    thresholds: Thresholds = Thresholds()
    space: dict[str, Distribution] = Field(
        default={}, description="option of the task to {low, high, log, step} or {choices: […]}"
    )

    @field_validator("objectives", mode="before")
    @classmethod
    def _text_is_a_list(cls, given: Any) -> Any:
        return tuple(name.strip() for name in given.split(",")) if isinstance(given, str) else given

    @model_validator(mode="after")
    def _check(self) -> SweepOptions:
        for objective in self.objectives:
            if objective.partition("/")[0] not in MEASURED:
                raise ValueError(f"objectives={objective}: expected {', '.join(MEASURED)}, or one with /<class>")
        if len(set(self.objectives)) < len(self.objectives):
            raise ValueError(f"objectives={list(self.objectives)}: expected two different ones")
        if self.engine != "ray":
            for name in ("ray_address", "cpus_per_worker", "gpus_per_worker"):
                if (value := getattr(self, name)) != type(self).model_fields[name].default:
                    raise ValueError(f"{name}={value}: expected with engine=ray alone")
        return self


def higher_is_better(objective: str) -> bool:
    """Return whether a study maximizes the objective."""
    return objective.partition("/")[0] not in (*LOWER_IS_BETTER, INFERENCE_MS)


def check_options(content: Any, file: str, given: Mapping[str, Any]) -> SweepOptions:
    """Validate the section `content` of `file`, with the command-line options `given` over it.

    Raises:
        InputError: one line that names each key, its value and what was expected.
    """
    if content is None:
        content = {}
    if not isinstance(content, Mapping):
        raise InputError(f"{file}: sweep={content!r}: expected a mapping of sections")
    merged = {**content}
    for name, value in given.items():
        section, _, leaf = name.rpartition(".")
        if section:
            inner = merged.get(section)
            merged[section] = {**(inner if isinstance(inner, Mapping) else {}), leaf: value}
        else:
            merged[leaf] = value
    merged = {
        name: {} if value is None and name in ("thresholds", "space") else value for name, value in merged.items()
    }
    try:
        return SweepOptions.model_validate(merged)
    except ValidationError as error:
        lines = [_line(each, file, given) for each in error.errors()]
    raise InputError("; ".join(dict.fromkeys(lines)))


def _line(error: Mapping[str, Any], file: str, given: Mapping[str, Any]) -> str:
    """Format a pydantic error as `<file>: sweep.<key>=<value>: expected …`."""
    place = [str(part) for part in error["loc"]]
    if place[:1] == ["space"] and len(place) > 2:
        del place[2]  # pydantic's name of the union member
    key, message = ".".join(place), error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error":
        name, _, message = message.partition(": ")
        key = ".".join(part for part in (key, name) if part)
    elif error["type"] == "missing":
        message = "missing; it has no default"
    elif error["type"] == "extra_forbidden":
        message = "no such key"
    else:
        key = f"{key}={error['input']!r}"
        message = message.replace("Input should be", "expected", 1)
        message = message if message.startswith("expected") else message[0].lower() + message[1:]
    option = key.partition("=")[0]
    return f"--{key}: {message}" if option in given else f"{file}: sweep.{key}: {message}"


@dataclass(frozen=True)
class SweepArgs:
    """Validated arguments of a sweep: the task, the search options, and the study."""

    resolved: Resolved
    options: SweepOptions
    objectives: tuple[str, ...]
    storage: str
    study: str

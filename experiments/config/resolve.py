"""Resolve a task file, a profile and command-line options to a validated `TaskConfig`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args

import click
import yaml
from click.shell_completion import CompletionItem
from pydantic import BaseModel, ValidationError

from experiments.config.command_line import Option, Parser
from experiments.config.config_options import config_options, options
from experiments.config.overrides import flattened, merged, nested, parse_option, takes_list
from experiments.config.schema import DataOptions, TaskConfig
from mrcnn.errors import InputError
from mrcnn.safe_yaml import read_yaml

TASKS = Path(__file__).parents[1] / "tasks"
AUTO = "auto"
INSTANCES, PHANTOM_TASK, PHANTOMS = "instances", "thyroid", "phantoms"
"""Default task with and without a dataset, and the profile with sizes for phantoms."""


@dataclass(frozen=True)
class Resolved:
    """A validated configuration and its source.

    Attributes:
        config: the configuration.
        file: task file.
        profile: name of the profile.
        sweep: section `sweep` of the file, not yet validated.
        name: name of the run from the user; None: by the configuration.
    """

    config: TaskConfig
    file: Path
    profile: str | None
    sweep: Any = None
    name: str | None = None


def task_names() -> list[str]:
    """List the tasks of the project."""
    return sorted(path.stem for path in TASKS.glob("*.yaml"))


def task_file(task: str) -> Path:
    """Return the file of a task.

    Args:
        task: a task of the project, such as `thyroid`, or a path that ends in .yaml, such as a run's config.yaml.

    Raises:
        InputError: the file does not exist.
    """
    path = Path(task).expanduser() if task.endswith((".yaml", ".yml")) else TASKS / f"{task}.yaml"
    if not path.is_file():
        raise InputError(f"--task {task}: no such task; expected {', '.join(task_names())} or a path to a .yaml file")
    return path


def read_task(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the settings and the profiles of a task file.

    Raises:
        InputError: the file is not a YAML mapping, or its profiles are not mappings.
    """
    try:
        content = read_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a mapping of sections, found {type(content).__name__}")
    profiles = content.pop("profiles", None) or {}
    if not isinstance(profiles, dict) or not all(isinstance(profile, dict) for profile in profiles.values()):
        raise InputError(f"{path}: profiles={profiles!r}: expected a mapping of names to sections")
    return content, profiles


def task_options(default: str = AUTO, *, phantoms: str | None = PHANTOMS) -> list[Option]:
    """Return the options that choose the task file and its profile, see `resolve_options`."""
    described = f"{AUTO}: instances with a dataset, else {PHANTOM_TASK}" if default == AUTO else default
    return [
        Option(
            ["--task"],
            type=str,
            default=default,
            metavar="NAME",
            help=f"{', '.join(task_names())}, or a path to a .yaml file; default {described}",
            shell_complete=_complete_task,
        ),
        Option(
            ["--profile"],
            type=str,
            metavar="NAME",
            help="a set of settings in the task's file; default "
            + (f"{phantoms} without a dataset, if the file has it" if phantoms else "none"),
        ),
    ]


def _complete_task(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    names = [CompletionItem(name) for name in task_names() if name.startswith(incomplete)]
    return names or [CompletionItem(incomplete, type="file")]


@cache
def _parser() -> Parser:
    return Parser("train", params=[*task_options(), *config_options()], callback=lambda **texts: texts)


def resolve(arguments: Sequence[str]) -> Resolved:
    """Resolve options as words: `["--task", "thyroid", "--epochs", "3"]`.

    Raises:
        InputError: one line that names the file or option, the value and what is allowed.
    """
    return resolve_options(_parser().parse(arguments))


def resolve_options(texts: Mapping[str, str | None], *, phantoms: str | None = PHANTOMS) -> Resolved:
    """Resolve a task: the file, then the profile, then the options, each over the one before.

    Args:
        texts: dotted key to the value as text; None where the option is absent. `task` and `profile` choose the file
            and the profile.
        phantoms: the default profile without a dataset, where the file has it; None: no profile.

    Raises:
        InputError: one line that names the file or option, the value and what is allowed.
    """
    task, dataset = texts.get("task") or AUTO, texts.get("data.dataset") or "null"
    if task == AUTO:
        task = PHANTOM_TASK if dataset == "null" else INSTANCES
    path = task_file(task)
    profile = texts.get("profile")
    content, profiles = read_task(path)
    if profile is None and phantoms in profiles and not (
        content.get("data", {}).get("dataset") if texts.get("data.dataset") is None else dataset != "null"
    ):  # fmt: skip
        profile = phantoms
    if profile is not None:
        if profile not in profiles:
            raise InputError(
                f"--profile {profile}: no such profile in {path}; expected {', '.join(profiles) or 'none, it has none'}"
            )
        content = merged(content, profiles[profile])
    sweep = content.pop("sweep", None)
    values = {
        key: parse_option(key, text, field.annotation)
        for key, field in options()
        if key != "task" and (text := texts.get(key)) is not None
    }
    return Resolved(check(merged(content, nested(values)), str(path), values), path, profile, sweep)


def data_options(texts: Mapping[str, str | None], **values: Any) -> DataOptions:
    """Resolve the options of the section `data` without a task.

    Args:
        texts: dotted key to the value as text; None where the option is absent.
        values: fields of the section, which need no parsing.

    Raises:
        InputError: a value is invalid.
    """
    parsed = {
        key: parse_option(key, text, field.annotation)
        for key, field in options()
        if key.startswith("data.") and (text := texts.get(key)) is not None
    }
    content = merged({"task": "none", "modality": "none", "data": values}, nested(parsed))
    return check(content, "the options", [*parsed, *(f"data.{name}" for name in values)]).data


def check(content: Mapping[str, Any], file: str, given: Collection[str] = ()) -> TaskConfig:
    """Validate the merged sections of a task as a `TaskConfig`.

    Messages name the `file`, or the options of the dotted keys `given` on the command line.

    Raises:
        InputError: a key is unknown or a value invalid.
    """
    try:
        return TaskConfig.model_validate(_with_lists(content))
    except ValidationError as error:
        problems: dict[str, list[str]] = {}
        for each in error.errors():
            place, expected = _problem(each)
            # pydantic reports an error for each member of a union.
            problems.setdefault(place, []).append(expected)
    lines = []
    for place, expected in problems.items():
        source = f"--{place}" if re.split(r"[=\[]", place)[0] in given else f"{file}: {place}"
        alternatives = [expected[0], *(each.removeprefix("expected ") for each in expected[1:])]
        lines.append(f"{source}: {' or '.join(alternatives)}")
    raise InputError("; ".join(lines))


def _with_lists(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """Parse lists that the file writes as text, such as `class_names: a, b`."""
    flat = flattened(content)
    texts = {
        key: parse_option(key, flat[key], field.annotation)
        for key, field in options()
        if takes_list(field.annotation) and isinstance(flat.get(key), str)
    }
    return merged(content, nested(texts)) if texts else content


def _problem(error: Mapping[str, Any]) -> tuple[str, str]:
    """Split a pydantic error into the place, `key=value`, and the expected value."""
    key = _key(error)
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error":
        # Validators of several fields name the field in their message.
        name, _, message = message.partition(": ")
        return ".".join(part for part in (key, name) if part), message
    if error["type"] == "missing":
        return key, "missing; it has no default"
    place = f"{key}={error['input']!r}"
    if error["type"] == "extra_forbidden":
        beside = _names_beside(error["loc"])
        close = difflib.get_close_matches(str(error["loc"][-1]), beside, n=1)
        return place, f"no such key; {f'did you mean {close[0]}?' if close else 'expected ' + ', '.join(beside)}"
    if error["type"] == "tuple_type":
        return place, "expected a list such as [a, b]"
    if message.startswith("Input should be "):
        return place, f"expected {message.removeprefix('Input should be ')}"
    return place, message[0].lower() + message[1:]


def _key(error: Mapping[str, Any]) -> str:
    """Format the location of an error as `train.stages[0].layers`, without pydantic's names of union members."""
    key = ""
    names = list(TaskConfig.model_fields)
    for depth, part in enumerate(error["loc"]):
        last = depth == len(error["loc"]) - 1
        if isinstance(part, int):
            key += f"[{part}]"
        elif part in names or (last and error["type"] == "extra_forbidden"):
            key += f".{part}" if key else part
            names = _names_beside((*error["loc"][: depth + 1], ""))
    return key


def _names_beside(place: Sequence[str | int]) -> list[str]:
    """List the keys of the section that contains the last part of `place`."""
    section: Any = TaskConfig
    for part in place[:-1]:
        if isinstance(part, int):
            continue
        annotation = section.model_fields[part].annotation if part in section.model_fields else None
        inner = [each for each in (annotation, *get_args(annotation)) if isinstance(each, type)]
        section = next((each for each in inner if issubclass(each, BaseModel)), None)
        if section is None:
            return []
    return list(section.model_fields)


def resolved_yaml(config: TaskConfig) -> str:
    """Write `config` as a task file for `--task config.yaml`."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def parameters(config: TaskConfig) -> dict[str, Any]:
    """Flatten `config` to dotted keys, the parameters of a run."""
    return flattened(config.model_dump(mode="json"))


def shareable(value: object) -> str:
    """Format a value of a configuration for a page: six digits of a number, and no path of a file or folder."""
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return "a file" if re.search(r"[/\\]", text) and not text.startswith(("models:/", "runs:/")) else text

"""From a task's name and the command line to a checked `TaskConfig`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from experiments.config.overrides import (
    flattened,
    full_key,
    merged,
    nested,
    parse_arguments,
    parse_option,
    takes_list,
)
from experiments.config.schema import TaskConfig
from mrcnn.errors import InputError
from mrcnn.safe_yaml import read_yaml

TASKS = Path(__file__).parents[1] / "tasks"


@dataclass(frozen=True)
class Resolved:
    """A checked task, the file and the profile that it came from, and the file's section `sweep` as it stands there."""

    config: TaskConfig
    file: Path
    profile: str | None
    sweep: Any = None


def options(section: type[BaseModel] = TaskConfig, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every option with its dotted key, section by section."""
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from options(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def task_names() -> list[str]:
    return sorted(path.stem for path in TASKS.glob("*.yaml"))


def task_file(task: str) -> Path:
    """The file of a task: `thyroid` is one of ours; a path that ends in .yaml, such as a run's config.yaml, is itself.

    Raises:
        InputError: there is none.
    """
    path = Path(task).expanduser() if task.endswith((".yaml", ".yml")) else TASKS / f"{task}.yaml"
    if not path.is_file():
        raise InputError(f"--task {task}: no such task; expected {', '.join(task_names())} or a path to a .yaml file")
    return path


def read_task(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings in a task file, and its profiles.

    Raises:
        InputError: it is not a YAML mapping, or its profiles are not mappings.
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


def resolve(arguments: Sequence[str]) -> Resolved:
    """The task that `--task thyroid --profile first_system --epochs 3` means: file, then profile, then options.

    Raises:
        InputError: one line that names the file or option, the value and what is allowed.
    """
    texts = parse_arguments(arguments)
    path = task_file(texts.pop("task", "thyroid"))
    profile = texts.pop("profile", None)
    content, profiles = read_task(path)
    if profile is not None:
        if profile not in profiles:
            raise InputError(
                f"--profile {profile}: no such profile in {path}; expected {', '.join(profiles) or 'none, it has none'}"
            )
        content = merged(content, profiles[profile])
    sweep = content.pop("sweep", None)
    known = dict(options())
    given = {}
    for key, text in texts.items():
        name = full_key(key, known)
        if name in given:
            raise InputError(f"--{key}: {name} was already given as {given[name]!r}")
        given[name] = parse_option(key, text, known[name].annotation)
    return Resolved(check(merged(content, nested(given)), str(path), given), path, profile, sweep)


def check(content: Mapping[str, Any], file: str, given: Collection[str] = ()) -> TaskConfig:
    """`content` as a `TaskConfig`; keys that the command line gave are named as its options in messages.

    Raises:
        InputError: a key is unknown or a value impossible.
    """
    try:
        return TaskConfig.model_validate(_with_lists(content))
    except ValidationError as error:
        problems: dict[str, list[str]] = {}
        for each in error.errors():
            place, expected = _problem(each)
            # A union reports each of its members; together they are what is allowed.
            problems.setdefault(place, []).append(expected)
    lines = []
    for place, expected in problems.items():
        source = f"--{place}" if re.split(r"[=\[]", place)[0] in given else f"{file}: {place}"
        lines.append(f"{source}: {' or '.join(expected)}")
    raise InputError("; ".join(lines))


def _with_lists(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """`content` where lists that are written as text, such as `class_names: a, b`, are lists."""
    flat = flattened(content)
    texts = {
        key: parse_option(key, flat[key], field.annotation)
        for key, field in options()
        if takes_list(field.annotation) and isinstance(flat.get(key), str)
    }
    return merged(content, nested(texts)) if texts else content


def _problem(error: Mapping[str, Any]) -> tuple[str, str]:
    """One pydantic error as where it is, `key=value`, and what was expected there."""
    key = _key(error)
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error":
        # Our own checks of several fields: they name the fields themselves.
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
    """`train.stages[0].layers`, without the names that pydantic gives to the members of a union."""
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
    """The keys that may stand where the last part of `place` does."""
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
    """The whole of `config` as a task file, which `--task config.yaml` takes."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def parameters(config: TaskConfig) -> dict[str, Any]:
    """The whole of `config` under dotted names, for the run's record."""
    return flattened(config.model_dump(mode="json"))

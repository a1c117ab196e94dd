"""`mrcnn train --help`: every option with its default and meaning, taken from the fields themselves."""

from __future__ import annotations

import math
import textwrap
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from pydantic.fields import FieldInfo

from experiments.config.resolve import Resolved, options, parameters, task_names

WIDTH = 100
INDENT = " " * 6
LIMITS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}

INTRODUCTION = """\
Train, evaluate, track and register a Mask R-CNN.

usage: mrcnn train [--task NAME] [--profile NAME] [--KEY VALUE ...]
       python -m experiments.train ...                  the same
       mlflow run . -P task=NAME -P KEY=VALUE ...       the same, in an environment of its own

KEY is a dotted name below, or its last part where no other option ends in it.
VALUE is YAML: 3, null, [0.9, 0.1, 0]. A list may also be written without brackets: 0.9,0.1,0.
"""


def help_text(resolved: Resolved) -> str:
    """The options, with the values that they have in the task at hand."""
    values = parameters(resolved.config)
    lines = [INTRODUCTION]
    lines += _entry("task", "word", f"{', '.join(task_names())} or a path to a .yaml file", "thyroid")
    lines += _entry("profile", "word", "a set of settings in the task's file", resolved.profile)
    lines += _entry(
        "resume",
        "auto | run",
        "go on with an interrupted training of the same configuration and data, in its run: its id, or auto for the "
        "newest there is, and a new one where there is none",
        None,
    )
    lines += ["", f"Values shown are those of {resolved.file.name}" + _with_profile(resolved)]
    section = ""
    for key, field in options():
        if key == "task":
            continue
        if (start := key.rpartition(".")[0]) != section:
            section = start
            lines += ["", f"{section}:"]
        lines += _entry(key, kind(field), field.description, values.get(key))
    return "\n".join(lines) + "\n"


def kind(field: FieldInfo) -> str:
    """The type of an option and its limits in a reader's words: `number, > 0`."""
    return _kind(field.annotation, field.metadata)


def _kind(annotation: Any, metadata: Any = ()) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(inner[0], inner[1].metadata if isinstance(inner[1], FieldInfo) else inner[1:])
    if origin is Literal:
        return " | ".join(inner)
    if origin is tuple:
        return "list"
    if inner:
        return " | ".join(dict.fromkeys(_kind(each, metadata if each is not NoneType else ()) for each in inner))
    word = {int: "integer", float: "number", str: "text", bool: "true | false", NoneType: "null"}[annotation]
    limits = [f"{sign} {getattr(limit, name)}" for limit in metadata for name, sign in LIMITS.items()
              if getattr(limit, name, None) is not None]  # fmt: skip
    return " ".join([word, " and ".join(limits)]).strip() if annotation in (int, float) else word


def _entry(key: str, kind: str, description: str | None, value: Any) -> list[str]:
    shown = (
        yaml.safe_dump(value, default_flow_style=True, width=math.inf, sort_keys=False).removesuffix("...\n").strip()
    )
    head = f"  --{key} {shown}"
    text = textwrap.wrap(f"{description or ''} [{kind}]".strip(), WIDTH - len(INDENT))
    return [head, *(INDENT + line for line in text)]


def _with_profile(resolved: Resolved) -> str:
    return f" with profile {resolved.profile}." if resolved.profile else "."

"""Command-line options from the fields of pydantic models: name, type, limits, default and description."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

import click
import yaml
from click.shell_completion import CompletionItem
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from experiments.config.command_line import ALL, VALUES, Option, PathText
from experiments.config.schema import TaskConfig

LIMITS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
OF_TRAINING = (
    "dataset", "empty_share", "tile", "split", "splits", "folds", "split_seed", "phantoms", "phantom_images",
    "phantom_seed",
)  # fmt: skip
"""Options of the section `data` that concern a training only."""
PATHS = ("data.dataset", "data.splits", "train.weights")
SYNONYMS = {
    "data.dataset": "data",
    "train.learning_rate": "lr",
    "train.batch_size": "batch",
    "model.image_size": "imgsz",
}
"""Names of options in other programs, which are understood, too."""


def options(
    section: type[BaseModel] = TaskConfig, prefix: str = "", *, without: Collection[str] = ()
) -> Iterator[tuple[str, FieldInfo]]:
    """Yield every field of `section` with its dotted key, section by section, except the keys in `without`."""
    for name, field in section.model_fields.items():
        key = f"{prefix}{name}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from options(field.annotation, f"{key}.", without=without)
        elif key not in without:
            yield key, field


def kind(annotation: Any, metadata: Any = ()) -> str:
    """Describe a type and its limits: `number > 0`."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return kind(inner[0], inner[1].metadata if isinstance(inner[1], FieldInfo) else inner[1:])
    if origin is Literal:
        return " | ".join(inner)
    if origin in (tuple, dict):
        return "list" if origin is tuple else "mapping"
    if inner:
        return " | ".join(dict.fromkeys(kind(each, metadata if each is not NoneType else ()) for each in inner))
    word = {int: "integer", float: "number", str: "text", bool: "true | false", NoneType: "null"}[annotation]
    limits = [f"{sign} {getattr(limit, name)}" for limit in metadata for name, sign in LIMITS.items()
              if getattr(limit, name, None) is not None]  # fmt: skip
    return " ".join([word, " and ".join(limits)]).strip() if annotation in (int, float) else word


class SchemaOption(Option):
    """An option for one field. Its value is text; pydantic validates it together with the task file.

    Args:
        names: spellings without dashes; the first is the key of the field, the last the shortest.
        synonym: a further spelling, which the help does not show.
    """

    def __init__(self, names: list[str], field: FieldInfo, *, synonym: str | None = None, **settings: Any) -> None:
        key = names[0]
        if field.annotation is bool:
            settings |= {"is_flag": False, "flag_value": "true"}
        super().__init__(
            [*(f"--{name}" for name in [*names, *([synonym] if synonym else [])]), key.replace(".", "_")],
            type=PathText() if key in PATHS else str,
            **settings,
        )
        self.name = key
        self.shown = f"--{names[-1]}"
        self.field = field
        self.kind = kind(field.annotation, field.metadata)

    def get_help_record(self, ctx: click.Context) -> tuple[str, str]:
        value = ctx.meta.get(VALUES, {}).get(self.name, self.field.default)
        value = list(value) if isinstance(value, tuple) else value
        text = yaml.safe_dump(value, default_flow_style=True, width=math.inf, sort_keys=False).removesuffix("...\n")
        return (
            f"{self.opts[0] if ctx.meta.get(ALL) else self.shown} {text.strip()}",
            f"{self.field.description} [{self.kind}]",
        )

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        words = [word for word in self.kind.split(" | ") if word.isidentifier()]
        choices = [word for word in words if word not in ("integer", "number", "text", "list")]
        found = [CompletionItem(choice) for choice in choices if choice.startswith(incomplete)]
        return found or super().shell_complete(ctx, incomplete)


def config_options(*, listed: Collection[str] = (), taken: Collection[str] = ()) -> list[Option]:
    """Return an option for each field of a task's configuration, with every unambiguous end of its dotted key.

    Args:
        listed: keys of the options that `--help` shows; `--help all` shows all.
        taken: names that the command uses itself.
    """
    fields = {key: field for key, field in options() if key != "task"}
    ends = {key: [key.split(".", at)[-1] for at in range(key.count(".") + 1)] for key in fields}
    counts = [name for names in ends.values() for name in names]
    made: list[Option] = []
    for key, field in fields.items():
        names = [name for name in ends[key] if counts.count(name) == 1 and name not in taken]
        synonym = SYNONYMS.get(key)
        group = key.rpartition(".")[0] or "task"
        made.append(
            SchemaOption(names, field, synonym=None if synonym in taken else synonym, group=group, listed=key in listed)
        )
    return made


def dataset_options() -> list[Option]:
    """Return the options of the section `data` that say how a data set is read; `--help` shows the common ones."""
    listed = ("data.reader", "data.on_error", "data.patient_pattern", "data.spacing_mm")
    fields = [each for each in config_options(listed=listed) if (each.name or "").startswith("data.")]
    return [each for each in fields if (each.name or "").split(".")[1] not in OF_TRAINING]

"""The command `mrcnn sweep --task thyroid --trials 20`: checks first, then the sweep."""

from __future__ import annotations

import hashlib
import json
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import replace

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from experiments.commands.arguments import with_absolute_weights
from experiments.commands.exit_status import FAILED, SERVER_AWAY, TERMINATED, exit_status, quiet_libraries, silent_start
from experiments.commands.train import HELP, with_absolute_dataset
from experiments.config.help import WIDTH, kind
from experiments.config.overrides import parse_arguments, parse_option
from experiments.config.resolve import Resolved, resolve
from experiments.preparation.datasets import standing_folder
from mrcnn.errors import InputError
from sweeps.options import SweepArgs, SweepOptions, check_options
from sweeps.space import check_space, task_of
from trackers.runs.local_store import require_writable_store

USAGE = """\
Search a task's settings: train with many, stop what promises little, judge and register the best.

usage: mrcnn sweep [--task NAME] [--KEY VALUE ...]
       mlflow run . -e sweep -P task=NAME -P KEY=VALUE ...    the same, in an environment of its own

The section `sweep` of the task's file holds the search space; docs/sweeps.md explains it.
The same command again goes on with a sweep that was cut short.
KEY is one of those below, or an option of `mrcnn train`, which then holds for every trial.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status. What nobody foresaw is raised, for its traceback."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if any(word in HELP for word in arguments):
        print(help_text(), end="")
        return 0
    return exit_status(lambda: _run(parse_command(arguments)), stopped="stopped; the same command goes on from here")


def sweep_options(section: type[BaseModel] = SweepOptions, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every option of the section that the command line takes."""
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from sweep_options(field.annotation, f"{prefix}{name}.")
        elif name != "space":
            yield f"{prefix}{name}", field


def read(arguments: Sequence[str]) -> tuple[Resolved, SweepOptions]:
    """The task and how it is searched.

    Raises:
        InputError: one line that names the file or option, the value and what is allowed.
    """
    texts = parse_arguments(arguments)
    own = dict(sweep_options())
    given = {name: parse_option(name, texts.pop(name), own[name].annotation) for name in own if name in texts}
    resolved = resolve([f"--{name}={text}" for name, text in texts.items()])
    if resolved.config.data.folds:
        raise InputError(
            f"data.folds={resolved.config.data.folds}: expected null in a sweep, whose trials are all validated on one "
            "split; cross-validate what it finds"
        )
    if resolved.config.train.seeds:
        raise InputError(f"train.seeds={resolved.config.train.seeds}: expected null in a sweep; train its winner so")
    if resolved.config.train.devices != 1:
        raise InputError(f"train.devices={resolved.config.train.devices}: expected 1 in a sweep; it has workers")
    options = check_options(resolved.sweep, str(resolved.file), given)
    config = task_of(options.objectives or (resolved.config.evaluate.metric,), resolved.config)
    space = check_space(options.space, config, str(resolved.file))
    return replace(resolved, config=config), options.model_copy(update={"space": space})


def parse_command(arguments: Sequence[str]) -> SweepArgs:
    """The command line, checked before anything heavy is loaded; `sweeps.sweep.sweep` takes it.

    Raises:
        InputError: as `read`, or a dataset or weights that are not there.
    """
    resolved, options = read(arguments)
    resolved = with_absolute_weights(with_absolute_dataset(resolved))
    objectives = options.objectives or (resolved.config.evaluate.metric,)
    storage = options.storage or f"sqlite:///{standing_folder() / 'sweeps.db'}"
    return SweepArgs(resolved, options, objectives, storage, options.study or study_name(resolved, options, objectives))


def _run(chosen: SweepArgs) -> int:
    require_writable_store()
    quiet_libraries()
    # Imported here, so that a typing error is told before TensorFlow and MLflow have loaded.
    with silent_start():
        from sweeps.sweep import NothingFinished, sweep
        from trackers.offline.server import ServerAway, check_reachable
        from trackers.runs.signals import Terminated
    try:
        check_reachable()
        sweep(chosen)
    except NothingFinished as error:
        print(f"mrcnn: {error}", file=sys.stderr)
        return FAILED
    except ServerAway as error:
        print(f"mrcnn: {error}", file=sys.stderr)
        return SERVER_AWAY
    except Terminated:
        print("mrcnn: terminated; the same command goes on from here", file=sys.stderr)
        return TERMINATED
    return 0


def study_name(resolved: Resolved, options: SweepOptions, objectives: Sequence[str]) -> str:
    """The task and a digest of all that decides a trial, so that the same command finds its study again."""
    decides = options.model_dump(mode="json", include={"sampler", "pruner", "thresholds", "space"})
    decides |= {"config": resolved.config.model_dump(mode="json"), "objectives": list(objectives)}
    digest = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()
    return f"{resolved.config.task}-{digest[:8]}"


def help_text() -> str:
    lines = [USAGE]
    for name, field in sweep_options():
        default = json.dumps(field.default) if not isinstance(field.default, tuple) else "[]"
        lines.append(f"  --{name} {default}")
        lines += _wrapped(f"{field.description} [{kind(field)}]")
    return "\n".join(lines) + "\n"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)


if __name__ == "__main__":
    sys.exit(main())

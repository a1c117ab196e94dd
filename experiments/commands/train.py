"""The command `python -m experiments.train --task thyroid`, which is also `mrcnn train`: checks first, then the job."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from experiments.commands.arguments import with_absolute_weights
from experiments.commands.exit_status import FAILED, SERVER_AWAY, TERMINATED, exit_status, quiet_libraries, silent_start
from experiments.config.help import help_text
from experiments.config.overrides import parse_arguments
from experiments.config.resolve import Resolved, resolve
from experiments.preparation.datasets import dataset_path
from mrcnn.errors import InputError
from trackers.runs.local_store import require_writable_store

HELP = ("--help", "-h")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status. What nobody foresaw is raised, for its traceback."""
    arguments = sys.argv[1:] if arguments is None else arguments
    return exit_status(lambda: _train(arguments))


def _train(arguments: Sequence[str]) -> int:
    resolved, resume = parse([word for word in arguments if word not in HELP])
    if any(word in HELP for word in arguments):
        print(help_text(resolved), end="")
        return 0
    resolved = with_absolute_weights(with_absolute_dataset(resolved))
    return run_job(lambda: _job(resolved, resume))


def parse(arguments: Sequence[str]) -> tuple[Resolved, str | None]:
    """The task, and the interrupted run to go on with: its id, `auto`, or None.

    Raises:
        InputError: one line that names the option, the value and what is allowed.
    """
    texts = parse_arguments(arguments)
    resume = texts.pop("resume", None)
    resolved = resolve([f"--{name}={text}" for name, text in texts.items()])
    if resume is not None and resume != "auto" and not re.fullmatch("[0-9a-f]{32}", resume):
        raise InputError(f"--resume {resume}: expected auto or the id of an interrupted run")
    if resume is not None and resolved.config.data.folds:
        raise InputError(f"--resume {resume}: expected data.folds=null; a cross-validation begins anew")
    if resume is not None and resolved.config.train.seeds:
        raise InputError(f"--resume {resume}: expected train.seeds=null; several seeds begin anew")
    return resolved, resume


def _job(resolved: Resolved, resume: str | None) -> Callable[[], object]:
    from experiments.training.cross_validation import cross_validate
    from experiments.training.seeds import train_seeds
    from experiments.training.trainer import train
    from mrcnn.models.training.data_parallel import select_devices

    options = resolved.config.train
    if resolved.config.data.folds:
        work = partial(cross_validate, resolved)
    else:
        work = partial(train_seeds, resolved) if options.seeds else partial(train, resolved, resume)

    def job() -> None:
        select_devices(options.devices, options.batch_size)  # refused before the data are read
        work()

    return job


def run_job(load: Callable[[], Callable[[], object]]) -> int:
    """Import a job by `load`, and do it; returns the exit status."""
    require_writable_store()
    quiet_libraries()
    # Imported here, so that a typing error is told before TensorFlow and MLflow have loaded.
    with silent_start():
        from experiments.training.callbacks import Diverged
        from trackers.checkpoints.checkpoint_store import CheckpointNotSaved
        from trackers.offline.server import ServerAway, check_reachable
        from trackers.runs.signals import Terminated

        job = load()

    try:
        check_reachable()
        job()
    except (Diverged, CheckpointNotSaved) as error:
        print(f"mrcnn: {error}", file=sys.stderr)
        return FAILED
    except ServerAway as error:
        print(f"mrcnn: {error}", file=sys.stderr)
        return SERVER_AWAY
    except Terminated:
        print("mrcnn: terminated", file=sys.stderr)
        return TERMINATED
    return 0


def with_absolute_dataset(resolved: Resolved) -> Resolved:
    """The dataset as an absolute path, so that the record of the run can be used from anywhere.

    Raises:
        InputError: it does not exist.
    """
    data = resolved.config.data
    if data.dataset is None:
        return resolved
    found = data.model_copy(update={"dataset": str(dataset_path(data.dataset))})
    return replace(resolved, config=resolved.config.model_copy(update={"data": found}))


if __name__ == "__main__":
    sys.exit(main())

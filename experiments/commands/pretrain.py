"""The command `mrcnn pretrain`, also `python -m experiments.commands.pretrain`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import click

from experiments.commands.command import Command
from experiments.commands.train import AGAIN, COMMON, check_resume, run_training
from experiments.commands.train import command as train_command
from experiments.config.config_options import config_options
from experiments.config.resolve import PHANTOM_TASK, Resolved, parameters, resolve_options, task_options
from mrcnn.errors import InputError

TIMES_PHANTOMS = 4
"""Number of phantoms in times of the task's, which are enough for a first run."""
SETTINGS = {
    "data.split": "0.9,0.1,0",
    "augment.brightness": "0.2",
    "augment.contrast": "0.5",
    "augment.gamma": "0.5",
    "augment.blur_sigma": "2",
    "augment.noise": "0.08",
    "evaluate.tta": "false",
}
"""Options unless given: no test split, and gray levels that vary more than those of scanners, so that the network does
not learn those of the phantoms."""
NULL = {
    "data.dataset": "it makes phantoms; `mrcnn train` registers a model of annotated images, which --weights takes too",
    "data.folds": "it trains one network",
    "train.seeds": "it trains one network",
}


def _job(resolved: Resolved, resume: str | None) -> Callable[[], str]:
    from experiments.training.pretraining import Pretrainer
    from experiments.training.trainer import train

    return partial(train, resolved, resume, Pretrainer)


def _resolve(texts: Mapping[str, str | None]) -> Resolved:
    given = {key: text for key, text in texts.items() if text is not None}
    resolved = resolve_options({"task": PHANTOM_TASK, **SETTINGS, **given}, phantoms=None)
    config = resolved.config
    values = parameters(config)
    for key, reason in NULL.items():
        if values[key] is not None:
            raise InputError(f"{key}={values[key]}: expected null in a pretraining; {reason}")
    if "data.phantom_images" in given:
        return resolved
    images = TIMES_PHANTOMS * config.data.phantom_images
    data = config.data.model_copy(update={"phantom_images": images})
    return replace(resolved, config=config.model_copy(update={"data": data}))


def _help_values(texts: Mapping[str, Any]) -> dict[str, Any]:
    return parameters(_resolve(texts).config)


@click.command(
    "pretrain",
    cls=Command,
    work=partial(run_training, _job),
    stopped=f"stopped; {AGAIN}",
    help_values=_help_values,
    params=[
        *task_options(PHANTOM_TASK, phantoms=None),
        *config_options(listed=["data.phantom_images", *(key for key in COMMON if not key.startswith("data."))]),
        *(each for each in train_command.params if each.name in ("resume", "name")),
    ],
)
def command(resume: str | None, name: str | None, **texts: str | None) -> tuple[Resolved, str | None]:
    """Train on phantoms, and register the network as initial weights of trainings on real images.

    \b
    mrcnn pretrain --task thyroid --budget 2h
    mrcnn train --dataset my-images --weights models:/pretrained-ultrasound/latest

    The phantoms are those of the task, four times as many as in a first training unless --phantom_images says how many,
    with stronger augmentation. No test is made, and nothing becomes a champion: the network is not for predictions.
    All options of `mrcnn train --help all` except for a dataset, folds and seeds are valid. Research use only.
    """  # noqa: D301 - the character by which click keeps line breaks
    return replace(_resolve(texts), name=name), check_resume(resume)


main = command.run

if __name__ == "__main__":
    sys.exit(main())

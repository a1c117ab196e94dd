"""The command `mrcnn baselines`, also `python -m experiments.baselines`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import click

from experiments.commands.arguments import check_model_address, with_absolute_paths
from experiments.commands.command import Command, run_job
from experiments.config.command_line import option, word_list
from experiments.config.config_options import config_options
from experiments.config.resolve import Resolved, resolve_options, task_options
from mrcnn.errors import InputError

MODELS = ("resunet", "classifier", "cascade")


@dataclass(frozen=True)
class BaselinesArgs:
    """Validated arguments: the task, the models to train, and a Mask R-CNN to compare with or None."""

    resolved: Resolved
    models: tuple[str, ...]
    mask_rcnn: str | None


def _job(arguments: BaselinesArgs) -> Callable[[], None]:
    from experiments.baselines.trainer import train_baselines

    return partial(train_baselines, arguments.resolved, arguments.models, arguments.mask_rcnn)


@click.command(
    "baselines",
    cls=Command,
    work=lambda arguments: run_job(lambda: _job(arguments)),
    params=[*task_options(), *config_options()],
)
@option(
    "--models",
    several=True,
    callback=word_list,
    metavar="NAME,...",
    help=f"some of {', '.join(MODELS)}; default all. The cascade is the classifier, which selects images, and a "
    "segmenter: the ResUNet, and the Mask R-CNN if there is one",
)
@option(
    "--mask-rcnn",
    metavar="MODEL",
    help="a trained Mask R-CNN to compare with: last, the newest finished run of the task; a run's id, runs:/<id>, "
    "models:/mrcnn-mri@champion, or a .keras file. Its training split must be the same",
)
def command(models: tuple[str, ...] | None, mask_rcnn: str | None, **texts: str | None) -> BaselinesArgs:
    """Train the two baselines of a task with the split, seed and augmentation of its Mask R-CNN, and compare.

    Also: python -m experiments.baselines ..., and mlflow run . -e baselines -P task=NAME -P models=NAME,NAME ...

    All options of `mrcnn train --help all` are valid; those of the section `baseline` configure these models. Each
    model is a run below the run of the comparison, and is registered as unet-<modality> and classifier-<modality>.
    docs/how-to/baselines.md explains the metrics. Research use only.
    """
    models = MODELS if models is None else tuple(dict.fromkeys(models))
    if not models or not set(models) <= set(MODELS):
        raise InputError(f"--models {','.join(models)}: expected some of {', '.join(MODELS)}")
    if mask_rcnn is not None:
        mask_rcnn = check_model_address(mask_rcnn, f"--mask-rcnn {mask_rcnn}")
    if "cascade" in models and ("classifier" not in models or ("resunet" not in models and mask_rcnn is None)):
        raise InputError(
            f"--models {' '.join(models)}: the cascade needs the classifier, and resunet or a --mask-rcnn, beside it"
        )
    return BaselinesArgs(with_absolute_paths(resolve_options(texts)), models, mask_rcnn)


main = command.run

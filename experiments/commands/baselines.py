"""The command `mrcnn baselines`: checks first, then the job."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from experiments.commands.arguments import check_model_address
from experiments.commands.exit_status import exit_status
from experiments.commands.train import HELP, run_job, with_absolute_dataset
from experiments.config.overrides import parse_words
from experiments.config.resolve import Resolved, resolve
from mrcnn.errors import InputError

MODELS = ("resunet", "classifier", "cascade")
HELP_TEXT = """\
Train the two baselines of a task on the split, seed and augmentation of its Mask R-CNN, and compare.

usage: mrcnn baselines [--task NAME] [--models NAME ...] [--mask-rcnn MODEL] [--KEY VALUE ...]
       python -m experiments.baselines ...                            the same
       mlflow run . -e baselines -P task=NAME -P models=NAME,NAME ... the same, in an environment of its own

  --models     of resunet, classifier and cascade; all three unless told otherwise. The cascade is the classifier, which
               decides which images a segmenter sees: the ResUNet, and the Mask R-CNN where one is given
  --mask-rcnn  a trained Mask R-CNN to compare with: last, the newest finished run of the task; a run's id, runs:/<id>,
               models:/mrcnn-mri@champion, or a .keras file. It must have been trained on the same training split
  --KEY        any option of `mrcnn train --help`; those of the section `baseline` are for these models

Each model is a run of its own below one that holds the comparison, and is registered as unet-<modality> and
classifier-<modality>. docs/baselines.md tells what is measured. Research use only.
"""


@dataclass(frozen=True)
class BaselinesArgs:
    """The command line: a checked task, the models to train, and a Mask R-CNN or None."""

    resolved: Resolved
    models: tuple[str, ...]
    mask_rcnn: str | None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status. What nobody foresaw is raised, for its traceback."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if any(word in HELP for word in arguments):
        print(HELP_TEXT, end="")
        return 0
    return exit_status(lambda: _baselines(arguments))


def _baselines(arguments: Sequence[str]) -> int:
    wanted = parse(arguments)
    return run_job(lambda: _job(wanted))


def _job(wanted: BaselinesArgs):
    from experiments.baselines.trainer import train_baselines

    return partial(train_baselines, wanted.resolved, wanted.models, wanted.mask_rcnn)


def parse(arguments: Sequence[str]) -> BaselinesArgs:
    """The command line, checked before anything heavy is loaded.

    Raises:
        InputError: one line that names the option, the value and what is allowed.
    """
    words = list(arguments)
    given = _take(words, ("--mask-rcnn", "--mask_rcnn"))
    named = _take(words, ("--models",))
    if given is not None and (len(given) != 1 or not given[0]):
        raise InputError(f"--mask-rcnn {' '.join(given)}: expected one run, models:/… or .keras file")
    models = MODELS if named is None else tuple(dict.fromkeys(parse_words("models", _one_text(named))))
    for each in models:
        if each not in MODELS:
            raise InputError(f"--models {each or 'without a name'}: expected some of {', '.join(MODELS)}")
    mask_rcnn = None if given is None else check_model_address(given[0], f"--mask-rcnn {given[0]}")
    if not models:
        raise InputError(f"--models: expected some of {', '.join(MODELS)}")
    if "cascade" in models and ("classifier" not in models or ("resunet" not in models and mask_rcnn is None)):
        raise InputError(
            f"--models {' '.join(models)}: the cascade takes the classifier, and resunet or a --mask-rcnn, beside it"
        )
    return BaselinesArgs(with_absolute_dataset(resolve(words)), models, mask_rcnn)


def _one_text(words: list[str]) -> str:
    """Words as a list with commas; a list in brackets may have been split by the shell."""
    return " ".join(words) if words[:1] and words[0].startswith("[") else ",".join(words)


def _take(words: list[str], options: tuple[str, ...]) -> list[str] | None:
    """What follows the option up to the next, taken out of `words`; None where it is not there.

    Raises:
        InputError: it is there twice.
    """
    places = [index for index, word in enumerate(words) if word.partition("=")[0] in options]
    if not places:
        return None
    if len(places) > 1:
        raise InputError(f"{options[0]}: expected once")
    start = places[0]
    end = next((index for index in range(start + 1, len(words)) if words[index].startswith("--")), len(words))
    _, equals, value = words[start].partition("=")
    found = ([value] if equals else []) + words[start + 1 : end]
    del words[start:end]
    return found

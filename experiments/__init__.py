"""Train, evaluate, predict and compare; `evaluate` is the function behind `mrcnn evaluate`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiments.external.evaluation import Evaluation


def evaluate(
    model: str | os.PathLike,
    data: str | os.PathLike,
    *,
    mapping: Mapping[str, str | Sequence[str]] | None = None,
    class_agnostic: bool = False,
    subgroups: Sequence[str] = (),
    recalibrate: float | None = None,
    task: str = "thyroid",
    output: str | os.PathLike | None = None,
    **options: Any,
) -> Evaluation:
    """Evaluate a trained model on a data set that it was not trained on; see docs/how-to/evaluate.md.

    Args:
        model: models:/<name>@<alias>, models:/<name>/<version>, a run, `last`, or a .keras file.
        data: folder of images with their annotations, or the annotation file.
        mapping: class of the data → class of the model, or several.
        class_agnostic: count all instances and all detections as of one class.
        subgroups: columns of a CSV file beside the data, or fields of the images in a COCO file.
        recalibrate: share of the patients that choose the threshold anew; the model with it becomes a new version.
        task: task of the model `last`.
        output: folder of the report; None for evaluate-<name of the data set>.
        options: fields of the section `data` of a task file, such as `reader="masks"`.

    Raises:
        InputError: model, data or an option is invalid.

    Example:
        >>> import experiments
        >>> found = experiments.evaluate("models:/mrcnn-ultrasound@champion", "clinic-b")  # doctest: +SKIP
        >>> found.scores["dice"], found.intervals["dice_lo"]  # doctest: +SKIP
        (0.71, 0.64)
    """
    from experiments.commands.arguments import EvaluateArgs, check_model_address
    from experiments.config.resolve import data_options
    from experiments.external.evaluation import evaluate_external

    pairs = [
        (one, other)
        for one, others in (mapping or {}).items()
        for other in ([others] if isinstance(others, str) else others)
    ]
    args = EvaluateArgs(
        check_model_address(str(model)),
        data_options({}, dataset=str(data), **options),
        tuple(pairs),
        class_agnostic,
        tuple(subgroups),
        task,
        None if output is None else Path(output),
        recalibrate,
    )
    return evaluate_external(args)

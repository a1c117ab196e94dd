"""Evaluate a model on a dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from mrcnn.data import Dataset, Sample
from mrcnn.detections import Detections
from mrcnn.metrics import Evaluator

if TYPE_CHECKING:
    from mrcnn.inference.ensemble import Predictor

OnImage = Callable[[Sample, Detections], None]


def predictions(model: Predictor, dataset: Dataset, *, batch_size: int) -> Iterator[tuple[Sample, Detections]]:
    """Yield each image with its detections; one batch is in memory at a time."""
    for start in range(0, len(dataset), batch_size):
        samples = [dataset[index] for index in range(start, min(start + batch_size, len(dataset)))]
        found = model.detect([sample.image for sample in samples], batch_size=batch_size)
        yield from zip(samples, found, strict=True)


def evaluate(
    model: Predictor,
    dataset: Dataset,
    *,
    batch_size: int,
    volumes: bool = False,
    on_image: OnImage | None = None,
) -> Evaluator:
    """Return an evaluator with all images of `dataset`; `on_image` is called with each image and its detections."""
    evaluator = Evaluator(dataset.class_names, volumes=volumes)
    for sample, detections in predictions(model, dataset, batch_size=batch_size):
        evaluator.add(sample, detections)
        if on_image is not None:
            on_image(sample, detections)
    return evaluator

"""Evaluate a model on a dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from mrcnn.data import Dataset, Sample
from mrcnn.detections import Detections
from mrcnn.metrics import Evaluator

if TYPE_CHECKING:
    from mrcnn.inference.ensemble import Detector

OnImage = Callable[[Sample, Detections], None]


Change = Callable[[Sample], Sample]


def predictions(
    model: Detector, dataset: Dataset, *, batch_size: int, change: Change | None = None
) -> Iterator[tuple[Sample, Detections]]:
    """Yield each image, changed by `change`, with its detections; one batch is in memory at a time.

    The model sees the neighboring slices that it was trained with; the yielded samples are without them.
    """
    context = model.config.context_slices
    for start in range(0, len(dataset), batch_size):
        samples = [dataset.sample(index, context) for index in range(start, min(start + batch_size, len(dataset)))]
        if change is not None:
            samples = [change(sample) for sample in samples]
        found = model.detect([sample.image for sample in samples], batch_size=batch_size)
        yield from zip([sample.present() for sample in samples], found, strict=True)


def evaluate(
    model: Detector,
    dataset: Dataset,
    *,
    batch_size: int,
    volumes: bool = False,
    on_image: OnImage | None = None,
    change: Change | None = None,
) -> Evaluator:
    """Return an evaluator with all images of `dataset`.

    Each image and its instances are changed by `change` before the detection, and passed to `on_image` with its
    detections. With `volumes`, whose slices follow each other, whole volumes are scored too.
    """
    evaluator = Evaluator(dataset.class_names, volumes=volumes)
    for sample, detections in predictions(model, dataset, batch_size=batch_size, change=change):
        evaluator.add(sample, detections)
        if on_image is not None:
            on_image(sample, detections)
    return evaluator

"""Measure how long a training step waits for its batch, with the settings and phantoms of the thyroid task.

usage: python -m benchmarks.data_wait [key=value ...]     (as for `mrcnn train`; train.workers=0 is a thread)

Prints the time of a step on one existing batch, the time of a step while the batches of an epoch are loaded, and the
fraction of the epoch spent waiting for them. The batches come from `training_batches`, as in `fit`.
"""

from __future__ import annotations

import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from experiments.config.resolve import resolve
from experiments.preparation.datasets import open_dataset
from experiments.training.planner import make_plan
from mrcnn.data import Loader, split_by_patient
from mrcnn.models import MaskRCNN
from mrcnn.models.training.batches import training_batches
from mrcnn.models.training.optimizers import make_optimizer

EPOCHS = 3


def main() -> None:
    config = resolve(
        ["--task", "thyroid", *(word for pair in sys.argv[1:] for word in ("--" + pair).split("=", 1))]
    ).config
    whole = open_dataset(config.data)
    training = whole.subset(split_by_patient(whole, seed=config.seed)["train"])
    plan = make_plan(config, training)
    config = plan.config
    loader = Loader(
        training,
        plan.model,
        config.train.batch_size,
        augmentation=config.augment,
        shuffle=True,
        seed=config.seed,
        workers=config.train.workers,
    )
    model = MaskRCNN(plan.model, seed=config.seed, dtype=config.train.precision)
    model.compile(optimizer=make_optimizer(config.train.optimizer, config.train.learning_rate))

    batch = next(loader.epoch(0))
    model.train_on_batch(batch)
    alone = []
    for _ in range(20):
        begun = time.perf_counter()
        model.train_on_batch(batch)
        alone.append(time.perf_counter() - begun)
    train = config.train
    print(f"{len(training)} images, batch {train.batch_size}, workers {train.workers}, {train.precision}")
    print(f"step alone            {np.median(alone) * 1e3:7.1f} ms (median of {len(alone)})")
    with training_batches(loader, first_epoch=1) as made:
        batches = iter(made)
        for epoch in range(1, EPOCHS + 1):
            waited, begun = 0.0, time.perf_counter()
            for _ in range(len(loader)):
                asked = time.perf_counter()
                (batch,) = next(batches)
                waited += time.perf_counter() - asked
                model.train_on_batch(batch)
            total = time.perf_counter() - begun
            print(
                f"epoch {epoch}: step with data {(total - waited) / len(loader) * 1e3:7.1f} ms, "
                f"waited {waited:.2f} s of {total:.2f} s, {waited / total:.1%}"
            )


if __name__ == "__main__":
    main()

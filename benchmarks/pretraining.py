"""Measure what pretraining on phantoms gains over no and ImageNet weights, by the number of training images.

    python -m benchmarks.pretraining DATASET FOLDER [--images 20 70] [--seeds 1] [options of `mrcnn train`]

Pretrains as `mrcnn pretrain --task thyroid` does, from no weights (backbone `small`) and from those of ImageNet, into
FOLDER, and trains from each of the four starts on images of so many training patients, drawn by the seed; the
validation split stays. Each result is printed when it comes, as a row of a Markdown table: mask AP50, mask AP and Dice
on the validation split after the last step, Dice at the best threshold there. Networks in FOLDER are reused.

With `--image_size 160,256` on two free cores about an hour for DDTI (20, 70 and all 284 images).
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.speed_setup import describe_machine

BATCH = 4
STARTS = ("none", "imagenet", "pretrained from none", "pretrained from imagenet")
WARM_UP = 50


def train(config: object, training: object, weights: str, steps: int, seed: int) -> tuple[object, object]:
    """Train a planned model on a dataset for a number of steps; return it and its configuration."""
    from experiments.training.planner import make_plan
    from mrcnn.data import Loader
    from mrcnn.models import MaskRCNN
    from mrcnn.models.pretrained.initial_weights import load_weights
    from mrcnn.models.training.batches import training_batches
    from mrcnn.models.training.optimizers import WarmUp, make_optimizer

    options = config.train.model_copy(update={"weights": weights, "batch_size": BATCH})
    plan = make_plan(config.model_copy(update={"train": options, "seed": seed}), training)
    options = plan.config.train
    model = MaskRCNN(plan.model, seed=seed, dtype=options.precision)
    print(load_weights(model, plan.weights).text(), file=sys.stderr, flush=True)
    schedule = WarmUp(options.learning_rate, steps, WARM_UP, options.schedule)
    model.compile(optimizer=make_optimizer(options.optimizer, schedule, weight_decay=options.weight_decay))
    loader = Loader(training, plan.model, BATCH, augmentation=plan.config.augment, shuffle=True, seed=seed, workers=1)
    with training_batches(loader) as batches:
        model.fit(batches, steps_per_epoch=steps, shuffle=False, verbose=0)
    return model, plan.config


def scores(model: object, validation: object) -> dict[str, float]:
    """Evaluate a model on the validation split, at its best threshold there."""
    from experiments.evaluation.evaluate import evaluate

    evaluator = evaluate(model, validation, batch_size=BATCH)
    return evaluator.summary(evaluator.best_confidence())


def pretrained(start: str, folder: Path, words: list[str], phantoms: int, steps: int) -> str:
    """Return the file of the network that phantoms trained from `start`, after the training where there is none."""
    from experiments.commands.pretrain import command
    from experiments.preparation.datasets import open_dataset
    from mrcnn.data import split_by_patient

    file = folder / start / "pretrained.keras"
    if not file.is_file():
        config = command.parse(["--phantom_images", str(phantoms), *words])[0].config
        whole = open_dataset(config.data)
        splits = split_by_patient(whole, train=0.9, val=0.1, test=0)
        began = time.monotonic()
        model, _ = train(config, whole.subset(splits["train"]), start, steps, 0)
        found = scores(model, whole.subset(splits["val"]))
        seconds = time.monotonic() - began
        line = f"Pretrained from {start} in {seconds:.0f} s: mask AP {found['mask_ap']:.3f} on validation phantoms"
        print(line, file=sys.stderr, flush=True)
        file.parent.mkdir(parents=True, exist_ok=True)
        model.compile()
        model.save(file)
    return str(file)


def drawn(records: list, training: np.ndarray, images: int, seed: int) -> list[int]:
    """Draw images of whole patients, the last patient's cut; fewer images are a part of more."""
    patients = sorted({records[index].patient_id for index in training})
    place = {patient: at for at, patient in enumerate(np.random.default_rng(seed).permutation(patients).tolist())}
    return sorted(training.tolist(), key=lambda index: (place[records[index].patient_id], index))[:images]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, nargs="+", default=[20, 70, 284], help="training images")
    parser.add_argument("--starts", nargs="+", choices=STARTS, default=STARTS)
    parser.add_argument("--seeds", type=int, default=1, help="draws of the images and initial weights, default 1")
    parser.add_argument("--steps", type=int, default=500, help="of each training, default 500")
    parser.add_argument("--phantoms", type=int, default=960, help="default 960")
    parser.add_argument("--pretraining_steps", type=int, default=2000, help="default 2000")
    arguments, words = parser.parse_known_args()

    from experiments.config.resolve import resolve
    from experiments.preparation.datasets import open_dataset
    from mrcnn.data import split_by_patient
    from mrcnn.data.duplicates import find_duplicates

    config = resolve(["--task", "thyroid", "--dataset", arguments.dataset, *words]).config
    whole = open_dataset(config.data).without_invalid()
    splits = split_by_patient(whole, groups=find_duplicates(whole))
    validation = whole.subset(splits["val"])
    print(*describe_machine(), f"{len(splits['train'])} training and {len(validation)} validation images", sep="\n")
    print("| start | backbone | images | seed | mask AP50 | mask AP | Dice | s |\n|---|---|---|---|---|---|---|---|")
    for images in arguments.images:
        for seed in range(arguments.seeds):
            training = whole.subset(drawn(whole.records, splits["train"], images, seed))
            for start in arguments.starts:
                *before, weights = start.split()
                if before:
                    weights = pretrained(
                        weights, arguments.folder, words, arguments.phantoms, arguments.pretraining_steps
                    )
                began = time.monotonic()
                model, planned = train(config, training, weights, arguments.steps, seed)
                found = scores(model, validation)
                cells = [f"{found[name]:.3f}" for name in ("mask_ap50", "mask_ap", "dice")]
                row = [start, planned.model.backbone, str(len(training)), str(seed), *cells]
                print(f"| {' | '.join(row)} | {time.monotonic() - began:.0f} |", flush=True)
    print("\nResearch use only.")


if __name__ == "__main__":
    main()

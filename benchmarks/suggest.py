"""Measure what suggested images gain over random ones: half of the training patients are hidden, then some are labeled.

    python -m benchmarks.suggest DATASET [--images 30] [--seeds 2] [--steps 400] [options of `mrcnn train`]

For each seed: the data are split by patient, a model is trained on half of the training patients, `mrcnn suggest`'s
selection and a random one (also one per group of near-duplicates) choose images of the other half, and a model is
trained anew on the half with each of them, for the same number of steps. Prints mask AP50 and AP on the test split as a
Markdown table, with the model of the half and of all training images.

With `--image_size 128 --backbone small --weights none` about 20 minutes on two free cores for DDTI (366 images).
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np

from benchmarks.speed_setup import describe_machine

BATCH = 4


def train(words: list[str], training: object, steps: int, seed: int) -> tuple[object, object]:
    """Train a model on a dataset for a number of steps; return it and its configuration."""
    from experiments.config.resolve import resolve
    from experiments.training.planner import make_plan
    from mrcnn.data import Loader
    from mrcnn.models import MaskRCNN
    from mrcnn.models.training.batches import training_batches
    from mrcnn.models.training.optimizers import make_optimizer

    config = resolve([*words, "--seed", str(seed), "--batch_size", str(BATCH)]).config
    plan = make_plan(config, training)
    config = plan.config
    model = MaskRCNN(plan.model, seed=seed, dtype=config.train.precision)
    if plan.weights != "none":
        from mrcnn.models.pretrained.initial_weights import load_weights

        load_weights(model, plan.weights)
    model.compile(optimizer=make_optimizer(config.train.optimizer, config.train.learning_rate))
    loader = Loader(training, plan.model, BATCH, augmentation=config.augment, shuffle=True, seed=seed, workers=0)
    with training_batches(loader, first_epoch=1) as batches:
        for _, (batch,) in zip(range(steps), batches, strict=False):
            model.train_on_batch(batch)
    return model, config


def score(model: object, test: object) -> dict[str, float]:
    """Evaluate a model on the test split."""
    from experiments.evaluation.evaluate import evaluate

    return evaluate(model, test, batch_size=BATCH).summary(0.5)


def run(words: list[str], seed: int, images: int, steps: int) -> dict[str, dict[str, float]]:
    """Return the scores of each way to choose images, for one seed."""
    from experiments.config.resolve import resolve
    from experiments.preparation.datasets import open_dataset
    from mrcnn.data import split_by_patient
    from mrcnn.data.duplicates import find_duplicates
    from mrcnn.inference.image_selection import embed_images, score_entropy, select_images

    whole = open_dataset(resolve(words).config.data).without_invalid()
    groups = find_duplicates(whole)
    splits = split_by_patient(whole, seed=seed, groups=groups)
    rng = np.random.default_rng(seed)
    patients = sorted({whole.records[index].patient_id for index in splits["train"]})
    shown = set(rng.permutation(patients)[: len(patients) // 2].tolist())
    labeled = [index for index in splits["train"].tolist() if whole.records[index].patient_id in shown]
    # Near-duplicates of labeled images teach nothing new, and `mrcnn suggest` leaves them out.
    hidden = [index for index in np.setdiff1d(splits["train"], labeled).tolist()
              if groups[index] not in groups[labeled]]  # fmt: skip
    test = whole.subset(splits["test"])

    model, _ = train(words, whole.subset(labeled), steps, seed)
    scores = {"half": score(model, test)}

    def embed(indices: list[int]) -> np.ndarray:
        parts = [indices[at : at + BATCH] for at in range(0, len(indices), BATCH)]
        return np.concatenate([embed_images(model, [whole.image(index) for index in part]) for part in parts])

    found = [each for at in range(0, len(hidden), BATCH)
             for each in model.detect([whole.image(index) for index in hidden[at : at + BATCH]])]  # fmt: skip
    unsure = np.array([score_entropy(each.scores) for each in found])
    suggested = select_images(unsure, embed(hidden), embed(labeled), groups[hidden], images)
    random: list[int] = []
    for index in rng.permutation(len(hidden)).tolist():
        if len(random) < len(suggested) and groups[hidden[index]] not in {groups[hidden[each]] for each in random}:
            random.append(index)
    ways = {"half + random": [hidden[index] for index in random],
            "half + suggested": [hidden[index] for index in suggested], "all": hidden}  # fmt: skip
    for name, further in ways.items():
        scores[name] = score(train(words, whole.subset([*labeled, *further]), steps, seed)[0], test)
        counts = f"{len(labeled)} + {len(further)} images"
        print(f"seed {seed}, {name} ({counts}): mask AP50 {scores[name]['mask_ap50']:.3f}", file=sys.stderr, flush=True)
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--images", type=int, default=30, help="images to choose, default 30")
    parser.add_argument("--seeds", type=int, default=2, help="splits and initial weights, default 2")
    parser.add_argument("--steps", type=int, default=400, help="of each training, default 400")
    arguments, further = parser.parse_known_args()
    started = time.monotonic()
    words = ["--dataset", arguments.dataset, *further]
    found = [run(words, seed, arguments.images, arguments.steps) for seed in range(arguments.seeds)]
    print(*describe_machine(), "", sep="\n")
    print("| training images | mask AP50 (each seed) | mask AP (each seed) |\n|---|---|---|")
    for name in found[0]:
        cells = [
            f"{np.mean([each[name][key] for each in found]):.3f} "
            f"({', '.join(f'{each[name][key]:.3f}' for each in found)})"
            for key in ("mask_ap50", "mask_ap")
        ]
        print(f"| {name} | {' | '.join(cells)} |")
    print(f"\n{time.monotonic() - started:.0f} s. Research use only.")


if __name__ == "__main__":
    main()

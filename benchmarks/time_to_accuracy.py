"""Measure the training time until the validation mask AP50 reaches given levels, for ours and its peers.

    python -m benchmarks.time_to_accuracy DATASET --peer-python <python> --peer-setup <folder> [options of mrcnn train]

Systems: our Mask R-CNN as `mrcnn train --dataset DATASET --budget <minutes>m` plans it, our ResUNet baseline, and
torchvision's Mask R-CNN with the same backbone from the same ImageNet weights, see `benchmarks.accuracy_peer`. All have
the same split by patient, input size and batch size, and run one after another, each in a process of its own. The time
begins with the process, so imports, reading, planning and compilation count; validations do not. All are validated
after so many steps on the same images with the same pycocotools. A learning rate decreases over `--minutes`, which also
end a system; our early stopping is off.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.speed_setup import describe_machine
from benchmarks.speed_turns import Worker, WorkerFailed

LEVELS = (0.5, 0.6, 0.7)
SYSTEMS = {
    "mask_rcnn": {},
    "resunet": {},
    "torchvision": {"optimizer": "sgd", "widths": "planned"},
    "torchvision_adamw": {"optimizer": "adamw", "widths": "planned"},
    "torchvision_default_widths": {"optimizer": "sgd", "widths": "default"},
}
OURS = ("mask_rcnn", "resunet")


@dataclass(frozen=True)
class Validation:
    """A validation after so many steps, with the seconds and processor seconds of the training until then."""

    steps: int
    seconds: float
    processor: float
    ap50: float
    ap: float


def write_truth(dataset: Any, file: Path) -> dict[str, Any]:
    """Write a split as a COCO file with the path of each image; return its content."""
    from mrcnn.detections import Detections
    from mrcnn.metrics import Evaluator

    evaluator = Evaluator(dataset.class_names)
    for index, record in enumerate(dataset.records):
        evaluator.add(dataset.sample(index).present(), Detections.empty(record.height, record.width))
    truth = evaluator.coco_ground_truth()
    images = [
        {**image, "path": str(record.path.resolve())}
        for image, record in zip(truth["images"], dataset.records, strict=True)
    ]
    file.write_text(json.dumps({**truth, "images": images}))
    return truth


def prepare(arguments: argparse.Namespace, words: list[str], folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split and plan as `mrcnn train` does; return the settings of the workers by kind, and the validation's truth."""
    from experiments.config.resolve import resolve
    from experiments.preparation.data_check import check_data
    from experiments.training.planner import make_plan
    from experiments.training.training_data import usable_data

    words = ["--dataset", str(Path(arguments.dataset).resolve()), "--budget", f"{arguments.minutes:g}m", *words]
    config = resolve(words).config
    checked = check_data(config)
    checked.raise_if_wrong()
    splits = usable_data(checked, config).splits
    plan = make_plan(config, splits["train"], validation_images=len(splits["val"]))
    print(*plan.lines(), sep="\n")
    if plan.model.backbone != "efficientnet_lite0" or plan.config.train.weights != "imagenet":
        sys.exit("expected the backbone efficientnet_lite0 with its ImageNet weights, which the peer has: see the plan")
    write_truth(splits["train"], training := folder / "training.json")
    truth = write_truth(splits["val"], validation := folder / "validation.json")
    counts = f"{len(splits['train'])} training and {len(splits['val'])} validation images"
    train = plan.config.train
    print(f"{counts}, {len(truth['annotations'])} instances in the latter")
    print(f"Ours in {train.precision}, torchvision in {arguments.peer_precision}\n", flush=True)
    # The plan depends on a measurement of the machine, which may differ in another process.
    planned: dict[str, Any] = {"model": {"image_size": plan.model.image_size}}
    planned["train"] = {"batch_size": train.batch_size, "precision": train.precision}
    ours = {"words": words, "planned": planned, "every": arguments.every}
    peer = {
        "setup": arguments.peer_setup, "plan": plan.model.model_dump(mode="json"), "seed": config.seed,
        "training": str(training), "validation": str(validation), "batch": train.batch_size,
        "precision": arguments.peer_precision, "every": arguments.every, "seconds": 60 * arguments.minutes,
        "clip_norm": train.clip_norm,
    }  # fmt: skip
    rates = {"sgd": arguments.sgd_rate, "adamw": train.learning_rate}
    settings: dict[str, Any] = {}
    for name, options in SYSTEMS.items():
        if name in OURS:
            settings[name] = {**ours, "model": name}
        else:
            settings[name] = {**peer, **options, "learning_rate": rates[options["optimizer"]]}
    return settings, truth


def measure(
    name: str, settings: dict[str, Any], truth: dict[str, Any], python: str, seconds: float
) -> tuple[float, list[Validation]]:
    """Train a system; return the seconds until its first step was done, and its validations."""
    from mrcnn.metrics import coco_ap

    names = [each["name"] for each in truth["categories"]]
    module = "benchmarks.accuracy_worker" if name in OURS else "benchmarks.accuracy_peer"
    found: list[Validation] = []
    first = 0.0
    # Threads of GNU OpenMP that wait by spinning make torch ten times slower as soon as anything else runs.
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3", "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "passive")}
    with Worker(module, {**settings, "started": time.time()}, python=python, environment=environment) as worker:
        while not found or found[-1].seconds < seconds:
            answer = worker.ask("validation")
            first = answer["first"]
            scores = coco_ap.average_precisions(coco_ap.evaluate(truth, answer["results"], "segm"), names, "mask")
            found.append(Validation(answer["steps"], *answer["elapsed"], scores["mask_ap50"], scores["mask_ap"]))
            each = found[-1]
            cells = f"{each.steps} | {each.seconds:.0f} | {each.processor:.0f} | {each.ap50:.3f} | {each.ap:.3f}"
            print(f"| {name} | {cells} |", flush=True)
            if answer["last"]:
                break
    return first, found


def row(name: str, first: float, found: list[Validation]) -> str:
    """Return the row of a system: minutes, processor minutes and steps to each level."""
    cells = [name, f"{(found[-1].seconds - first) / found[-1].steps:.2f}", f"{first:.0f}"]
    for level in LEVELS:
        reached = next((each for each in found if each.ap50 >= level), None)
        cells.append(
            f"{reached.seconds / 60:.1f} ({reached.processor / 60:.1f}; {reached.steps})" if reached else "not reached"
        )
    best = max(found, key=lambda each: each.ap50)
    cells += [f"{best.ap50:.3f} at {best.seconds / 60:.1f}", f"{found[-1].ap50:.3f}, {found[-1].ap:.3f}"]
    return f"| {' | '.join(cells)} |"


def parse() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.time_to_accuracy", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("dataset", help="a data set in any form, split by patient")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS), help="default: all")
    parser.add_argument("--minutes", type=float, default=30, help="of training of each system, default 30")
    parser.add_argument("--every", type=int, default=50, help="steps between validations, default 50")
    parser.add_argument("--sgd-rate", type=float, default=0.01, help="learning rate of torchvision's SGD, default 0.01")
    parser.add_argument(
        "--peer-precision", choices=("float32", "mixed_bfloat16"), default="float32",
        help="default float32: on a CPU torch 2.13 takes 2.5 times as long under bfloat16 autocast for the depthwise "
        "convolutions of this backbone, mostly for their gradients",
    )  # fmt: skip
    parser.add_argument("--peer-python", metavar="PYTHON", default=sys.executable, help="default: this one")
    parser.add_argument("--peer-setup", metavar="FOLDER", help="has a torchvision_cpu.py to import before torchvision")
    arguments, words = parser.parse_known_args()
    python = shutil.which(arguments.peer_python)
    if python is None:
        parser.error(f"--peer-python: {arguments.peer_python} is no program")
    arguments.peer_python = os.path.abspath(python)
    if arguments.peer_setup:
        arguments.peer_setup = os.path.abspath(arguments.peer_setup)
    return arguments, words


def main() -> None:
    arguments, words = parse()
    print(*describe_machine(), "", sep="\n", flush=True)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        settings, truth = prepare(arguments, words, Path(folder))
        if set(arguments.systems) - set(OURS):
            # The first import of the setup compiles operators, which is no part of a training.
            about = {"precision": "float32", "size": 64, "batch": 1, "setup": arguments.peer_setup}
            with Worker("benchmarks.peer_worker", about, python=arguments.peer_python) as worker:
                print(worker.ask("hello")["versions"], end="\n\n")
        print("| system | steps | s | processor s | mask AP50 | mask AP |\n|---|---:|---:|---:|---:|---:|", flush=True)
        for name in arguments.systems:
            python = sys.executable if name in OURS else arguments.peer_python
            first, found = measure(name, settings[name], truth, python, 60 * arguments.minutes)
            rows.append(row(name, first, found))
    levels = [f"AP50 {level:g}: min (processor min; steps)" for level in LEVELS]
    heads = ["system", "s a step", "s to first step", *levels, "best AP50, min", "last AP50, AP"]
    print(f"\n| {' | '.join(heads)} |", "|---" * len(heads) + "|", *rows, "\nResearch use only.", sep="\n")


if __name__ == "__main__":
    try:
        main()
    except WorkerFailed as error:
        sys.exit(f"\n{error}")

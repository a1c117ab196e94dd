"""Check this project on a GPU in one run of a few minutes: parity with the CPU, speed, and a training.

    KERAS_BACKEND=jax python -m benchmarks.gpu --dataset <folder>     # all three parts, in at most 8 minutes

On a CPU, to test this script:

    KERAS_BACKEND=jax python -m benchmarks.gpu --minutes 60 --size 64 --at 64x1 --dataset <folder> --image_size 64
        --backbone small --epochs 1 --steps_per_epoch 3

1. Parity: a small network with the same weights, batch and random numbers runs on the CPU and on the default device, in
   float32 without TF32: the losses of a few training steps, and the detections after them.
2. Speed: the table of `benchmarks.speed` in mixed_bfloat16, with the share of the device's measured rate, beside
   torchvision (autocast and channels-last) if this Python has it.
3. Training: `mrcnn train --preset best` on the dataset in the minutes that remain, with further options as given.

Exits with 1 if the results of the two devices differ, or a part fails or is cut off by the end of the time.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
STEPS = 3
LOSS_TOLERANCE, SCORE_TOLERANCE, BOX_TOLERANCE = 1e-3, 1e-3, 0.1
"""Largest difference of a loss, relative; of a score; of a box side in pixels of the network."""
ENDING_MINUTES = 2.0
"""Of a training: imports, compilation, test, package, which `--budget` does not bound."""


def run_network(folder: str, name: str, size: int) -> None:
    """Train a small network for some steps and detect, on the default device; write `<name>.npz` to `folder`.

    The first process writes the initial weights, the second one reads them.
    """
    import keras

    from benchmarks.speed_setup import INSTANCES, SEED, fill_boxes, make_boxes, make_images
    from mrcnn import MaskRCNN, ModelConfig, Sample, make_batch

    if keras.backend.backend() == "jax":
        import jax

        jax.config.update("jax_default_matmul_precision", "highest")
    keras.utils.set_random_seed(SEED)
    config = ModelConfig(
        class_names=("first", "second"), image_size=size, backbone="small", fpn_channels=32, head_width=32,
        mask_channels=32, mask_convolutions=1, proposals_per_level=50, proposals=50, max_detections=10,
        score_threshold=0.01,
    )  # fmt: skip
    model = MaskRCNN(config, seed=SEED, dtype="float32")
    if (weights := Path(folder, "weights.npz")).exists():
        with np.load(weights) as arrays:
            model.set_weights([arrays[key] for key in arrays])
    else:
        np.savez(weights, *model.get_weights())
    model.compile(optimizer=keras.optimizers.SGD(1e-3, momentum=0.9))
    images, boxes = make_images(size, 2), make_boxes(size, 2)
    classes = np.ones(INSTANCES, np.int32)
    samples = [
        Sample(image, fill_boxes(each, size), classes, "noise", "noise")
        for image, each in zip(images, boxes, strict=True)
    ]
    batch = make_batch(samples, config)
    logs = [model.train_on_batch(batch, return_dict=True) for _ in range(STEPS)]
    outputs = model.predict_on_batch({"image": batch["image"]})
    losses = {f"loss/{key}": np.array([float(log[key]) for log in logs]) for key in logs[0]}
    np.savez(Path(folder, f"{name}.npz"), **losses, scores=outputs["scores"], boxes=outputs["boxes"])


def run(command: list[str], folder: Path, end: float, environment: dict[str, str]) -> bool:
    """Run Python with the words of `command` until `end`, a time of `time.monotonic`; return whether it succeeded."""
    seconds = end - time.monotonic()
    try:
        done = subprocess.run(
            [sys.executable, *command], cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            timeout=max(seconds, 0), check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        print(f"Cut off after {seconds / 60:.1f} minutes: give more --minutes", flush=True)
        return False
    return done.returncode == 0


def compare_devices(size: int, end: float) -> bool:
    """Print the largest differences between the CPU and the default device; return whether they are small."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, environment in (("cpu", {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}), ("device", {})):
            code = f"from {__spec__.name} import run_network; run_network({folder!r}, {name!r}, {size})"
            if not run(["-c", code], ROOT, end, environment):
                return False
            with np.load(Path(folder, f"{name}.npz")) as arrays:
                found[name] = dict(arrays)
    cpu, device = found["cpu"], found["device"]
    differences = {
        key: float(np.abs(device[key] / cpu[key] - 1).max() if key.startswith("loss") else
                   np.abs(device[key] - cpu[key]).max())
        for key in cpu
    }  # fmt: skip
    print("| quantity | CPU, last | device, last | largest difference |\n| :--- | ---: | ---: | ---: |")
    for key, difference in differences.items():
        last = [f"{each[key].ravel()[-1]:.6g}" for each in (cpu, device)]
        print(f"| {key} | {last[0]} | {last[1]} | {difference:.2g} |")
    limits = {"scores": SCORE_TOLERANCE, "boxes": BOX_TOLERANCE}
    return all(difference <= limits.get(key, LOSS_TOLERANCE) for key, difference in differences.items())


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", help="of the training; default: no training")
    parser.add_argument("--minutes", type=float, default=8.0, help="of the whole run, default 8")
    parser.add_argument("--size", type=int, default=256, help="side of the images of the parity check, default 256")
    parser.add_argument("--at", default="1024x8", metavar="SIDExBATCH", help="of the speed table, default 1024x8")
    arguments, words = parser.parse_known_args()
    end = time.monotonic() + 60 * arguments.minutes

    print("## Parity\n", flush=True)
    same = compare_devices(arguments.size, end)
    print(f"\n{'The devices agree' if same else 'The devices DIFFER, or a process failed'}.\n\n## Speed\n", flush=True)
    speed = ["-m", "benchmarks.speed", "--at", arguments.at, "--precision", "mixed_bfloat16", "--turns", "3"]
    succeeded = run(speed, ROOT, end, {})
    if arguments.dataset:
        budget = (end - time.monotonic()) / 60 - ENDING_MINUTES
        print(f"\n## Training\n\nBudget: {budget:.1f} minutes", flush=True)
        if budget < 1:
            print("Expected at least 1 minute: give more --minutes")
            return 1
        code = "import sys; from experiments.cli import main; sys.exit(main())"
        train = ["train", "--dataset", str(Path(arguments.dataset).resolve()), "--preset", "best", *words]
        with tempfile.TemporaryDirectory() as folder:
            command = ["-c", code, *train, "--budget", f"{round(60 * budget)}s"]
            succeeded &= run(command, Path(folder), end, {"MRCNN_CACHE": f"{folder}/cache"})
    return int(not (same and succeeded))


if __name__ == "__main__":
    sys.exit(main())

"""Measure `mrcnn predict` of a folder against `MaskRCNN.detect` of the same images in memory.

    python -m benchmarks.prediction --network small resnet50

Prints the machine and one Markdown table. The images are phantoms of the thyroid task as PNG, 350 to 555 pixels wide.
A network of random weights finds two instances in each, which get the findings of the task. Detection alone, and
`predict` with its JSON, with overlays, and with overlays and label maps take turns, so that a change of the machine's
speed affects all of them; shares are medians of the turns' ratios. `predict` includes the summary files, not the start
of the command.

On a busy machine only the processor time is meaningful. It is the work of all threads: "by processor time" is the share
that remains if no core is ever idle.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from rich.console import Console

from benchmarks.speed_setup import describe_machine
from benchmarks.speed_table import speedup, spread
from experiments.prediction.detector import Detector
from experiments.prediction.inputs import Item, find_inputs
from experiments.prediction.progress_record import ProgressRecord
from experiments.prediction.results import write_summary_files
from experiments.prediction.run import Options, predict_items
from mrcnn import MaskRCNN, ModelConfig, read_dataset
from mrcnn.backend import computes_in_bfloat16
from mrcnn.phantoms import write_dataset

CLASS_NAMES = ("iso", "hypo")
INSTANCES = 2
NETWORKS = {
    # As the task plans them for its phantoms.
    "small": {
        "backbone": "small", "image_size": 256, "fpn_channels": 64, "head_width": 256, "mask_channels": 64,
        "mask_convolutions": 2, "mask_pool_size": 14, "proposals_per_level": 200, "proposals": 100,
        "roi_canonical_size": 112,
    },
    "efficientnet_lite0": {"backbone": "efficientnet_lite0", "image_size": (160, 256)},
    "resnet50": {"backbone": "resnet50", "image_size": 512},
}  # fmt: skip
FORMATS = {"JSON": (), "and overlays": ("overlay",), "and label maps": ("overlay", "mask")}
TITLES = (
    "network",
    "work",
    "s an image (min–max)",
    "processor s an image",
    "throughput of detect",
    "by processor time",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.prediction",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--network", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="default: all")
    parser.add_argument("--images", type=int, default=24, help="default 24")
    parser.add_argument("--turns", type=int, default=5, help="repetitions of each row, default 5")
    arguments = parser.parse_args()
    print(*describe_machine(), "", sep="\n")
    print("| " + " | ".join(TITLES) + " |", "|---|---|" + "---:|" * (len(TITLES) - 2), sep="\n", flush=True)
    with tempfile.TemporaryDirectory(prefix="medmrcnn-") as folder:
        dataset = write_dataset("thyroid", Path(folder, "phantoms"), images=arguments.images, seed=0)
        images = [sample.image for sample in read_dataset(dataset)]
        pictures = sorted({str(path) for path in Path(folder, "phantoms").rglob("*.png")})
        items = find_inputs(pictures, base=Path(folder), output=Path(folder, "out"), fetch=Path).items
        for network in arguments.network:
            for row in measure(network, images, items, Path(folder, "out"), arguments.turns):
                print("| " + " | ".join(row) + " |", flush=True)


def measure(
    network: str, images: list[np.ndarray], items: list[Item], output: Path, turns: int
) -> list[tuple[str, ...]]:
    """Measure one network; return the rows of the table."""
    keras.utils.set_random_seed(0)
    config = ModelConfig(
        class_names=CLASS_NAMES, channels=1, max_detections=INSTANCES, score_threshold=0.0, **NETWORKS[network]
    )
    model = MaskRCNN(config, dtype="mixed_bfloat16" if computes_in_bfloat16() else "float32")
    size = Detector.batch_size
    detector = Detector(
        lambda images: model.detect(images, batch_size=size),
        CLASS_NAMES,
        channels=1,
        confidence=0.0,
        findings="nodules",
    )

    def predict(formats: tuple[str, ...]) -> None:
        record = ProgressRecord(output, {})
        report = predict_items(items, detector, Options(0.0, formats), record, Console(quiet=True))
        write_summary_files(record, formats, CLASS_NAMES, detector.findings)
        assert report.predicted == len(images), report.problems
        shutil.rmtree(output)

    works: dict[str, Callable[[], object]] = {"detect": lambda: detector.find(images)}
    works |= {f"predict: {name}": lambda formats=formats: predict(formats) for name, formats in FORMATS.items()}
    for work in works.values():
        work()
    seconds: dict[str, list[float]] = {name: [] for name in works}
    processor: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(turns):
        for name, work in works.items():
            start, busy = time.perf_counter(), time.process_time()
            work()
            seconds[name].append((time.perf_counter() - start) / len(images))
            processor[name].append((time.process_time() - busy) / len(images))
    return [
        (
            network,
            name,
            spread(seconds[name]),
            f"{median(processor[name]):.4f}",
            f"{speedup(seconds[name], seconds['detect']):.0%}",
            f"{speedup(processor[name], processor['detect']):.0%}",
        )
        for name in works
    ]


if __name__ == "__main__":
    main()

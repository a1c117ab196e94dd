"""Measure the accuracy, latency and size of a model's ONNX exports in float32 and 8-bit integers.

    python -m benchmarks.quantization best.keras data --splits splits.json

Calibrates with images of the training split and evaluates on the validation split; `splits.json` is that of the
training run. Prints the machine and one Markdown table. Both files run in this process with one thread and take turns
image by image, so a change of the machine's speed affects both.
Milliseconds are processor time, the median of the images.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import onnxruntime

from benchmarks.speed_setup import describe_machine
from mrcnn.data import read_dataset
from mrcnn.data.split_files import read_splits
from mrcnn.detections import Detections
from mrcnn.export import FORMS, export_model
from mrcnn.metrics.evaluator import Evaluator
from mrcnn.models import load

METRICS = ("mask_ap", "mask_ap50", "box_ap", "dice")
TITLES = ("export", "MiB", *METRICS, "ms/image (min–max)", "mask IoU with float32")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quantization",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", type=Path, help="a .keras file")
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--splits", type=Path, required=True)
    parser.add_argument("--confidence", type=float, default=0.5, help="of Dice, default 0.5")
    parser.add_argument("--calibration", type=int, default=64, help="images of the training split, default 64")
    given = parser.parse_args()
    model, dataset = load(given.model), read_dataset(given.dataset)
    (parts, *_), _ = read_splits(given.splits, dataset)
    chosen = parts["train"][np.linspace(0, len(parts["train"]) - 1, given.calibration).round().astype(int)]
    samples = [dataset[index] for index in parts["val"]]
    sessions, notes, sizes = {}, {}, {}
    with tempfile.TemporaryDirectory(prefix="medmrcnn-") as folder:
        for form in ("onnx", "onnx_int8"):
            path = Path(folder, f"model{FORMS[form]}")
            notes[form] = export_model(model, form, path, calibration=[dataset[index].image for index in chosen])
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            sessions[form] = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            sizes[form] = path.stat().st_size
    evaluators = {form: Evaluator(model.config.class_names) for form in sessions}
    seconds: dict[str, list[float]] = {form: [] for form in sessions}
    for sample in samples:
        for form, session in sessions.items():
            start = time.process_time()
            found = session.run(
                ["boxes", "scores", "class_ids", "masks"], {"images": sample.image[None].astype(np.float32)}
            )
            seconds[form].append(time.process_time() - start)
            boxes, scores, class_ids, masks = (values[0] for values in found)
            evaluators[form].add(sample, Detections(boxes, scores, class_ids, masks.astype(bool)))
    print(*describe_machine(), f"{len(chosen)} calibration images, {len(samples)} validation images", "", sep="\n")
    print("| " + " | ".join(TITLES) + " |", "|---|" + "---:|" * (len(TITLES) - 1), sep="\n")
    for form, evaluator in evaluators.items():
        scores = evaluator.summary(confidence=given.confidence)
        took = [1000 * each for each in seconds[form]]
        agreement = f"{json.loads(notes[form]['agreement'])['mask_iou']:.3f}" if "agreement" in notes[form] else ""
        cells = [form, f"{sizes[form] / 2**20:.1f}", *(f"{scores[name]:.3f}" for name in METRICS)]
        cells += [f"{median(took):.1f} ({min(took):.1f}–{max(took):.1f})", agreement]
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()

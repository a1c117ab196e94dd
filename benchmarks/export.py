"""Measure the speed of exported models against `MaskRCNN.detect`, and their size.

    python -m benchmarks.export --at 512x1 512x2 256x1

Prints the machine and one Markdown table. Each system converts uint8 images to masks in the original image, with 100
detections per image (many) and with at most 5 (few): our ResNet-50 model with random weights on the images of
`benchmarks.speed`. Each runs in its own process, with a thread per core, and they take turns (detect, SavedModel,
onnxruntime, detect, …), so a change of the machine's speed affects all of them; ratios are computed per turn. "First"
is loading and the first call, which traces or compiles. `benchmarks.quantization` measures the accuracy of int8.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import ExitStack

from benchmarks.speed import QUIET, size_and_batch, tell
from benchmarks.speed_setup import describe_machine
from benchmarks.speed_table import WORK, span, speedup, spread
from benchmarks.speed_turns import Worker, WorkerFailed

SYSTEMS = {
    "detect": "detect",
    "saved_model": "SavedModel",
    "onnx": "onnxruntime",
    "onnx_int8": "onnxruntime, int8",
}
TITLES = ("size", "batch", "work", "system", "seconds (min–max)", "× detect", "first, s", "MiB", "kept")


def measure(size: int, batch: int, turns: int) -> list[tuple[str, ...]]:
    """Measure one size and batch; return the rows of the table."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="medmrcnn-") as folder, ExitStack() as stack:
        workers = {
            system: stack.enter_context(
                Worker(
                    "benchmarks.export_worker",
                    {"system": system, "size": size, "batch": batch, "folder": folder},
                    environment={"KERAS_BACKEND": "tensorflow", **QUIET},
                )
            )
            for system in SYSTEMS
        }
        for work in ("many", "few"):
            answers = {}
            for system, worker in workers.items():
                tell(f"{size}×{size}, batch {batch}, {WORK[work]}: {SYSTEMS[system]} starts")
                answers[system] = worker.ask("prepare", work=work)
            seconds: dict[str, list[float]] = {system: [] for system in SYSTEMS}
            for turn in range(turns):
                tell(f"{size}×{size}, batch {batch}, {WORK[work]}: turn {turn + 1} of {turns}")
                for system, worker in workers.items():
                    seconds[system].append(worker.ask("step")["seconds"])
            for system, answer in answers.items():
                written = answers["detect"]["bytes"].get(system)
                rows.append(
                    (
                        f"{size}",
                        f"{batch}",
                        WORK[work],
                        SYSTEMS[system],
                        spread(seconds[system]),
                        f"{speedup(seconds[system], seconds['detect']):.2f}",
                        f"{answer['seconds']:.1f}",
                        f"{written / 2**20:.0f}" if written else "",
                        span(answer["kept"]),
                    )
                )
    tell("")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--at", nargs="+", type=size_and_batch, default=[(512, 1), (512, 2), (256, 1)], metavar="SIDExBATCH"
    )
    parser.add_argument("--turns", type=int, default=7, help="repetitions of each row, default 7")
    arguments = parser.parse_args()
    if arguments.turns < 1:
        parser.error("--turns: expected at least 1")
    print(*describe_machine(), "", sep="\n")
    print("| " + " | ".join(TITLES) + " |", "|" + "---|" * len(TITLES), sep="\n", flush=True)
    for size, batch in arguments.at:
        for row in measure(size, batch, arguments.turns):
            print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    try:
        main()
    except WorkerFailed as error:
        sys.exit(f"\n{error}")
